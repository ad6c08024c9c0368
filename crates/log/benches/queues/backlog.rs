//! A long backlog in one queue, settled in order or out of it. Start at [`Settler`].

use std::sync::Arc;

use millstream_log::{Op, ReadOutcome};
use millstream_types::LogId;

use crate::engine::{Engine, RETIRE_RECORD_BYTES, Random, SETTLE_RECORD_BYTES, SETTLE_RUN_BYTES};
use crate::turns::{Signal, Target};

/// The queue.
pub const LOG: LogId = LogId(1);
/// Messages settled by one record.
pub const BATCH: usize = 64;
/// Effect bytes of one settlement out of order, in a batch of others.
const SCATTERED_BYTES: usize = 12;
const CHUNK: u64 = 4096;
/// Settlements of a chunk after which they are said to the log.
const SAY: usize = 256;

/// In what order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Ascending,
    /// Every third.
    Third,
    /// What every third left, at random.
    Random,
}

/// Settles a backlog, a batch at a time.
pub struct Settler {
    pub engine: Engine,
    order: Order,
    /// What is left, to be taken from the end; empty for [`Order::Ascending`].
    left: Vec<u32>,
    at: u64,
    end: u64,
    unsaid: Vec<Vec<(u64, u32)>>,
}

impl Settler {
    pub fn new(engine: Engine, order: Order, messages: u64) -> Self {
        let mut left: Vec<u32> = match order {
            Order::Ascending => Vec::new(),
            Order::Third => (0..messages as u32).step_by(3).collect(),
            Order::Random => (0..messages as u32).filter(|pos| pos % 3 != 0).collect(),
        };
        let mut random = Random(7);
        if order == Order::Random {
            for i in (1..left.len()).rev() {
                left.swap(i, random.below(i as u64 + 1) as usize);
            }
        } else {
            left.reverse();
        }
        let unsaid = vec![Vec::new(); (messages / CHUNK + 1) as usize];
        Self { engine, order, left, at: 0, end: messages, unsaid }
    }

    /// Messages there are to settle.
    pub fn messages(&self) -> u64 {
        if self.order == Order::Ascending { self.end } else { self.left.len() as u64 }
    }

    /// Says of everything settled that it may be forgotten.
    pub fn say_all(&mut self) {
        for chunk in 0..self.unsaid.len() {
            let mut runs = std::mem::take(&mut self.unsaid[chunk]);
            if runs.is_empty() {
                continue;
            }
            runs.sort_unstable();
            let Some(permit) = self.engine.wait_for_room(RETIRE_RECORD_BYTES) else { return };
            self.engine.settle(permit, LOG, SETTLE_RUN_BYTES, &[Op::Retire { log: LOG, runs: &runs }]);
        }
        self.engine.end_turn();
    }
}

impl Target for Settler {
    fn submit(&mut self) -> Option<u64> {
        if self.order == Order::Ascending {
            if self.at == self.end {
                return None;
            }
            let permit = self.engine.settle_room(SETTLE_RECORD_BYTES)?;
            self.at = (self.at + BATCH as u64).min(self.end);
            let trim = [Op::Trim { log: LOG, before: self.at }];
            let said = self.at.is_multiple_of(CHUNK) || self.at == self.end;
            let lsn = self.engine.settle(permit, LOG, SETTLE_RUN_BYTES, if said { &trim } else { &[] });
            return Some(lsn.0);
        }
        if self.left.is_empty() {
            return None;
        }
        let permit = self.engine.settle_room(RETIRE_RECORD_BYTES)?;
        let batch = self.left.len().min(BATCH);
        let mut full: Vec<Vec<(u64, u32)>> = Vec::new();
        for pos in self.left.drain(self.left.len() - batch..) {
            let chunk = &mut self.unsaid[(u64::from(pos) / CHUNK) as usize];
            chunk.push((u64::from(pos), 1));
            if chunk.len() >= SAY {
                let mut runs = std::mem::take(chunk);
                runs.sort_unstable();
                full.push(runs);
            }
        }
        let ops: Vec<Op<'_>> = full.iter().map(|runs| Op::Retire { log: LOG, runs }).collect();
        Some(self.engine.settle(permit, LOG, batch * SCATTERED_BYTES, &ops).0)
    }

    fn end_turn(&mut self) {
        self.engine.end_turn();
    }

    fn signal(&self) -> Arc<Signal> {
        Arc::clone(&self.engine.signal)
    }
}

/// Entries a second of so many reads of 64, each at the next of the places, which are far from each other or follow each other.
pub fn reads_per_second(
    engine: &Engine,
    places: impl Iterator<Item = u64>,
    clock: &dyn millstream_env::Clock,
) -> f64 {
    let (start, mut entries) = (clock.mono_ns(), 0);
    let lim = millstream_log::Limits { max_bytes: 1 << 20, max_entries: 64, end_pos: u64::MAX };
    for from in places {
        let outcome = engine.opened.reader.read(LOG, from, lim, millstream_log::Level::Durable);
        let batch = match outcome {
            ReadOutcome::Ready(batch) => batch,
            ReadOutcome::Cold(read) => millstream_testkit::block_on::block_on(read),
        };
        entries += batch.unwrap().entries.len();
    }
    entries as f64 / ((clock.mono_ns() - start) as f64 / 1e9)
}
