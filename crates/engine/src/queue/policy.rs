//! What a queue does with its messages: limits, time to live, retries, priorities. Set by its owner, kept with its definition.
//!
//! Bytes, version 2, little-endian: `version u8 · flags u8 (1 = has a dead-letter target, 2 = single active consumer, 4 = goes with its
//! last consumer) · priority_max u8 · on_exhausted u8 · overflow u8 · ordering u8 · lease_ms u64 · attempts_max u32 · ttl_ms u64 ·
//! messages_max u64 · bytes_max u64 · delay_ms u64 · expires_ms u64 · backoff (what u8, base_ms u64, max_ms u64, jitter_percent u8) · id_window_ms u64`. Version 1 ends
//! with the backoff. In
//! optional numbers the largest stands for "none".

use crate::codec::{Dec, DecodeError, Enc};

/// Lease time of consumers that ask for none, milliseconds.
pub const LEASE_MS_DEFAULT: u64 = 30_000;
/// Longest lease and longest release with a delay, milliseconds: 12 hours.
pub const LEASE_MS_MAX: u64 = 12 * 3_600_000;
/// Longest delay of a publish, milliseconds: 366 days.
pub const DELAY_MS_MAX: u64 = 366 * 24 * 3_600_000;

/// Longest window in which an id is recognised, milliseconds: a day.
pub const ID_WINDOW_MS_MAX: u64 = 24 * 3_600_000;

const VERSION: u8 = 2;
const HAS_TARGET: u8 = 1;
const SINGLE_ACTIVE: u8 = 2;
const AUTO_DELETE: u8 = 4;

/// What becomes of a message whose attempts are used up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum OnExhausted {
    /// To the dead-letter target; without one it is dropped.
    #[default]
    DeadLetter = 0,
    /// It is dropped.
    Drop = 1,
    /// It stays in the queue, set aside, until somebody decides.
    Park = 2,
}

/// What happens when a queue is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Overflow {
    /// The next messages in delivery order go (to the dead-letter target, if there is one).
    #[default]
    DropHead = 0,
    /// The publish is refused for this queue.
    Reject = 1,
    /// The publish is refused, and the message goes to the dead-letter target.
    RejectDeadLetter = 2,
}

/// Order of deliveries within a priority.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Ordering {
    /// By position; several consumers may work side by side.
    #[default]
    None = 0,
    /// By position, and one holder per key at a time: nothing of a key goes out while a message of it is leased, rests after a failure, or
    /// is parked. A delay of the queue keeps the order.
    ByKey = 1,
    /// By position, but a key that has more leases than eight, and than a tenth of the queue's, stands back while others have
    /// something ready.
    Fair = 2,
}

/// How long a failed message rests before it may go out again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Backoff {
    /// Not at all.
    #[default]
    None,
    /// Always as long.
    Fixed {
        /// Milliseconds.
        ms: u64,
    },
    /// Twice as long with each failed attempt.
    Exponential {
        /// After the first, milliseconds.
        base_ms: u64,
        /// Never longer, milliseconds.
        max_ms: u64,
        /// Up to so much of it is taken off, by a hash of queue, position and attempt; 0 to 100.
        jitter_percent: u8,
    },
}

/// A queue's policy. `Default`: no limits, no retries counted, one priority.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct QueuePolicy {
    /// Lease time of timed consumers that ask for none, milliseconds.
    pub lease_ms: u64,
    /// Failed attempts after which a message is exhausted, at least 1; `None` = never.
    pub attempts_max: Option<u32>,
    /// What becomes of it then.
    pub on_exhausted: OnExhausted,
    /// Rest after a failed attempt.
    pub backoff: Backoff,
    /// Time to live of every message, milliseconds; a message's own may be shorter. With 0 it goes to who is waiting for it when it
    /// becomes visible, or is over.
    pub ttl_ms: Option<u64>,
    /// Most messages that are ready (neither leased nor scheduled).
    pub messages_max: Option<u64>,
    /// Most payload bytes of messages that are ready.
    pub bytes_max: Option<u64>,
    /// What happens above them.
    pub overflow: Overflow,
    /// Highest priority told apart; a higher one counts as this.
    pub priority_max: u8,
    /// Order of deliveries.
    pub ordering: Ordering,
    /// Whether there is a dead-letter target; which one, the broker knows.
    pub dead_letter: bool,
    /// Delay of every message that has none of its own, milliseconds.
    pub delay_ms: u64,
    /// Unused for so long, the queue goes, milliseconds.
    pub expires_ms: Option<u64>,
    /// Of several consumers only one gets messages; the oldest of the highest priority follows when it goes.
    pub single_active: bool,
    /// The queue goes with its last consumer.
    pub auto_delete: bool,
    /// A message whose id came within so long before is not appended again, milliseconds, 1 to [`ID_WINDOW_MS_MAX`]; `None`: ids are not
    /// looked at. Made longer, it does not bring back what was forgotten.
    pub id_window_ms: Option<u64>,
}

impl Default for QueuePolicy {
    fn default() -> Self {
        Self {
            lease_ms: LEASE_MS_DEFAULT,
            attempts_max: None,
            on_exhausted: OnExhausted::default(),
            backoff: Backoff::None,
            ttl_ms: None,
            messages_max: None,
            bytes_max: None,
            overflow: Overflow::default(),
            priority_max: 0,
            ordering: Ordering::None,
            dead_letter: false,
            delay_ms: 0,
            expires_ms: None,
            single_active: false,
            auto_delete: false,
            id_window_ms: None,
        }
    }
}

impl QueuePolicy {
    /// Whether a message with so many failed attempts is exhausted.
    #[must_use]
    pub fn exhausted(&self, attempts: u16) -> bool {
        self.attempts_max.is_some_and(|max| u32::from(attempts) >= max)
    }

    /// When a message stops being deliverable, milliseconds since the epoch; the largest number: never.
    #[must_use]
    pub fn expiry_ms(&self, own: u64, enqueued_ms: u64) -> u64 {
        self.ttl_ms.map_or(own, |ttl| own.min(enqueued_ms.saturating_add(ttl)))
    }

    /// Rest after failed attempt `attempt` (from 1), milliseconds. `seed` makes jitter the same each time.
    #[must_use]
    pub fn backoff_ms(&self, attempt: u16, seed: u64) -> u64 {
        match self.backoff {
            Backoff::None => 0,
            Backoff::Fixed { ms } => ms.min(LEASE_MS_MAX),
            Backoff::Exponential { base_ms, max_ms, jitter_percent } => {
                let doublings = u32::from(attempt.saturating_sub(1)).min(62);
                let ms = base_ms.saturating_mul(1 << doublings).min(max_ms).min(LEASE_MS_MAX);
                let most_off = ms * u64::from(jitter_percent.min(100)) / 100;
                ms - mix(seed ^ (u64::from(attempt) << 48)) % (most_off + 1)
            }
        }
    }
}

/// A fixed mixing of 64 bits (the finalizer of `SplitMix64`): the same in every run and version.
#[must_use]
pub fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl QueuePolicy {
    /// Writes it.
    pub fn put(&self, out: &mut Vec<u8>) {
        let flag = |on: bool, bit: u8| if on { bit } else { 0 };
        let none = |v: Option<u64>| v.unwrap_or(u64::MAX);
        out.u8(VERSION);
        out.u8(flag(self.dead_letter, HAS_TARGET)
            | flag(self.single_active, SINGLE_ACTIVE)
            | flag(self.auto_delete, AUTO_DELETE));
        out.u8(self.priority_max);
        out.u8(self.on_exhausted as u8);
        out.u8(self.overflow as u8);
        out.u8(self.ordering as u8);
        out.u64(self.lease_ms);
        out.u32(self.attempts_max.unwrap_or(u32::MAX));
        for v in [none(self.ttl_ms), none(self.messages_max), none(self.bytes_max), self.delay_ms] {
            out.u64(v);
        }
        out.u64(none(self.expires_ms));
        let (what, base, max, jitter) = match self.backoff {
            Backoff::None => (0, 0, 0, 0),
            Backoff::Fixed { ms } => (1, ms, 0, 0),
            Backoff::Exponential { base_ms, max_ms, jitter_percent } => (2, base_ms, max_ms, jitter_percent),
        };
        out.u8(what);
        out.u64(base);
        out.u64(max);
        out.u8(jitter);
        out.u64(none(self.id_window_ms));
    }

    /// Reads it off the front.
    ///
    /// # Errors
    /// If [`QueuePolicy::put`] did not write it.
    pub fn take(d: &mut Dec<'_>) -> Result<Self, DecodeError> {
        let none = |v: u64| (v != u64::MAX).then_some(v);
        let version = d.version(VERSION)?;
        let flags = d.u8()?;
        if flags & !(HAS_TARGET | SINGLE_ACTIVE | AUTO_DELETE) != 0 {
            return Err(DecodeError::Value { what: "policy flags" });
        }
        let priority_max = d.u8()?;
        let on_exhausted = match d.u8()? {
            0 => OnExhausted::DeadLetter,
            1 => OnExhausted::Drop,
            2 => OnExhausted::Park,
            _ => return Err(DecodeError::Value { what: "exhaustion" }),
        };
        let overflow = match d.u8()? {
            0 => Overflow::DropHead,
            1 => Overflow::Reject,
            2 => Overflow::RejectDeadLetter,
            _ => return Err(DecodeError::Value { what: "overflow" }),
        };
        let ordering = match d.u8()? {
            0 => Ordering::None,
            1 => Ordering::ByKey,
            2 => Ordering::Fair,
            _ => return Err(DecodeError::Value { what: "ordering" }),
        };
        let lease_ms = d.u64()?;
        let attempts_max = Some(d.u32()?).filter(|n| *n != u32::MAX);
        let (ttl_ms, messages_max, bytes_max) = (none(d.u64()?), none(d.u64()?), none(d.u64()?));
        let (delay_ms, expires_ms) = (d.u64()?, none(d.u64()?));
        let (what, base_ms, max_ms, jitter_percent) = (d.u8()?, d.u64()?, d.u64()?, d.u8()?);
        let backoff = match what {
            0 => Backoff::None,
            1 => Backoff::Fixed { ms: base_ms },
            2 => Backoff::Exponential { base_ms, max_ms, jitter_percent },
            _ => return Err(DecodeError::Value { what: "backoff" }),
        };
        let id_window_ms = if version >= 2 { none(d.u64()?) } else { None };
        Ok(Self {
            lease_ms,
            attempts_max,
            on_exhausted,
            backoff,
            ttl_ms,
            messages_max,
            bytes_max,
            overflow,
            priority_max,
            ordering,
            dead_letter: flags & HAS_TARGET != 0,
            delay_ms,
            expires_ms,
            single_active: flags & SINGLE_ACTIVE != 0,
            auto_delete: flags & AUTO_DELETE != 0,
            id_window_ms,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(p: &QueuePolicy) {
        let mut bytes = Vec::new();
        p.put(&mut bytes);
        let mut d = Dec::new(&bytes);
        assert_eq!(&QueuePolicy::take(&mut d).unwrap(), p);
        assert!(d.is_empty());
    }

    #[test]
    fn a_policy_comes_back_as_it_was_written() {
        round_trip(&QueuePolicy::default());
        round_trip(&QueuePolicy {
            lease_ms: 1,
            attempts_max: Some(3),
            on_exhausted: OnExhausted::Park,
            backoff: Backoff::Exponential { base_ms: 5, max_ms: 9, jitter_percent: 50 },
            ttl_ms: Some(7),
            messages_max: Some(0),
            bytes_max: Some(8),
            overflow: Overflow::RejectDeadLetter,
            priority_max: 255,
            ordering: Ordering::ByKey,
            dead_letter: true,
            delay_ms: 4,
            expires_ms: Some(2),
            single_active: true,
            auto_delete: true,
            id_window_ms: Some(300_000),
        });
    }

    #[test]
    fn a_policy_of_version_one_is_read() {
        let policy = QueuePolicy { attempts_max: Some(3), ..QueuePolicy::default() };
        let mut bytes = Vec::new();
        policy.put(&mut bytes);
        assert_eq!((bytes.len(), bytes[0]), (84, 2));
        bytes.truncate(76);
        bytes[0] = 1;
        let mut d = Dec::new(&bytes);
        assert_eq!(QueuePolicy::take(&mut d).unwrap(), policy);
        assert!(d.is_empty());
    }

    #[test]
    fn a_backoff_doubles_up_to_its_bound_and_jitter_only_shortens() {
        let backoff = Backoff::Exponential { base_ms: 100, max_ms: 350, jitter_percent: 0 };
        let p = QueuePolicy { backoff, ..QueuePolicy::default() };
        assert_eq!([1, 2, 3, 65_535].map(|a| p.backoff_ms(a, 9)), [100, 200, 350, 350]);
        let backoff = Backoff::Exponential { base_ms: 100, max_ms: 1_000, jitter_percent: 50 };
        let p = QueuePolicy { backoff, ..QueuePolicy::default() };
        for seed in 0..200 {
            let ms = p.backoff_ms(2, seed);
            assert!((100..=200).contains(&ms), "{ms}");
            assert_eq!(ms, p.backoff_ms(2, seed));
        }
    }
}
