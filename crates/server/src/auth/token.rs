//! API tokens: `ctn_<tenant>_<public id>_<secret>_<crc32>`. The log has only SHA-256 of the whole text.

use catenary_chain::control::{Control, Token};
use catenary_evidence::digest::Sha256;
use jiff::Timestamp;

/// Why a bearer token does not authenticate. None says whether the tenant or the token exists.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// No `Authorization` header.
    #[error("the request has no credential")]
    Missing,
    /// Not exactly one `Authorization: Bearer …`.
    #[error("the credential is not one `Authorization: Bearer …`")]
    Malformed,
    /// Not known, expired, or revoked.
    #[error("the credential is not known, expired or revoked")]
    Unknown,
}

impl TokenError {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing => "AUTH_REQUIRED",
            Self::Malformed | Self::Unknown => "AUTH_INVALID",
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Missing => "send Authorization: Bearer <API token or CI token>",
            Self::Malformed => "send one Authorization header with the whole token",
            Self::Unknown => "make a new token with `catenary token create`",
        }
    }
}

/// The parts of a token's text that say where to look; nothing in it is believed yet.
#[derive(Debug, PartialEq, Eq)]
pub struct Presented<'a> {
    /// The tenant whose log has the token.
    pub tenant: &'a str,
    /// Its public id.
    pub id: &'a str,
    text: &'a str,
}

/// The first characters of every token.
pub const PREFIX: &str = "ctn_";

const ID: usize = 10;
const SECRET: usize = 32;

/// A new token's text and public id. The secret has 190 bits.
pub fn mint(tenant: &str) -> Result<(String, String), aws_lc_rs::error::Unspecified> {
    let id = base62::<ID>()?;
    let body = format!("{PREFIX}{tenant}_{id}_{}", base62::<SECRET>()?);
    Ok((format!("{body}_{:08x}", crc32(body.as_bytes())), id))
}

/// Reads a token's text. The checksum finds typing errors before anything is looked up.
pub fn parse(text: &str) -> Result<Presented<'_>, TokenError> {
    let malformed = TokenError::Malformed;
    if text.len() > 128 {
        return Err(malformed);
    }
    let (body, sum) = text.rsplit_once('_').ok_or(malformed.clone())?;
    if sum != format!("{:08x}", crc32(body.as_bytes())) {
        return Err(malformed);
    }
    let rest = body.strip_prefix(PREFIX).ok_or(malformed.clone())?;
    let [tenant, id, secret] = rest.split('_').collect::<Vec<_>>()[..] else { return Err(malformed) };
    let plain =
        |part: &str, length: usize| part.len() == length && part.bytes().all(|b| b.is_ascii_alphanumeric());
    if !plain(id, ID) || !plain(secret, SECRET) || !is_tenant(tenant) {
        return Err(malformed);
    }
    Ok(Presented { tenant, id, text })
}

/// Tenant names: `[a-z][a-z0-9-]{0,31}`.
pub fn is_tenant(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    name.len() <= 32 && name.starts_with(|c: char| c.is_ascii_lowercase()) && name.bytes().all(plain)
}

impl Presented<'_> {
    /// The token as the tenant's log has it, when the text is its text and it is in force.
    pub fn check<'c>(&self, control: &'c Control, now: Timestamp) -> Result<&'c Token, TokenError> {
        let hash = Sha256::of(self.text.as_bytes());
        let state = control.tokens.get(self.id);
        // Unknown ids are compared, too, so that they take as long.
        let stored = state.map_or([0; 32], |state| state.token.hash.0);
        let same = aws_lc_rs::constant_time::verify_slices_are_equal(&stored, &hash.0).is_ok();
        match state {
            Some(state) if same && !state.revoked && now < state.token.expires => Ok(&state.token),
            _ => Err(TokenError::Unknown),
        }
    }
}

/// `N` characters, each of 62 alike likely.
fn base62<const N: usize>() -> Result<String, aws_lc_rs::error::Unspecified> {
    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut text = String::with_capacity(N);
    while text.len() < N {
        let mut bytes = [0; 64];
        aws_lc_rs::rand::fill(&mut bytes)?;
        // 248 = 4 × 62; what is above would make some characters likelier.
        let even = bytes.iter().filter(|b| **b < 248);
        text.extend(even.take(N - text.len()).map(|b| char::from(ALPHABET[usize::from(b % 62)])));
    }
    Ok(text)
}

/// CRC-32 (IEEE 802.3).
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

#[cfg(test)]
mod tests {
    use catenary_chain::control::Entry;

    use super::*;

    fn control(text: &str, id: &str) -> Control {
        let mut control = Control::default();
        control.apply(
            1,
            &Entry::TokenCreated(Token {
                id: id.into(),
                hash: Sha256::of(text.as_bytes()),
                role: "reader".into(),
                name: "n".into(),
                expires: "2026-12-01T00:00:00Z".parse().unwrap(),
                repositories: Vec::new(),
                predicate_types: Vec::new(),
                by: None,
            }),
        );
        control
    }

    #[test]
    fn crc32_is_the_usual_one() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn a_token_authenticates_until_it_expires_or_is_revoked() {
        let (text, id) = mint("acme").unwrap();
        let presented = parse(&text).unwrap();
        assert_eq!((presented.tenant, presented.id), ("acme", id.as_str()));
        let mut control = control(&text, &id);
        let at = |time: &str| time.parse::<Timestamp>().unwrap();
        assert!(presented.check(&control, at("2026-11-30T23:59:59Z")).is_ok());
        assert_eq!(presented.check(&control, at("2026-12-01T00:00:00Z")), Err(TokenError::Unknown));
        control.apply(2, &Entry::TokenRevoked { id: id.clone(), reason: "lost".into() });
        assert_eq!(presented.check(&control, at("2026-11-30T23:59:59Z")), Err(TokenError::Unknown));
    }

    #[test]
    fn a_token_with_another_secret_is_unknown() {
        let (text, id) = mint("acme").unwrap();
        let (other, _) = mint("acme").unwrap();
        let control = control(&other, &id);
        assert_eq!(parse(&text).unwrap().check(&control, Timestamp::UNIX_EPOCH), Err(TokenError::Unknown));
    }

    #[test]
    fn a_mistyped_token_is_malformed() {
        let (text, _) = mint("acme").unwrap();
        for bad in [
            text.replace("acme", "Acme"),
            text[1..].to_owned(),
            format!("{text}0"),
            "ctn_".into(),
            "a.b.c".into(),
        ] {
            assert_eq!(parse(&bad).unwrap_err(), TokenError::Malformed, "{bad}");
        }
    }
}
