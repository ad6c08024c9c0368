//! One random history, run on a log and on the model side by side.

mod queues;

use std::collections::BTreeMap;
use std::ops::AddAssign;

use bytes::Bytes;
use millstream_log::{
    AdmitError, Class, Head, Level, Limits, OpenError, Opened, ReadBatch, ReadError, Row, RowBatch,
};
use millstream_types::{LogId, Lsn};

use super::check::{Read, check_by_time, check_get, check_heads, check_read, compare};
use super::past::{Kept, Model, Operation};
use crate::block_on::{block_on, ready};
use crate::log_contract::kit::{bytes, finish};
use crate::seeds::Dice;
use crate::seen::{Event, Seen};
use crate::under::LogUnderTest;

use queues::QUEUES;
pub use queues::SpaceHeld;

/// Random bytes that bodies are cut from.
const NOISE_BYTES: u64 = 256 << 10;
/// Steps of one history.
const STEPS: u64 = 160;
/// Openings that may fail in a row because the power goes while the log recovers.
const CUTS_WHILE_OPENING: u64 = 3;

/// What a history came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Records put in order.
    pub records: u64,
    /// Records that were durable, and are there at the end.
    pub acknowledged: u64,
    /// Entries compared after openings.
    pub checked: u64,
    /// Openings.
    pub openings: u64,
    /// Power cuts and kills.
    pub crashes: u64,
    /// Records that a crash took.
    pub taken: u64,
    /// Rows found in the store after openings.
    pub rows: u64,
    /// Records replayed.
    pub replayed: u64,
    /// Rot that an opening refused.
    pub refused: u64,
    /// Times that everything was settled and the room came back.
    pub drained: u64,
    /// Packs written.
    pub merges: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, o: Self) {
        self.records += o.records;
        self.acknowledged += o.acknowledged;
        self.checked += o.checked;
        self.openings += o.openings;
        self.crashes += o.crashes;
        self.taken += o.taken;
        self.rows += o.rows;
        self.replayed += o.replayed;
        self.refused += o.refused;
        self.drained += o.drained;
        self.merges += o.merges;
    }
}

/// What a history is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Everything at random, over a dozen logs.
    Mixed,
    /// Few queues whose messages are settled, so that files are given back.
    Queues,
}

/// Runs the history of one seed.
///
/// # Panics
/// If the log differs from the model.
pub fn run(seed: u64, under: &dyn LogUnderTest, shape: Shape) -> Tally {
    let mut dice = Dice::new(seed);
    let large = dice.once_in(5);
    let noise = Bytes::from(dice.bytes(if shape == Shape::Queues { NOISE_BYTES } else { 0 }));
    let mut model = Model::default();
    let mut tally = Tally::default();
    let opened = open(under, &mut dice, &mut model, Lsn(0), &mut tally);
    let mut history = History {
        under,
        dice,
        model,
        tally,
        opened: Some(opened),
        durable: Lsn(0),
        dirty: BTreeMap::new(),
        large,
        shape,
        generations: [0; QUEUES],
        noise,
        broken: false,
    };
    for _ in 0..STEPS {
        history.step();
    }
    if shape == Shape::Queues {
        history.drain();
    }
    history.end_of_opening(&Ending::Clean);
    history.tally.acknowledged = history.durable.0;
    history.tally
}

/// What a reader was asked for, and gave.
enum Given {
    Range(ReadBatch),
    Heads(Vec<Head>),
    Some(ReadBatch),
    ByTime(Option<Head>),
}

enum Ending {
    Clean,
    Cut,
    Kill,
}

struct History<'a> {
    under: &'a dyn LogUnderTest,
    dice: Dice,
    model: Model,
    tally: Tally,
    opened: Option<Opened>,
    /// The most that is known to be durable.
    durable: Lsn,
    /// Objects with effects that no row given holds, and the first such record.
    dirty: BTreeMap<Vec<u8>, Lsn>,
    large: bool,
    shape: Shape,
    /// How often each queue was deleted.
    generations: [u64; QUEUES],
    noise: Bytes,
    /// Something was broken on purpose since the machine last started: the log may be lost.
    broken: bool,
}

const OBJECTS: [&[u8]; 6] = [b"a", b"ab", b"b", b"queue/1", b"queue/2", b"queue/20"];

impl History<'_> {
    fn opened(&mut self) -> &mut Opened {
        self.opened.as_mut().expect("open between endings")
    }

    fn step(&mut self) {
        match self.dice.below(100) {
            0..=69 => {
                let record = self.record();
                self.put(record);
            }
            70..=77 => self.offer(),
            78..=83 => self.wait(),
            90 if self.shape == Shape::Queues => self.drain(),
            84..=90 => self.look(),
            91 => self.rot(),
            92 => self.end_of_opening(&Ending::Clean),
            93 | 94 => self.end_of_opening(&Ending::Cut),
            95 | 96 => self.end_of_opening(&Ending::Kill),
            97 | 98 => {
                let calls = self.dice.below(12);
                self.broken = true;
                self.under.cut_after(calls);
            }
            _ => {
                let random = self.dice.below(1 << 32);
                self.broken = true;
                self.under.disturb(random);
            }
        }
        self.notice_loss();
    }

    fn notice_loss(&mut self) {
        if self.troubled() {
            let ending = if self.dice.once_in(2) { Ending::Cut } else { Ending::Kill };
            self.end_of_opening(&ending);
        }
    }

    /// Whether the log or the machine is gone, which must have a reason.
    fn troubled(&self) -> bool {
        let lost = self.opened.as_ref().and_then(|o| o.marks.lost());
        assert!(lost.is_none() || self.broken, "the log was lost, and nothing was broken: {lost:?}");
        lost.is_some() || self.under.is_off()
    }

    fn log(&mut self) -> LogId {
        if self.shape == Shape::Queues {
            return self.queue();
        }
        LogId(0x1000_0000_0000_0000 | self.dice.below(6) << 16 | self.dice.below(2))
    }

    fn entry(&mut self, log: LogId, ahead: &mut BTreeMap<LogId, u64>, single: bool) -> Kept {
        let next = self.model.logs.get(&log).map_or(0, |l| l.next);
        let hole = if self.dice.once_in(8) { self.dice.below(5) } else { 0 };
        let pos = ahead.get(&log).copied().unwrap_or(next).max(next) + hole;
        let count = if single || self.dice.once_in(2) { 1 } else { 1 + self.dice.below(20) };
        ahead.insert(log, pos + count);
        let len = match self.dice.below(20) {
            0 => 0,
            1 => 5_000,
            2 if self.large => 400_000,
            3 | 4 if self.large => 70_000,
            _ => self.dice.below(200),
        };
        let whole = Bytes::from(self.dice.bytes(len));
        let cut = usize::try_from(self.dice.below(len + 1)).unwrap();
        let body =
            if self.dice.once_in(3) { vec![whole.slice(..cut), whole.slice(cut..)] } else { vec![whole] };
        let attrs = self.dice.below(40);
        Kept {
            pos,
            count: u32::try_from(count).unwrap(),
            max_ts_ms: i64::try_from(self.dice.below(1_000)).unwrap() - 1,
            attrs: self.dice.bytes(attrs),
            body,
        }
    }

    fn record(&mut self) -> Vec<Operation> {
        if self.shape == Shape::Queues {
            return self.queue_record();
        }
        let mut ahead = BTreeMap::new();
        let mut gone = Vec::new();
        let n = if self.dice.once_in(4) { 1 + self.dice.below(6) } else { 1 };
        let mut record = Vec::new();
        for _ in 0..n {
            let log = self.log();
            let deleted = |model: &Model, log| model.logs.get(&log).is_some_and(|l| l.deleted);
            if gone.contains(&log) || deleted(&self.model, log) {
                continue;
            }
            match self.dice.below(40) {
                0..=1 => record.push(self.retire(log)),
                2 => {
                    let next = self.model.logs.get(&log).map_or(0, |l| l.next);
                    let before = self.dice.below(next + 1);
                    record.push(Operation::Trim(log, before));
                }
                3 if self.dice.once_in(4) && !ahead.contains_key(&log) => {
                    gone.push(log);
                    record.push(Operation::Delete(log));
                }
                4..=9 => {
                    let object = self.dice.of(&OBJECTS).to_vec();
                    let len = self.dice.below(30);
                    record.push(Operation::Effect(object, self.dice.bytes(len)));
                }
                10..=13 => {
                    let mut to: Vec<LogId> = (0..2 + self.dice.below(4)).map(|_| self.log()).collect();
                    to.sort_unstable();
                    to.dedup();
                    to.retain(|l| !gone.contains(l) && !deleted(&self.model, *l));
                    if to.len() >= 2 {
                        let entries: Vec<_> = to.iter().map(|l| self.entry(*l, &mut ahead, true)).collect();
                        let to = to.iter().zip(&entries).map(|(l, e)| (*l, e.pos)).collect();
                        record.push(Operation::FanOut { to, entry: entries[0].clone() });
                    }
                }
                _ => {
                    let entry = self.entry(log, &mut ahead, false);
                    record.push(Operation::Append { log, entry });
                }
            }
        }
        record
    }

    /// Some entries of a log, as runs of whole entries.
    fn retire(&mut self, log: LogId) -> Operation {
        let whole: Vec<(u64, u32)> = self
            .model
            .logs
            .get(&log)
            .map(|l| l.entries.values().filter(|h| h.gone.is_none()))
            .map(|there| there.map(|h| (h.entry.pos, h.entry.count)).collect())
            .unwrap_or_default();
        let often = 1 + self.dice.below(3);
        let runs = whole.into_iter().filter(|_| self.dice.once_in(often)).collect();
        Operation::Retire(log, runs)
    }

    fn put(&mut self, record: Vec<Operation>) {
        if record.is_empty()
            || record.iter().all(|o| matches!(o, Operation::Retire(_, runs) if runs.is_empty()))
        {
            return;
        }
        let ops: Vec<_> = record.iter().map(Operation::op).collect();
        let size = bytes(&ops);
        let publishes = |o: &Operation| matches!(o, Operation::Append { .. } | Operation::FanOut { .. });
        let class = if record.iter().any(publishes) { Class::Publish } else { Class::Settle };
        let permit = match self.opened().gate.try_admit(class, size) {
            Ok(permit) => permit,
            Err(AdmitError::Busy) => {
                self.wait();
                match block_on(self.opened().gate.admit(class, size)) {
                    Ok(permit) => permit,
                    Err(_) => return,
                }
            }
            Err(AdmitError::Closed | AdmitError::DiskFull) => return,
            Err(e) => panic!("{e}"),
        };
        let end_turn = self.dice.once_in(2);
        let opened = self.opened();
        let lsn = opened.sequencer.sequence(permit, &ops, None);
        if end_turn {
            opened.sequencer.end_turn();
        }
        if opened.marks.lost().is_some() && lsn != self.model.last().next() {
            // A lost log gives numbers that mean nothing.
            return;
        }
        assert_eq!(lsn, self.model.last().next(), "LSNs are dense");
        drop(ops);
        for operation in &record {
            if let Operation::Effect(object, _) = operation {
                self.dirty.entry(object.clone()).or_insert(lsn);
            }
        }
        self.model.push(record);
        self.tally.records += 1;
        if self.dice.once_in(3) {
            self.under.commit();
        }
    }

    /// Gives some dirty rows to the flusher, oldest first.
    fn offer(&mut self) {
        let mut dirty: Vec<(Lsn, Vec<u8>)> = self.dirty.iter().map(|(k, l)| (*l, k.clone())).collect();
        dirty.sort_unstable();
        let n = usize::try_from(self.dice.below(dirty.len() as u64 + 2)).unwrap();
        let rows = dirty.iter().take(n).map(|(_, key)| {
            self.dirty.remove(key);
            let (row_lsn, state) = self.model.objects[key];
            Row { key: key.clone(), row_lsn, value: Some(state.to_le_bytes().to_vec()) }
        });
        let rows = rows.collect();
        let oldest_dirty = self.dirty.values().min().copied();
        let applied = self.model.last();
        self.opened().sink.offer(RowBatch { rows, oldest_dirty, applied });
    }

    fn wait(&mut self) {
        let last = self.model.last();
        self.opened().sequencer.end_turn();
        self.under.commit();
        if block_on(self.opened().marks.reached(last)).is_ok() {
            self.durable = last;
        }
        self.notice_loss();
    }

    /// Reads something at some level, and compares.
    fn look(&mut self) {
        let log = self.log();
        let level = *self.dice.of(&[Level::Durable, Level::Written, Level::Sequenced]);
        let before = self.opened().marks.get();
        if ready(self.opened().marks.reached(before.durable)) == Some(Ok(())) {
            self.durable = self.durable.max(before.durable);
        }
        let Some(one) = self.model.logs.get(&log).cloned() else { return };
        let from = self.dice.below(one.next + 2);
        let end_pos = if self.dice.once_in(3) { self.dice.below(one.next + 2) } else { u64::MAX };
        let max_entries = usize::try_from(1 + self.dice.below(10)).unwrap();
        let lim =
            Limits { max_bytes: usize::try_from(self.dice.below(4_000)).unwrap(), max_entries, end_pos };
        let what = self.dice.below(8);
        let ts_ms = i64::try_from(self.dice.below(1_000)).unwrap();
        let mut positions: Vec<u64> =
            (0..=self.dice.below(4)).map(|_| self.dice.below(one.next + 2)).collect();
        positions.sort_unstable();
        let reader = &self.opened().reader;
        let given = match what {
            0 => {
                let lim = Limits { max_bytes: usize::MAX, ..lim };
                block_on(reader.heads(log, from, lim, level)).map(Given::Heads)
            }
            1 => block_on(reader.by_time(log, from, ts_ms, level)).map(Given::ByTime),
            2 | 3 => finish(reader.get(log, &positions)).map(Given::Some),
            _ => finish(reader.read(log, from, lim, level)).map(Given::Range),
        };
        let after = self.opened().marks.get();
        if self.opened().marks.lost().is_some() || self.under.is_off() {
            return;
        }
        let sequenced = (before.sequenced, after.sequenced);
        let shown = match level {
            Level::Durable => (before.durable, after.durable),
            Level::Written => (before.written, after.written),
            Level::Sequenced => sequenced,
        };
        let read = Read { log, from, lim, shown, durable: (before.durable, after.durable) };
        let whole = Limits { end_pos: u64::MAX, ..lim };
        match given {
            Ok(Given::Range(batch)) => check_read(&self.model, &read, &batch),
            Ok(Given::Heads(heads)) => check_heads(&self.model, &read, &heads),
            Ok(Given::Some(batch)) => {
                let read = Read { from: 0, lim: whole, shown: sequenced, ..read };
                check_get(&self.model, &read, &positions, &batch.entries);
            }
            Ok(Given::ByTime(found)) => {
                check_by_time(&self.model, &Read { lim: whole, ..read }, ts_ms, found.as_ref());
            }
            Err(ReadError::Trimmed { start }) => {
                assert!(what != 1, "a search by time begins at the start");
                assert!(one.deleted || (from < start && start <= one.start), "{start} {one:?}");
            }
            Err(e) => panic!("{e}; a read at {level:?} between {before:?} and {after:?}"),
        }
    }

    fn end_of_opening(&mut self, ending: &Ending) {
        let opened = self.opened.take().expect("open between endings");
        self.tally.merges += opened.stats.merges();
        let done = match ending {
            Ending::Clean => false,
            Ending::Cut => self.under.crash(),
            Ending::Kill => self.under.kill() || self.under.crash(),
        };
        // What was seen to be durable before the end was a promise.
        let marks = opened.marks.get();
        if done {
            self.tally.crashes += 1;
            self.broken = false;
        }
        if opened.marks.lost().is_none() && !done {
            drop(opened);
            // The power may have gone while it closed; then only what was durable before is sure.
            self.durable = self.durable.max(marks.durable);
        } else {
            self.durable = self.durable.max(marks.durable.min(self.model.last()));
            drop(opened);
        }
        self.go_on();
    }

    /// Opens again, and makes dirty what is in no row.
    fn go_on(&mut self) {
        self.dirty.clear();
        let opened = open(self.under, &mut self.dice, &mut self.model, self.durable, &mut self.tally);
        self.durable = self.model.last();
        // Whatever is in no row is dirty: so far as replay showed it, or else the floor was wrong.
        let replayed = |key: &Vec<u8>, lsn: Lsn| {
            let row = opened.rows.get(key).unwrap().map_or(Lsn(0), |(l, _)| l);
            (row < lsn).then_some(row)
        };
        for (key, (lsn, _)) in &self.model.objects {
            if let Some(row) = replayed(key, *lsn) {
                self.dirty.insert(key.clone(), first_effect_after(&self.model, key, row));
            }
        }
        self.opened = Some(opened);
    }
}

impl History<'_> {
    /// Kills the log when all is durable, and turns over a bit of a frame. What a later write proves must not be cut in silence; an
    /// opening that refuses changes nothing, so with the bit turned back all is there.
    fn rot(&mut self) {
        self.wait();
        let proven = self.durable;
        let effect = self.dice.bytes(8);
        self.put(vec![Operation::Effect(OBJECTS[0].to_vec(), effect)]);
        self.wait();
        if self.troubled() || self.durable <= proven || proven == Lsn(0) {
            return;
        }
        let random = self.dice.below(u64::MAX);
        if !self.under.kill() {
            return;
        }
        self.broken = false;
        self.tally.crashes += 1;
        self.opened = None;
        if let Some(turn_back) = self.under.rot(random) {
            let mut seen = Seen::default();
            match self.under.store().open(&self.under.config(), &mut seen) {
                Ok(opened) => {
                    compare(&mut self.model, proven, &opened, &seen, &mut self.tally);
                    self.durable = self.model.last();
                }
                Err(OpenError::Corrupt { .. }) => {
                    self.tally.refused += 1;
                    turn_back();
                }
                Err(e) => panic!("rot is told as rot: {e}"),
            }
        }
        self.go_on();
    }
}

fn first_effect_after(model: &Model, key: &[u8], row: Lsn) -> Lsn {
    let is_it = |e: &Event| matches!(e, Event::Effect(_, object, _) if object == key);
    let found = model.events_from(row.next()).into_iter().find(is_it);
    found.map(|e| e.lsn()).expect("the row is older than the object")
}

/// Opens, with power cuts on the way at random; compares everything there is.
fn open(
    under: &dyn LogUnderTest,
    dice: &mut Dice,
    model: &mut Model,
    durable: Lsn,
    tally: &mut Tally,
) -> Opened {
    let mut cuts = if dice.once_in(4) { CUTS_WHILE_OPENING } else { 0 };
    loop {
        if cuts > 0 {
            under.cut_after(dice.below(30));
        }
        let mut seen = Seen::default();
        match under.store().open(&under.config(), &mut seen) {
            Ok(opened) => {
                under.cut_after(u64::MAX);
                if under.is_off() {
                    // It went just after.
                    assert!(under.crash());
                    tally.crashes += 1;
                    continue;
                }
                tally.openings += 1;
                compare(model, durable, &opened, &seen, tally);
                return opened;
            }
            Err(OpenError::Io { .. } | OpenError::Store(_)) => {
                cuts = cuts.saturating_sub(1);
                assert!(
                    if dice.once_in(3) { under.kill() } else { under.crash() },
                    "only a cut fails an opening"
                );
                tally.crashes += 1;
            }
            Err(e) => panic!("records up to {durable} are durable: {e}"),
        }
    }
}
