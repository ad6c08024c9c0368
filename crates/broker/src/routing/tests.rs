//! Routing against `RabbitMQ`'s documented rules, and against scans that are too simple to be wrong.

use std::collections::BTreeSet;

use bytes::Bytes;
use millstream_engine::exchange::{BindingDef, ExchangeType, RouteEvent};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::envelope::{HeaderValue, encode_arguments};

mod naive;

const NS: Namespace = Namespace::DEFAULT;

/// Queues that there are, by name.
struct Queues(Vec<&'static str>);

impl Names for Queues {
    fn find(&self, name: &(Namespace, String)) -> Option<TargetKind> {
        (name.0 == NS && self.0.contains(&&*name.1)).then_some(TargetKind::Queue)
    }
}

fn exchange(name: &str, kind: ExchangeType, alternate: Option<&str>) -> ExchangeDef {
    ExchangeDef {
        ns: NS,
        name: name.to_owned(),
        kind,
        durable: true,
        auto_delete: false,
        internal: false,
        alternate: alternate.map(str::to_owned),
        arguments: Vec::new(),
        created_ms: 1,
    }
}

fn to(source: &str, kind: TargetKind, name: &str, key: &str, arguments: &[Header]) -> BindingDef {
    let arguments = if arguments.is_empty() { Vec::new() } else { encode_arguments(arguments).unwrap() };
    let target = Target { kind, name: name.to_owned() };
    BindingDef { ns: NS, source: source.to_owned(), target, key: key.to_owned(), arguments }
}

fn queue(source: &str, name: &str, key: &str) -> BindingDef {
    to(source, TargetKind::Queue, name, key, &[])
}

fn header(name: &str, value: HeaderValue) -> Header {
    Header { name: name.to_owned(), value }
}

fn text(name: &str, value: &str) -> Header {
    header(name, HeaderValue::Str(value.to_owned()))
}

fn routes(exchanges: Vec<ExchangeDef>, bindings: Vec<BindingDef>) -> Arc<Routes> {
    Builder::of(exchanges.into_iter(), bindings.into_iter()).routes()
}

/// The names of the targets, sorted.
fn send(
    routes: &Routes,
    exchange: &str,
    keys: &[&str],
    headers: &[Header],
) -> Result<Vec<String>, RouteError> {
    let names = Queues(vec!["q0", "q1", "q2", "q3"]);
    let mut scratch = RouteScratch::default();
    let message = RouteRequest { ns: NS, exchange, keys, headers };
    let mut found = Vec::new();
    // Twice with the same scratch: the second must not see the first.
    for _ in 0..2 {
        let count = routes.route(&names, &message, &mut scratch)?;
        found = routes.targets(&message, &scratch).map(|t| t.name.to_owned()).collect();
        assert_eq!(found.len(), count);
    }
    found.sort();
    assert!(found.windows(2).all(|w| w[0] != w[1]), "a target twice: {found:?}");
    Ok(found)
}

fn sent(routes: &Routes, exchange: &str, key: &str) -> Vec<String> {
    send(routes, exchange, &[key], &[]).unwrap()
}

#[test]
fn direct_goes_by_the_whole_key_and_fanout_by_none() {
    let bindings = vec![
        queue("amq.direct", "a", "k"),
        queue("amq.direct", "b", "k"),
        queue("amq.direct", "b", "l"),
        queue("amq.fanout", "a", "k"),
        queue("amq.fanout", "c", ""),
    ];
    let r = routes(Vec::new(), bindings);
    assert_eq!(sent(&r, "amq.direct", "k"), ["a", "b"]);
    assert_eq!(sent(&r, "amq.direct", "l"), ["b"]);
    assert_eq!(sent(&r, "amq.direct", "k.l"), Vec::<String>::new());
    assert_eq!(sent(&r, "amq.fanout", "anything"), ["a", "c"]);
    assert_eq!(sent(&r, "amq.topic", "k"), Vec::<String>::new(), "it is there and nothing is bound to it");
}

/// The table of `RabbitMQ`'s own test of topic patterns, in part.
#[test]
fn topic_patterns_match_words() {
    let cases: [(&str, &[&str], &[&str]); 10] = [
        ("a.b.c", &["a.b.c"], &["a.b", "a.b.c.d", "A.b.c", ""]),
        ("a.*.c", &["a.b.c", "a..c"], &["a.c", "a.b.b.c"]),
        ("a.#", &["a", "a.b", "a.b.c"], &["b", "", "b.a"]),
        ("#.b.#", &["b", "a.b", "b.c", "a.a.b.c.c"], &["a", "", "a.c"]),
        ("#", &["", "a", "a.b", "..."], &[]),
        ("*", &["a"], &["", "a.b", "."]),
        ("*.#", &["a", ".", "a.b"], &[""]),
        ("#.#.#", &["", "a", "a.b.c.d"], &[]),
        ("*.#.*", &["a.b", "a.b.c", "."], &["a", ""]),
        ("", &[""], &["a", "."]),
    ];
    for (pattern, matches, others) in cases {
        let r = routes(Vec::new(), vec![queue("amq.topic", "q", pattern)]);
        for key in matches {
            assert_eq!(sent(&r, "amq.topic", key), ["q"], "{pattern} should match {key:?}");
        }
        for key in others {
            assert_eq!(sent(&r, "amq.topic", key), Vec::<String>::new(), "{pattern} matched {key:?}");
        }
    }
}

#[test]
fn a_pattern_full_of_wildcards_is_walked_in_a_moment() {
    let many = ["#"; 127].join(".");
    let stars = [["#"; 60].join("."), "x".to_owned()].join(".");
    let r = routes(Vec::new(), vec![queue("amq.topic", "all", &many), queue("amq.topic", "x", &stars)]);
    let key = ["a"; 128].join(".");
    assert_eq!(sent(&r, "amq.topic", &key), ["all"]);
    let dots = ".".repeat(ROUTING_KEY_BYTES_MAX);
    assert_eq!(sent(&r, "amq.topic", &dots), ["all"]);
}

#[test]
fn headers_match_all_or_any_and_leave_names_with_x_out_unless_asked() {
    let kind = |k: &str| text("x-match", k);
    let args = [text("fmt", "pdf"), header("pages", HeaderValue::I32(3)), text("x-from", "me")];
    let with = |k: &str| [&[kind(k)], &args[..]].concat();
    let bind = |name, args: &[Header]| to("amq.headers", TargetKind::Queue, name, "", args);
    let bindings = vec![
        bind("all", &with("all")),
        bind("any", &with("any")),
        bind("all-x", &with("all-with-x")),
        bind("any-x", &with("any-with-x")),
        bind("plain", &args),
        bind("present", &[kind("all"), header("fmt", HeaderValue::Null)]),
        bind("nothing-all", &[kind("all")]),
        bind("nothing-any", &[kind("any")]),
        bind("bare", &[]),
    ];
    let r = routes(Vec::new(), bindings);
    let got = |headers: &[Header]| send(&r, "amq.headers", &["k"], headers).unwrap();
    let always = ["bare", "nothing-all"];
    assert_eq!(got(&[]), always);
    assert_eq!(got(&[text("fmt", "txt")]), ["bare", "nothing-all", "present"]);
    assert_eq!(got(&[text("fmt", "pdf")]), ["any", "any-x", "bare", "nothing-all", "present"]);
    assert_eq!(got(&[text("x-from", "me")]), ["any-x", "bare", "nothing-all"]);
    let pair = [text("fmt", "pdf"), header("pages", HeaderValue::U8(3))];
    assert_eq!(got(&pair), ["all", "any", "any-x", "bare", "nothing-all", "plain", "present"]);
    let whole = [&pair[..], &[text("x-from", "me")]].concat();
    assert_eq!(got(&whole).len(), 8);
    let bytes = [header("fmt", HeaderValue::Bytes(Bytes::from_static(b"pdf")))];
    assert_eq!(got(&bytes), ["any", "any-x", "bare", "nothing-all", "present"]);
}

#[test]
fn the_default_exchange_goes_by_name_and_every_key_counts_once() {
    let r = routes(Vec::new(), vec![queue("amq.direct", "q1", "k")]);
    assert_eq!(sent(&r, "", "q0"), ["q0"]);
    assert_eq!(sent(&r, "", "missing"), Vec::<String>::new());
    let keys = ["q0", "q1", "q0", "q1", "missing", "q2"];
    assert_eq!(send(&r, "", &keys, &[]).unwrap(), ["q0", "q1", "q2"]);
    let both = routes(
        vec![exchange("e", ExchangeType::Direct, None)],
        vec![queue("e", "a", "k"), queue("e", "b", "l")],
    );
    assert_eq!(send(&both, "e", &["k", "l", "k"], &[]).unwrap(), ["a", "b"]);
}

#[test]
fn exchanges_lead_on_and_a_circle_ends() {
    let exchanges = ["a", "b", "c"].map(|n| exchange(n, ExchangeType::Fanout, None)).to_vec();
    let on = |from: &str, to_: &str| to(from, TargetKind::Exchange, to_, "", &[]);
    let bindings = vec![
        on("a", "b"),
        on("b", "c"),
        on("c", "a"),
        on("c", "c"),
        queue("c", "q", ""),
        queue("a", "q", ""),
    ];
    let r = routes(exchanges, bindings);
    for from in ["a", "b", "c"] {
        assert_eq!(sent(&r, from, "k"), ["q"]);
    }
}

#[test]
fn an_alternate_takes_what_its_exchange_leads_nowhere() {
    let exchanges = vec![
        exchange("a", ExchangeType::Direct, Some("b")),
        exchange("b", ExchangeType::Direct, Some("c")),
        exchange("c", ExchangeType::Fanout, Some("a")),
        exchange("loop", ExchangeType::Direct, Some("loop")),
        exchange("lost", ExchangeType::Direct, Some("missing")),
        exchange("named", ExchangeType::Direct, Some("")),
        exchange("on", ExchangeType::Direct, Some("c")),
    ];
    let bindings = vec![
        queue("a", "qa", "a"),
        queue("b", "qb", "b"),
        queue("c", "qc", ""),
        to("on", TargetKind::Exchange, "lost", "k", &[]),
    ];
    let r = routes(exchanges, bindings);
    for (from, key, found) in [
        ("a", "a", &["qa"][..]),
        ("a", "b", &["qb"]),
        ("a", "other", &["qc"]),
        ("loop", "k", &[]),
        ("lost", "k", &[]),
        ("named", "q2", &["q2"]),
        ("named", "missing", &[]),
        ("on", "k", &[]),
        ("on", "other", &["qc"]),
    ] {
        assert_eq!(sent(&r, from, key), found, "{from} {key}");
    }
}

#[test]
fn what_cannot_be_published_to_is_said() {
    let internal = ExchangeDef { internal: true, ..exchange("in", ExchangeType::Fanout, None) };
    let open = exchange("open", ExchangeType::Fanout, None);
    let bindings = vec![to("open", TargetKind::Exchange, "in", "", &[]), queue("in", "q", "")];
    let r = routes(vec![internal, open], bindings);
    assert_eq!(send(&r, "in", &["k"], &[]), Err(RouteError::Internal { name: "in".to_owned() }));
    assert_eq!(sent(&r, "open", "k"), ["q"]);
    assert_eq!(send(&r, "none", &["k"], &[]), Err(RouteError::NoExchange { name: "none".to_owned() }));
    assert_eq!(send(&r, "open", &[&"k".repeat(256)], &[]), Err(RouteError::KeyTooLong));
    assert_eq!(send(&r, "open", &vec!["k"; ROUTE_KEYS_MAX + 1], &[]), Err(RouteError::TooManyKeys));
}

#[test]
fn one_message_passes_so_many_exchanges_and_has_so_many_targets() {
    let chain = |n: usize| {
        let exchanges = (0..n).map(|i| exchange(&i.to_string(), ExchangeType::Fanout, None)).collect();
        let mut bindings: Vec<_> =
            (1..n).map(|i| to(&(i - 1).to_string(), TargetKind::Exchange, &i.to_string(), "", &[])).collect();
        bindings.push(queue(&(n - 1).to_string(), "q", ""));
        routes(exchanges, bindings)
    };
    assert_eq!(sent(&chain(ROUTE_EXCHANGES_MAX), "0", ""), ["q"]);
    assert_eq!(send(&chain(ROUTE_EXCHANGES_MAX + 1), "0", &[""], &[]), Err(RouteError::TooManyExchanges));
    let wide =
        |n: usize| routes(Vec::new(), (0..n).map(|i| queue("amq.fanout", &i.to_string(), "")).collect());
    assert_eq!(sent(&wide(ROUTE_TARGETS_MAX), "amq.fanout", "").len(), ROUTE_TARGETS_MAX);
    assert_eq!(send(&wide(ROUTE_TARGETS_MAX + 1), "amq.fanout", &[""], &[]), Err(RouteError::TooManyTargets));
}

#[test]
fn a_namespace_sees_its_own_exchanges_only() {
    let other = Namespace(7);
    let theirs = BindingDef { ns: other, ..queue("amq.fanout", "theirs", "") };
    let r = routes(
        vec![ExchangeDef { ns: other, ..exchange("e", ExchangeType::Fanout, None) }],
        vec![theirs, queue("amq.fanout", "mine", "")],
    );
    assert_eq!(sent(&r, "amq.fanout", ""), ["mine"]);
    assert!(send(&r, "e", &[""], &[]).is_err());
    let names = |ns, after| r.exchanges(ns, after, 3).iter().map(|e| e.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(NS, ""), ["amq.direct", "amq.fanout", "amq.headers"]);
    assert_eq!(names(NS, "amq.headers"), ["amq.match", "amq.topic"]);
    assert_eq!(names(other, "amq.match"), ["amq.topic", "e"]);
    assert_eq!(r.exchange(other, "e").unwrap().name, "e");
    assert!(r.exchange(NS, "e").is_none() && r.exchange(NS, "amq.match").is_some());
}

#[derive(Clone, Debug)]
enum Change {
    Made(ExchangeDef),
    Gone(u8),
    Bound(BindingDef),
    Unbound(usize),
}

fn word() -> impl Strategy<Value = String> {
    prop_oneof![4 => "[ab]{1,1}", 1 => Just(String::new())]
}

fn pattern() -> impl Strategy<Value = String> {
    let word = prop_oneof![3 => word(), 2 => Just("*".to_owned()), 2 => Just("#".to_owned())];
    vec(word, 1..5).prop_map(|words| words.join("."))
}

fn key() -> impl Strategy<Value = String> {
    vec(word(), 1..6).prop_map(|words| words.join("."))
}

fn value() -> impl Strategy<Value = HeaderValue> {
    prop_oneof![
        Just(HeaderValue::Null),
        (0..2i8).prop_map(HeaderValue::I8),
        (0..2u64).prop_map(HeaderValue::U64),
        "[ab]".prop_map(HeaderValue::Str),
        "[ab]".prop_map(|s| HeaderValue::Bytes(Bytes::from(s))),
        Just(HeaderValue::F32(0.5)),
        Just(HeaderValue::F64(0.5)),
        Just(HeaderValue::F64(-0.0)),
        any::<bool>().prop_map(HeaderValue::Bool),
        Just(HeaderValue::Array(vec![HeaderValue::Null])),
    ]
}

fn headers() -> impl Strategy<Value = Vec<Header>> {
    let name = prop_oneof![4 => "[hi]", 1 => Just("x-h".to_owned())];
    vec((name, value()).prop_map(|(name, value)| Header { name, value }), 0..4)
}

fn arguments() -> impl Strategy<Value = Vec<Header>> {
    let kind = prop_oneof![Just("all"), Just("any"), Just("all-with-x"), Just("any-with-x")];
    (headers(), proptest::option::of(kind)).prop_map(|(mut headers, kind)| {
        headers.extend(kind.map(|k| text("x-match", k)));
        headers
    })
}

fn any_exchange() -> impl Strategy<Value = ExchangeDef> {
    use ExchangeType::{Direct, Fanout, Headers, Topic};
    let kind = prop_oneof![Just(Direct), Just(Fanout), Just(Topic), Just(Headers)];
    let alternate = prop_oneof![3 => Just(None), 3 => (0..4u8).prop_map(|n| Some(format!("e{n}"))), 1 => Just(Some(String::new()))];
    (0..4u8, kind, alternate)
        .prop_map(|(n, kind, alternate)| exchange(&format!("e{n}"), kind, alternate.as_deref()))
}

fn any_binding() -> impl Strategy<Value = BindingDef> {
    let source = prop_oneof![8 => (0..4u8).prop_map(|n| format!("e{n}")), 1 => Just("amq.topic".to_owned())];
    let target = prop_oneof![
        4 => (0..4u8).prop_map(|n| (TargetKind::Queue, format!("q{n}"))),
        2 => (0..4u8).prop_map(|n| (TargetKind::Exchange, format!("e{n}"))),
        1 => Just((TargetKind::Exchange, "amq.fanout".to_owned())),
    ];
    (source, target, prop_oneof![pattern(), key()], arguments())
        .prop_map(|(source, (kind, name), key, arguments)| to(&source, kind, &name, &key, &arguments))
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => any_exchange().prop_map(Change::Made),
        1 => (0..4u8).prop_map(Change::Gone),
        12 => any_binding().prop_map(Change::Bound),
        4 => any::<usize>().prop_map(Change::Unbound),
    ]
}

type Sent = (u8, Vec<String>, Vec<Header>);

fn message() -> impl Strategy<Value = Sent> {
    (0..6u8, vec(prop_oneof![4 => key(), 1 => "q[0-5]"], 1..3), headers())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn routes_follow_every_change_and_lead_where_a_scan_leads(
        changes in vec(change(), 1..40), messages in vec(message(), 1..6), at in 0..40usize
    ) {
        let mut world = naive::World::default();
        let mut builder = Builder::default();
        let mut kept = None;
        for (i, change) in changes.iter().enumerate() {
            for event in world.change(change) {
                builder.follow(&event);
            }
            if i == at {
                kept = Some((builder.routes(), world.clone()));
            }
        }
        for (routes, world) in kept.into_iter().chain([(builder.routes(), world)]) {
            for (from, keys, headers) in &messages {
                let from = match from { 4 => "amq.topic".to_owned(), 5 => String::new(), n => format!("e{n}") };
                let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
                let got = send(&routes, &from, &keys, headers).ok().map(BTreeSet::from_iter);
                prop_assert_eq!(got, world.route(&from, &keys, headers), "from {}", from);
            }
        }
    }
}
