//! RFC 3161 timestamps over the signature's bytes.

use jiff::Timestamp;
use sigstore_types::{SignatureBytes, TimestampToken};

use super::Fault;
use crate::{
    signer::{AuthorityKind, Voucher},
    trust_root::Domain,
};

/// The most bytes of one token.
const MAX_TOKEN: usize = 64 * 1024;

/// What the library says of a token whose signer is none of the authority's. `=0.15.1` is pinned, and a test makes one.
const STRANGER: &str = "does not match any trusted TSA certificate";

/// The time that an authority of the domain says, if it was trusted then. Each authority is tried by itself, with its own
/// chain and window: no other's window makes up for it. A token over this signature by a stranger proves nothing: `None`.
pub(super) fn verify(
    position: usize,
    token: &[u8],
    signature: &[u8],
    domain: &Domain,
) -> Result<Option<(Timestamp, Voucher)>, Fault> {
    let bad = |why: String| Fault::Timestamp { position, why };
    if token.len() > MAX_TOKEN {
        return Err(bad(format!("it has {} bytes, the limit is {MAX_TOKEN}", token.len())));
    }
    let token = TimestampToken::new(token.to_vec());
    let signature = SignatureBytes::new(signature.to_vec());
    let mut why = None;
    for tsa in domain.timestamp_authorities() {
        match sigstore_tsa::verify_timestamp_for_authority(&token, &signature, &tsa.authority) {
            Ok(at) => {
                let voucher = Voucher { kind: AuthorityKind::TimestampAuthority, authority: tsa.id, at };
                return Ok(Some((at, voucher)));
            }
            Err(sigstore_tsa::Error::SignatureVerificationError(said)) if said.contains(STRANGER) => {
                // A token that carries the authority's certificate and is signed by another borrows its name (T18).
                if carries(token.as_bytes(), tsa.authority.leaf.as_bytes()) {
                    why = Some("it carries the authority's certificate and is signed by another".to_owned());
                }
            }
            Err(error) => why = Some(error.to_string()),
        }
    }
    match why {
        Some(why) => Err(bad(why)),
        None => Ok(None),
    }
}

/// Whether the bytes hold the certificate.
fn carries(token: &[u8], certificate: &[u8]) -> bool {
    !certificate.is_empty() && token.windows(certificate.len()).any(|window| window == certificate)
}
