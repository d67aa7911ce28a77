//! `matches`: regular expressions as RE2 reads them, found anywhere in a text.
//!
//! The engine underneath is linear in the text, too, and differs in what classes mean: there `\d` is any digit of any script, and
//! `[a&&b]`, `[a--b]` and `[a[b]]` are sets. So that a pattern means what CEL's users know, it is written out first.

use std::{iter::Peekable, str::Chars};

/// Longest pattern, in bytes.
const MAX_PATTERN: usize = 512;
/// Largest compiled pattern, in bytes.
const MAX_COMPILED: usize = 32 * 1024;
/// Deepest nesting of groups and classes.
const MAX_NEST: u32 = 16;

/// A compiled pattern.
#[derive(Debug)]
pub struct Pattern(regex::Regex);

impl Pattern {
    /// Compiles `source`.
    pub fn new(source: &str) -> Result<Self, String> {
        if source.is_empty() {
            return Err("an empty pattern is found in every text".to_owned());
        }
        if source.len() > MAX_PATTERN {
            return Err(format!("a pattern has at most {MAX_PATTERN} bytes"));
        }
        let mut builder = regex::RegexBuilder::new(&written_out(source)?);
        let built = builder.size_limit(MAX_COMPILED).nest_limit(MAX_NEST).build();
        built.map(Self).map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => "the pattern is too large".to_owned(),
            // The parser's own words draw the pattern over several lines; the last says what is wrong.
            other => other.to_string().lines().last().unwrap_or_default().trim().to_owned(),
        })
    }

    /// Whether it is found in `text`.
    pub fn is_in(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

/// The pattern in the words of the engine.
fn written_out(source: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut chars = source.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => escape(&mut chars, false, &mut out)?,
            '[' => class(&mut chars, &mut out)?,
            other => out.push(other),
        }
    }
    Ok(out)
}

/// A class, after its bracket.
fn class(chars: &mut Peekable<Chars<'_>>, out: &mut String) -> Result<(), String> {
    out.push('[');
    out.extend(chars.next_if_eq(&'^'));
    // The first may be the bracket itself.
    if chars.next_if_eq(&']').is_some() {
        out.push_str(r"\]");
    }
    let mut ranging = false;
    while let Some(c) = chars.next() {
        let began = std::mem::take(&mut ranging);
        match c {
            ']' => {
                out.push(']');
                return Ok(());
            }
            '\\' => escape(chars, true, out)?,
            '[' if chars.peek() == Some(&':') => {
                out.push('[');
                for named in chars.by_ref() {
                    out.push(named);
                    if named == ']' {
                        break;
                    }
                }
            }
            '-' if !began => {
                out.push('-');
                ranging = true;
            }
            '[' | '-' | '&' | '~' => out.extend(['\\', c]),
            other => out.push(other),
        }
    }
    Err("a class does not end".to_owned())
}

/// What follows a backslash: RE2's classes are those of ASCII.
fn escape(chars: &mut Peekable<Chars<'_>>, in_class: bool, out: &mut String) -> Result<(), String> {
    let c = chars.next().ok_or("the pattern ends with a backslash")?;
    let set = match c {
        'd' | 'D' => "0-9",
        'w' | 'W' => "0-9A-Za-z_",
        's' | 'S' => r"\t\n\x0C\r ",
        'b' if !in_class => {
            out.push_str(r"(?-u:\b)");
            return Ok(());
        }
        other => {
            out.extend(['\\', other]);
            return Ok(());
        }
    };
    match (c.is_ascii_uppercase(), in_class) {
        (true, _) => out.extend(["[^", set, "]"]),
        (false, true) => out.push_str(set),
        (false, false) => out.extend(["[", set, "]"]),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_means_what_re2_says() {
        for (pattern, found, not) in [
            ("b+c", "abbcd", "abd"),
            ("^v[0-9]+$", "v10", "xv10"),
            (r"^\d+$", "12", "\u{0661}\u{0662}"),
            (r"^[\d.]+$", "1.2", "1.\u{0662}"),
            (r"^[^\d]+$", "ab", "a1"),
            (r"^\D$", "x", "1"),
            (r"^\w+$", "aZ_9", "\u{e4}"),
            (r"^\s$", "\t", "\u{a0}"),
            (r"\bcat\b", "a cat!", "concat"),
            ("^[a&&b]+$", "a&b", "c"),
            ("^[a[]+$", "a[", "b"),
            ("^[]a]+$", "]a", "b"),
            ("^[+--]$", ",", "."),
            ("^[a~~b-]+$", "~-", "c"),
            ("^[[:alpha:]-]+$", "a-b", "1"),
            ("(?i)^abc$", "ABC", "abcd"),
            ("^a$", "a", "a\n"),
            ("^a.b$", "a\u{e4}b", "a\nb"),
        ] {
            let compiled = Pattern::new(pattern).unwrap_or_else(|why| panic!("{pattern}: {why}"));
            assert!(compiled.is_in(found) && !compiled.is_in(not), "{pattern}");
        }
    }

    #[test]
    fn chain28_a_regex_bomb_is_refused_when_the_policy_is_saved() {
        for pattern in [
            "",
            "(",
            "[a",
            "a\\",
            r"(a)\1",
            "(?=a)",
            "a{1000}{1000}",
            "((((((((((((((((((((a))))))))))))))))))))",
            &"a".repeat(513),
        ] {
            assert!(Pattern::new(pattern).is_err(), "{pattern}");
        }
        let slow = Pattern::new("^(a+)+$").unwrap();
        assert!(!slow.is_in(&format!("{}b", "a".repeat(10_000))), "it is linear");
    }
}
