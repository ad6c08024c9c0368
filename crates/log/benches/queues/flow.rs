//! Messages that flow through queues: published at full speed, and settled soon, in part, at random, or not at all. Start at [`Flow`].

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use millstream_env::Clock;
use millstream_log::{AdmitError, Class, Op};
use millstream_types::LogId;

use crate::engine::{
    Engine, OVERHEAD_BYTES, RETIRE_RECORD_BYTES, Random, SETTLE_ONE_BYTES, SETTLE_RECORD_BYTES,
    SETTLE_RUN_BYTES, body,
};
use crate::turns::{Signal, Target};

/// Messages of one queue settled by one record.
const BATCH: u64 = 64;
/// Positions of a queue after which it says what may be forgotten.
const FORGET: u64 = 512;
/// What was settled at random is said to the log after so long, as the engine does.
const SAY_NS: u64 = 1_000_000_000;
/// Positions in the log's sets of what is retired.
const CHUNK: u64 = 4096;
/// Logs that a body goes to.
pub const FANOUT: u64 = 50;

/// What becomes of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Nothing.
    Kept,
    /// Settled in order.
    Settled,
    /// Every second one is settled.
    Half,
    /// Each body goes to [`FANOUT`] queues, which settle it in order.
    Fanout,
    /// Once so many live, one of them at random is settled for each that is published.
    Random,
}

/// Queues under load.
pub struct Flow {
    pub engine: Engine,
    fate: Fate,
    logs: u64,
    body: [Bytes; 1],
    /// Messages published, and settled or passed by.
    published: u64,
    passed: u64,
    /// Messages that live before the first is settled.
    lag: u64,
    random: Random,
    live: Vec<u64>,
    /// Settled messages by (log, chunk) that are not retired yet.
    unsaid: HashMap<(u64, u64), Vec<(u64, u32)>>,
    said_ns: u64,
    refs: Vec<(LogId, u64)>,
    runs: Vec<(u64, u32)>,
    /// Times a publish was refused for want of disk.
    pub refused: u64,
    clock: Arc<dyn Clock>,
    /// When to begin, and messages a second; `None` = as fast as can be.
    pub pace: Option<(u64, u64)>,
}

impl Flow {
    /// Over an engine; `live_bytes` is what lives before settling begins.
    pub fn new(
        engine: Engine,
        clock: Arc<dyn Clock>,
        fate: Fate,
        logs: u64,
        size: usize,
        live_bytes: u64,
    ) -> Self {
        Self {
            engine,
            fate,
            logs,
            body: [body(size)],
            published: 0,
            passed: 0,
            lag: live_bytes / size as u64,
            random: Random(1),
            live: Vec::new(),
            unsaid: HashMap::new(),
            said_ns: 0,
            refs: Vec::new(),
            runs: Vec::new(),
            refused: 0,
            clock,
            pace: None,
        }
    }

    /// Messages published.
    pub fn published(&self) -> u64 {
        self.published
    }

    /// Messages that live.
    pub fn living(&self) -> u64 {
        match self.fate {
            Fate::Kept => self.published,
            Fate::Settled | Fate::Fanout => self.published - self.passed,
            Fate::Half => self.published - self.passed / 2,
            Fate::Random => self.live.len() as u64,
        }
    }

    /// Settles batches, each of one queue, until no more than the lag lives.
    fn drain(&mut self) {
        let sets = if self.fate == Fate::Fanout { 1 } else { self.logs };
        while self.published.saturating_sub(self.passed + self.lag) >= sets * BATCH {
            for set in 0..sets {
                let first = self.passed / sets;
                let queues = if self.fate == Fate::Fanout { 1..=FANOUT } else { set + 1..=set + 1 };
                for queue in queues {
                    self.settle_batch(LogId(queue), first);
                }
            }
            self.passed += sets * BATCH;
        }
    }

    fn settle_batch(&mut self, log: LogId, first: u64) {
        let end = first + BATCH;
        let room = if self.fate == Fate::Half { RETIRE_RECORD_BYTES } else { SETTLE_RECORD_BYTES };
        let Some(permit) = self.engine.wait_for_room(room) else { return };
        let said = end.is_multiple_of(FORGET);
        let forget = match self.fate {
            _ if !said => None,
            Fate::Half => {
                self.runs.clear();
                self.runs.extend((end - FORGET..end).step_by(2).map(|pos| (pos, 1)));
                Some(Op::Retire { log, runs: &self.runs })
            }
            _ => Some(Op::Trim { log, before: end }),
        };
        let bytes = match self.fate {
            Fate::Fanout => SETTLE_RUN_BYTES,
            Fate::Half => BATCH as usize / 2 * SETTLE_ONE_BYTES,
            _ => BATCH as usize * SETTLE_ONE_BYTES,
        };
        self.engine.settle(permit, log, bytes, forget.as_slice());
    }

    /// Settles one at random for each that is over the lag.
    fn scatter(&mut self) {
        let mut by_log: HashMap<u64, (usize, Vec<(u64, u32)>)> = HashMap::new();
        while self.live.len() as u64 > self.lag {
            let at = self.random.below(self.live.len() as u64) as usize;
            let message = self.live.swap_remove(at);
            let (log, pos) = (message % self.logs + 1, message / self.logs);
            let (bytes, forget) = by_log.entry(log).or_default();
            *bytes += SETTLE_ONE_BYTES;
            let unsaid = self.unsaid.entry((log, pos / CHUNK)).or_default();
            unsaid.push((pos, 1));
            if unsaid.len() as u64 >= FORGET {
                forget.append(unsaid);
            }
        }
        for (log, (bytes, mut runs)) in by_log {
            let room = if runs.is_empty() { SETTLE_RECORD_BYTES } else { RETIRE_RECORD_BYTES };
            let Some(permit) = self.engine.wait_for_room(room) else { return };
            runs.sort_unstable();
            let log = LogId(log);
            let forget = (!runs.is_empty()).then_some(Op::Retire { log, runs: &runs });
            self.engine.settle(permit, log, bytes, forget.as_slice());
        }
    }

    /// Says of everything settled that it may be forgotten.
    pub fn say_all(&mut self) {
        for ((log, _), mut runs) in std::mem::take(&mut self.unsaid) {
            let Some(permit) = self.engine.wait_for_room(RETIRE_RECORD_BYTES) else { return };
            runs.sort_unstable();
            let log = LogId(log);
            self.engine.settle(permit, log, SETTLE_RUN_BYTES, &[Op::Retire { log, runs: &runs }]);
        }
        self.engine.end_turn();
    }

    /// Says now and then what is not said yet.
    fn say_in_time(&mut self) {
        let now_ns = self.clock.mono_ns();
        if now_ns.saturating_sub(self.said_ns) >= SAY_NS {
            self.said_ns = now_ns;
            self.say_all();
        }
    }

    fn is_ahead(&self) -> bool {
        self.pace.is_some_and(|(begin_ns, per_second)| {
            let due = u128::from(self.clock.mono_ns() - begin_ns) * u128::from(per_second) / 1_000_000_000;
            u128::from(self.published) > due
        })
    }

    fn room(&mut self) -> Option<millstream_log::Permit> {
        if self.is_ahead() {
            return None;
        }
        let refs = if self.fate == Fate::Fanout { FANOUT as usize * 20 } else { 0 };
        let bytes = self.body[0].len() + OVERHEAD_BYTES + refs;
        match self.engine.opened.gate.try_admit(Class::Publish, bytes) {
            Ok(permit) => Some(permit),
            Err(AdmitError::DiskFull) => {
                self.refused += 1;
                None
            }
            Err(_) => None,
        }
    }
}

impl Target for Flow {
    fn submit(&mut self) -> Option<u64> {
        let permit = self.room()?;
        let n = self.published;
        self.published += 1;
        let (log, pos) = (LogId(n % self.logs + 1), n / self.logs);
        let lsn = match self.fate {
            Fate::Fanout => {
                self.refs.clear();
                self.refs.extend((1..=FANOUT).map(|log| (LogId(log), n)));
                let to = &self.refs;
                let op = Op::FanOut { to, max_ts_ms: 7, attrs: &[0; 16], body: &self.body };
                self.engine.record(permit, &[op], (1..=FANOUT).map(LogId))
            }
            _ => self.engine.publish(permit, log, pos, &self.body),
        };
        if self.fate == Fate::Random {
            self.live.push(n);
        }
        Some(lsn.0)
    }

    fn end_turn(&mut self) {
        match self.fate {
            Fate::Kept => {}
            Fate::Random => {
                self.scatter();
                self.say_in_time();
            }
            _ => self.drain(),
        }
        self.engine.end_turn();
    }

    fn is_done(&self) -> bool {
        self.engine.opened.marks.lost().is_some()
    }

    fn signal(&self) -> Arc<Signal> {
        Arc::clone(&self.engine.signal)
    }
}
