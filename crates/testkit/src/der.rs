//! Just enough DER to write keys and to take an ECDSA signature apart.

/// One TLV.
pub(crate) fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match content.len() {
        len @ 0..=0x7f => out.push(len as u8),
        len @ 0x80..=0xff => out.extend([0x81, len as u8]),
        len => {
            out.push(0x82);
            out.extend(u16::try_from(len).expect("test keys are small").to_be_bytes());
        }
    }
    out.extend_from_slice(content);
    out
}

/// `SEQUENCE` of the given parts.
pub(crate) fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    tlv(0x30, &parts.concat())
}

/// `BIT STRING` without unused bits.
pub(crate) fn bit_string(bytes: &[u8]) -> Vec<u8> {
    tlv(0x03, &[&[0], bytes].concat())
}

/// `INTEGER` from a big-endian magnitude.
pub(crate) fn integer(magnitude: &[u8]) -> Vec<u8> {
    let start = magnitude.iter().position(|&byte| byte != 0).unwrap_or(magnitude.len());
    let digits = &magnitude[start..];
    match digits.first() {
        Some(first) if *first < 0x80 => tlv(0x02, digits),
        _ => tlv(0x02, &[&[0], digits].concat()),
    }
}

/// `OBJECT IDENTIFIER` from its dotted text.
pub(crate) fn oid(text: &str) -> Vec<u8> {
    let arcs: Vec<u64> = text.split('.').map(|arc| arc.parse().expect("an arc is a number")).collect();
    let mut content = Vec::new();
    for arc in std::iter::once(arcs[0] * 40 + arcs[1]).chain(arcs[2..].iter().copied()) {
        let groups = (64 - arc.leading_zeros()).div_ceil(7).max(1);
        for group in (0..groups).rev() {
            content.push((arc >> (7 * group)) as u8 & 0x7f | if group == 0 { 0 } else { 0x80 });
        }
    }
    tlv(0x06, &content)
}

/// `OCTET STRING`.
pub(crate) fn octets(bytes: &[u8]) -> Vec<u8> {
    tlv(0x04, bytes)
}

/// `UTF8String`.
pub(crate) fn utf8(text: &str) -> Vec<u8> {
    tlv(0x0c, text.as_bytes())
}

/// `SET OF` with its elements in the order that DER asks for, under the given tag.
pub(crate) fn set_of(tag: u8, mut elements: Vec<Vec<u8>>) -> Vec<u8> {
    elements.sort();
    tlv(tag, &elements.concat())
}

/// `GeneralizedTime` in whole seconds.
pub(crate) fn generalized_time(seconds: i64) -> Vec<u8> {
    tlv(0x18, compact_time(seconds).as_bytes())
}

/// `Time`: `UTCTime` before 2050, as RFC 5280 asks.
pub(crate) fn time(seconds: i64) -> Vec<u8> {
    let text = compact_time(seconds);
    match &text[..2] {
        "20" if &text[2..3] < "5" => tlv(0x17, &text.as_bytes()[2..]),
        _ => tlv(0x18, text.as_bytes()),
    }
}

fn compact_time(seconds: i64) -> String {
    crate::time::rfc3339(seconds).replace(['-', ':', 'T'], "")
}

/// Splits the first TLV off: its content and what follows.
fn take(bytes: &[u8]) -> (&[u8], &[u8]) {
    let (len, start) = match bytes[1] {
        0x81 => (usize::from(bytes[2]), 3),
        0x82 => (usize::from(u16::from_be_bytes([bytes[2], bytes[3]])), 4),
        len => (usize::from(len), 2),
    };
    (&bytes[start..start + len], &bytes[start + len..])
}

/// The contents of a `SEQUENCE` of two `INTEGER`s: an ECDSA signature or an RSA public key.
pub(crate) fn two_integers(bytes: &[u8]) -> (&[u8], &[u8]) {
    let (inside, _) = take(bytes);
    let (first, rest) = take(inside);
    let (second, _) = take(rest);
    (first, second)
}

/// PEM with 64 columns.
pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}-----END {label}-----\n", wrapped(der, 64))
}

/// Base64 in lines, each ended by a newline.
pub(crate) fn wrapped(bytes: &[u8], columns: usize) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let text = STANDARD.encode(bytes);
    let mut out = String::new();
    for line in text.as_bytes().chunks(columns) {
        out.extend(line.iter().map(|&byte| char::from(byte)));
        out.push('\n');
    }
    out
}
