//! What a client has been given and has not settled, by the channel's own numbers: delivery tags.
//!
//! Start at [`Unacked`]. A client may have millions of deliveries. Those that came together as a rule have neighbouring tags, positions at
//! the same distance and everything else in common, so they are kept as [`Run`]s: what is settled in the middle of one leaves a gap.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_broker::queue::api::{Delivery, SettleItem, Verb};
use millstream_types::ObjectId;
use tokio::time::Instant;

use crate::exception::Exception;

/// Looks for deliveries that were not settled in time are so far apart: a quarter of the shortest time, within these.
const LOOK_MIN: Duration = Duration::from_millis(20);
const LOOK_MAX: Duration = Duration::from_mins(1);

/// A delivery that is out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Out {
    pub(super) pos: u64,
    all: Common,
}

/// What neighbours have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Common {
    queue: ObjectId,
    delivery_no: u32,
    lane: u16,
    since: Instant,
    /// To be settled within; `None`: whenever.
    within: Option<Duration>,
}

impl Out {
    fn of(d: &Delivery, within: Option<Duration>, since: Instant) -> Self {
        let Delivery { queue, lane, delivery_no, pos, .. } = *d;
        Self { pos, all: Common { queue, delivery_no, lane, since, within } }
    }

    /// Its end.
    pub(super) fn settled(&self, verb: Verb) -> SettleItem {
        let Common { queue, delivery_no, lane, .. } = self.all;
        SettleItem { queue, lane, pos: self.pos, len: 1, delivery_no, verb }
    }
}

/// Deliveries of up to 64 tags, the first of which is known to who has the run.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// Those that are out, by how far their tags are from the first one.
    tags: u64,
    /// The position of the first tag's.
    pos: u64,
    /// From one tag to the next; 0: no other tag is known yet.
    step: u32,
    all: Common,
}

impl Run {
    fn of(out: Out) -> Self {
        Self { tags: 1, pos: out.pos, step: 0, all: out.all }
    }

    /// Adds a delivery whose tag is so far from the first. Whether it is like the others.
    fn add(&mut self, far: u64, out: &Out) -> bool {
        let Some(off) = out.pos.checked_sub(self.pos) else { return false };
        if far == 0 || far >= u64::from(u64::BITS) || self.all != out.all {
            return far == 0 && off == 0 && self.all == out.all && self.put(0);
        }
        if self.step == 0 {
            match u32::try_from(off / far) {
                Ok(step) if step > 0 => self.step = step,
                _ => return false,
            }
        }
        off == far * u64::from(self.step) && self.put(far)
    }

    fn put(&mut self, far: u64) -> bool {
        self.tags |= 1 << far;
        true
    }

    fn has(&self, far: u64) -> bool {
        far < u64::from(u64::BITS) && self.tags & (1 << far) != 0
    }

    fn at(&self, far: u64) -> Out {
        Out { pos: self.pos + far * u64::from(self.step), all: self.all }
    }

    /// Takes the tags that are so far from the first, and farther.
    fn split_off(&mut self, far: u64) -> Option<Self> {
        if far >= u64::from(u64::BITS) || self.tags >> far == 0 {
            return None;
        }
        let tags = self.tags >> far;
        self.tags &= !(u64::MAX << far);
        Some(Self { tags, pos: self.at(far).pos, ..*self })
    }

    fn iter(self, first: u64) -> impl Iterator<Item = (u64, Out)> {
        (0..u64::from(u64::BITS))
            .filter(move |far| self.has(*far))
            .map(move |far| (first + far, self.at(far)))
    }
}

/// Deliveries that were taken together.
#[derive(Debug, Default)]
pub(super) struct Taken {
    one: Option<(u64, Out)>,
    /// By their first tags.
    runs: BTreeMap<u64, Run>,
}

impl Taken {
    /// How many.
    pub(super) fn len(&self) -> usize {
        usize::from(self.one.is_some())
            + self.runs.values().map(|r| r.tags.count_ones() as usize).sum::<usize>()
    }

    /// All, in the order of their tags.
    pub(super) fn into_all(self) -> impl Iterator<Item = (u64, Out)> {
        self.one.into_iter().chain(self.runs.into_iter().flat_map(|(first, run)| run.iter(first)))
    }
}

/// Deliveries by their tags.
#[derive(Debug, Default)]
pub(super) struct Unacked {
    /// By their first tags. A delivery is in the last run that begins at its tag or before.
    runs: BTreeMap<u64, Run>,
    last_tag: u64,
    /// The shortest time that any had to be settled in.
    shortest: Option<Duration>,
    next_look: Option<Instant>,
}

impl Unacked {
    /// The next tag. Tags count on, whether or not they are to be acknowledged.
    pub(super) fn next_tag(&mut self) -> u64 {
        self.last_tag += 1;
        self.last_tag
    }

    fn put(&mut self, tag: u64, out: Out) {
        if let Some((first, run)) = self.runs.range_mut(..=tag).next_back() {
            let first = *first;
            if run.add(tag - first, &out) {
                return;
            }
            if let Some(later) = run.split_off(tag - first + 1) {
                if run.tags == 0 {
                    self.runs.remove(&first);
                }
                self.runs.insert(tag + 1, later);
            }
        }
        self.runs.insert(tag, Run::of(out));
    }

    /// A delivery goes out now (`since`), to be settled within a time.
    pub(super) fn add(&mut self, tag: u64, delivery: &Delivery, within: Option<Duration>, since: Instant) {
        self.put(tag, Out::of(delivery, within, since));
        let Some(within) = within else { return };
        if self.shortest.is_none_or(|s| within < s) {
            self.shortest = Some(within);
            self.next_look = None;
        }
        self.next_look.get_or_insert(since + (within / 4).clamp(LOOK_MIN, LOOK_MAX));
    }

    /// A delivery is out again, as it was.
    pub(super) fn add_again(&mut self, tag: u64, out: Out) {
        self.put(tag, out);
        if let Some(shortest) = self.shortest {
            self.next_look.get_or_insert(Instant::now() + (shortest / 4).clamp(LOOK_MIN, LOOK_MAX));
        }
    }

    /// When to look for what was not settled in time; `None`: nothing is out that would have to be.
    pub(super) fn next_look(&self) -> Option<Instant> {
        self.next_look
    }

    /// The time that a delivery had, if it is over for one.
    pub(super) fn overdue(&mut self) -> Option<Duration> {
        let now = Instant::now();
        self.next_look = None;
        if let Some(shortest) = self.shortest.filter(|_| !self.runs.is_empty()) {
            self.next_look = Some(now + (shortest / 4).clamp(LOOK_MIN, LOOK_MAX));
        }
        let over = |r: &Run| r.all.within.filter(|within| r.all.since + *within <= now);
        self.runs.values().find_map(over)
    }

    /// All of them.
    pub(super) fn take_all(&mut self) -> Taken {
        Taken { one: None, runs: std::mem::take(&mut self.runs) }
    }

    /// What a tag means; with `multiple`, all up to it, and 0 stands for all.
    pub(super) fn take(&mut self, tag: u64, multiple: bool) -> Result<Taken, Exception> {
        if multiple && tag == 0 {
            return Ok(self.take_all());
        }
        let found = self.runs.range_mut(..=tag).next_back().map(|(first, run)| (*first, run));
        let Some((first, run)) = found.filter(|(first, run)| run.has(tag - first)) else {
            return Err(Exception::precondition(format!("unknown delivery tag {tag}")));
        };
        if !multiple {
            let out = run.at(tag - first);
            run.tags &= !(1 << (tag - first));
            if run.tags == 0 {
                self.runs.remove(&first);
            }
            return Ok(Taken { one: Some((tag, out)), runs: BTreeMap::new() });
        }
        let rest = run.split_off(tag - first + 1);
        let later = self.runs.split_off(&(tag + 1));
        let runs = std::mem::replace(&mut self.runs, later);
        if let Some(rest) = rest {
            self.runs.insert(tag + 1, rest);
        }
        Ok(Taken { one: None, runs })
    }
}

#[cfg(test)]
pub(super) mod tests;
