//! Queues as things that are made, named, bound and removed.

use millstream_engine::queue::api::*;
use millstream_engine::queue::policy::*;
use millstream_types::{ConnId, Namespace};

use crate::behaviour::{policy, world};
use crate::support::Logged;
use crate::world::*;

#[test]
fn an_unused_queue_is_named_when_its_time_is_over_and_deleted_only_if_it_still_is() {
    let mut w = world();
    let q = w.create("a", policy(|p| p.expires_ms = Some(1_000)));
    w.tick();
    w.later(999);
    w.ask(1, QueueOp::Stats { queue: q, touch: true, durable: true });
    w.tick();
    w.later(999);
    w.tick();
    assert_eq!(w.unused, []);
    w.later(1);
    w.tick();
    assert_eq!(w.unused, [Unused::Idle(q)]);
    let delete = |if_idle| QueueChange::Delete { id: q, if_unused: true, if_empty: false, if_idle };
    // Used since: it stays.
    w.ask(1, QueueOp::Stats { queue: q, touch: true, durable: true });
    assert_eq!(w.ask(1, QueueOp::Change(vec![delete(true)])), QueueReply::Changed(Err(QueueError::InUse)));
    w.subscribe(2, 1, q, PUSH);
    assert_eq!(w.ask(1, QueueOp::Change(vec![delete(false)])), QueueReply::Changed(Err(QueueError::InUse)));
    w.gone(2);
    // Nobody acted on it: it is said again.
    w.unused.clear();
    w.later(10_000);
    w.tick();
    assert_eq!(w.unused, [Unused::Idle(q)]);
    assert!(matches!(w.ask(1, QueueOp::Change(vec![delete(true)])), QueueReply::Changed(Ok(_))));
}

#[test]
fn a_queue_that_goes_with_its_last_consumer_is_named() {
    let mut w = world();
    let q = w.create("a", policy(|p| p.auto_delete = true));
    w.subscribe(2, 1, q, PUSH);
    w.subscribe(3, 1, q, PUSH);
    w.gone(2);
    assert_eq!(w.unused, []);
    w.ask(3, QueueOp::Cancel { consumer: ConsumerId(1) });
    assert_eq!(w.unused, [Unused::LastConsumer(q)]);
}

#[test]
fn names_are_shared_with_topics() {
    use millstream_engine::catalogue::{CatalogueError, Change};
    use millstream_engine::op::{Op, Reply};
    let mut w = world();
    let q = w.create("a", QueuePolicy::default());
    assert_eq!(w.engine.queues().by_name(Namespace::DEFAULT, "a").unwrap().id, q);
    let topic = |name: &str| Change::CreateTopic {
        ns: Namespace::DEFAULT,
        name: name.to_owned(),
        uuid: [name.as_bytes()[0]; 16],
        partitions: 1,
        settings: Default::default(),
    };
    let ask = |w: &mut World, change| match crate::support::ask(
        &mut w.engine,
        &mut w.log,
        w.now,
        Op::Catalogue(vec![change]),
    )
    .reply
    {
        Reply::Catalogue(r) => r,
        other => panic!("{other:?}"),
    };
    assert_eq!(ask(&mut w, topic("a")), Err(CatalogueError::WrongKind { name: "a".to_owned() }));
    ask(&mut w, topic("b")).unwrap();
    let reply = w.ask(1, QueueOp::Change(vec![create("b", QueuePolicy::default())]));
    assert_eq!(reply, QueueReply::Changed(Err(QueueError::WrongKind { name: "b".to_owned() })));
    let reply = w.ask(
        1,
        QueueOp::Change(vec![create("c", QueuePolicy::default()), create("a", QueuePolicy::default())]),
    );
    assert!(matches!(reply, QueueReply::Changed(Err(QueueError::Exists { .. }))));
    assert!(w.engine.queues().by_name(Namespace::DEFAULT, "c").is_none());
}

#[test]
fn bindings_to_a_queue_go_with_it_in_one_record() {
    use millstream_engine::exchange::{BindingDef, ExchangeChange, Target as BoundTo, TargetKind};
    use millstream_engine::op::{Draft, Effects, Op, Ticket};
    let mut w = world();
    let q = w.create("a", QueuePolicy::default());
    let binding = BindingDef {
        ns: Namespace::DEFAULT,
        source: "amq.fanout".to_owned(),
        target: BoundTo { kind: TargetKind::Queue, name: "a".to_owned() },
        key: String::new(),
        arguments: Vec::new(),
    };
    let mut out = Effects::default();
    let op = Op::Routing(vec![ExchangeChange::Bind(binding)]);
    let draft = Draft { session: ConnId(1), ticket: Ticket(900), op, permit: Some(w.log.permit()) };
    w.engine.input(w.now, draft, &mut w.log, &mut out);
    assert_eq!(out.routes.len(), 1);
    let records = w.log.records.len();
    let delete = QueueChange::Delete { id: q, if_unused: false, if_empty: false, if_idle: false };
    let permit = Some(w.log.gate.try_admit(millstream_log::Class::Settle, 64 << 10).unwrap());
    let op = Op::Queue(QueueOp::Change(vec![delete]));
    let mut out = Effects::default();
    w.engine.input(
        w.now,
        Draft { session: ConnId(1), ticket: Ticket(901), op, permit },
        &mut w.log,
        &mut out,
    );
    assert_eq!((w.log.records.len(), out.routes.len()), (records + 1, 1));
    let effects = w.log.records[records].iter().filter(|op| matches!(op, Logged::Effect { .. })).count();
    assert_eq!(effects, 2, "the definition and the binding");
}
