//! Queues as naively as they can be said: one list of messages each, each verb a walk over it. Of a message both is known what it is, and
//! what of that was recorded: a crash leaves the latter.

use std::collections::BTreeSet;

use millstream_engine::queue::api::*;
use millstream_engine::queue::policy::{OnExhausted, Ordering, Overflow, QueuePolicy, mix};
use millstream_types::{LogId, ObjectId, ObjectKind};

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum St {
    Ready,
    /// Handed out before its limit counts; to whom is said by the delivery.
    Early,
    /// `until` the largest: bound. Session 0: nobody's.
    Leased {
        until: u64,
        session: u64,
        consumer: u64,
        owned: bool,
    },
    Rest(u64),
    Held(Cause),
    Parked,
    Exhausted,
    Gone,
}

#[derive(Clone, Debug)]
pub struct Msg {
    pub lane: u16,
    pub pos: u64,
    pub enq: u64,
    pub expiry: u64,
    pub due: u64,
    pub key: Option<u64>,
    pub bytes: u32,
    pub lsn: u64,
    pub is: St,
    pub deliveries: u16,
    pub attempts: u16,
    pub no: u32,
    pub waits_for_due: bool,
    /// Who waited had his chance.
    pub offered: bool,
    pub marked: bool,
    pub recorded: (St, u16, u16, u32),
    /// Something was recorded.
    pub touched: bool,
}

#[derive(Clone, Debug)]
pub struct Con {
    pub session: u64,
    pub id: u64,
    pub opts: ConsumerOpts,
    pub credit: Option<u64>,
    pub flow: bool,
    pub cancelled: bool,
}

#[derive(Clone, Debug)]
pub struct Wait {
    pub session: u64,
    pub ticket: u64,
    pub what: Receive,
    pub deadline: u64,
}

/// An id, and the message that had it.
#[derive(Clone, Debug)]
pub struct Came {
    pub id: u128,
    pub at: u64,
    pub lane: u16,
    pub pos: u64,
}

#[derive(Clone, Debug)]
pub struct Q {
    pub id: ObjectId,
    pub name: String,
    pub policy: QueuePolicy,
    pub version: u32,
    pub msgs: Vec<Msg>,
    pub first: u64,
    pub cons: Vec<Con>,
    pub waits: Vec<Wait>,
    /// A consumer rode, as recorded.
    pub riding: bool,
    /// Ids that came.
    pub ids: Vec<Came>,
}

#[derive(Clone, Debug, Default)]
pub struct Model {
    pub queues: Vec<Q>,
    pub objects: u64,
    /// A partition, and its next offset.
    pub part: LogId,
    pub part_next: u64,
    /// What a group committed for it.
    pub committed: Option<u64>,
    /// A task, and its cursor.
    pub task: ObjectId,
    pub cursor: u64,
}

/// Messages that the engine handed out in a step.
pub type Handed = BTreeSet<(ObjectId, u16, u64)>;

impl Msg {
    pub fn record(&mut self) {
        self.recorded = (self.is, self.deliveries, self.attempts, self.no);
        self.touched = true;
        self.waits_for_due = false;
    }
    pub fn visible(&self, durable: u64) -> bool {
        self.lsn <= durable
    }
    pub fn priority(&self) -> u16 {
        self.lane % 256
    }
    pub fn delayed(&self) -> bool {
        self.lane >= 256
    }
    /// Its place in its lane.
    pub fn rank(&self) -> (u64, u64) {
        if self.delayed() { (self.due, self.pos) } else { (0, self.pos) }
    }
    pub fn ready(&self) -> bool {
        self.is == St::Ready && !self.waits_for_due
    }
}

impl Q {
    pub fn seed(&self, m: &Msg) -> u64 {
        mix(self.id.0 << 16 | u64::from(m.lane)) ^ m.pos
    }

    /// The message that had this id within the window.
    pub fn known(&self, id: Option<u128>, now: u64) -> Option<(u16, u64)> {
        let (id, window) = id.zip(self.policy.id_window_ms)?;
        let found = self.ids.iter().rev().find(|i| i.id == id && i.at + window > now)?;
        Some((found.lane, found.pos))
    }

    /// The next message, by index. `durable`: only what is visible.
    pub fn next(&self, durable: Option<u64>) -> Option<usize> {
        let mut priorities: Vec<u16> = self.msgs.iter().filter(|m| m.ready()).map(Msg::priority).collect();
        priorities.sort_unstable();
        priorities.dedup();
        for p in priorities.into_iter().rev() {
            let of = |delayed: bool| {
                let all = self.msgs.iter().enumerate();
                let lane = all.filter(|(_, m)| m.priority() == p && m.delayed() == delayed && m.ready());
                let first = lane.min_by_key(|(_, m)| if delayed { (m.due, m.pos) } else { (m.pos, 0) });
                first.filter(|(_, m)| durable.is_none_or(|d| m.visible(d)))
            };
            match (of(false), of(true)) {
                (None, None) => {}
                (Some((i, a)), Some((_, b))) if b.due > a.enq => return Some(i),
                (_, Some((i, _))) | (Some((i, _)), None) => return Some(i),
            }
        }
        None
    }

    pub fn is_ordered(&self) -> bool {
        self.policy.ordering != Ordering::None
    }

    /// Whether nothing of a key may go out.
    pub fn is_closed(&self, key: Option<u64>) -> bool {
        let closes = |m: &Msg| {
            m.key == key && matches!(m.is, St::Leased { .. } | St::Rest(_) | St::Parked | St::Exhausted)
        };
        self.policy.ordering == Ordering::ByKey && key.is_some() && self.msgs.iter().any(closes)
    }

    /// Whether a message waits in its place for the queue's delay.
    pub fn is_gated(&self, m: &Msg, deliveries: u16, now: u64) -> bool {
        self.policy.ordering == Ordering::ByKey
            && !m.delayed()
            && deliveries == 0
            && self.policy.delay_ms > 0
            && m.enq + self.policy.delay_ms > now
    }

    pub fn is_expired(&self, m: &Msg, now: u64) -> bool {
        self.policy.expiry_ms(m.expiry, m.enq) <= now
    }

    /// Whether a message that has no time at all may still go to who waits for it.
    pub fn is_at_once(&self, m: &Msg) -> bool {
        let no_time = m.expiry == 0 || self.policy.ttl_ms == Some(0);
        no_time && !m.offered && !m.delayed() && (m.deliveries, m.touched) == (0, false)
    }

    /// The first message of each lane that is ready: of all, or of those whose key is open.
    pub fn heads(&self, open: bool) -> Vec<&Msg> {
        let mut lanes: Vec<u16> = self.msgs.iter().map(|m| m.lane).collect();
        lanes.sort_unstable();
        lanes.dedup();
        let of = |m: &&Msg, lane| m.lane == lane && m.ready() && !(open && self.is_closed(m.key));
        let head = |lane| self.msgs.iter().filter(|m| of(m, lane)).min_by_key(|m| m.rank());
        lanes.into_iter().filter_map(head).collect()
    }

    /// Whether an ordered queue has something to hand out.
    pub fn has_open(&self, now: u64, durable: u64) -> bool {
        self.heads(true)
            .iter()
            .any(|m| m.visible(durable) && !self.is_gated(m, m.deliveries, now) && !self.is_expired(m, now))
    }

    /// For a failing test.
    pub fn tell(&self, now: u64) -> String {
        let mut out = format!("{} at {now}: {:?}\n", self.name, self.policy);
        for m in &self.msgs {
            out += &format!("TELL {m:?}\n");
        }
        out
    }

    pub fn ready(&self) -> (u64, u64) {
        let all: Vec<&Msg> = self.msgs.iter().filter(|m| m.ready()).collect();
        (all.len() as u64, all.iter().map(|m| u64::from(m.bytes)).sum())
    }

    pub fn over(&self, more: Option<u32>) -> bool {
        let (n, bytes) = self.ready();
        let (n, bytes) = (n + u64::from(more.is_some()), bytes + u64::from(more.unwrap_or(0)));
        self.policy.messages_max.is_some_and(|m| n > m) || self.policy.bytes_max.is_some_and(|m| bytes > m)
    }

    fn discard(&mut self, i: usize, cause: Cause) {
        let dead_letter = self.policy.dead_letter;
        let m = &mut self.msgs[i];
        m.is = if dead_letter || cause == Cause::Redrive { St::Held(cause) } else { St::Gone };
        m.no += u32::from(m.is != St::Gone);
        m.record();
    }

    pub fn finish(&mut self, i: usize, cause: Cause) {
        let is = match (cause, self.policy.on_exhausted) {
            (Cause::Exhausted, OnExhausted::Park) => St::Parked,
            (Cause::Exhausted, OnExhausted::Drop) => St::Gone,
            _ if self.policy.dead_letter => St::Held(cause),
            _ => St::Gone,
        };
        self.msgs[i].is = is;
        self.msgs[i].record();
    }

    /// While `more` is too much, hands the next messages to consumers, as far as the engine did: `handed`. None waits in the end, unless so
    /// many were handed out already. How many.
    pub fn hand_early(&mut self, handed: &Handed, more: Option<u32>, max: usize) -> usize {
        if self.is_ordered() {
            return 0;
        }
        let mut n = 0;
        while n < max && self.over(more) {
            let Some(i) = self.next(None) else { return n };
            let m = &mut self.msgs[i];
            if !handed.contains(&(self.id, m.lane, m.pos)) {
                return n;
            }
            m.is = St::Early;
            n += 1;
        }
        n
    }

    /// Whether a consumer surely waits for the next message, if it is in time.
    pub fn is_waited_for(&self, now: u64) -> bool {
        let early = self.msgs.iter().filter(|m| m.is == St::Early).count() as u64;
        let room = |c: &Con| {
            let leases = self.leases_of(c.session, c.id) as u64;
            let prefetch = match u64::from(c.opts.prefetch) {
                0 => u64::MAX,
                _ if c.opts.auto_ack => u64::MAX,
                n => n.saturating_sub(leases),
            };
            if c.flow && !c.cancelled { prefetch.min(c.credit.unwrap_or(u64::MAX)) } else { 0 }
        };
        let room: u64 = self.cons.iter().map(room).fold(0, u64::saturating_add);
        let head = self.next(None).map(|i| &self.msgs[i]);
        let in_time = head.is_some_and(|m| !self.is_expired(m, now) || self.is_at_once(m));
        room > early && in_time && self.waits.is_empty() && !self.policy.single_active && !self.is_ordered()
    }

    /// Drops what is over the limits.
    pub fn drop_heads(&mut self, max: usize) {
        // What an ordered queue drops is looked at when it has.
        if self.policy.overflow != Overflow::DropHead || self.is_ordered() {
            return;
        }
        for _ in 0..max {
            if !self.over(None) {
                break;
            }
            let Some(i) = self.next(None) else { break };
            self.discard(i, Cause::Length);
        }
    }

    /// Drops what is too old at the heads of lanes.
    pub fn expire(&mut self, now: u64, durable: u64) {
        if self.is_ordered() {
            return;
        }
        let mut lanes: Vec<u16> = self.msgs.iter().map(|m| m.lane).collect();
        lanes.sort_unstable();
        lanes.dedup();
        for lane in lanes {
            loop {
                let all = self.msgs.iter().enumerate().filter(|(_, m)| m.lane == lane && m.ready());
                let head = all.min_by_key(|(_, m)| if m.delayed() { (m.due, m.pos) } else { (m.pos, 0) });
                let Some((i, m)) = head.filter(|(_, m)| m.visible(durable)) else { break };
                if !self.is_expired(m, now) || self.is_at_once(m) {
                    break;
                }
                self.discard(i, Cause::Expired);
            }
        }
    }

    /// A lease ended without a word: not recorded.
    pub fn failed(&mut self, i: usize, ended: Option<u64>, now: u64) {
        let seed = self.seed(&self.msgs[i]);
        let policy = self.policy.clone();
        let m = &mut self.msgs[i];
        m.attempts += 1;
        m.is = if policy.exhausted(m.attempts) {
            St::Exhausted
        } else {
            match ended.map(|end| end + policy.backoff_ms(m.attempts, seed)) {
                Some(until) if until > now => St::Rest(until),
                _ => St::Ready,
            }
        };
    }

    /// What time does.
    pub fn timers(&mut self, now: u64) {
        for i in 0..self.msgs.len() {
            if let St::Leased { until, .. } = self.msgs[i].is
                && until <= now
            {
                self.failed(i, Some(until), now);
            }
            let m = &mut self.msgs[i];
            if matches!(m.is, St::Rest(until) if until <= now) {
                m.is = St::Ready;
            }
        }
    }

    /// What a queue does on its own before it hands out.
    pub fn serve(&mut self, now: u64, durable: u64, handed: &Handed) {
        for i in 0..self.msgs.len() {
            if self.msgs[i].is == St::Exhausted {
                self.finish(i, Cause::Exhausted);
            }
            let m = &mut self.msgs[i];
            m.waits_for_due &= m.due > now;
        }
        self.expire(now, durable);
        self.hand_early(handed, None, usize::MAX);
        assert!(
            !self.over(None) || self.policy.overflow != Overflow::DropHead || !self.is_waited_for(now),
            "{}",
            self.tell(now)
        );
        self.drop_heads(256);
    }

    pub fn release(&mut self, i: usize, delay: Option<u64>, now: u64) {
        let seed = self.seed(&self.msgs[i]);
        let policy = self.policy.clone();
        let m = &mut self.msgs[i];
        let delay = delay.unwrap_or_else(|| policy.backoff_ms(m.attempts, seed));
        m.is = if delay > 0 { St::Rest(now + delay) } else { St::Ready };
        m.record();
    }

    pub fn leases_of(&self, session: u64, consumer: u64) -> usize {
        let its = |m: &&Msg| matches!(m.is, St::Leased { session: s, consumer: c, .. } if s == session && c == consumer);
        self.msgs.iter().filter(its).count()
    }

    /// The single active consumer is the oldest of the highest priority, unless one before it still has leases: histories do not
    /// predict which, but that there is one.
    pub fn counts(&self) -> QueueStats {
        let mut s = QueueStats::default();
        let add = |t: &mut Tally, b: u32| {
            t.n += 1;
            t.bytes += u64::from(b);
        };
        s.appended.n = self.first_total();
        s.settled.n = self.first_total();
        for m in &self.msgs {
            add(&mut s.appended, m.bytes);
            match m.is {
                St::Ready if m.waits_for_due => add(&mut s.scheduled, m.bytes),
                St::Ready => add(&mut s.ready, m.bytes),
                St::Early | St::Leased { .. } | St::Exhausted => add(&mut s.leased, m.bytes),
                St::Rest(_) => add(&mut s.scheduled, m.bytes),
                St::Held(_) => add(&mut s.held, m.bytes),
                St::Parked => add(&mut s.parked, m.bytes),
                St::Gone => add(&mut s.settled, m.bytes),
            }
        }
        s.consumers = self.cons.iter().filter(|c| !c.cancelled).count() as u32;
        s.waiting = self.waits.len() as u32;
        s
    }

    /// Positions that the store was seeded with as settled, over its lanes.
    fn first_total(&self) -> u64 {
        self.first * SEEDED_LANES.len() as u64
    }

    pub fn next_pos(&self, lane: u16) -> u64 {
        let first = if SEEDED_LANES.contains(&lane) { self.first } else { 0 };
        self.msgs.iter().filter(|m| m.lane == lane).map(|m| m.pos + 1).max().unwrap_or(first)
    }

    /// What a crash leaves.
    pub fn crashed(&mut self, now: u64, clean: bool) {
        self.cons.clear();
        self.waits.clear();
        for i in 0..self.msgs.len() {
            let m = &mut self.msgs[i];
            (m.is, m.deliveries, m.attempts, m.no) = m.recorded;
            m.marked |= self.riding && !clean;
            m.waits_for_due = !m.touched && m.due > now;
            m.offered = true;
            match m.is {
                St::Leased { until: u64::MAX, .. } => self.failed(i, None, now),
                St::Leased { until, .. } if until <= now => self.failed(i, Some(until), now),
                St::Leased { until, .. } => {
                    m.is = St::Leased { until, session: 0, consumer: 0, owned: false };
                }
                St::Rest(until) if until <= now => m.is = St::Ready,
                St::Held(Cause::Redrive) => m.is = St::Ready,
                _ => {}
            }
        }
    }
}

/// Lanes whose first positions were given and settled before the history begins, so that it crosses from one chunk into the next.
pub const SEEDED_LANES: &[u16] = &[0, 1, 256];

impl Model {
    pub fn q(&self, id: ObjectId) -> Option<usize> {
        self.queues.iter().position(|q| q.id == id)
    }
    pub fn create(&mut self, name: &str, policy: QueuePolicy) -> ObjectId {
        self.objects += 1;
        let id = ObjectId::new(ObjectKind::Queue, self.objects);
        let first = if self.objects <= SEEDED_QUEUES { SEEDED_FIRST } else { 0 };
        self.add(id, name, policy, first);
        id
    }
    /// One with this id, whose positions begin there.
    pub fn add(&mut self, id: ObjectId, name: &str, policy: QueuePolicy, first: u64) {
        let name = name.to_owned();
        let (msgs, cons, waits) = (Vec::new(), Vec::new(), Vec::new());
        self.queues.push(Q {
            id,
            name,
            policy,
            version: 1,
            msgs,
            first,
            cons,
            waits,
            riding: false,
            ids: Vec::new(),
        });
    }
}

/// The first queues are seeded.
pub const SEEDED_QUEUES: u64 = 3;
/// With so many positions per seeded lane.
pub const SEEDED_FIRST: u64 = 4_086;
