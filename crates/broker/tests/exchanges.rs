//! Exchanges through the broker's API: what is answered is routed by at once, and is there after a restart.
#![allow(clippy::pedantic, clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use millstream_broker::{
    Binding, BindingsOf, Broker, BrokerConfig, ExchangeError, ExchangeType, Header, HeaderValue, NewExchange,
    NewTopic, RouteRequest, RouteScratch, RoutingError, Session, Target, TargetKind, arguments_of,
};
use millstream_env::Env;
use millstream_log::mem::{Commit, MemLog};
use millstream_types::Namespace;
use support::{close, session};

fn open(log: &MemLog, env: &Env) -> Broker {
    Broker::open(BrokerConfig::default(), env.clone(), log).unwrap()
}

fn exchange(name: &str, kind: ExchangeType) -> NewExchange {
    NewExchange {
        name: name.to_owned(),
        kind,
        durable: true,
        auto_delete: false,
        internal: false,
        alternate: None,
        arguments: Vec::new(),
    }
}

fn to_topic(source: &str, topic: &str, key: &str) -> Binding {
    let target = Target { kind: TargetKind::Topic, name: topic.to_owned() };
    Binding { source: source.to_owned(), target, key: key.to_owned(), arguments: Vec::new() }
}

fn text(name: &str, value: &str) -> Header {
    Header { name: name.to_owned(), value: HeaderValue::Str(value.to_owned()) }
}

fn sent(broker: &Broker, exchange: &str, key: &str, headers: &[Header]) -> Vec<String> {
    let (routes, names) = (broker.routes(), broker.catalogue());
    let mut scratch = RouteScratch::default();
    let keys = [key];
    let message = RouteRequest { ns: Namespace::DEFAULT, exchange, keys: &keys, headers };
    routes.route(&*names, &message, &mut scratch).unwrap();
    let mut found: Vec<_> = routes.targets(&message, &scratch).map(|t| t.name.to_owned()).collect();
    found.sort();
    found
}

async fn topics(s: &Session, names: &[&str]) {
    for name in names {
        s.create_topic(NewTopic { name: (*name).to_owned(), ..NewTopic::default() }).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_declared_and_bound_is_routed_by_at_once_and_after_a_restart() {
    let (env, ..) = Env::sim(1);
    let log = MemLog::new(Commit::AtOnce);
    let broker = open(&log, &env);
    let s = session(&broker);
    topics(&s, &["a", "b"]).await;
    let events = NewExchange {
        alternate: Some("rest".to_owned()),
        arguments: vec![text("note", "n")],
        ..exchange("events", ExchangeType::Topic)
    };
    assert!(s.declare_exchange(events.clone()).await.unwrap());
    assert!(!s.declare_exchange(events).await.unwrap());
    assert!(s.declare_exchange(exchange("rest", ExchangeType::Headers)).await.unwrap());
    let pdf =
        Binding { arguments: vec![text("x-match", "all"), text("fmt", "pdf")], ..to_topic("rest", "b", "") };
    for binding in [&to_topic("events", "a", "eu.#"), &pdf] {
        assert!(s.bind(binding).await.unwrap());
        assert!(!s.bind(binding).await.unwrap());
    }
    let reordered = Binding { arguments: vec![text("fmt", "pdf"), text("x-match", "all")], ..pdf.clone() };
    assert!(!s.bind(&reordered).await.unwrap(), "the order of arguments does not make another binding");
    let check = |broker: &Broker| {
        assert_eq!(sent(broker, "events", "eu.de", &[]), ["a"]);
        assert_eq!(sent(broker, "events", "us", &[text("fmt", "pdf")]), ["b"]);
        assert_eq!(sent(broker, "events", "us", &[]), Vec::<String>::new());
        assert_eq!(sent(broker, "", "b", &[]), ["b"]);
        let def = broker.routes().exchange(Namespace::DEFAULT, "events").unwrap();
        assert_eq!(arguments_of(&def.arguments).unwrap(), [text("note", "n")]);
    };
    check(&broker);
    let of = BindingsOf::Target(pdf.target.clone());
    let listed = s.list_bindings(of, None).await.unwrap();
    assert_eq!((listed.bindings, listed.next), (vec![reordered], None));
    drop(s);
    close(broker).await;
    let broker = open(&log, &env);
    check(&broker);
    let s = session(&broker);
    s.delete_exchange("events", false).await.unwrap();
    assert!(s.unbind(&pdf).await.unwrap());
    assert!(!s.unbind(&pdf).await.unwrap());
    assert_eq!(sent(&broker, "rest", "us", &[text("fmt", "pdf")]), Vec::<String>::new());
    assert!(broker.routes().exchange(Namespace::DEFAULT, "events").is_none());
    drop(s);
    close(broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_deleted_is_routed_to_no_more_however_much_is_bound_to_it() {
    let (env, ..) = Env::sim(2);
    let broker = open(&MemLog::new(Commit::AtOnce), &env);
    let s = session(&broker);
    topics(&s, &["a", "b"]).await;
    for n in 0..500 {
        s.bind(&to_topic("amq.direct", "a", &format!("key-{n}-{}", "x".repeat(200)))).await.unwrap();
    }
    s.bind(&to_topic("amq.fanout", "a", "")).await.unwrap();
    s.bind(&to_topic("amq.fanout", "b", "")).await.unwrap();
    let uuid = broker.catalogue().by_name[&(Namespace::DEFAULT, "a".to_owned())].def.uuid;
    s.delete_topic(uuid).await.unwrap();
    assert_eq!(sent(&broker, "amq.fanout", "k", &[]), ["b"]);
    let left = s.list_bindings(BindingsOf::Source("amq.direct".to_owned()), None).await.unwrap();
    assert!(left.bindings.is_empty());
    drop(s);
    close(broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_says_why() {
    let (env, ..) = Env::sim(3);
    let broker = open(&MemLog::new(Commit::AtOnce), &env);
    let s = session(&broker);
    topics(&s, &["a"]).await;
    s.declare_exchange(exchange("e", ExchangeType::Direct)).await.unwrap();
    let other = s.declare_exchange(exchange("e", ExchangeType::Fanout)).await.unwrap_err();
    assert!(matches!(&other, ExchangeError::Routing(RoutingError::Differs { arg: "type", .. })), "{other}");
    let missing = s.bind(&to_topic("e", "missing", "")).await.unwrap_err();
    assert_eq!(missing.to_string(), "there is no topic \"missing\"");
    let odd = Binding { arguments: vec![text("x-match", "some")], ..to_topic("amq.headers", "a", "") };
    assert_eq!(s.bind(&odd).await, Err(ExchangeError::UnknownMatch));
    s.bind(&to_topic("e", "a", "k")).await.unwrap();
    let used = s.delete_exchange("e", true).await.unwrap_err();
    assert!(matches!(used, ExchangeError::Routing(RoutingError::InUse { .. })));
    drop(s);
    close(broker).await;
}
