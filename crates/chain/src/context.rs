//! What a question says about itself: the freeze, the ticket, the cluster. Policies read it as `ctx` in `match.when` and
//! `deny[].when`; it is what the asker claims, so it may narrow a decision and never proves anything.

use std::collections::BTreeMap;

/// Names and values.
pub type Context = BTreeMap<String, String>;

/// Most names of one question.
pub const MAX_NAMES: usize = 16;
/// Longest name, in bytes.
pub const MAX_NAME: usize = 64;
/// Longest value, in bytes.
pub const MAX_VALUE: usize = 256;

/// Names that the question itself has.
const RESERVED: [&str; 3] = ["environment", "platform", "resource"];

/// Why a context is refused, if it is.
pub fn check(context: &Context) -> Result<(), String> {
    if context.len() > MAX_NAMES {
        return Err(format!("a context has at most {MAX_NAMES} names"));
    }
    for (name, value) in context {
        let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
        let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !first || !plain || name.len() > MAX_NAME {
            return Err(format!(
                "a name of the context is [A-Za-z_][A-Za-z0-9_]* of at most {MAX_NAME} bytes"
            ));
        }
        if RESERVED.contains(&name.as_str()) {
            return Err(format!("the context cannot change `{name}`, which the question gives"));
        }
        if value.len() > MAX_VALUE || value.contains(char::is_control) {
            return Err(format!(
                "`{name}` is a text of at most {MAX_VALUE} bytes, without control characters"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Result<(), String> {
        check(&pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn a_context_is_small_plain_and_does_not_change_the_question() {
        assert_eq!(of(&[("freeze", "true"), ("ticket", ""), ("_x1", "ä b")]), Ok(()));
        for bad in ["", "1a", "a-b", "a.b", "environment", "platform", "resource", &"a".repeat(65)] {
            assert!(of(&[(bad, "x")]).is_err(), "{bad}");
        }
        assert!(of(&[("a", &"x".repeat(257))]).is_err());
        assert!(of(&[("a", "x\ny")]).is_err());
        let many: Vec<String> = (0..17).map(|n| format!("n{n}")).collect();
        assert!(of(&many.iter().map(|name| (name.as_str(), "x")).collect::<Vec<_>>()).is_err());
    }
}
