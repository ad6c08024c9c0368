//! The rules of exchanges and bindings, one by one. What a message meets on its way is the broker's; see its tests.
#![allow(clippy::pedantic, clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]

mod support;

use millstream_engine::exchange::{
    ARGUMENTS_BYTES_MAX, BINDINGS_PAGE_MAX, BindingDef, BindingsOf, ExchangeChange, ExchangeDef,
    ExchangeType, PREDECLARED, RoutingError, Target, TargetKind,
};
use millstream_engine::op::{Now, Op, Reply};
use millstream_engine::{Engine, EngineConfig};
use millstream_types::Namespace;
use support::{FakeLog, FakeStore, ask, open};

const NS: Namespace = Namespace::DEFAULT;
const NOW: Now = Now { wall_ms: 1_000, mono_ms: 5 };

struct Bench(Engine, FakeLog);

impl Bench {
    fn new() -> Self {
        let (log, store) = (FakeLog::default(), FakeStore::default());
        Self(open(EngineConfig::default(), &store, &log, 1, 1, NOW), log)
    }
    fn all(&mut self, changes: Vec<ExchangeChange>) -> Result<Vec<bool>, RoutingError> {
        match ask(&mut self.0, &mut self.1, NOW, Op::Routing(changes)).reply {
            Reply::Routing(result) => result,
            other => panic!("{other:?}"),
        }
    }
    fn change(&mut self, change: ExchangeChange) -> Result<bool, RoutingError> {
        self.all(vec![change]).map(|done| done[0])
    }
    fn names(&self) -> Vec<String> {
        self.0.exchanges().map(|e| e.name).collect()
    }
}

fn exchange(name: &str, kind: ExchangeType) -> ExchangeDef {
    let (name, arguments) = (name.to_owned(), Vec::new());
    ExchangeDef {
        ns: NS,
        name,
        kind,
        durable: true,
        auto_delete: false,
        internal: false,
        alternate: None,
        arguments,
        created_ms: 0,
    }
}

fn direct(name: &str) -> ExchangeChange {
    ExchangeChange::Create(exchange(name, ExchangeType::Direct))
}

fn binding(source: &str, to: &str, key: &str) -> BindingDef {
    BindingDef {
        ns: NS,
        source: source.to_owned(),
        target: Target { kind: TargetKind::Exchange, name: to.to_owned() },
        key: key.to_owned(),
        arguments: Vec::new(),
    }
}

fn delete(name: &str, if_unused: bool) -> ExchangeChange {
    ExchangeChange::Delete { ns: NS, name: name.to_owned(), if_unused }
}

#[test]
fn an_exchange_declared_again_alike_is_the_same_and_otherwise_names_what_differs() {
    let mut b = Bench::new();
    let made = ExchangeDef { alternate: Some("ae".to_owned()), ..exchange("e", ExchangeType::Topic) };
    assert_eq!(b.change(ExchangeChange::Create(made.clone())), Ok(true));
    let alike = ExchangeDef { arguments: vec![7], ..made.clone() };
    assert_eq!(b.change(ExchangeChange::Create(alike)), Ok(false), "other arguments are not compared");
    let cases = [
        (ExchangeDef { kind: ExchangeType::Direct, ..made.clone() }, "type"),
        (ExchangeDef { durable: false, ..made.clone() }, "durable"),
        (ExchangeDef { auto_delete: true, ..made.clone() }, "auto_delete"),
        (ExchangeDef { internal: true, ..made.clone() }, "internal"),
        (ExchangeDef { alternate: None, ..made.clone() }, "alternate-exchange"),
        (ExchangeDef { alternate: Some("none".to_owned()), ..made.clone() }, "alternate-exchange"),
    ];
    for (asked, what) in cases {
        match b.change(ExchangeChange::Create(asked)) {
            Err(RoutingError::Differs { arg, .. }) => assert_eq!(arg, what),
            other => panic!("{what}: {other:?}"),
        }
    }
    assert_eq!(b.1.records.len(), 1);
}

#[test]
fn the_exchanges_that_are_always_there_can_be_bound_and_not_changed() {
    let mut b = Bench::new();
    for (name, kind) in PREDECLARED {
        assert_eq!(b.change(ExchangeChange::Create(exchange(name, kind))), Ok(false));
        let reserved = Err(RoutingError::Reserved { name: name.to_owned() });
        assert_eq!(b.change(delete(name, false)), reserved);
        assert_eq!(b.change(ExchangeChange::Bind(binding(name, "amq.fanout", "k"))), Ok(true));
    }
    let other = b.change(ExchangeChange::Create(exchange("amq.topic", ExchangeType::Direct)));
    assert!(matches!(other, Err(RoutingError::Differs { arg: "type", .. })), "{other:?}");
    assert_eq!(b.change(direct("amq.mine")), Err(RoutingError::Reserved { name: "amq.mine".to_owned() }));
    assert_eq!(b.names(), Vec::<String>::new());
}

#[test]
fn the_default_exchange_is_neither_bound_nor_made_nor_removed() {
    let mut b = Bench::new();
    let reserved = Err(RoutingError::Reserved { name: String::new() });
    assert_eq!(b.change(direct("")), reserved);
    assert_eq!(b.change(delete("", false)), reserved);
    assert_eq!(b.change(ExchangeChange::Bind(binding("", "amq.fanout", "k"))), reserved);
    assert_eq!(b.change(ExchangeChange::Bind(binding("amq.fanout", "", "k"))), reserved);
}

#[test]
fn one_binding_is_told_from_another_by_key_and_arguments() {
    let mut b = Bench::new();
    let plain = binding("amq.direct", "amq.fanout", "k");
    let other_key = BindingDef { key: "l".to_owned(), ..plain.clone() };
    let other_args = BindingDef { arguments: vec![1], ..plain.clone() };
    let binds =
        |of: &[&BindingDef]| of.iter().map(|b| ExchangeChange::Bind((*b).clone())).collect::<Vec<_>>();
    let all = binds(&[&plain, &other_key, &other_args, &plain]);
    assert_eq!(b.all(all), Ok(vec![true, true, true, false]));
    assert_eq!(b.change(ExchangeChange::Unbind(plain.clone())), Ok(true));
    assert_eq!(b.change(ExchangeChange::Unbind(plain)), Ok(false));
    assert_eq!(b.0.bindings().count(), 2);
}

#[test]
fn an_exchange_goes_with_the_bindings_from_it_and_to_it() {
    let mut b = Bench::new();
    for e in ["a", "b", "c"] {
        b.change(direct(e)).unwrap();
    }
    for (from, to) in [("a", "b"), ("b", "c"), ("b", "b"), ("a", "c")] {
        b.change(ExchangeChange::Bind(binding(from, to, "k"))).unwrap();
    }
    assert_eq!(b.change(delete("b", true)), Err(RoutingError::InUse { name: "b".to_owned() }));
    assert_eq!(b.change(delete("b", false)), Ok(true));
    assert_eq!(b.0.bindings().collect::<Vec<_>>(), [binding("a", "c", "k")]);
    b.change(direct("b")).unwrap();
    assert_eq!(b.0.bindings().count(), 1, "what is made anew inherits nothing");
    assert_eq!(b.change(delete("c", true)), Ok(true), "being bound to is not being used");
    let gone = RoutingError::NotFound { what: "exchange", name: "c".to_owned() };
    assert_eq!(b.change(delete("c", false)), Err(gone));
}

#[test]
fn an_auto_delete_exchange_goes_when_its_last_binding_goes_and_not_before_its_first() {
    let mut b = Bench::new();
    let auto = |name| {
        ExchangeChange::Create(ExchangeDef { auto_delete: true, ..exchange(name, ExchangeType::Fanout) })
    };
    b.all(vec![auto("low"), auto("high")]).unwrap();
    let (down, out) = (binding("high", "low", ""), binding("low", "amq.fanout", ""));
    b.all(vec![ExchangeChange::Bind(down), ExchangeChange::Bind(out.clone())]).unwrap();
    assert_eq!(b.names(), ["high", "low"]);
    b.change(ExchangeChange::Unbind(out)).unwrap();
    assert_eq!(b.names(), Vec::<String>::new(), "high lost its last binding with low");
    assert_eq!(b.1.records.len(), 3);
}

#[test]
fn changes_of_one_operation_happen_together_or_not_at_all() {
    let mut b = Bench::new();
    let bad = ExchangeChange::Bind(binding("a", "missing", "k"));
    let missing = RoutingError::NotFound { what: "exchange", name: "missing".to_owned() };
    assert_eq!(b.all(vec![direct("a"), bad]), Err(missing));
    assert_eq!((b.names().len(), b.1.records.len()), (0, 0));
    let change =
        vec![direct("a"), ExchangeChange::Bind(binding("a", "a", "k")), delete("a", false), direct("a")];
    assert_eq!(b.all(change), Ok(vec![true; 4]));
    assert_eq!((b.names().len(), b.0.bindings().count(), b.1.records.len()), (1, 0, 1));
}

#[test]
fn names_keys_and_arguments_have_limits() {
    let mut b = Bench::new();
    assert_eq!(b.change(direct(&"n".repeat(256))), Err(RoutingError::InvalidName));
    let bind = binding("amq.direct", "amq.fanout", &"k".repeat(256));
    let got = b.change(ExchangeChange::Bind(bind));
    assert!(matches!(got, Err(RoutingError::TooLarge { max: 255, .. })), "{got:?}");
    let arguments = vec![0; ARGUMENTS_BYTES_MAX + 1];
    let bind = BindingDef { arguments, ..binding("amq.direct", "amq.fanout", "k") };
    let got = b.change(ExchangeChange::Bind(bind));
    assert!(matches!(got, Err(RoutingError::TooLarge { max: ARGUMENTS_BYTES_MAX, .. })), "{got:?}");
}

#[test]
fn a_long_listing_comes_in_pages() {
    let mut b = Bench::new();
    let total = 2 * BINDINGS_PAGE_MAX + 1;
    for n in 0..total {
        b.change(ExchangeChange::Bind(binding("amq.direct", "amq.fanout", &n.to_string()))).unwrap();
    }
    let target = Target { kind: TargetKind::Exchange, name: "amq.fanout".to_owned() };
    for of in [BindingsOf::Source("amq.direct".to_owned()), BindingsOf::Target(target)] {
        let (mut keys, mut pages, mut from) = (std::collections::BTreeSet::new(), 0, None);
        loop {
            let op = Op::ListBindings { ns: NS, of: of.clone(), from };
            let Reply::Bindings(page) = ask(&mut b.0, &mut b.1, NOW, op).reply else { panic!() };
            keys.extend(page.bindings.into_iter().map(|b| b.key));
            pages += 1;
            from = page.next;
            if from.is_none() {
                break;
            }
        }
        assert_eq!((keys.len(), pages), (total, 3));
    }
}
