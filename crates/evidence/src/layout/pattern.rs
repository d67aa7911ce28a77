//! Patterns of artifact rules, as Python's `fnmatch` has them: `*` crosses `/`.

/// Whether `pattern` matches the whole of `text`.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    let (mut p, mut t) = (0, 0);
    // Where the last star stood and what it has taken so far: going back there is enough.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&'*') {
            star = Some((p, t));
            p += 1;
            continue;
        }
        match one(&pattern, p, text[t]) {
            Some(next) => {
                p = next;
                t += 1;
            }
            None => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    p = at + 1;
                    t = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// Where the pattern goes on when its element at `p` takes `c`.
fn one(pattern: &[char], p: usize, c: char) -> Option<usize> {
    match *pattern.get(p)? {
        '?' => Some(p + 1),
        '[' => match set(pattern, p) {
            Some((members, negated, next)) => (holds(members, c) != negated).then_some(next),
            None => (c == '[').then_some(p + 1),
        },
        literal => (literal == c).then_some(p + 1),
    }
}

/// The members of the set that begins at `p`; a bracket that nothing closes is itself.
fn set(pattern: &[char], p: usize) -> Option<(&[char], bool, usize)> {
    let negated = pattern.get(p + 1) == Some(&'!');
    let begin = p + 1 + usize::from(negated);
    // A bracket right at the beginning is a member.
    let end = (begin + 1..pattern.len()).find(|at| pattern[*at] == ']')?;
    Some((&pattern[begin..end], negated, end + 1))
}

fn holds(members: &[char], c: char) -> bool {
    let mut at = 0;
    while at < members.len() {
        if members.get(at + 1) == Some(&'-') && at + 2 < members.len() {
            if (members[at]..=members[at + 2]).contains(&c) {
                return true;
            }
            at += 3;
        } else {
            if members[at] == c {
                return true;
            }
            at += 1;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_are_pythons() {
        for (pattern, text, expected) in [
            ("*", "a/b", true),
            ("*", "", true),
            ("*.py", "demo/foo.py", true),
            ("foo?", "foo", false),
            ("foo?", "foo1", true),
            ("f[a-c]o", "fbo", true),
            ("f[!a-c]o", "fbo", false),
            ("f[]]o", "f]o", true),
            ("f[o", "f[o", true),
            ("a*b*c", "aXbXbXc", true),
            ("a*b*c", "aXbXb", false),
            ("foo", "foobar", false),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn many_stars_cost_little() {
        let (pattern, text) = ("*a".repeat(200), "a".repeat(1000) + "b");
        assert!(!matches(&pattern, &text));
    }
}
