//! Simulated clients of queues: they publish, consume, settle, give back, and go; and a checker of everything they saw.
//!
//! `jobs` gives dead messages to `graves`; `mail` has neither limits nor a target; `small` refuses what it has no room for. The exchange
//! `all` leads to `jobs` and `mail`. `order` orders by key. What must hold:
//!
//! - a message that was confirmed, or delivered once, is there until a client asked for its end; it is there once;
//! - one whose end was confirmed is never delivered again;
//! - no two clients have it at a time;
//! - one that is delivered as new was never delivered before;
//! - of a key in `order` one client at a time has messages, and gets each before the later ones.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::task::Poll;

use bytes::Bytes;
use millstream_broker::queue::api::{ConsumerId, ConsumerOpts, Delivery, LeaseKind, QueueDef, Receive, Verb};
use millstream_broker::queue::policy::{Ordering, Overflow, QueuePolicy};
use millstream_broker::{
    Asked, Binding, BodyError, Broker, CallError, DeadLetter, ExchangeError, ExchangeType, Message,
    NewExchange, NewMessage, NewQueue, Principal, Publishing, QueueCallError, Receiving, Session,
    SessionOptions, Settled, Target, TargetKind, settle_item,
};
use millstream_testkit::seeds::Dice;
use millstream_types::Namespace;

use crate::book::Violation;
use crate::must;

const SESSIONS: u64 = 3;
const QUEUES: [&str; 5] = ["jobs", "graves", "mail", "small", "order"];
/// Keys of messages for `order`.
const KEYS: Id = 3;
/// Looks at the queues before one gives up waiting for them to be empty.
const LOOKS_MAX: u64 = 50_000;

type Id = u64;

/// What is known of a message in one queue.
#[derive(Clone, Debug, Default)]
struct Known {
    /// It was there for certain.
    sure: bool,
    /// It was refused there.
    refused: bool,
    /// It was delivered before.
    seen: bool,
    /// Somebody has it: (session, which).
    out: Option<u64>,
    /// Its end was asked for.
    ending: bool,
    /// Its end was confirmed.
    ended: bool,
    /// It was rejected, or given back so often, that it may have gone to the dead-letter target.
    dying: bool,
    /// Its way to the dead-letter target was confirmed.
    died: bool,
}

enum Waiting {
    Publish(Vec<(Id, Vec<&'static str>)>, Publishing),
    Settle(&'static str, Id, Verb, Asked<Settled>),
    Receive(u64, Receiving),
}

/// A session's number, never used again, and what it has.
struct Client {
    number: u64,
    session: Session,
    has: Vec<(&'static str, Id, Delivery)>,
    consumers: Vec<ConsumerId>,
}

/// All of them.
#[derive(Default)]
pub struct QueueClients {
    known: BTreeMap<(&'static str, Id), Known>,
    clients: Vec<Client>,
    defs: BTreeMap<&'static str, std::sync::Arc<QueueDef>>,
    bound: BTreeSet<&'static str>,
    /// A transient queue is bound beside them: what goes there is in no record.
    copies: bool,
    waiting: VecDeque<Waiting>,
    next_id: Id,
    next_number: u64,
    next_consumer: u64,
    pub delivered: u64,
    pub ended: u64,
    pub buried: u64,
}

impl QueueClients {
    /// A broker is there.
    pub fn broker_came(&mut self, broker: &Broker) {
        self.copies = false;
        for _ in 0..SESSIONS {
            let client = self.client(broker);
            self.clients.push(client);
        }
    }

    fn client(&mut self, broker: &Broker) -> Client {
        self.next_number += 1;
        let session = broker.session(Principal::anonymous(), Namespace::DEFAULT, SessionOptions::default());
        Client { number: self.next_number, session, has: Vec::new(), consumers: Vec::new() }
    }

    /// The broker is going: what is not answered yet is taken, and nobody has anything any more.
    pub async fn broker_went(&mut self, broker: &Broker) -> Result<(), Violation> {
        self.answers(broker, usize::MAX).await?;
        self.clients.clear();
        for known in self.known.values_mut() {
            known.out = None;
        }
        Ok(())
    }

    /// One step of one client.
    pub async fn step(&mut self, dice: &mut Dice, broker: &Broker) -> Result<(), Violation> {
        if self.defs.len() < QUEUES.len() || self.bound.len() < 2 {
            return self.declare().await;
        }
        if !self.copies {
            return self.declare_copies(broker).await;
        }
        let n = dice.below(SESSIONS) as usize;
        match dice.below(100) {
            0..=29 => self.publish(dice, n).await,
            30..=37 => self.subscribe(dice, n),
            38..=39 => self.cancel(n),
            40..=59 => self.take(broker, n).await?,
            60..=84 => self.settle(dice, n).await,
            85..=89 => self.receive(dice, n),
            90..=97 => {
                let n = 1 + dice.below(10) as usize;
                self.answers(broker, n).await?;
            }
            _ => self.leave(broker, n).await?,
        }
        Ok(())
    }

    async fn declare(&mut self) -> Result<(), Violation> {
        let s = &self.clients[0].session;
        for name in QUEUES {
            let mut new = NewQueue::named(name);
            match name {
                "jobs" => {
                    new.policy.attempts_max = Some(3);
                    new.dead_letter = Some(DeadLetter {
                        exchange: String::new(),
                        routing_key: Some("graves".to_owned()),
                        at_least_once: true,
                        not_expired: false,
                        keeps_age: false,
                    });
                }
                "order" => new.policy.ordering = Ordering::ByKey,
                "small" => {
                    new.policy = QueuePolicy {
                        messages_max: Some(3),
                        overflow: Overflow::Reject,
                        ..QueuePolicy::default()
                    };
                }
                _ => {}
            }
            match s.declare_queue(new).await {
                Ok(declared) => drop(self.defs.insert(name, declared.def)),
                Err(QueueCallError::Call(_)) => return Ok(()),
                Err(e) => return Err(format!("{name} is not made: {e}")),
            }
        }
        let all = NewExchange {
            name: "all".to_owned(),
            kind: ExchangeType::Fanout,
            durable: true,
            auto_delete: false,
            internal: false,
            alternate: None,
            arguments: Vec::new(),
        };
        match s.declare_exchange(all).await {
            Ok(_) => {}
            Err(ExchangeError::Call(_)) => return Ok(()),
            Err(e) => return Err(format!("the exchange is not made: {e}")),
        }
        for name in ["jobs", "mail"] {
            let target = Target { kind: TargetKind::Queue, name: name.to_owned() };
            let binding =
                Binding { source: "all".to_owned(), target, key: String::new(), arguments: Vec::new() };
            match s.bind(&binding).await {
                Ok(_) => drop(self.bound.insert(name)),
                Err(ExchangeError::Call(_)) => return Ok(()),
                Err(e) => return Err(format!("{name} is not bound: {e}")),
            }
        }
        Ok(())
    }

    /// A restart left nothing of the transient queue, nor of its binding.
    async fn declare_copies(&mut self, broker: &Broker) -> Result<(), Violation> {
        let s = &self.clients[0].session;
        must!(broker.queue(Namespace::DEFAULT, "copies").is_none(), "a transient queue is there still");
        let policy = QueuePolicy { messages_max: Some(3), ..QueuePolicy::default() };
        let new = NewQueue { durable: false, policy, ..NewQueue::named("copies") };
        let target = Target { kind: TargetKind::Queue, name: "copies".to_owned() };
        let binding = Binding { source: "all".to_owned(), target, key: String::new(), arguments: Vec::new() };
        if s.declare_queue(new).await.is_ok() {
            self.copies = s.bind(&binding).await.is_ok();
        }
        Ok(())
    }

    async fn publish(&mut self, dice: &mut Dice, n: usize) {
        let (mut sent, mut batch) = (Vec::new(), Vec::new());
        for _ in 0..1 + dice.below(3) {
            self.next_id += 1;
            let (exchange, key, to) = match dice.below(10) {
                8..=9 => ("", "order", vec!["order"]),
                0..=2 => ("", "jobs", vec!["jobs"]),
                3..=4 => ("", "mail", vec!["mail"]),
                5 => ("", "small", vec!["small"]),
                _ => ("all", "", vec!["jobs", "mail"]),
            };
            let mut payload = self.next_id.to_le_bytes().to_vec();
            payload.resize(8 + dice.below(300) as usize, 0);
            let message = Message {
                exchange: exchange.to_owned(),
                routing_key: key.to_owned(),
                key: Some(Bytes::from((self.next_id % KEYS).to_string())),
                payload: Some(Bytes::from(payload)),
                ..Message::default()
            };
            batch.push(NewMessage { message, ..NewMessage::default() });
            for queue in &to {
                self.known.insert((queue, self.next_id), Known::default());
            }
            sent.push((self.next_id, to));
        }
        if let Ok(publishing) = self.clients[n].session.publish(batch).await {
            self.waiting.push_back(Waiting::Publish(sent, publishing));
        }
    }

    fn subscribe(&mut self, dice: &mut Dice, n: usize) {
        let client = &mut self.clients[n];
        if client.consumers.len() > 3 {
            return;
        }
        self.next_consumer += 1;
        let consumer = ConsumerId(self.next_consumer);
        let opts = ConsumerOpts {
            lease: LeaseKind::Bound,
            ride: !dice.once_in(3),
            auto_ack: false,
            prefetch: 1 + dice.below(4) as u32,
            credit: None,
            priority: dice.below(2) as i32,
            exclusive: false,
        };
        let queue = &self.defs[*dice.of(&QUEUES)];
        drop(client.session.subscribe(queue.id, consumer, opts));
        client.consumers.push(consumer);
    }

    fn cancel(&mut self, n: usize) {
        let client = &mut self.clients[n];
        if let Some(consumer) = client.consumers.pop() {
            drop(client.session.cancel(consumer));
        }
    }

    fn receive(&mut self, dice: &mut Dice, n: usize) {
        let queue = &self.defs[*dice.of(&QUEUES)];
        let what = Receive {
            bytes_max: 1 << 20,
            ride: dice.once_in(2),
            ..Receive::now(queue.id, 1 + dice.below(3) as u32)
        };
        let client = &self.clients[n];
        let receiving = client.session.receive(what).expect("nobody's queue");
        if dice.once_in(4) {
            return;
        }
        self.waiting.push_back(Waiting::Receive(client.number, receiving));
    }

    /// Takes what was delivered by now.
    async fn take(&mut self, broker: &Broker, n: usize) -> Result<(), Violation> {
        let mut got = Vec::new();
        let session = &self.clients[n].session;
        let _ =
            std::future::poll_fn(|cx| Poll::Ready(session.poll_deliveries(cx, &mut got).is_ready())).await;
        session.handed_over(&got);
        self.got(broker, n, got).await
    }

    async fn got(&mut self, broker: &Broker, n: usize, got: Vec<Delivery>) -> Result<(), Violation> {
        for (d, body) in got.iter().zip(broker.read_bodies(&got).await) {
            let body = match body {
                Ok(body) => body,
                Err(BodyError::Read(_)) if broker.lost().is_some() => return Ok(()),
                // A machine that was cut reads nothing; a damaged message is reported as such.
                Err(BodyError::Read(_)) => continue,
                Err(e) => return Err(format!("{d:?} cannot be read: {e}")),
            };
            let payload = body.message.payload.as_deref().unwrap_or_default();
            let id = u64::from_le_bytes(payload[..8].try_into().unwrap());
            let (queue, _) = self.defs.iter().find(|(_, def)| def.id == d.queue).expect("a queue of ours");
            let queue: &'static str = queue;
            let client = &mut self.clients[n];
            if queue == "graves" {
                // Nobody need have seen it in jobs: whoever had it may have gone with it, three times.
                let Some(before) = self.known.get(&("jobs", id)) else {
                    return Err(format!("{id} is in graves and was never sent to jobs"));
                };
                must!(!before.ended, "{id} is in graves, and its end in jobs was confirmed");
                must!(body.message.deaths.len() == 1, "{id} has {} deaths", body.message.deaths.len());
                if let Some(in_jobs) = self.known.get_mut(&("jobs", id)) {
                    in_jobs.died = true;
                }
                self.buried += 1;
            }
            let known = self.known.entry((queue, id)).or_default();
            must!(!known.refused, "{id} is in {queue}, which refused it");
            must!(!known.ended, "{id} is delivered by {queue} after its end was confirmed");
            must!(!known.died, "{id} is delivered by {queue} after it went to graves");
            must!(known.out.is_none(), "{id} of {queue} is with two clients: {known:?}, {d:?}");
            must!(d.redelivered || !known.seen, "{id} of {queue} is delivered as new again: {d:?}");
            if queue == "order" {
                in_order(&self.known, id, client.number)?;
            }
            let known = self.known.entry((queue, id)).or_default();
            (known.sure, known.seen, known.out) = (true, true, Some(client.number));
            self.delivered += 1;
            client.has.push((queue, id, *d));
        }
        Ok(())
    }

    async fn settle(&mut self, dice: &mut Dice, n: usize) {
        let client = &mut self.clients[n];
        if client.has.is_empty() {
            return;
        }
        let at = dice.below(client.has.len() as u64) as usize;
        let (queue, id, d) = client.has[at];
        let verb = match dice.below(20) {
            0..=10 => Verb::Ack,
            11..=13 => Verb::Reject,
            14..=17 => Verb::Release { failed: true, delay_ms: None },
            18 => Verb::Release { failed: false, delay_ms: None },
            _ => Verb::Release { failed: true, delay_ms: Some(dice.below(5_000)) },
        };
        let Ok(asked) = client.session.settle(vec![settle_item(&d, verb)]).await else { return };
        client.has.swap_remove(at);
        let known = self.known.get_mut(&(queue, id)).expect("it was delivered");
        known.out = None;
        match verb {
            Verb::Ack => known.ending = true,
            Verb::Reject if queue != "jobs" => known.ending = true,
            _ => known.dying = true,
        }
        self.waiting.push_back(Waiting::Settle(queue, id, verb, asked));
    }

    /// A client goes, with all it has, and another comes.
    async fn leave(&mut self, broker: &Broker, n: usize) -> Result<(), Violation> {
        let other = self.client(broker);
        let gone = std::mem::replace(&mut self.clients[n], other);
        for (queue, id, _) in gone.has {
            let known = self.known.get_mut(&(queue, id)).expect("it was delivered");
            known.out = None;
            known.dying = true;
        }
        drop(gone.session);
        Ok(())
    }

    /// Takes the oldest answers.
    pub async fn answers(&mut self, broker: &Broker, n: usize) -> Result<(), Violation> {
        for _ in 0..n {
            let Some(waiting) = self.waiting.pop_front() else { return Ok(()) };
            match waiting {
                Waiting::Publish(sent, publishing) => {
                    let Ok(outcomes) = publishing.await else { continue };
                    for ((id, to), outcome) in sent.into_iter().zip(outcomes) {
                        let outcome = outcome.map_err(|e| format!("{id} is not published: {e}"))?;
                        must!(outcome.routed, "{id} was routed nowhere");
                        let refused = !outcome.refused.is_empty();
                        must!(!refused || to == ["small"], "{id} was refused: {:?}", outcome.refused);
                        let taken = outcome.accepted as usize + outcome.refused.len();
                        let copies = usize::from(to.len() > 1);
                        must!(taken == to.len() + copies, "{id} for {to:?}: {outcome:?}");
                        for queue in to {
                            let known = self.known.get_mut(&(queue, id)).expect("it was sent");
                            (known.sure, known.refused) = (!refused, refused);
                        }
                    }
                }
                Waiting::Settle(queue, id, verb, asked) => {
                    let Ok(errors) = asked.await else { continue };
                    let known = self.known.get_mut(&(queue, id)).expect("it was delivered");
                    if let [(_, e)] = errors[..] {
                        // Whoever went meanwhile settles nothing.
                        must!(false, "{verb:?} of {id} in {queue}: {e}");
                    }
                    match verb {
                        Verb::Ack => known.ended = true,
                        Verb::Reject if queue == "jobs" => known.died = true,
                        Verb::Reject => known.ended = true,
                        _ => {}
                    }
                    self.ended += u64::from(known.ended);
                }
                Waiting::Receive(number, receiving) => {
                    let got = match receiving.await {
                        Ok(Ok(got)) => got,
                        Ok(Err(e)) => return Err(format!("nothing is received: {e}")),
                        Err(CallError::FateUnknown | CallError::Refused(_)) => continue,
                    };
                    // If the client went, so did what it got.
                    if let Some(n) = self.clients.iter().position(|c| c.number == number) {
                        self.got(broker, n, got).await?;
                    }
                }
            }
        }
        Ok(())
    }

    /// At the end of a history: takes everything out, and compares it with all that is known.
    pub async fn drain(&mut self, broker: &Broker, wait: impl Fn()) -> Result<(), Violation> {
        if self.defs.len() < QUEUES.len() {
            return Ok(());
        }
        self.answers(broker, usize::MAX).await?;
        let mut there: BTreeMap<(&'static str, Id), u64> = BTreeMap::new();
        let s = broker.session(Principal::anonymous(), Namespace::DEFAULT, SessionOptions::default());
        self.clients.clear();
        for known in self.known.values_mut() {
            known.out = None;
        }
        let mut looks = 0;
        // What is in jobs may still come to graves: it is looked at last.
        for name in ["mail", "small", "order", "jobs", "graves"] {
            let def = std::sync::Arc::clone(&self.defs[name]);
            let mut last = [0; KEYS as usize];
            loop {
                let what = Receive { bytes_max: 1 << 20, auto_ack: true, ..Receive::now(def.id, 100) };
                let (Ok(Ok(got)), Ok(stats)) =
                    (s.receive(what).unwrap().await, s.queue_stats(def.id, false).await)
                else {
                    return Ok(());
                };
                for (d, body) in got.iter().zip(broker.read_bodies(&got).await) {
                    let body = match body {
                        Ok(body) => body,
                        Err(_) if broker.lost().is_some() => return Ok(()),
                        Err(e) => return Err(format!("{d:?} cannot be read: {e}")),
                    };
                    let payload = body.message.payload.as_deref().unwrap_or_default();
                    let id = u64::from_le_bytes(payload[..8].try_into().unwrap());
                    let before = std::mem::replace(&mut last[(id % KEYS) as usize], id);
                    must!(name != "order" || before < id, "{id} comes after {before} of its key");
                    *there.entry((name, id)).or_default() += 1;
                }
                let stats = stats.expect("it is there");
                let left = stats.ready.n + stats.leased.n + stats.held.n + stats.scheduled.n;
                if left == 0 {
                    break;
                }
                looks += 1;
                // What rests comes back, and a read that failed is tried again.
                if looks % 500 == 0 {
                    wait();
                }
                must!(looks < LOOKS_MAX, "{name} does not come to its end: {stats:?}");
                tokio::task::yield_now().await;
            }
        }
        if let Some(((queue, id), n)) = there.iter().find(|(_, n)| **n > 1) {
            return Err(format!("{id} is {n} times in {queue}"));
        }
        let none = Known::default();
        for ((queue, id), known) in &self.known {
            if *queue == "graves" {
                continue;
            }
            let here = there.contains_key(&(*queue, *id));
            let buried = *queue == "jobs" && there.contains_key(&("graves", *id));
            let grave = self.known.get(&("graves", *id)).filter(|_| *queue == "jobs").unwrap_or(&none);
            let what = || format!("{id} of {queue}: {known:?}, in graves {grave:?}");
            must!(!known.refused || !here, "refused, and there: {}", what());
            must!(!(here && buried), "there and in graves: {}", what());
            must!(!known.ended || !(here || buried), "its end was confirmed, and it is there: {}", what());
            must!(!(known.died && here), "it died for certain, and is there: {}", what());
            must!(!grave.ended || !(here || buried), "its end in graves was confirmed: {}", what());
            let may_be_gone = known.ending || grave.ending;
            must!(!known.sure || may_be_gone || here || buried, "lost: {}", what());
        }
        Ok(())
    }
}

/// Whether a message of `order` may come to a client now: nobody else has one of its key, and none before it is left.
fn in_order(known: &BTreeMap<(&'static str, Id), Known>, id: Id, client: u64) -> Result<(), Violation> {
    for ((_, other), k) in known.range(("order", 0)..=("order", Id::MAX)) {
        if *other == id || other % KEYS != id % KEYS {
            continue;
        }
        must!(
            k.out.is_none_or(|c| c == client),
            "{id} comes to {client}, and of its key {other} is with another: {k:?}"
        );
        let left = k.sure && !k.refused && !k.ending && !k.ended && k.out.is_none();
        must!(*other > id || !left, "{id} comes before {other} of its key: {k:?}");
    }
    Ok(())
}
