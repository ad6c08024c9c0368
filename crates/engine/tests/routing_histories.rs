//! Random histories of exchanges and bindings with crashes: the engine holds, lists and tells the same as a naive model.
#![allow(clippy::pedantic, clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]

mod support;

use std::collections::BTreeMap;

use millstream_engine::catalogue::Change;
use millstream_engine::exchange::{
    BindingDef, BindingsOf, ExchangeChange, ExchangeDef, ExchangeType, RouteEvent, RoutingError, Target,
    TargetKind, predeclared,
};
use millstream_engine::op::{Draft, Effects, Now, Op, Reply, Ticket};
use millstream_engine::{Engine, EngineConfig};
use millstream_types::{ConnId, Lsn, Namespace};
use proptest::collection::vec;
use proptest::prelude::*;
use support::{FakeLog, FakeStore, open};

/// Exchanges and bindings as naively as they can be said.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    topics: Vec<(Namespace, String)>,
    exchanges: Vec<ExchangeDef>,
    bindings: Vec<BindingDef>,
}

impl Model {
    fn exchange(&self, ns: Namespace, name: &str) -> Option<&ExchangeDef> {
        self.exchanges.iter().find(|e| e.ns == ns && e.name == name)
    }

    fn is_exchange(&self, ns: Namespace, name: &str) -> bool {
        predeclared(name).is_some() || self.exchange(ns, name).is_some()
    }

    fn change(&mut self, change: &ExchangeChange, ms: u64) -> Result<bool, RoutingError> {
        let missing = |what, name: &str| Err(RoutingError::NotFound { what, name: name.to_owned() });
        match change {
            ExchangeChange::Create(def) => {
                if let Some(e) = self.exchange(def.ns, &def.name) {
                    return if e.kind == def.kind && e.auto_delete == def.auto_delete {
                        Ok(false)
                    } else {
                        let kinds = (e.kind.name().to_owned(), def.kind.name().to_owned());
                        let flags = (e.auto_delete.to_string(), def.auto_delete.to_string());
                        let (arg, (current, asked)) =
                            if kinds.0 == kinds.1 { ("auto_delete", flags) } else { ("type", kinds) };
                        Err(RoutingError::Differs { name: def.name.clone(), arg, current, asked })
                    };
                }
                self.exchanges.push(ExchangeDef { created_ms: ms, ..def.clone() });
                Ok(true)
            }
            ExchangeChange::Delete { ns, name, if_unused } => {
                if predeclared(name).is_some() {
                    return Err(RoutingError::Reserved { name: name.clone() });
                }
                if self.exchange(*ns, name).is_none() {
                    return missing("exchange", name);
                }
                if *if_unused && self.bindings.iter().any(|b| b.ns == *ns && b.source == *name) {
                    return Err(RoutingError::InUse { name: name.clone() });
                }
                self.gone(*ns, TargetKind::Exchange, name);
                Ok(true)
            }
            ExchangeChange::Bind(def) => {
                if !self.is_exchange(def.ns, &def.source) {
                    return missing("exchange", &def.source);
                }
                let name = &def.target.name;
                match def.target.kind {
                    TargetKind::Exchange if !self.is_exchange(def.ns, name) => {
                        return missing("exchange", name);
                    }
                    TargetKind::Topic if !self.topics.contains(&(def.ns, name.clone())) => {
                        return missing("topic", name);
                    }
                    TargetKind::Queue => return missing("queue", name),
                    _ => {}
                }
                let new = !self.bindings.contains(def);
                if new {
                    self.bindings.push(def.clone());
                }
                Ok(new)
            }
            ExchangeChange::Unbind(def) => {
                let known = self.bindings.contains(def);
                self.unbind(|b| b == def);
                Ok(known)
            }
            _ => unreachable!(),
        }
    }

    fn unbind(&mut self, which: impl Fn(&BindingDef) -> bool) {
        let (gone, stay) = self.bindings.drain(..).partition(|b| which(b));
        self.bindings = stay;
        let gone: Vec<BindingDef> = gone;
        for b in gone {
            let left = self.bindings.iter().any(|o| o.ns == b.ns && o.source == b.source);
            if !left && self.exchange(b.ns, &b.source).is_some_and(|e| e.auto_delete) {
                self.gone(b.ns, TargetKind::Exchange, &b.source);
            }
        }
    }

    fn gone(&mut self, ns: Namespace, kind: TargetKind, name: &str) {
        if kind == TargetKind::Exchange {
            self.exchanges.retain(|e| (e.ns, &*e.name) != (ns, name));
            self.bindings.retain(|b| (b.ns, &*b.source) != (ns, name));
        } else {
            self.topics.retain(|t| *t != (ns, name.to_owned()));
        }
        self.unbind(|b| b.ns == ns && b.target.kind == kind && b.target.name == name);
    }

    fn sorted(mut self) -> Self {
        self.topics.sort();
        self.exchanges.sort_by(|a, b| (a.ns, &a.name).cmp(&(b.ns, &b.name)));
        self.bindings.sort_by_key(|b| format!("{b:?}"));
        self
    }
}

#[derive(Clone, Debug)]
enum Do {
    Change(Vec<ExchangeChange>),
    Topic { ns: u32, name: u8 },
    Durable(u8),
    Offer(usize),
    Flush(usize),
    Crash { keep: u8, floor: u8, flush: usize },
}

fn ns() -> impl Strategy<Value = Namespace> {
    prop_oneof![5 => Just(Namespace(1)), 1 => Just(Namespace(2))]
}

fn exchange() -> impl Strategy<Value = String> {
    prop_oneof![6 => (0..3u8).prop_map(|n| format!("e{n}")), 1 => Just("amq.topic".to_owned())]
}

fn created() -> impl Strategy<Value = ExchangeChange> {
    let kind = prop_oneof![5 => Just(ExchangeType::Direct), 1 => Just(ExchangeType::Topic)];
    (ns(), (0..3u8), kind, any::<bool>()).prop_map(|(ns, name, kind, auto_delete)| {
        ExchangeChange::Create(ExchangeDef {
            ns,
            name: format!("e{name}"),
            kind,
            durable: true,
            auto_delete: auto_delete && name < 2,
            internal: false,
            alternate: None,
            arguments: vec![name],
            created_ms: 77,
        })
    })
}

fn binding() -> impl Strategy<Value = BindingDef> {
    let target = prop_oneof![
        5 => (0..3u8).prop_map(|n| (TargetKind::Exchange, format!("e{n}"))),
        5 => (0..2u8).prop_map(|n| (TargetKind::Topic, format!("t{n}"))),
        1 => Just((TargetKind::Queue, "q".to_owned())),
    ];
    (ns(), exchange(), target, "[ab]", vec(0..2u8, 0..2)).prop_map(
        |(ns, source, (kind, name), key, arguments)| BindingDef {
            ns,
            source,
            target: Target { kind, name },
            key,
            arguments,
        },
    )
}

fn change() -> impl Strategy<Value = ExchangeChange> {
    prop_oneof![
        4 => created(),
        2 => (ns(), exchange(), any::<bool>())
            .prop_map(|(ns, name, if_unused)| ExchangeChange::Delete { ns, name, if_unused }),
        9 => binding().prop_map(ExchangeChange::Bind),
        5 => binding().prop_map(ExchangeChange::Unbind),
    ]
}

fn step() -> impl Strategy<Value = Do> {
    prop_oneof![
        16 => vec(change(), 1..4).prop_map(Do::Change),
        3 => (1..3u32, 0..2u8).prop_map(|(ns, name)| Do::Topic { ns, name }),
        4 => any::<u8>().prop_map(Do::Durable),
        3 => (1..6usize).prop_map(Do::Offer),
        3 => (1..4usize).prop_map(Do::Flush),
        2 => (any::<u8>(), any::<u8>(), 0..3usize).prop_map(|(keep, floor, flush)| Do::Crash { keep, floor, flush }),
    ]
}

struct Run {
    engine: Engine,
    log: FakeLog,
    store: FakeStore,
    /// After each LSN.
    models: Vec<Model>,
    /// What somebody knows who only hears of changes.
    told: Model,
    durable: Lsn,
    now: Now,
    epoch: u64,
    uuids: u8,
}

/// A number from 0 to `max` inclusive.
fn part_of(part: u8, max: u64) -> u64 {
    u64::from(part) * (max + 1) / 256
}

impl Run {
    fn new() -> Self {
        let (log, store, now) =
            (FakeLog::default(), FakeStore::default(), Now { wall_ms: 5_000, mono_ms: 10 });
        let engine = open(EngineConfig::default(), &store, &log, 1, 1, now);
        let models = vec![Model::default()];
        Self { engine, log, store, models, told: Model::default(), durable: Lsn(0), now, epoch: 1, uuids: 0 }
    }

    fn ask(&mut self, op: Op) -> Reply {
        let mut out = Effects::default();
        let permit = (!matches!(op, Op::ListBindings { .. })).then(|| self.log.permit());
        let draft = Draft { session: ConnId(7), ticket: Ticket(3), op, permit };
        self.engine.input(self.now, draft, &mut self.log, &mut out);
        for event in out.routes {
            match event {
                RouteEvent::Made(def) => self.told.exchanges.push((*def).clone()),
                RouteEvent::Gone { ns, name } => {
                    self.told.exchanges.retain(|e| (e.ns, &*e.name) != (ns, &*name));
                    self.told.bindings.retain(|b| (b.ns, &*b.source) != (ns, &*name));
                }
                RouteEvent::Bound(def) => {
                    assert!(!self.told.bindings.contains(&def));
                    self.told.bindings.push((*def).clone());
                }
                RouteEvent::Unbound(def) => {
                    let before = self.told.bindings.len();
                    self.told.bindings.retain(|b| *b != *def);
                    assert_eq!(self.told.bindings.len() + 1, before, "something unbound that was not bound");
                }
            }
        }
        let answer = out.answers.pop().unwrap();
        assert_eq!(answer.wait.max(self.durable), self.log.last().max(self.durable));
        answer.reply
    }

    fn wrote(&mut self, before: Lsn, model: Model, written: bool) {
        assert_eq!(self.log.last().0 - before.0, u64::from(written), "records made");
        if written {
            self.models.push(model);
        }
    }

    fn step(&mut self, what: &Do) {
        self.now = Now { wall_ms: self.now.wall_ms + 1, mono_ms: self.now.mono_ms + 1 };
        let before = self.log.last();
        match what {
            Do::Change(changes) => {
                let mut model = self.models.last().unwrap().clone();
                let expected: Result<Vec<bool>, RoutingError> =
                    changes.iter().map(|c| model.change(c, self.now.wall_ms)).collect();
                let Reply::Routing(got) = self.ask(Op::Routing(changes.clone())) else {
                    panic!("another reply")
                };
                assert_eq!(got, expected);
                let written = expected.is_ok_and(|did| did.contains(&true));
                self.wrote(before, model, written);
            }
            Do::Topic { ns, name } => {
                let (ns, name) = (Namespace(*ns), format!("t{name}"));
                let mut model = self.models.last().unwrap().clone();
                let known = self.engine.snapshot().by_name.get(&(ns, name.clone())).map(|t| t.def.uuid);
                let change = match known {
                    Some(uuid) => {
                        model.gone(ns, TargetKind::Topic, &name);
                        Change::DeleteTopic { uuid }
                    }
                    None => {
                        self.uuids += 1;
                        model.topics.push((ns, name.clone()));
                        let uuid = [self.uuids; 16];
                        Change::CreateTopic { ns, name, uuid, partitions: 1, settings: BTreeMap::new() }
                    }
                };
                let reply = self.ask(Op::Catalogue(vec![change]));
                assert!(matches!(reply, Reply::Catalogue(Ok(_))), "{reply:?}");
                self.wrote(before, model, true);
            }
            Do::Durable(n) => {
                self.durable.0 += part_of(*n, self.log.last().0 - self.durable.0);
                self.engine.durable(self.durable);
            }
            Do::Offer(n) => drop(self.store.offer(&mut self.engine, *n)),
            Do::Flush(n) => {
                let id = self.store.commit(self.durable, *n);
                self.engine.flushed(id);
            }
            Do::Crash { keep, floor, flush } => self.crash(*keep, *floor, *flush),
        }
        self.check();
    }

    fn crash(&mut self, keep: u8, floor: u8, flush: usize) {
        self.durable.0 += part_of(keep, self.log.last().0 - self.durable.0);
        self.store.commit(self.durable, flush);
        self.store.crash();
        self.log.cut(self.durable);
        self.models.truncate(self.durable.0 as usize + 1);
        let floor = part_of(floor, self.store.floor);
        self.reopen(floor);
        let again = |store: &FakeStore, floor| {
            let engine = open(EngineConfig::default(), store, &self.log, floor, self.epoch, self.now);
            store.clone().all(engine, self.durable)
        };
        assert_eq!(again(&self.store, floor), again(&FakeStore::default(), 1));
    }

    fn reopen(&mut self, floor: u64) {
        self.epoch += 1;
        self.engine = open(EngineConfig::default(), &self.store, &self.log, floor, self.epoch, self.now);
        self.told.exchanges = self.engine.exchanges().collect();
        self.told.bindings = self.engine.bindings().collect();
    }

    fn list(&mut self, ns: Namespace, of: BindingsOf) -> Vec<BindingDef> {
        let Reply::Bindings(page) = self.ask(Op::ListBindings { ns, of, from: None }) else {
            panic!("another reply")
        };
        assert_eq!(page.next, None);
        page.bindings
    }

    fn check(&mut self) {
        let model = self.models.last().unwrap().clone().sorted();
        let topics = self.engine.snapshot().by_name.keys().cloned().collect();
        let (exchanges, bindings) = (self.engine.exchanges().collect(), self.engine.bindings().collect());
        assert_eq!(Model { topics, exchanges, bindings }.sorted(), model);
        let told = Model { topics: model.topics.clone(), ..self.told.clone() };
        assert_eq!(told.sorted(), model);
        for ns in [Namespace(1), Namespace(2)] {
            let mut from = Vec::new();
            for source in ["e0", "e1", "e2", "amq.topic"] {
                from.extend(self.list(ns, BindingsOf::Source(source.to_owned())));
            }
            let mut to = Vec::new();
            let all =
                [("e0", TargetKind::Exchange), ("e1", TargetKind::Exchange), ("e2", TargetKind::Exchange)];
            for (name, kind) in all.into_iter().chain([("t0", TargetKind::Topic), ("t1", TargetKind::Topic)])
            {
                to.extend(self.list(ns, BindingsOf::Target(Target { kind, name: name.to_owned() })));
            }
            let bindings: Vec<_> = model.bindings.iter().filter(|b| b.ns == ns).cloned().collect();
            for listed in [from, to] {
                let listed = Model { bindings: listed, ..Model::default() }.sorted();
                assert_eq!(listed.bindings, bindings);
            }
        }
    }

    /// Once all is flushed, the store gives everything back without a log, and has no row of what is gone.
    fn end(mut self) {
        self.durable = self.log.last();
        self.engine.durable(self.durable);
        while self.store.offer(&mut self.engine, 3) > 0 {}
        self.store.commit(self.durable, usize::MAX);
        let model = self.models.last().unwrap();
        assert_eq!(self.store.keys().filter(|k| k[0] == 0x03).count(), model.exchanges.len());
        assert_eq!(self.store.keys().filter(|k| k[0] == 0x04).count(), model.bindings.len());
        self.reopen(self.store.floor);
        self.check();
    }
}

proptest! {
    #[test]
    fn a_history_of_exchanges_with_crashes_is_the_models(steps in vec(step(), 1..60)) {
        let mut run = Run::new();
        run.step(&Do::Topic { ns: 1, name: 0 });
        for s in &steps {
            run.step(s);
        }
        run.end();
    }

    #[test]
    fn the_same_changes_make_the_same_records(steps in vec(step(), 1..40)) {
        let go = || {
            let mut run = Run::new();
            steps.iter().for_each(|s| run.step(s));
            run.log.records
        };
        prop_assert_eq!(go(), go());
    }
}
