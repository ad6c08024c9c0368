#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]

use std::convert::Infallible;

use proptest::prelude::*;
use serde_json::json;

use super::*;

struct Plain<'a>(&'a Value);

impl Event for Plain<'_> {
    type Error = Infallible;
    fn field(&self, name: &str) -> Result<Option<&Value>, Infallible> {
        Ok(self.0.get(name))
    }
}

fn matches(pattern: &Value, event: &Value) -> bool {
    let Ok(matched) = Pattern::compile(pattern).unwrap().matches(&Plain(event));
    matched
}

#[test]
fn each_kind_of_entry_matches_what_it_says_and_nothing_else() {
    let cases = [
        (
            json!(["a"]),
            vec![json!("a"), json!(["b", "a"])],
            vec![json!("b"), json!("A"), json!(1), json!(null), json!([])],
        ),
        (json!([300]), vec![json!(300), json!(300.0), json!(3e2)], vec![json!("300"), json!(301)]),
        (json!([null, true]), vec![json!(null), json!(true)], vec![json!(false), json!("")]),
        (
            json!([{"prefix": "eu-"}]),
            vec![json!("eu-"), json!("eu-west")],
            vec![json!("us"), json!("EU-west"), json!(1)],
        ),
        (json!([{"prefix": {"equals-ignore-case": "EU-"}}]), vec![json!("eu-west")], vec![json!("e")]),
        (json!([{"suffix": ".png"}]), vec![json!("a.png")], vec![json!("a.jpg"), json!("png")]),
        (json!([{"suffix": {"equals-ignore-case": ".PNG"}}]), vec![json!("a.png")], vec![json!(".pn")]),
        (json!([{"equals-ignore-case": "Größe"}]), vec![json!("gRÖßE")], vec![json!("Größen")]),
        (
            json!([{"wildcard": "a*b*"}]),
            vec![json!("ab"), json!("axxbyy")],
            vec![json!("ba"), json!("a"), json!("xab")],
        ),
        (json!([{"wildcard": "a\\*b"}]), vec![json!("a*b")], vec![json!("axb")]),
        (json!([{"wildcard": "*aba"}]), vec![json!("ababa"), json!("aba")], vec![json!("abab")]),
        (json!([{"wildcard": "ab*ba"}]), vec![json!("abba")], vec![json!("aba")]),
        (
            json!([{"anything-but": "a"}]),
            vec![json!("b"), json!(1), json!(null), json!(["a", "b"])],
            vec![json!("a"), json!(["a"])],
        ),
        (json!([{"anything-but": ["a", 1]}]), vec![json!("b"), json!(2)], vec![json!("a"), json!(1.0)]),
        (
            json!([{"anything-but": {"prefix": ["a", "b"]}}]),
            vec![json!("c"), json!(1)],
            vec![json!("ax"), json!("bx")],
        ),
        (json!([{"anything-but": {"wildcard": "*/x/*"}}]), vec![json!("/y/")], vec![json!("/x/")]),
        (
            json!([{"numeric": [">", 10_000]}]),
            vec![json!(10_001), json!(10_000.5)],
            vec![json!(10_000), json!("10001")],
        ),
        (json!([{"numeric": [">=", 0, "<", 10]}]), vec![json!(0), json!(9.9)], vec![json!(-1), json!(10)]),
        (json!([{"numeric": ["=", 5]}]), vec![json!(5), json!(5.0)], vec![json!(6)]),
        (json!([{"exists": true}]), vec![json!(null), json!([]), json!({"a": 1})], vec![]),
        (json!([{"exists": false}]), vec![], vec![json!(null), json!(1)]),
        (
            json!([{"cidr": "10.1.0.0/16"}]),
            vec![json!("10.1.255.3")],
            vec![json!("10.2.0.0"), json!("x"), json!("::1")],
        ),
        (json!([{"cidr": "0.0.0.0/0"}]), vec![json!("9.9.9.9")], vec![json!("::1")]),
        (json!([{"cidr": "fe80::/10"}]), vec![json!("febf::1")], vec![json!("fec0::1"), json!("1.2.3.4")]),
    ];
    for (entries, yes, no) in cases {
        let pattern = json!({ "body": { "f": entries } });
        for value in yes {
            assert!(matches(&pattern, &json!({ "body": { "f": value } })), "{pattern} must match {value}");
        }
        for value in no {
            assert!(
                !matches(&pattern, &json!({ "body": { "f": value } })),
                "{pattern} must not match {value}"
            );
        }
        let absent = pattern == json!({ "body": { "f": [{"exists": false}] } });
        assert_eq!(matches(&pattern, &json!({ "body": {} })), absent, "{pattern}, no such field");
    }
}

#[test]
fn all_fields_must_match_and_of_or_one() {
    let pattern =
        json!({"key": ["k"], "$or": [{"body": {"a": [1]}}, {"headers": {"h": ["x"]}, "body": {"b": [2]}}]});
    assert!(matches(&pattern, &json!({"key": "k", "body": {"a": 1}})));
    assert!(matches(&pattern, &json!({"key": "k", "body": {"b": 2}, "headers": {"h": "x"}})));
    assert!(!matches(&pattern, &json!({"key": "k", "body": {"b": 2}})));
    assert!(!matches(&pattern, &json!({"key": "no", "body": {"a": 1}})));
}

#[test]
fn a_pattern_of_an_object_matches_a_list_if_one_element_matches_it_whole() {
    let pattern = json!({"body": {"items": {"sku": ["a"], "n": [{"numeric": [">", 1]}]}}});
    assert!(matches(&pattern, &json!({"body": {"items": [{"sku": "b", "n": 1}, {"sku": "a", "n": 2}]}})));
    assert!(!matches(&pattern, &json!({"body": {"items": [{"sku": "a", "n": 1}, {"sku": "b", "n": 2}]}})));
}

#[test]
fn the_body_is_read_last_and_only_if_the_rest_matches() {
    struct NoBody;
    impl Event for NoBody {
        type Error = ();
        fn field(&self, name: &str) -> Result<Option<&Value>, ()> {
            if name == "body" { Err(()) } else { Ok(None) }
        }
    }
    let pattern = |p| Pattern::compile(&p).unwrap();
    assert_eq!(pattern(json!({"body": {"a": [1]}, "key": ["k"]})).matches(&NoBody), Ok(false));
    assert_eq!(pattern(json!({"body": {"a": [1]}})).matches(&NoBody), Err(()));
}

#[test]
fn what_is_no_pattern_is_refused_with_the_place() {
    for (pattern, at) in [
        (json!([]), "at the top"),
        (json!({}), "at the top"),
        (json!({"key": "k"}), "at key"),
        (json!({"body": {"a": []}}), "at body.a"),
        (json!({"body": {}}), "at body"),
        (json!({"body": {"a": [[1]]}}), "at body.a"),
        (json!({"body": {"a": [{}]}}), "at body.a"),
        (json!({"body": {"a": [{"prefix": "a", "suffix": "b"}]}}), "at body.a"),
        (json!({"body": {"a": [{"regex": ".*"}]}}), "at body.a"),
        (json!({"body": {"a": [{"prefix": 1}]}}), "at body.a"),
        (json!({"body": {"a": [{"wildcard": "a**"}]}}), "at body.a"),
        (json!({"body": {"a": [{"wildcard": "a\\b"}]}}), "at body.a"),
        (json!({"body": {"a": [{"numeric": [">"]}]}}), "at body.a"),
        (json!({"body": {"a": [{"numeric": ["!", 1]}]}}), "at body.a"),
        (json!({"body": {"a": [{"numeric": [">", "1"]}]}}), "at body.a"),
        (json!({"body": {"a": [{"exists": 1}]}}), "at body.a"),
        (json!({"body": {"a": [{"cidr": "10.0.0.0/33"}]}}), "at body.a"),
        (json!({"body": {"a": [{"anything-but": []}]}}), "at body.a"),
        (json!({"body": {"a": [{"anything-but": {"numeric": [">", 1]}}]}}), "at body.a"),
        (json!({"$or": []}), "at $or"),
        (json!({"$or": [1]}), "at the top"),
        (json!({"body": {"a": ["x".repeat(PATTERN_BYTES_MAX)]}}), "at the top"),
        (json!({"body": {"a": vec![0; PATTERN_ENTRIES_MAX + 1]}}), "at body.a"),
    ] {
        assert_eq!(Pattern::compile(&pattern).unwrap_err().at, at, "{pattern}");
    }
    let deep = (0..=PATTERN_DEPTH_MAX).fold(json!([1]), |inner, _| json!({ "a": inner }));
    assert!(Pattern::compile(&deep).is_err());
}

/// The naive evaluator: the pattern as it is written, each entry by its own words.
mod naive {
    use serde_json::Value;

    pub(super) fn fields(pattern: &Value, event: Option<&Value>) -> bool {
        if let Some(Value::Array(all)) = event {
            return all.iter().any(|e| fields(pattern, Some(e)));
        }
        pattern.as_object().unwrap().iter().all(|(name, p)| {
            if name == "$or" {
                return p.as_array().unwrap().iter().any(|one| fields(one, event));
            }
            let value = event.and_then(|e| e.get(name));
            if p.is_object() {
                fields(p, value)
            } else {
                p.as_array().unwrap().iter().any(|e| entry(e, value))
            }
        })
    }

    fn entry(e: &Value, value: Option<&Value>) -> bool {
        if let Some(there) = e.get("exists") {
            return there.as_bool().unwrap() == value.is_some();
        }
        let Some(value) = value else { return false };
        if let Some(all) = value.as_array() {
            return all.iter().any(|v| entry(e, Some(v)));
        }
        if value.is_object() {
            return false;
        }
        let Some(o) = e.as_object() else { return same(e, value) };
        let (name, arg) = o.iter().next().unwrap();
        let low = |s: &str| s.to_lowercase();
        let text = |name: &str, arg: &Value| {
            let Some(v) = value.as_str() else { return false };
            match (name, arg.as_str(), arg.get("equals-ignore-case").and_then(Value::as_str)) {
                ("prefix", Some(a), _) => v.starts_with(a),
                ("prefix", None, Some(a)) => low(v).starts_with(&low(a)),
                ("suffix", Some(a), _) => v.ends_with(a),
                ("suffix", None, Some(a)) => low(v).ends_with(&low(a)),
                ("equals-ignore-case", Some(a), _) => low(v) == low(a),
                ("wildcard", Some(a), _) => wild(a.as_bytes(), v.as_bytes()),
                _ => unreachable!("{name}"),
            }
        };
        match name.as_str() {
            "numeric" => {
                value.is_number() && {
                    let n = value.as_f64().unwrap();
                    arg.as_array().unwrap().chunks(2).all(|c| {
                        let b = c[1].as_f64().unwrap();
                        match c[0].as_str().unwrap() {
                            ">" => n > b,
                            ">=" => n >= b,
                            "<" => n < b,
                            "<=" => n <= b,
                            _ => n.partial_cmp(&b) == Some(std::cmp::Ordering::Equal),
                        }
                    })
                }
            }
            "anything-but" => match arg {
                Value::Object(o) => {
                    let (name, args) = o.iter().next().unwrap();
                    let args = args.as_array().cloned().unwrap_or_else(|| vec![args.clone()]);
                    !args.iter().any(|a| text(name, a))
                }
                Value::Array(all) => !all.iter().any(|a| same(a, value)),
                one => !same(one, value),
            },
            name => text(name, arg),
        }
    }

    fn same(a: &Value, b: &Value) -> bool {
        if a.is_number() && b.is_number() { a.as_f64() == b.as_f64() } else { a == b }
    }

    fn wild(p: &[u8], t: &[u8]) -> bool {
        match (p.first(), t.first()) {
            (None, None) => true,
            (Some(b'*'), _) => wild(&p[1..], t) || !t.is_empty() && wild(p, &t[1..]),
            (Some(a), Some(b)) => a == b && wild(&p[1..], &t[1..]),
            _ => false,
        }
    }
}

fn words() -> impl Strategy<Value = String> {
    "[abAB]{0,4}"
}

fn scalars() -> impl Strategy<Value = Value> {
    prop_oneof![
        words().prop_map(Value::from),
        (-3_i32..3).prop_map(Value::from),
        (-3_i32..3).prop_map(|n| Value::from(f64::from(n))),
        any::<bool>().prop_map(Value::from),
        Just(Value::Null),
    ]
}

fn events() -> impl Strategy<Value = Value> {
    scalars().prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map("[abc]", inner, 0..4)
                .prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

fn texts() -> impl Strategy<Value = (&'static str, Value)> {
    prop_oneof![
        words().prop_map(|w| ("prefix", json!(w))),
        words().prop_map(|w| ("suffix", json!(w))),
        words().prop_map(|w| ("equals-ignore-case", json!(w))),
        "(\\*?[ab]){0,4}\\*?".prop_map(|w| ("wildcard", json!(w))),
    ]
}

fn entries() -> impl Strategy<Value = Value> {
    let how = prop::sample::select(vec!["<", "<=", ">", ">=", "="]);
    prop_oneof![
        scalars(),
        texts().prop_map(|(name, arg)| json!({ name: arg })),
        words().prop_map(|w| json!({"prefix": {"equals-ignore-case": w}})),
        words().prop_map(|w| json!({"suffix": {"equals-ignore-case": w}})),
        any::<bool>().prop_map(|b| json!({ "exists": b })),
        (how.clone(), -3_i32..3).prop_map(|(h, n)| json!({"numeric": [h, n]})),
        (how.clone(), -3_i32..3, how, -3_i32..3).prop_map(|(h, n, i, m)| json!({"numeric": [h, n, i, m]})),
        prop::collection::vec(scalars(), 1..3).prop_map(|all| json!({ "anything-but": all })),
        scalars().prop_map(|one| json!({ "anything-but": one })),
        texts().prop_map(|(name, arg)| json!({"anything-but": { name: [arg] }})),
    ]
}

fn patterns() -> impl Strategy<Value = Value> {
    let leaf = prop::collection::vec(entries(), 1..3).prop_map(Value::from);
    let object = |inner: BoxedStrategy<Value>| {
        prop::collection::hash_map("[abc]", inner, 1..3).prop_map(|m| Value::Object(m.into_iter().collect()))
    };
    let node = leaf.prop_recursive(2, 12, 3, move |inner| {
        let fields = object(inner.boxed());
        prop_oneof![
            fields.clone(),
            (fields.clone(), prop::collection::vec(fields, 1..3)).prop_map(|(mut o, any)| {
                o["$or"] = json!(any);
                o
            })
        ]
    });
    prop::collection::hash_map("[abc]", node, 1..3).prop_map(|m| Value::Object(m.into_iter().collect()))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn a_compiled_pattern_says_what_the_naive_reading_says(
        pattern in patterns(),
        event in prop::collection::hash_map("[abc]", events(), 0..4),
    ) {
        let event = Value::Object(event.into_iter().collect());
        prop_assert_eq!(matches(&pattern, &event), naive::fields(&pattern, Some(&event)));
    }
}
