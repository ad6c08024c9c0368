//! The load loop, the same for the log and for the bare disk: one thread submits, in turns, until the target
//! has no room; when a write became durable it notes the latencies and submits again. Start at [`drive`].

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex};

use millstream_env::Clock;

/// What takes records and makes them durable in order.
pub trait Target {
    /// Takes one record and gives its number, ascending; `None` if there is no room before more becomes durable.
    fn submit(&mut self) -> Option<u64>;
    /// The turn ends.
    fn end_turn(&mut self);
    /// Whether there is nothing more to submit, though there is room.
    fn is_done(&self) -> bool {
        true
    }
    /// Told when `durable` moves.
    fn signal(&self) -> Arc<Signal>;
}

/// The last durable record, and who waits for it to move.
#[derive(Default)]
pub struct Signal {
    durable: Mutex<u64>,
    moved: Condvar,
}

impl Signal {
    pub fn set(&self, durable: u64) {
        *self.durable.lock().unwrap() = durable;
        self.moved.notify_one();
    }

    pub fn get(&self) -> u64 {
        *self.durable.lock().unwrap()
    }

    /// Waits until more than `seen` is durable.
    pub fn past(&self, seen: u64) -> u64 {
        let mut durable = self.durable.lock().unwrap();
        while *durable <= seen {
            durable = self.moved.wait(durable).unwrap();
        }
        *durable
    }
}

/// When to stop, and what is in flight till then.
#[derive(Clone, Copy)]
pub struct Plan {
    pub in_flight: usize,
    /// Records handed over at a time.
    pub turn: usize,
    pub record_bytes: usize,
    /// Not measured at first.
    pub warm_ns: u64,
    /// Measured at most so long.
    pub ns: u64,
    /// Measured at most so many bytes.
    pub bytes: u64,
}

/// What was seen.
pub struct Seen {
    pub records: u64,
    pub seconds: f64,
    pub latency: Latency,
}

/// Runs the load. At its end everything submitted is durable.
pub fn drive(target: &mut dyn Target, clock: &dyn Clock, plan: Plan) -> Seen {
    let signal = target.signal();
    let mut out: VecDeque<(u64, u64)> = VecDeque::with_capacity(plan.in_flight.min(1 << 14));
    let (mut latency, mut durable, mut records) = (Latency::default(), 0, 0);
    let begin = clock.mono_ns();
    let warm = begin + plan.warm_ns;
    let (mut start, mut end) = (warm, warm);
    let records_max = (plan.bytes / plan.record_bytes as u64).max(1);
    let mut stop = false;
    loop {
        let mut now = clock.mono_ns();
        let mut turn = 0;
        while !stop && out.len() < plan.in_flight {
            let Some(n) = target.submit() else { break };
            out.push_back((n, now));
            turn += 1;
            if turn == plan.turn {
                target.end_turn();
                (turn, now) = (0, clock.mono_ns());
                // What became durable meanwhile is looked at before more is submitted: room may never run out.
                if signal.get() > durable {
                    break;
                }
            }
        }
        target.end_turn();
        if out.is_empty() {
            if stop || target.is_done() {
                break;
            }
            // Room comes back with what the log does behind the commits.
            std::thread::sleep(std::time::Duration::from_micros(200)); // tidy: pacing
            continue;
        }
        durable = signal.past(durable);
        now = clock.mono_ns();
        while let Some((_, at)) = out.front().copied().filter(|(n, _)| *n <= durable) {
            out.pop_front();
            if stop {
                continue;
            }
            if now < warm {
                start = now;
            } else {
                records += 1;
                latency.add(now - at);
                end = now;
            }
        }
        stop |= now.saturating_sub(warm) > plan.ns || records >= records_max;
    }
    let seconds = end.saturating_sub(start) as f64 / 1e9;
    Seen { records, seconds, latency }
}

/// A histogram of nanoseconds, exact to 1.6 %.
pub struct Latency {
    counts: Vec<u64>,
    n: u64,
}

const SUB: u32 = 6;

impl Default for Latency {
    fn default() -> Self {
        Self { counts: vec![0; 64 << SUB], n: 0 }
    }
}

impl Latency {
    fn add(&mut self, ns: u64) {
        self.n += 1;
        self.counts[slot(ns)] += 1;
    }

    /// Counts what another counted too.
    #[allow(dead_code, reason = "the benchmark of streams measures in one go")]
    pub fn absorb(&mut self, other: &Self) {
        self.n += other.n;
        self.counts.iter_mut().zip(&other.counts).for_each(|(to, from)| *to += from);
    }

    /// In milliseconds; `share` is between 0 and 1.
    pub fn at(&self, share: f64) -> f64 {
        let wanted = (self.n as f64 * share).ceil().max(1.0) as u64;
        let mut below = 0;
        for (slot, n) in self.counts.iter().enumerate() {
            below += n;
            if below >= wanted {
                return middle(slot) / 1e6;
            }
        }
        0.0
    }
}

fn slot(ns: u64) -> usize {
    let high = 63 - (ns | 1).leading_zeros();
    if high < SUB {
        return ns as usize;
    }
    let shift = high - SUB;
    (((shift + 1) as usize) << SUB) + ((ns >> shift) as usize & ((1 << SUB) - 1))
}

fn middle(slot: usize) -> f64 {
    let (row, column) = (slot >> SUB, slot & ((1 << SUB) - 1));
    if row == 0 {
        return column as f64;
    }
    let width = (1u64 << (row - 1)) as f64;
    ((1 << SUB) + column) as f64 * width + width / 2.0
}
