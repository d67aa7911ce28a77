//! The words of an expression. Brackets are counted here, before any parser sees them.

use super::MAX_DEPTH;

/// One word.
#[derive(Debug, Clone, PartialEq)]
pub enum Token {
    /// A name or keyword.
    Name(String),
    /// An integer.
    Int(i64),
    /// An integer with the suffix `u`.
    Uint(u64),
    /// A number with a fraction or exponent.
    Double(f64),
    /// A text, its escapes read.
    Text(String),
    /// An operator or bracket.
    Sign(&'static str),
}

/// Longer signs first.
const SIGNS: [&str; 24] = [
    "&&", "||", "==", "!=", "<=", ">=", "<", ">", "+", "-", "*", "/", "%", "!", "?", ":", ".", ",", "(", ")",
    "[", "]", "{", "}",
];

/// The words, each with where it begins.
pub fn split(source: &str) -> Result<Vec<(usize, Token)>, String> {
    let mut tokens = Vec::new();
    let mut depth = 0usize;
    let mut rest = source;
    loop {
        rest = rest.trim_start_matches([' ', '\t', '\r', '\n']);
        let at = source.len() - rest.len();
        if rest.starts_with("//") {
            rest = rest.find('\n').map_or("", |end| &rest[end..]);
            continue;
        }
        let Some(first) = rest.chars().next() else { return Ok(tokens) };
        let raw = rest.strip_prefix('r').filter(|rest| rest.starts_with(['\'', '"']));
        let (token, length) = if let Some(text) = raw {
            let (token, length) = text_of(text, true).map_err(|why| place(at, why))?;
            (token, length + 1)
        } else if first == '"' || first == '\'' {
            text_of(rest, false).map_err(|why| place(at, why))?
        } else if first.is_ascii_digit() {
            number(rest).map_err(|why| place(at, why))?
        } else if first.is_ascii_alphabetic() || first == '_' {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            (Token::Name(rest[..end].to_owned()), end)
        } else {
            let sign = SIGNS.iter().find(|sign| rest.starts_with(**sign));
            let sign = sign.ok_or_else(|| place(at, format!("`{first}` means nothing here")))?;
            match *sign {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth > MAX_DEPTH {
                return Err(place(at, format!("more than {MAX_DEPTH} brackets are open")));
            }
            (Token::Sign(sign), sign.len())
        };
        tokens.push((at, token));
        rest = &rest[length..];
    }
}

/// A complaint with its place.
pub fn place(at: usize, why: impl std::fmt::Display) -> String {
    format!("at byte {} of the expression: {why}", at + 1)
}

fn number(text: &str) -> Result<(Token, usize), String> {
    let bytes = text.as_bytes();
    let digits =
        |from: usize| bytes[from.min(bytes.len())..].iter().take_while(|b| b.is_ascii_digit()).count() + from;
    if let Some(hex) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return hexadecimal(hex);
    }
    let mut end = digits(0);
    let mut whole = true;
    if bytes.get(end) == Some(&b'.') && bytes.get(end + 1).is_some_and(u8::is_ascii_digit) {
        end = digits(end + 1);
        whole = false;
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        let after = digits(end + 1 + sign);
        if after > end + 1 + sign {
            end = after;
            whole = false;
        }
    }
    let number = &text[..end];
    let unsigned = whole && matches!(bytes.get(end), Some(b'u' | b'U'));
    end += usize::from(unsigned);
    ends(&text[end..])?;
    let large = |_| format!("{number} is too large");
    let token = match whole {
        true if unsigned => Token::Uint(number.parse().map_err(large)?),
        true => Token::Int(number.parse().map_err(large)?),
        false => Token::Double(number.parse().map_err(|_| format!("{number} is no number"))?),
    };
    Ok((token, end))
}

/// A number ends where nothing else of a word follows.
fn ends(rest: &str) -> Result<(), String> {
    match rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') {
        true => Err("a number has no such suffix".to_owned()),
        false => Ok(()),
    }
}

/// What follows `0x`.
fn hexadecimal(text: &str) -> Result<(Token, usize), String> {
    let end = text.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(text.len());
    let unsigned = text[end..].strip_prefix(['u', 'U']);
    let rest = unsigned.unwrap_or(&text[end..]);
    ends(rest)?;
    let wrong = |_| format!("0x{} is no int", &text[..end]);
    let token = match unsigned {
        Some(_) => Token::Uint(u64::from_str_radix(&text[..end], 16).map_err(wrong)?),
        None => Token::Int(i64::from_str_radix(&text[..end], 16).map_err(wrong)?),
    };
    Ok((token, 2 + text.len() - rest.len()))
}

/// A quoted text, and how long it is with its quotes.
fn text_of(text: &str, raw: bool) -> Result<(Token, usize), String> {
    let mut chars = text.char_indices();
    let quote = chars.next().map(|(_, quote)| quote);
    let mut value = String::new();
    while let Some((at, c)) = chars.next() {
        match c {
            c if Some(c) == quote => return Ok((Token::Text(value), at + c.len_utf8())),
            '\n' | '\r' => break,
            '\\' if !raw => {
                let escape = chars.next().map(|(_, escape)| escape);
                value.push(match escape {
                    Some(c @ ('\\' | '\'' | '"' | '`')) => c,
                    Some('n') => '\n',
                    Some('r') => '\r',
                    Some('t') => '\t',
                    Some('u') => {
                        let hex: String = chars.by_ref().take(4).map(|(_, c)| c).collect();
                        let code = u32::from_str_radix(&hex, 16).ok().filter(|_| hex.len() == 4);
                        code.and_then(char::from_u32).ok_or(r"`\u` takes four hex digits")?
                    }
                    _ => return Err("an escape that nobody knows".to_owned()),
                });
            }
            c => value.push(c),
        }
    }
    Err("a text does not end on its line".to_owned())
}
