//! From a topic: each partition in steps of its own, side by side. Which record comes next is the task's cursor for the partition's log.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use millstream_engine::catalogue::Topic;
use millstream_engine::partition::PartitionView;
use millstream_engine::task::{CursorStep, TaskState};
use millstream_log::ReadError;
use millstream_types::LogId;

use super::counter;
use super::def::{OnPoison, OnTrimmed, Source, Target};
use super::event::{At, Seen};
use super::records::{Got, RecordReader};
use super::worker::{NoStep, Rest, STEP_BYTES_MAX, STEP_MESSAGES_MAX, Worker, counts};
use crate::envelope::{Header, HeaderValue};
use crate::publish::NewMessage;
use crate::transaction::Transaction;

/// Partitions of one bridge whose steps are made side by side.
const SIDE_BY_SIDE_MAX: usize = 8;
/// Records looked at in one step, most of which the filter leaves behind.
const STEP_LOOKED_AT_MAX: u64 = 4_096;
/// Partitions of which what one read gave is kept for the next step.
const READERS_MAX: usize = 64;
/// A bridge that nothing wakes looks again; only a bound.
const SLEEP: Duration = Duration::from_hours(1);
/// Headers of a message in a dead-letter topic.
const NAME: &str = "x-bridge";
const REASON: &str = "x-bridge-reason";
const TOPIC: &str = "x-bridge-topic";
const PARTITION: &str = "x-bridge-partition";
const OFFSET: &str = "x-bridge-offset";

/// What a worker remembers of its topic between steps.
#[derive(Default)]
struct Memory {
    readers: BTreeMap<LogId, RecordReader>,
    /// Records that the target will never take, and why.
    poison: BTreeMap<(LogId, u64), String>,
    /// Partitions whose next step has one record only: several were too much at once.
    small: Vec<LogId>,
    /// Where the next round begins.
    turn: usize,
}

/// A step of one partition, ready to be taken.
struct Prepared {
    part: Arc<PartitionView>,
    reader: RecordReader,
    from: u64,
    /// Messages to be published, and the offset that each comes from.
    publish: Vec<NewMessage>,
    offsets: Vec<u64>,
    filtered: u64,
    /// Not passed on.
    poison: Vec<u64>,
    /// One that has the bridge pause before it, and why.
    pause: Option<String>,
}

/// Passes on what comes, until it must rest.
pub(super) async fn work(w: &mut Worker) -> Rest {
    let mut memory = Memory::default();
    loop {
        let Source::Topic { name, .. } = &w.def.source else { return Rest::End };
        let mut catalogue_changed = w.broker.shared().catalogue_changed.subscribe();
        let Some(topic) = w.broker.catalogue().by_name.get(&(w.session.namespace(), name.clone())).cloned()
        else {
            return Rest::blocked(format!("there is no topic {name:?}"));
        };
        if let Err(rest) = target_is_there(w) {
            return rest;
        }
        let behind =
            |(_, p): &(u32, Arc<PartitionView>)| p.visible_end() > cursor(w, p) || p.start() > cursor(w, p);
        let all: Vec<(u32, Arc<PartitionView>)> = (0..).zip(topic.partitions.iter().cloned()).collect();
        let n = all.len().max(1);
        let ready: Vec<_> = all
            .iter()
            .cycle()
            .skip(memory.turn % n)
            .take(all.len())
            .filter(|p| behind(p))
            .take(SIDE_BY_SIDE_MAX)
            .cloned()
            .collect();
        if ready.is_empty() {
            w.status.unblocked();
            let waits: Vec<_> =
                all.iter().map(|(_, p)| (Arc::clone(p), p.visible_end().min(cursor(w, p)))).collect();
            memory.readers.clear();
            tokio::select! {
                () = w.broker.streams().wait(&waits, tokio::time::Instant::now() + SLEEP) => {}
                _ = catalogue_changed.changed() => {}
            }
            continue;
        }
        memory.turn = memory.turn.wrapping_add(ready.len());
        if let Err(rest) = round(w, &topic, ready, &mut memory).await {
            return rest;
        }
    }
}

/// Where the next step of a partition begins. One that no step was taken of begins with what it has.
fn cursor(w: &Worker, part: &PartitionView) -> u64 {
    w.task.row.cursors.get(&part.log.0).copied().unwrap_or_else(|| part.start())
}

fn target_is_there(w: &Worker) -> Result<(), Rest> {
    let ns = w.session.namespace();
    let (kind, name) = match &w.def.target {
        Target::Queue(q) if w.broker.directory().by_name(ns, q).is_none() => ("queue", q),
        Target::Exchange(x) if w.broker.routes().exchange(ns, x).is_none() => ("exchange", x),
        Target::Topic(t) if !w.broker.catalogue().by_name.contains_key(&(ns, t.clone())) => ("topic", t),
        _ => return Ok(()),
    };
    Err(Rest::blocked(format!("there is no {kind} {name:?}")))
}

/// A step of each of some partitions.
async fn round(
    w: &mut Worker,
    topic: &Topic,
    ready: Vec<(u32, Arc<PartitionView>)>,
    memory: &mut Memory,
) -> Result<(), Rest> {
    let mut begun = Vec::with_capacity(ready.len());
    for (index, part) in ready {
        let from = cursor(w, &part);
        if part.start() > from {
            trimmed(w, index, &part, from).await?;
            memory.readers.remove(&part.log);
            continue;
        }
        let kept = memory.readers.remove(&part.log).filter(|r| r.next() == from);
        let reader = kept.unwrap_or_else(|| RecordReader::new(Arc::clone(&part), from));
        let few = memory.small.contains(&part.log);
        begun.push((index, few, Prepared::new(part, reader, from)));
    }
    let broker = w.broker.clone();
    // Bounded over all bridges: each may hold a large message.
    let n = u32::try_from(begun.len()).unwrap_or(1).max(1);
    let Ok(_places) = broker.bridges_live().steps.acquire_many(n).await else { return Err(Rest::End) };
    let read = |(index, few, step)| prepare(w, topic, index, step, few, &memory.poison);
    let prepared = join_all(begun.into_iter().map(read)).await;
    let (mut steps, mut txs, mut failed, mut poisoned) = (Vec::new(), Vec::new(), None, false);
    for step in prepared {
        let step = match step {
            Ok(step) => step,
            // The next round sees that it begins later.
            Err(ReadError::Trimmed { .. }) => continue,
            Err(ReadError::Closed) => return Err(Rest::End),
            Err(e) => {
                failed = Some(Rest::Blocked { cause: e.to_string(), soon: e == ReadError::Overloaded });
                continue;
            }
        };
        // Where poison is noted follows from what was noted before: one step of a round does it, the others come again.
        if !step.poison.is_empty() && std::mem::replace(&mut poisoned, true) {
            continue;
        }
        if let Some((step, tx)) = submission(w, step) {
            steps.push(step);
            txs.push(tx);
        }
    }
    // Each its own record, side by side: they share a write of the log, and one that is refused holds no other.
    let results = join_all(txs.iter().map(|tx| w.session.transaction(tx))).await;
    for ((step, tx), result) in steps.into_iter().zip(txs).zip(results) {
        let passed = step.passed;
        let taken = w.taken(tx, result.map(drop), passed);
        if let Err(rest) = follow(step, taken, memory) {
            failed = match failed {
                Some(Rest::End) => Some(Rest::End),
                _ => Some(rest),
            };
        }
    }
    while memory.readers.len() > READERS_MAX {
        memory.readers.pop_first();
    }
    failed.map_or(Ok(()), Err)
}

impl Prepared {
    fn new(part: Arc<PartitionView>, reader: RecordReader, from: u64) -> Self {
        let (publish, offsets, poison) = (Vec::new(), Vec::new(), Vec::new());
        Self { part, reader, from, publish, offsets, filtered: 0, poison, pause: None }
    }
}

/// Reads a step's records, and makes of them what is to be published.
async fn prepare(
    w: &Worker,
    topic: &Topic,
    partition: u32,
    mut step: Prepared,
    few: bool,
    known: &BTreeMap<(LogId, u64), String>,
) -> Result<Prepared, ReadError> {
    let messages_max = if few { 1 } else { STEP_MESSAGES_MAX };
    let (mut bytes, mut looked_at) = (0, 0);
    while step.publish.len() < messages_max && bytes < STEP_BYTES_MAX && looked_at < STEP_LOOKED_AT_MAX {
        let before = step.reader.next();
        let Some(got) = step.reader.take(w.broker.streams()).await? else { break };
        looked_at += 1;
        let (offset, original, why) = match got {
            Got::Unreadable { first, end, why } => {
                (first, None, format!("offsets {first} to {}: {why}", end - 1))
            }
            Got::Record { offset, new, .. } => {
                let at = At { topic: &topic.def.name, partition, offset };
                match known.get(&(step.part.log, offset)).cloned().map_or_else(|| mapped(w, at, &new), Err) {
                    Ok(None) => {
                        step.filtered += 1;
                        continue;
                    }
                    Ok(Some(new)) => {
                        bytes += size(&new);
                        step.publish.push(new);
                        step.offsets.push(offset);
                        continue;
                    }
                    Err(why) => (offset, Some(*new), why),
                }
            }
        };
        match &w.def.on_poison {
            OnPoison::Pause => {
                step.pause = Some(format!("partition {partition}, offset {offset}: {why}"));
                step.reader = RecordReader::new(Arc::clone(&step.part), before);
                break;
            }
            OnPoison::Skip => step.poison.push(offset),
            OnPoison::DeadLetterTopic(to) => {
                let at = At { topic: &topic.def.name, partition, offset };
                let new = dead_letter(original.unwrap_or_default(), to, &w.task.row.name, at, why);
                bytes += size(&new);
                step.publish.push(new);
                step.offsets.push(offset);
                step.poison.push(offset);
            }
        }
    }
    Ok(step)
}

fn size(new: &NewMessage) -> usize {
    new.message.payload.as_ref().map_or(0, bytes::Bytes::len)
        + new.message.key.as_ref().map_or(0, bytes::Bytes::len)
}

/// The message as it goes on; `None`: the filter leaves it behind. An error: it cannot go on, and why.
fn mapped(w: &Worker, at: At<'_>, new: &NewMessage) -> Result<Option<NewMessage>, String> {
    let seen = Seen::new(&new.message, at);
    if let Some(pattern) = &w.def.pattern
        && !pattern.matches(&seen).map_err(|e| e.to_string())?
    {
        return Ok(None);
    }
    let mut out = new.clone();
    let m = &mut out.message;
    m.keys.clear();
    let direct = |m: &mut crate::envelope::Message, name: &String| {
        m.exchange.clear();
        m.routing_key.clone_from(name);
    };
    match &w.def.target {
        Target::Queue(name) | Target::Topic(name) => direct(m, name),
        Target::Exchange(name) => {
            m.exchange.clone_from(name);
            if m.routing_key.is_empty() {
                at.topic.clone_into(&mut m.routing_key);
            }
        }
    }
    w.def.map.set(&seen, &mut out).map_err(|e| e.to_string())?;
    if let Target::Queue(name) | Target::Topic(name) = &w.def.target {
        direct(&mut out.message, name);
    }
    Ok(Some(out))
}

fn dead_letter(mut new: NewMessage, to: &str, bridge: &str, at: At<'_>, why: String) -> NewMessage {
    new.message.exchange.clear();
    to.clone_into(&mut new.message.routing_key);
    new.message.keys.clear();
    let mut put = |name: &str, value| new.message.headers.push(Header { name: name.to_owned(), value });
    put(NAME, HeaderValue::Str(bridge.to_owned()));
    put(REASON, HeaderValue::Str(why));
    put(TOPIC, HeaderValue::Str(at.topic.to_owned()));
    put(PARTITION, HeaderValue::I64(i64::from(at.partition)));
    put(OFFSET, HeaderValue::I64(i64::try_from(at.offset).unwrap_or(i64::MAX)));
    new
}

/// A step on its way.
struct Submitted {
    log: LogId,
    reader: RecordReader,
    offsets: Vec<u64>,
    poison: Vec<u64>,
    passed: u64,
    looked_at: u64,
}

/// A prepared step as a transaction; `None`: there is nothing to do.
fn submission(w: &Worker, prepared: Prepared) -> Option<(Submitted, Transaction)> {
    let Prepared { part, reader, from, publish, offsets, filtered, poison, pause } = prepared;
    let log = part.log;
    let to = reader.next();
    if to == from && pause.is_none() {
        return None;
    }
    let dead_lettered = matches!(w.def.on_poison, OnPoison::DeadLetterTopic(_));
    let n_poison = poison.len() as u64;
    let passed = publish.len() as u64 - if dead_lettered { n_poison } else { 0 };
    let which = if dead_lettered { counter::DEAD_LETTERED } else { counter::SKIPPED };
    let mut step = w.step();
    if to > from {
        step.cursors.push(CursorStep { slot: log.0, from: w.task.row.cursor(log.0), to });
    }
    step.add = counts(&[(counter::PASSED, passed), (counter::FILTERED, filtered), (which, n_poison)]);
    let places: Vec<(u64, u64)> = poison.iter().map(|offset| (log.0, *offset)).collect();
    w.note_poison(&mut step, &places);
    step.then = pause.map(|why| (TaskState::Paused, why));
    let looked_at = offsets.len() as u64 + filtered;
    let tx = Transaction { publish, task: Some(step), ..Transaction::default() };
    Some((Submitted { log, reader, offsets, poison, passed, looked_at }, tx))
}

/// What follows from a step that counts, or does not: then its partition's next step begins where this one did.
fn follow(step: Submitted, taken: Result<(), NoStep>, memory: &mut Memory) -> Result<(), Rest> {
    let Submitted { log, reader, offsets, poison, looked_at, .. } = step;
    let mut never = |offset: u64, why: String| {
        // Its dead letter is not taken either: nothing can be done with it.
        if poison.contains(&offset) {
            return Err(Rest::blocked(format!("its dead letter: {why}")));
        }
        memory.poison.insert((log, offset), why);
        Ok(())
    };
    match taken {
        Ok(()) => {
            memory.small.retain(|l| *l != log);
            let to = reader.next();
            memory.poison.retain(|(l, offset), _| *l != log || *offset >= to);
            memory.readers.insert(log, reader);
            Ok(())
        }
        Err(NoStep::Poison { item, why }) => match offsets.get(item) {
            Some(offset) => never(*offset, why),
            None => Err(Rest::blocked(why)),
        },
        Err(NoStep::TooLarge | NoStep::Full(_)) if looked_at > 1 && !memory.small.contains(&log) => {
            memory.small.push(log);
            Ok(())
        }
        Err(NoStep::Full(cause)) => Err(Rest::Blocked { cause, soon: true }),
        Err(NoStep::TooLarge) => match offsets.first() {
            Some(offset) => never(*offset, "it is larger than a step may be".to_owned()),
            None => Err(Rest::blocked("a step is larger than one may be")),
        },
        Err(NoStep::Rest(rest)) => Err(rest),
    }
}

/// Retention took records that were not read.
async fn trimmed(w: &mut Worker, partition: u32, part: &PartitionView, from: u64) -> Result<(), Rest> {
    let (start, mut step) = (part.start(), w.step());
    let lost = start - from;
    if w.def.on_trimmed == OnTrimmed::Stop {
        let why = format!(
            "partition {partition}: retention took {lost} offsets from {from} on that were not read; resume with --on-trimmed skip to go on behind them"
        );
        return Err(w.pause(why).await);
    }
    step.cursors.push(CursorStep { slot: part.log.0, from: w.task.row.cursor(part.log.0), to: start });
    step.add = counts(&[(counter::TRIMMED, lost)]);
    match w.take(Transaction { task: Some(step), ..Transaction::default() }, 0).await {
        Ok(()) => Ok(()),
        Err(NoStep::Rest(rest)) => Err(rest),
        Err(_) => Err(Rest::blocked("a step was refused")),
    }
}
