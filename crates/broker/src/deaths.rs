//! The death list of a message: which queues gave it up, why, and how often. It travels in the envelope; protocols show it in words of
//! their own.
//!
//! Bytes, little-endian, `str` as in the envelope: `u16 count`, each `queue str · reason u8 · flags u8 (1 = the first of all, 2 = has
//! expiration) · count u64 · time_ms u64 · exchange str · keys (u16 count, each str) · [expiration: u32 length + bytes]`.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use millstream_engine::queue::api::Cause;

use crate::envelope::{
    EnvelopeError, Message, SHORT, bound, get_bytes, get_str, get_strs, get_u8, need, property, put_bytes,
    put_str, put_strs,
};

/// Most deaths kept with a message; beyond, the oldest but the first go.
pub const DEATHS_MAX: usize = 256;

/// Why a queue gave a message up. The number is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum DeathReason {
    /// A consumer rejected it.
    Rejected = 1,
    /// It was too old.
    Expired = 2,
    /// The queue was full.
    Length = 3,
    /// Its attempts were used up.
    Exhausted = 4,
    /// An operator decided so.
    Operator = 5,
}

impl DeathReason {
    /// Its name in every protocol: RabbitMQ's, which has none for an operator. A list of RabbitMQ's reasons that a program looks through
    /// does not match that one.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::Length => "maxlen",
            Self::Exhausted => "delivery_limit",
            Self::Operator => "operator",
        }
    }
}

/// One queue's giving a message up for one reason, however often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Death {
    /// The queue.
    pub queue: String,
    /// Why.
    pub reason: DeathReason,
    /// How often.
    pub count: u64,
    /// When last, milliseconds since the epoch.
    pub time_ms: u64,
    /// The exchange that it was published to before the first of these.
    pub exchange: String,
    /// Its routing keys then, but for those that nobody is told of.
    pub keys: Vec<String>,
    /// Its expiration as published, if it had one: it is taken off, so that it does not die of it again.
    pub expiration: Option<Bytes>,
    /// Whether this is how it died first.
    pub first: bool,
}

const FIRST: u8 = 1;
const HAS_EXPIRATION: u8 = 2;

impl DeathReason {
    /// The reason that goes with the engine's cause.
    #[must_use]
    pub fn of(cause: Cause) -> Self {
        match cause {
            Cause::Expired => Self::Expired,
            Cause::Length => Self::Length,
            Cause::Exhausted => Self::Exhausted,
            Cause::Rejected => Self::Rejected,
            Cause::Acked
            | Cause::Purged
            | Cause::Moved
            | Cause::Redrive
            | Cause::Skipped
            | Cause::Damaged => Self::Operator,
        }
    }
}

impl Message {
    /// Notes that a queue gives it up. Its expiration, if any, is taken off.
    pub(crate) fn die(&mut self, queue: &str, reason: DeathReason, time_ms: u64) {
        let at = self.properties.iter().position(|p| p.0 == property::EXPIRATION);
        let expiration = at.map(|at| self.properties.remove(at).1);
        let known = self.deaths.iter().position(|d| d.queue == queue && d.reason == reason);
        let death = match known.map(|at| self.deaths.remove(at)) {
            Some(known) => Death { count: known.count.saturating_add(1), time_ms, ..known },
            None => Death {
                queue: queue.to_owned(),
                reason,
                count: 1,
                time_ms,
                exchange: self.exchange.clone(),
                keys: self.shown_keys().cloned().collect(),
                expiration,
                first: self.deaths.is_empty(),
            },
        };
        self.deaths.insert(0, death);
        if self.deaths.len() > DEATHS_MAX
            && let Some(oldest) = self.deaths.iter().rposition(|d| !d.first)
        {
            self.deaths.remove(oldest);
        }
    }

    /// Whether dead-lettering to this queue would go round for ever: it died there before, and no consumer rejected it since.
    pub(crate) fn cycles_to(&self, queue: &str) -> bool {
        let since = self.deaths.iter().take_while(|d| d.queue != queue);
        let back_again = self.deaths.iter().any(|d| d.queue == queue);
        let mut round = since.chain(self.deaths.iter().find(|d| d.queue == queue));
        back_again && !round.any(|d| d.reason == DeathReason::Rejected)
    }
}

pub(crate) fn put(out: &mut BytesMut, deaths: &[Death]) -> Result<(), EnvelopeError> {
    let too_many = EnvelopeError::TooLarge { what: "number of deaths", max: DEATHS_MAX };
    bound("number of deaths", deaths.len(), DEATHS_MAX)?;
    out.put_u16_le(u16::try_from(deaths.len()).map_err(|_| too_many)?);
    for d in deaths {
        put_str(out, &d.queue)?;
        out.put_u8(d.reason as u8);
        out.put_u8(u8::from(d.first) * FIRST + u8::from(d.expiration.is_some()) * HAS_EXPIRATION);
        out.put_u64_le(d.count);
        out.put_u64_le(d.time_ms);
        put_str(out, &d.exchange)?;
        put_strs(out, &d.keys)?;
        if let Some(expiration) = &d.expiration {
            put_bytes(out, expiration)?;
        }
    }
    Ok(())
}

pub(crate) fn get(b: &mut Bytes) -> Result<Vec<Death>, EnvelopeError> {
    let count = usize::from(b.try_get_u16_le().map_err(|_| SHORT)?);
    // Each takes at least 24 bytes: a count that cannot be true takes no memory.
    need(b, count * 24)?;
    let mut deaths = Vec::with_capacity(count);
    for _ in 0..count {
        let queue = get_str(b)?;
        let reason = match get_u8(b)? {
            1 => DeathReason::Rejected,
            2 => DeathReason::Expired,
            3 => DeathReason::Length,
            4 => DeathReason::Exhausted,
            5 => DeathReason::Operator,
            _ => return Err(EnvelopeError::Damaged("unknown reason of a death")),
        };
        let flags = get_u8(b)?;
        let count = b.try_get_u64_le().map_err(|_| SHORT)?;
        let time_ms = b.try_get_u64_le().map_err(|_| SHORT)?;
        let (exchange, keys) = (get_str(b)?, get_strs(b)?);
        let expiration = if flags & HAS_EXPIRATION != 0 { Some(get_bytes(b)?) } else { None };
        let first = flags & FIRST != 0;
        deaths.push(Death { queue, reason, count, time_ms, exchange, keys, expiration, first });
    }
    Ok(deaths)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Message {
        Message {
            exchange: "x".to_owned(),
            routing_key: "k".to_owned(),
            keys: vec!["cc".to_owned()],
            properties: vec![(property::EXPIRATION, Bytes::from_static(b"500"))],
            ..Message::default()
        }
    }

    #[test]
    fn a_death_notes_where_the_message_was_published_to_and_takes_its_expiration_off() {
        let mut m = message();
        m.die("a", DeathReason::Expired, 7);
        let [d] = m.deaths.as_slice() else { panic!("{:?}", m.deaths) };
        assert_eq!((&*d.queue, d.count, d.first, &*d.exchange), ("a", 1, true, "x"));
        assert_eq!((d.keys.join(" "), d.expiration.as_deref()), ("k cc".to_owned(), Some(&b"500"[..])));
        assert!(m.properties.is_empty());
    }

    #[test]
    fn a_death_tells_nobody_of_hidden_keys() {
        let mut m = message();
        m.keys = vec!["cc".to_owned(), "bcc".to_owned(), "bcc too".to_owned()];
        m.properties.push((property::HIDDEN_KEYS, Bytes::from_static(&[2, 0])));
        m.die("a", DeathReason::Rejected, 7);
        assert_eq!(m.deaths[0].keys, ["k", "cc"]);
        assert_eq!(m.keys.len(), 3, "it is routed by them all the same");
    }

    #[test]
    fn dying_again_in_the_same_way_counts_and_comes_to_the_front() {
        let mut m = message();
        m.die("a", DeathReason::Expired, 1);
        m.die("b", DeathReason::Rejected, 2);
        m.exchange = "later".to_owned();
        m.die("a", DeathReason::Expired, 3);
        let seen: Vec<_> = m.deaths.iter().map(|d| (&*d.queue, d.count, d.first, &*d.exchange)).collect();
        assert_eq!(seen, [("a", 2, true, "x"), ("b", 1, false, "x")]);
    }

    #[test]
    fn a_round_without_a_rejection_is_a_cycle_and_one_with_a_rejection_is_not() {
        let mut m = message();
        m.die("a", DeathReason::Expired, 1);
        assert!(m.cycles_to("a") && !m.cycles_to("b"));
        m.die("b", DeathReason::Rejected, 2);
        assert!(!m.cycles_to("a"));
        m.die("a", DeathReason::Length, 3);
        m.die("c", DeathReason::Expired, 4);
        assert!(m.cycles_to("a"), "the rejection was before it came back");
    }

    #[test]
    fn a_message_with_deaths_comes_back_as_it_was_written() {
        let mut m = message();
        m.die("a", DeathReason::Expired, 1);
        m.die("b", DeathReason::Exhausted, 2);
        m.payload = Some(Bytes::from_static(b"body"));
        let envelope = m.encode_envelope().unwrap();
        let body: Bytes = [&envelope[..], b"body"].concat().into();
        assert_eq!(Message::decode(body, envelope.len()).unwrap(), m);
    }
}
