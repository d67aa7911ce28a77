//! SubjectPublicKeyInfo (RFC 5280 4.1) of the key types that Catenary verifies with, read and written.
//!
//! A key's id is the hash of its SPKI, so one key must have one SPKI: [`Spki::parse`] reads strict DER and then
//! demands that writing what it read gives the same bytes. Compressed points and other spellings are refused.

use crate::key::KeyError;

/// The parts of a public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Spki {
    /// RFC 8410.
    Ed25519([u8; 32]),
    /// RFC 5480, uncompressed point.
    Ecdsa { curve: Curve, point: Vec<u8> },
    /// RFC 8017; both numbers big-endian without leading zeros.
    Rsa { modulus: Vec<u8>, exponent: Vec<u8> },
}

/// NIST curves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Curve {
    P256,
    P384,
    P521,
}

impl Curve {
    /// Bytes of one coordinate, and of each half of a signature.
    pub(crate) fn width(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }

    fn oid(self) -> &'static [u8] {
        match self {
            Self::P256 => &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07],
            Self::P384 => &[0x2b, 0x81, 0x04, 0x00, 0x22],
            Self::P521 => &[0x2b, 0x81, 0x04, 0x00, 0x23],
        }
    }

    fn ssh_name(self) -> &'static str {
        match self {
            Self::P256 => "nistp256",
            Self::P384 => "nistp384",
            Self::P521 => "nistp521",
        }
    }
}

const OID_ED25519: &[u8] = &[0x2b, 0x65, 0x70];
const OID_EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const OID_RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const NULL: u8 = 0x05;
const OID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;

impl Spki {
    /// Reads strict DER.
    pub(crate) fn parse(der: &[u8]) -> Result<Self, KeyError> {
        let spki = Self::read(der).ok_or(KeyError::UnsupportedKey)?;
        spki.check()?;
        if spki.to_der() == der { Ok(spki) } else { Err(KeyError::NotCanonical) }
    }

    fn read(der: &[u8]) -> Option<Self> {
        let (body, rest) = take(der, SEQUENCE)?;
        let (algorithm, key) = take(body, SEQUENCE)?;
        let (oid, parameters) = take(algorithm, OID)?;
        let (bits, after) = take(key, BIT_STRING)?;
        let (0, bits) = bits.split_first().map(|(unused, bits)| (*unused, bits))? else { return None };
        if !rest.is_empty() || !after.is_empty() {
            return None;
        }
        match oid {
            OID_ED25519 => Some(Self::Ed25519(bits.try_into().ok()?)),
            OID_EC => {
                let (named, _) = take(parameters, OID)?;
                let curve = [Curve::P256, Curve::P384, Curve::P521].into_iter().find(|c| c.oid() == named)?;
                Some(Self::Ecdsa { curve, point: bits.to_vec() })
            }
            OID_RSA => {
                let (numbers, _) = take(bits, SEQUENCE)?;
                let (modulus, numbers) = take(numbers, INTEGER)?;
                let (exponent, _) = take(numbers, INTEGER)?;
                Some(Self::rsa(modulus, exponent))
            }
            _ => None,
        }
    }

    /// Makes an RSA key of two big-endian numbers.
    pub(crate) fn rsa(modulus: &[u8], exponent: &[u8]) -> Self {
        let trim = |n: &[u8]| n.iter().copied().skip_while(|b| *b == 0).collect();
        Self::Rsa { modulus: trim(modulus), exponent: trim(exponent) }
    }

    /// What the type itself demands; that a point lies on its curve is checked by aws-lc.
    pub(crate) fn check(&self) -> Result<(), KeyError> {
        match self {
            Self::Ed25519(_) => Ok(()),
            Self::Ecdsa { curve, point } => {
                let uncompressed = point.first() == Some(&4) && point.len() == 1 + 2 * curve.width();
                if uncompressed { Ok(()) } else { Err(KeyError::NotCanonical) }
            }
            Self::Rsa { modulus, exponent } => {
                let bits = modulus.first().map_or(0, |top| modulus.len() * 8 - top.leading_zeros() as usize);
                if !(2048..=8192).contains(&bits) {
                    return Err(KeyError::RsaSize { bits });
                }
                // An even modulus or exponent, or e = 1, is no key; a huge e only costs time.
                let odd = |n: &[u8]| n.last().is_some_and(|b| b & 1 == 1);
                let sane = odd(modulus) && odd(exponent) && exponent.len() <= 8 && exponent != &[1];
                if sane { Ok(()) } else { Err(KeyError::UnsupportedKey) }
            }
        }
    }

    /// The one DER form.
    pub(crate) fn to_der(&self) -> Vec<u8> {
        let (algorithm, key) = match self {
            Self::Ed25519(raw) => (tlv(OID, OID_ED25519), raw.to_vec()),
            Self::Ecdsa { curve, point } => {
                ([tlv(OID, OID_EC), tlv(OID, curve.oid())].concat(), point.clone())
            }
            Self::Rsa { modulus, exponent } => (
                [tlv(OID, OID_RSA), tlv(NULL, &[])].concat(),
                tlv(SEQUENCE, &[integer(modulus), integer(exponent)].concat()),
            ),
        };
        let bits = [&[0], key.as_slice()].concat();
        tlv(SEQUENCE, &[tlv(SEQUENCE, &algorithm), tlv(BIT_STRING, &bits)].concat())
    }

    /// The key blob of RFC 4253 6.6, whose SHA-256 is the key's SSH fingerprint.
    pub(crate) fn to_ssh(&self) -> Vec<u8> {
        let string = |bytes: &[u8]| [&(bytes.len() as u32).to_be_bytes(), bytes].concat();
        match self {
            Self::Ed25519(raw) => [string(b"ssh-ed25519"), string(raw)].concat(),
            Self::Ecdsa { curve, point } => {
                let name = curve.ssh_name();
                let kind = format!("ecdsa-sha2-{name}");
                [string(kind.as_bytes()), string(name.as_bytes()), string(point)].concat()
            }
            Self::Rsa { modulus, exponent } => {
                [string(b"ssh-rsa"), string(&positive(exponent)), string(&positive(modulus))].concat()
            }
        }
    }
}

/// A positive number in two's complement: a zero byte first when the top bit is set.
fn positive(number: &[u8]) -> Vec<u8> {
    let sign = number.first().is_none_or(|top| top & 0x80 != 0);
    if sign { [&[0], number].concat() } else { number.to_vec() }
}

fn integer(number: &[u8]) -> Vec<u8> {
    tlv(INTEGER, &positive(number))
}

/// DER type, length, value.
fn tlv(tag: u8, value: &[u8]) -> Vec<u8> {
    let length = value.len();
    let mut out = vec![tag];
    if length < 0x80 {
        out.push(length as u8);
    } else {
        let bytes = length.to_be_bytes();
        let significant: Vec<u8> = bytes.into_iter().skip_while(|b| *b == 0).collect();
        out.push(0x80 | significant.len() as u8);
        out.extend(significant);
    }
    out.extend_from_slice(value);
    out
}

/// Splits one value of type `tag` off `der`. Lengths of up to two bytes: no key is longer than 64 KiB.
fn take(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (length, rest) = match der {
        [t, 0x81, a, rest @ ..] if *t == tag => (usize::from(*a), rest),
        [t, 0x82, a, b, rest @ ..] if *t == tag => (usize::from(*a) << 8 | usize::from(*b), rest),
        [t, a, rest @ ..] if *t == tag && *a < 0x80 => (usize::from(*a), rest),
        _ => return None,
    };
    rest.split_at_checked(length)
}
