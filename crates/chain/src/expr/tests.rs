use proptest::prelude::*;

use super::*;

fn bindings() -> Bindings {
    let json = serde_json::json!({
        "trigger": "push", "runner": null, "params": {"target": "release", "n": "4"},
        "dependencies": [{"uri": "a"}, {"uri": "b"}], "startedOn": "2026-11-20T10:00:00Z", "hermetic": true,
        "big": 18_446_744_073_709_551_615u64, "half": 0.5,
    });
    Bindings::default()
        .with("build", Value::from_json(&json))
        .with("params", Value::from_json(&json["params"]))
        .with(
            "ctx",
            Value::from_json(&serde_json::json!({"environment": "prod", "freeze": true, "count": 3})),
        )
        .at("2026-11-20T12:00:00Z".parse().unwrap())
}

fn evaluate(source: &str) -> Result<bool, Fault> {
    let program = Program::parse(source).unwrap_or_else(|error| panic!("{source}: {error}"));
    program.evaluate(&bindings(), &mut Budget::default())
}

#[test]
fn expressions_mean_what_they_say() {
    for source in [
        "true",
        "!false && (1 + 2 * 3 == 7) && 7 % 4 == 3 && 7 / 2 == 3 && -1 < 0",
        "1 < 1.5 && 2.0 == 2 && 0.5 + 0.25 == 0.75 && 9007199254740993 > 9007199254740992.0",
        "build.trigger == 'push' && build['trigger'] in ['push', 'release']",
        "has(build.trigger) && !has(build.runner) && !has(build.nothing) && build.runner == null",
        "build.params.exists(k, k.startsWith('tar')) && build.params.all(k, build.params[k] != '')",
        "build.dependencies.map(d, d.uri) == ['a', 'b'] && build.dependencies.filter(d, d.uri > 'a').size() == 1",
        "build.dependencies.exists_one(d, d.uri == 'a') && [].all(x, false) && ![].exists(x, true)",
        "build.dependencies.exists(d, build.dependencies.all(e, e.uri >= d.uri))",
        "ctx.environment == 'prod' && ctx.freeze && 'freeze' in ctx && !('x' in ctx)",
        "size('äb') == 2 && size([1]) == 1 && 'abc'.contains('b') && 'aBc'.lowerAscii().endsWith('bc')",
        "int(params.n) == 4 && params.n + 'x' == '4x' && [1] + [2] == [1, 2] && {'a': 1}.a == 1",
        "semverCompare('1.10.0', '1.9.0') > 0 && semverCompare('1.0.0-rc.1', '1.0.0') < 0 && semverCompare('v1.0.0+a', '1.0.0') == 0",
        "semverCompare('1.0.0-alpha.2', '1.0.0-alpha.10') < 0 && semverCompare('1.0.0-1', '1.0.0-a') < 0",
        "purl('pkg:npm/%40acme/x@1.2.3').version == '1.2.3' && purl('pkg:deb/debian/bash').package == 'pkg:deb/debian/bash'",
        "glob('registry.test/a/b', 'registry.test/**') && !glob('registry.test/a/b', 'registry.test/*')",
        "now - duration('2h') == timestamp('2026-11-20T10:00:00Z') && now - timestamp('2026-11-20T10:00:00Z') <= duration('2h')",
        "(ctx.freeze ? 1 : 'x') == 1",
        "r'a\\b' == 'a\\\\b' && '\\u00e4' == 'ä' && \"'\" == '\\''",
        "false || false || true",
        "0x10 == 16 && 7u == 7 && 1u < 1.5 && [1, 2,].size() == 2 // a comment",
        "build.big == 18446744073709551615u && build.big > 9223372036854775807 && build.big < 18446744073709551616.0 && -1 < 0u",
        "18446744073709551615u > 18446744073709549568.0 && 9007199254740993u != 9007199254740992.0 && build.half < 1u && 1u > build.half",
        "1 in [1u, 2.0] && [1, 2u] == [1.0, 2] && {'a': 1u} == {'a': 1} && 0xffffffffffffffffu == build.big && 1u != 2",
        "uint('7') == 7u && uint(2.9) + 1u == 3 && int(7u) - 8 == -1 && double(3u) == 3.0 && string(uint(9)) == '9'",
        "7u / 2u == 3u && 7u % 4u == 3u && 2u * 3u - 6u == 0u",
        "build.trigger.matches('^pu') && !build.trigger.matches('^u') && matches(build.trigger, 'us')",
        "build.dependencies.map(d, d.uri > 'a', d.uri + '!') == ['b!']",
        "int(2.9) == 2 && int(-2.9) == -2 && double('1.5') == 1.5 && double(3) == 3 && string(3) + string(true) == '3true'",
        "duration('1h30m') == duration('5400s') && duration('-1.5h') < duration('0s') && duration('1ms') > duration('1us')",
        "duration('2h') + now == now + duration('120m') && string(now) == '2026-11-20T12:00:00Z' && int(now) == 1795176000",
        "now.getDayOfWeek() == 5 && now.getHours() == 12 && now.getFullYear() == 2026 && now.getMonth() == 10 && now.getDate() == 20",
        "duration('36h').getHours() == 36 && timestamp(0).getFullYear() == 1970 && (now - timestamp('2026-11-19T12:00:00Z')).getMinutes() == 1440",
    ] {
        assert_eq!(evaluate(source), Ok(true), "{source}");
    }
}

#[test]
fn p14_an_evaluation_error_is_never_true_and_never_false() {
    for source in [
        "build.nothing",
        "build.nothing == null",
        "!build.nothing",
        "build.nothing || true",
        "build.nothing && false",
        "ctx.missing && ctx.freeze",
        "build.dependencies[2].uri == 'c'",
        "build.dependencies[-1].uri == 'c'",
        "1 / 0 == 1",
        "1 % 0 == 1",
        "9223372036854775807 + 1 > 0",
        "-(-9223372036854775807 - 1) > 0",
        "1.0 / 0.0 > 1.0",
        "build.trigger == 1",
        "build.trigger != 1",
        "build.trigger in [1]",
        "build.hermetic < build.trigger",
        "build.big > build.trigger",
        "build.big == '18446744073709551615'",
        "build.big + 1u > 0u",
        "0u - 1u < 1u",
        "1u / 0u == 1u",
        "1u % 0u == 1u",
        "build.big - 1 > 0",
        "-build.big < 0",
        "int(build.big) > 0",
        "uint(-1) == 0u",
        "uint(-0.5) == 0u",
        "uint(18446744073709551616.0) > 0u",
        "uint('-1') == 0u",
        "uint(build.hermetic) == 1u",
        "1 + build.trigger == 2",
        "build.trigger",
        "build.dependencies",
        "null",
        "int('x') == 1",
        "int('99999999999999999999') > 1",
        "semverCompare('1.0', '1.0.0') == 0",
        "semverCompare('01.0.0', '1.0.0') == 0",
        "purl('x').name == 'x'",
        "purl('pkg:deb/debian/bash').version == ''",
        "duration('1y') > duration('1s')",
        "timestamp('yesterday') < now",
        "now + duration('100d') + duration('36500d') > now - duration('36500d') - duration('1x')",
        "build.dependencies.all(d, d.digest == 'x')",
        "build.dependencies.exists(d, d)",
        "{'a': 1, 'a': 2}.a == 1",
        "build.trigger.contains(1)",
        "build.runner.matches('a')",
        "build.hermetic.matches('a')",
        "int(1e300) > 0",
        "int(true) == 1",
        "double('nan') < 1.0",
        "double('1e999') > 1.0",
        "string([1]) == ''",
        "timestamp(9223372036854775807) > now",
        "duration('') == duration('0s')",
        "duration('1.h') > duration('0s')",
        "duration('101000d') > duration('0s')",
        "duration('1h').getDate() == 1",
        "now.getHours().getHours() == 1",
        "timestamp('9999-12-30T00:00:00Z') + duration('36500d') > now",
        "duration('36500d') + timestamp('9999-12-30T00:00:00Z') > now",
    ] {
        let fault = evaluate(source).expect_err(source);
        assert!(!fault.to_string().is_empty());
    }
}

#[test]
fn chain28_what_grows_without_end_meets_the_limit_of_steps() {
    let doubled = format!("[1]{}.size() > 0", ".map(a, [a, a])".repeat(28));
    assert_eq!(
        evaluate(&format!("{doubled} && [1]{} == [2]", ".map(a, [a, a])".repeat(28))),
        Err(Fault::Limit)
    );
    let list = format!("[{}]", vec!["1"; 200].join(","));
    let cubed = format!("{list}.all(a, {list}.all(b, {list}.all(c, a + b + c == 3)))");
    assert_eq!(evaluate(&cubed), Err(Fault::Limit));
    let text = format!("['{}']{} == ['']", "x".repeat(200), ".map(a, a + a)".repeat(26));
    assert_eq!(evaluate(&text), Err(Fault::Limit));
    // Many that are each within their own limit.
    let list = format!("[{}]", vec!["1"; 100].join(","));
    let program = Program::parse(&format!("{list}.all(a, {list}.all(b, a == b))")).unwrap();
    let mut budget = Budget::default();
    let ends = (0..100).map(|_| program.evaluate(&bindings(), &mut budget)).find(Result::is_err);
    assert_eq!(ends, Some(Err(Fault::Total)));
}

#[test]
fn chain28_a_source_is_short_and_shallow_and_its_patterns_are_small() {
    let refused = |source: &str| Program::parse(source).map(|_| ()).expect_err("must be refused");
    assert!(refused(&format!("'{}' == ''", "x".repeat(100 * 1024))).contains("4096 bytes"));
    assert!(refused(&format!("{}true{}", "(".repeat(33), ")".repeat(33))).contains("brackets"));
    assert!(refused(&"[".repeat(4000)).contains("brackets"));
    assert!(refused(&format!("{}true", "!".repeat(4000))).contains("nested"));
    assert!(refused(&format!("1{} == 1", " + 1".repeat(500))).contains("nested"));
    assert!(refused(&format!("build{}", ".a".repeat(2000))).contains("nested"));
    assert!(refused(&"true ? true : ".repeat(200)).contains("nested"));
    let tower = (0..30).fold("1".to_owned(), |inner, _| format!("({inner}{})", " + 1".repeat(30)));
    assert!(refused(&format!("{tower} == 1")).contains("nested"));
    assert!(refused("build.trigger.matches('(a')").contains("unclosed group"));
    assert!(refused("build.trigger.matches('a{1000}{1000}')").contains("too large"));
    assert!(refused("build.trigger.matches(build.runner)").contains("literal pattern"));
    assert!(
        Program::parse(&format!("true{}", " && true".repeat(500))).is_ok(),
        "beside each other is not nested"
    );
}

#[test]
fn what_is_not_an_expression_is_refused_with_its_place() {
    for (source, why) in [
        ("", "empty"),
        ("1 +", "at the end"),
        ("a b", "should end"),
        ("'abc", "does not end"),
        ("'a\nb' == ''", "does not end"),
        ("1x == 1", "no such suffix"),
        ("1.5u == 1", "no such suffix"),
        ("0x == 16", "no int"),
        ("0xfffffffffffffffff == 16", "no int"),
        ("99999999999999999999 == 1", "too large"),
        ("9223372036854775808 == 1", "too large"),
        ("18446744073709551616u == 1", "too large"),
        ("0x10000000000000000u == 1", "no int"),
        ("a = b", "`=` means nothing"),
        ("a < b < c", "should end"),
        ("a ? b", "`:` is missing"),
        ("[1, 2", "`,` is missing"),
        ("has(a)", "one member"),
        ("size()", "1 argument"),
        ("glob(ctx.a, ctx.b)", "literal pattern"),
        ("matches(ctx.a, ctx.b)", "literal pattern"),
        ("ctx.a.matches('')", "every text"),
        ("a.filter(x, true, x)", "`)` is missing"),
        ("size(1,)", "not expected"),
        ("'\\x41' == 'A'", "escape"),
        ("a.exists(1, true)", "needs a name"),
        ("in", "not expected"),
    ] {
        let error = Program::parse(source).map(|_| ()).expect_err(source);
        assert!(error.contains(why), "{source}: {error}");
    }
}

#[test]
fn names_and_types_are_checked_when_the_policy_is_saved() {
    let check = |source: &str, site| Program::parse(source).unwrap().check(site);
    for (source, site) in [
        ("build.trigger == 'push' && params['a.b'] == 'x' && source.ref != ''", Site::Build),
        ("build.params.exists(k, k.startsWith('request.args.build-arg:DEBUG'))", Site::Build),
        ("now - build.finishedOn < duration('1h')", Site::Build),
        ("att.claim.severities.critical == 0", Site::Require),
        ("att.findings.filter(f, f.severity == 'critical' && !f.vexNotAffected).size() == 0", Site::Require),
        ("subject.resource.matches('^registry[.]acme[.]io/')", Site::Deny),
        ("ctx.environment == 'prod' && ctx.freeze && !ctx.breakGlass", Site::Deny),
        ("ctx.canary", Site::Match),
    ] {
        assert_eq!(check(source, site), Ok(()), "{source}");
    }
    for (source, site, why) in [
        ("build.triger == 'push'", Site::Build, "did you mean `trigger`?"),
        ("biuld.trigger == 'push'", Site::Build, "did you mean `build`?"),
        ("build.trigger == 'push'", Site::Deny, "no variable `build`"),
        ("now > timestamp('2026-01-01T00:00:00Z')", Site::Match, "no variable `now`"),
        ("build.trigger", Site::Build, "is a text, not a bool"),
        ("build.trigger == 1", Site::Build, "`==` does not take a text and an int"),
        ("build.trigger && true", Site::Build, "a text stands where a bool is wanted"),
        ("build.trigger.size", Site::Build, "a text has no member"),
        ("build.dependencies.exists(d, d.url == 'x')", Site::Build, "no member `url`"),
        ("build.dependencies.exists(build, true)", Site::Build, "means something already"),
        ("build.dependencies['a'] == 'b'", Site::Build, "is indexed by an int"),
        ("ctx.a.exists(x, y)", Site::Deny, "no variable `y`"),
        ("size(1) + 'x' == 1", Site::Deny, "`+` does not take"),
        ("att.findings.exists(f, f.level == 'high')", Site::Require, "no member `level`"),
        ("1u + 1 == 2", Site::Deny, "`+` does not take a uint and an int"),
        ("-1u == 1", Site::Deny, "does not take"),
        ("1u == '1'", Site::Deny, "`==` does not take a uint and a text"),
        ("now.matches('2026')", Site::Deny, "a timestamp stands where a text is wanted"),
    ] {
        let error = check(source, site).expect_err(source);
        assert!(error.contains(why), "{source}: {error}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_or_the_evaluator_panic(source in "[a-z.()\\[\\]{}!?:&|=<>+*/%0-9' ,-]{0,80}") {
        if let Ok(program) = Program::parse(&source) {
            let _ = program.check(Site::Build);
            let _ = program.evaluate(&bindings(), &mut Budget::default());
        }
    }

    /// What passes the check fails with missing values and ranges only, never with a name.
    #[test]
    fn numbers_are_on_one_line(a in any::<i64>(), b in any::<u64>(), c in any::<f64>()) {
        let (int, uint, double) = (Value::Int(a), Value::Uint(b), Value::Double(c));
        prop_assert_eq!(int.compare(&uint), Some(i128::from(a).cmp(&i128::from(b))));
        prop_assert_eq!(uint.compare(&int), int.compare(&uint).map(std::cmp::Ordering::reverse));
        prop_assert_eq!(uint.compare(&double), double.compare(&uint).map(std::cmp::Ordering::reverse));
        prop_assert_eq!(uint.compare(&double).is_none(), c.is_nan());
        // A double between two integers is between them, whatever it is beside the one.
        let near = Value::Double(b as f64);
        let below = Value::Uint(b.saturating_sub(4096));
        let above = Value::Uint(b.saturating_add(4096));
        prop_assert!(b < 4096 || below.compare(&near) == Some(std::cmp::Ordering::Less));
        prop_assert!(b > u64::MAX - 4096 || above.compare(&near) == Some(std::cmp::Ordering::Greater));
    }

    #[test]
    fn integers_and_doubles_compare_exactly(a in any::<i64>(), b in any::<f64>()) {
        let order = Value::Int(a).compare(&Value::Double(b));
        prop_assert_eq!(order.is_none(), b.is_nan());
        if b.is_finite() && b.fract() == 0.0 && b.abs() < 1e18 {
            #[expect(clippy::cast_possible_truncation, reason = "whole and within the range")]
            let whole = b as i64;
            prop_assert_eq!(order, Some(a.cmp(&whole)));
        }
    }
}
