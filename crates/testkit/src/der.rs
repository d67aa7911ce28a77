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
