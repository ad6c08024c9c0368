//! A queue's `x-` arguments: to what the broker knows, and compared with those of a queue that is there.
//!
//! Start at [`read`] and [`compare`]. Texts are those of `RabbitMQ`; names of types and reasons are as its language has them. Unknown
//! arguments are kept, and not compared.

use std::time::Duration;

use millstream_broker::queue::policy::{OnExhausted, Ordering, Overflow, QueuePolicy};
use millstream_broker::{Begin, BeginError, DeadLetter, Header, HeaderValue, KeyFrom, Subscription};

use crate::exception::Exception;

/// Longest life of a message or a queue, milliseconds, as `RabbitMQ` bounds it: ten years.
pub(crate) const TTL_MS_MAX: u64 = 315_360_000_000;
/// Highest `x-max-priority`.
const PRIORITY_MAX: u64 = 255;
/// A quorum queue's `x-delivery-limit` unless it is set.
const QUORUM_DELIVERY_LIMIT: u64 = 20;

/// What a queue's arguments say.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct QueueArguments {
    pub(crate) policy: QueuePolicy,
    pub(crate) dead_letter: Option<DeadLetter>,
    pub(crate) subscription: Option<Subscription>,
    pub(crate) key_from: KeyFrom,
}

/// The kinds of queues that clients ask for. Both are the same queue here; what they may be differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Classic,
    Quorum,
}

const TYPE: &str = "x-queue-type";
const MESSAGE_TTL: &str = "x-message-ttl";
const EXPIRES: &str = "x-expires";
const MAX_LENGTH: &str = "x-max-length";
const MAX_LENGTH_BYTES: &str = "x-max-length-bytes";
const OVERFLOW: &str = "x-overflow";
const MAX_PRIORITY: &str = "x-max-priority";
const DELIVERY_LIMIT: &str = "x-delivery-limit";
const SINGLE_ACTIVE: &str = "x-single-active-consumer";
const DLX: &str = "x-dead-letter-exchange";
const DLX_KEY: &str = "x-dead-letter-routing-key";
const DLX_STRATEGY: &str = "x-dead-letter-strategy";
const CONSUMER_TIMEOUT: &str = "x-consumer-timeout";
/// Ours: the topic whose records the queue hands out, where it begins there, and which records.
const TOPIC: &str = "x-topic";
const TOPIC_FROM: &str = "x-topic-from";
const TOPIC_FILTER: &str = "x-topic-filter";
// Ours, which `RabbitMQ` does not have.
const ORDERING: &str = "x-ordering";
const KEY_FROM: &str = "x-key-from";
const ON_EXHAUSTED: &str = "x-on-exhausted";

/// Those that must be the same when a queue is declared again, in `RabbitMQ`'s order: by name.
const COMPARED: [&str; 19] = [
    CONSUMER_TIMEOUT,
    DLX,
    DLX_KEY,
    DLX_STRATEGY,
    DELIVERY_LIMIT,
    EXPIRES,
    MAX_LENGTH,
    MAX_LENGTH_BYTES,
    MAX_PRIORITY,
    MESSAGE_TTL,
    OVERFLOW,
    TYPE,
    SINGLE_ACTIVE,
    TOPIC,
    TOPIC_FROM,
    TOPIC_FILTER,
    ORDERING,
    KEY_FROM,
    ON_EXHAUSTED,
];

/// What an argument that is not said stands for, where that can be said as well.
const DEFAULTS: [(&str, &str); 4] =
    [(TYPE, "classic"), (ORDERING, "none"), (KEY_FROM, "key"), (ON_EXHAUSTED, "dead-letter")];

/// The kind of queue that arguments ask for.
pub(crate) fn kind(queue: &str, arguments: &[Header]) -> Result<Kind, Exception> {
    match find(arguments, TYPE) {
        None => Ok(Kind::Classic),
        Some(HeaderValue::Str(kind)) => match kind.as_str() {
            "classic" => Ok(Kind::Classic),
            "quorum" => Ok(Kind::Quorum),
            "stream" => Err(Exception::not_implemented("queues of type 'stream'")),
            other => Err(invalid(queue, TYPE, &format!("\"unsupported queue type '{other}'\""))),
        },
        Some(other) => Err(unacceptable(queue, TYPE, other)),
    }
}

/// What a queue that is subscribed to a topic cannot have.
const NOT_WITH_TOPIC: [&str; 5] = [MAX_LENGTH, MAX_LENGTH_BYTES, OVERFLOW, MAX_PRIORITY, ORDERING];

/// Reads a queue's arguments.
pub(crate) fn read(queue: &str, kind: Kind, arguments: &[Header]) -> Result<QueueArguments, Exception> {
    let number = |name: &str, max: u64| whole_number(queue, name, find(arguments, name), max);
    let text = |name: &str| match find(arguments, name) {
        None => Ok(None),
        Some(HeaderValue::Str(text)) => Ok(Some(text.as_str())),
        Some(other) => Err(unacceptable(queue, name, other)),
    };
    if kind == Kind::Quorum && find(arguments, MAX_PRIORITY).is_some() {
        let text = format!(
            "invalid arg '{MAX_PRIORITY}' for queue '{queue}' in vhost '/' of queue type rabbit_quorum_queue"
        );
        return Err(Exception::precondition(text));
    }
    let mut policy = QueuePolicy {
        ttl_ms: number(MESSAGE_TTL, TTL_MS_MAX)?,
        expires_ms: number(EXPIRES, TTL_MS_MAX)?,
        messages_max: number(MAX_LENGTH, u64::MAX - 1)?,
        bytes_max: number(MAX_LENGTH_BYTES, u64::MAX - 1)?,
        ..QueuePolicy::default()
    };
    if policy.expires_ms == Some(0) {
        return Err(invalid(queue, EXPIRES, "{value_zero,0}"));
    }
    // Acted upon where deliveries go out.
    number(CONSUMER_TIMEOUT, TTL_MS_MAX)?;
    policy.overflow = match text(OVERFLOW)? {
        None | Some("drop-head") => Overflow::DropHead,
        Some("reject-publish") => Overflow::Reject,
        Some("reject-publish-dlx") => Overflow::RejectDeadLetter,
        Some(_) => return Err(invalid(queue, OVERFLOW, "invalid_overflow")),
    };
    let priority = number(MAX_PRIORITY, PRIORITY_MAX)?;
    policy.priority_max = priority.and_then(|p| u8::try_from(p).ok()).unwrap_or(0);
    policy.attempts_max = attempts_max(queue, kind, find(arguments, DELIVERY_LIMIT))?;
    policy.single_active = match find(arguments, SINGLE_ACTIVE) {
        None => false,
        Some(HeaderValue::Bool(on)) => *on,
        Some(other) => return Err(unacceptable(queue, SINGLE_ACTIVE, other)),
    };
    policy.ordering = match text(ORDERING)? {
        None | Some("none") => Ordering::None,
        Some("key") => Ordering::ByKey,
        Some("fair") => Ordering::Fair,
        Some(_) => return Err(invalid(queue, ORDERING, "invalid_ordering")),
    };
    let key_from = text(KEY_FROM)?.map_or(Some(KeyFrom::Key), KeyFrom::parse);
    let key_from = key_from.ok_or_else(|| invalid(queue, KEY_FROM, "invalid_key_from"))?;
    if key_from != KeyFrom::Key && policy.ordering == Ordering::None {
        return Err(invalid(queue, KEY_FROM, "key_from_but_no_ordering_defined"));
    }
    policy.on_exhausted = match text(ON_EXHAUSTED)? {
        None | Some("dead-letter") => OnExhausted::DeadLetter,
        Some("drop") => OnExhausted::Drop,
        Some("park") => OnExhausted::Park,
        Some(_) => return Err(invalid(queue, ON_EXHAUSTED, "invalid_on_exhausted")),
    };
    if policy.on_exhausted != OnExhausted::DeadLetter && policy.attempts_max.is_none() {
        return Err(invalid(queue, ON_EXHAUSTED, "on_exhausted_but_no_delivery_limit_defined"));
    }
    let at_least_once = match text(DLX_STRATEGY)? {
        None | Some("at-most-once") => false,
        Some("at-least-once") => true,
        Some(_) => return Err(invalid(queue, DLX_STRATEGY, "invalid_dlx_strategy")),
    };
    if let Some(other) = find(arguments, DLX).filter(|v| !matches!(v, HeaderValue::Str(_))) {
        return Err(wrong_type(DLX, other, "queue", queue));
    }
    let (exchange, key) = (text(DLX)?, text(DLX_KEY)?);
    if exchange.is_none() && key.is_some() {
        return Err(invalid(queue, DLX_KEY, "routing_key_but_no_dlx_defined"));
    }
    let dead_letter = exchange.map(|exchange| DeadLetter {
        exchange: exchange.to_owned(),
        routing_key: key.map(str::to_owned),
        at_least_once,
        not_expired: false,
        keeps_age: false,
    });
    let subscription = match (text(TOPIC)?, text(TOPIC_FROM)?, text(TOPIC_FILTER)?) {
        (None, None, None) => None,
        (None, Some(_), _) => return Err(invalid(queue, TOPIC_FROM, "there is no x-topic")),
        (None, None, Some(_)) => return Err(invalid(queue, TOPIC_FILTER, "there is no x-topic")),
        (Some(topic), from, filter) => {
            let from = from.map_or(Ok(Begin::default()), str::parse);
            let from = from.map_err(|e: BeginError| invalid(queue, TOPIC_FROM, &e.to_string()))?;
            Some(Subscription { topic: topic.to_owned(), from, filter: filter.map(str::to_owned) })
        }
    };
    if subscription.is_some()
        && let Some(arg) = NOT_WITH_TOPIC.iter().find(|a| find(arguments, a).is_some())
    {
        return Err(invalid(queue, arg, "not supported by queues that are subscribed to a topic"));
    }
    Ok(QueueArguments { policy, dead_letter, subscription, key_from })
}

/// A delivery limit says how many redeliveries there are: one attempt more. Below 0 there is no limit, also on a quorum queue.
fn attempts_max(queue: &str, kind: Kind, limit: Option<&HeaderValue>) -> Result<Option<u32>, Exception> {
    if limit.and_then(integer).is_some_and(|n| n < 0) {
        return Ok(None);
    }
    let limit = whole_number(queue, DELIVERY_LIMIT, limit, u64::from(u32::MAX) - 2)?;
    let limit = limit.or((kind == Kind::Quorum).then_some(QUORUM_DELIVERY_LIMIT));
    Ok(limit.and_then(|n| u32::try_from(n + 1).ok()))
}

/// The time in which deliveries of a queue with these arguments are to be settled.
pub(crate) fn consumer_timeout(arguments: &[Header]) -> Option<Duration> {
    let ms = find(arguments, CONSUMER_TIMEOUT).and_then(integer)?;
    u64::try_from(ms).ok().map(Duration::from_millis)
}

/// The arguments that say what a policy says, as far as the protocol has words for it: the other way of [`read`].
#[must_use]
pub fn queue_arguments(
    policy: &QueuePolicy,
    dead_letter: Option<&DeadLetter>,
    subscription: Option<&Subscription>,
    key_from: &KeyFrom,
) -> Vec<Header> {
    let mut all = Vec::new();
    let mut put = |name: &str, value: HeaderValue| all.push(Header { name: name.to_owned(), value });
    let number = |n: u64| i64::try_from(n).map_or(HeaderValue::U64(n), HeaderValue::I64);
    let text = |text: &str| HeaderValue::Str(text.to_owned());
    let priority_max = (policy.priority_max > 0).then_some(policy.priority_max.into());
    let limit = policy.attempts_max.map(|n| u64::from(n.saturating_sub(1)));
    for (name, n) in [
        (MESSAGE_TTL, policy.ttl_ms),
        (EXPIRES, policy.expires_ms),
        (MAX_LENGTH, policy.messages_max),
        (MAX_LENGTH_BYTES, policy.bytes_max),
        (MAX_PRIORITY, priority_max),
        (DELIVERY_LIMIT, limit),
    ] {
        if let Some(n) = n {
            put(name, number(n));
        }
    }
    match policy.overflow {
        Overflow::DropHead => {}
        Overflow::Reject => put(OVERFLOW, text("reject-publish")),
        Overflow::RejectDeadLetter => put(OVERFLOW, text("reject-publish-dlx")),
    }
    match policy.ordering {
        Ordering::None => {}
        Ordering::ByKey => put(ORDERING, text("key")),
        Ordering::Fair => put(ORDERING, text("fair")),
    }
    if *key_from != KeyFrom::Key {
        put(KEY_FROM, text(&key_from.text()));
    }
    match policy.on_exhausted {
        OnExhausted::DeadLetter => {}
        OnExhausted::Drop => put(ON_EXHAUSTED, text("drop")),
        OnExhausted::Park => put(ON_EXHAUSTED, text("park")),
    }
    if policy.single_active {
        put(SINGLE_ACTIVE, HeaderValue::Bool(true));
    }
    if let Some(dead) = dead_letter {
        put(DLX, text(&dead.exchange));
        if let Some(key) = &dead.routing_key {
            put(DLX_KEY, text(key));
        }
        if dead.at_least_once {
            put(DLX_STRATEGY, text("at-least-once"));
        }
    }
    if let Some(s) = subscription {
        put(TOPIC, text(&s.topic));
        if s.from != Begin::default() {
            put(TOPIC_FROM, text(&s.from.to_string()));
        }
        if let Some(filter) = &s.filter {
            put(TOPIC_FILTER, text(filter));
        }
    }
    all
}

/// Compares the arguments of a declaration with those of the queue that is there: with those it was declared with, or, as another protocol
/// may have made or changed it, with those that say what it is. What is not said is compared only with what was said.
pub(crate) fn compare(
    queue: &str,
    asked: &[Header],
    declared: &[Header],
    is: &[Header],
) -> Result<(), Exception> {
    for name in COMPARED {
        let default = DEFAULTS.iter().find(|d| d.0 == name).map(|d| HeaderValue::Str(d.1.to_owned()));
        let default = default.as_ref();
        let (now, was) = (find(asked, name), find(declared, name));
        let is = find(is, name).or(default);
        let same = match now {
            None => is_same(default, was.or(default)),
            Some(_) => was.is_some() && is_same(now, was) || is_same(now, is),
        };
        if !same {
            let (a, c) = (now.or(default), was.or(is));
            let plain =
                |v: Option<&HeaderValue>| v.map_or_else(|| "none".to_owned(), |v| format!("'{}'", plain(v)));
            let alike = a.zip(c).is_some_and(|(a, c)| class(a) == class(c));
            let (a, c) = if alike { (plain(a), plain(c)) } else { (said(a), said(c)) };
            return Err(inequivalent(queue, name, &a, &c));
        }
    }
    Ok(())
}

/// Whether two values are one, whatever their width.
fn is_same(a: Option<&HeaderValue>, b: Option<&HeaderValue>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => integer(a).zip(integer(b)).map_or_else(|| a == b, |(a, b)| a == b),
        (a, b) => a.is_none() && b.is_none(),
    }
}

/// A queue is there and made otherwise.
pub(crate) fn inequivalent(queue: &str, arg: &str, received: &str, current: &str) -> Exception {
    Exception::precondition(format!(
        "inequivalent arg '{arg}' for queue '{queue}' in vhost '/': received {received} but current is {current}"
    ))
}

fn said(value: Option<&HeaderValue>) -> String {
    let Some(value) = value else { return "none".to_owned() };
    format!("the value '{}' of type '{}'", plain(value), type_name(value))
}

fn plain(value: &HeaderValue) -> String {
    match value {
        HeaderValue::Str(text) => text.clone(),
        HeaderValue::Bool(on) => on.to_string(),
        HeaderValue::F32(n) => format!("{n:?}"),
        HeaderValue::F64(n) => format!("{n:?}"),
        value => integer(value).map_or_else(|| format!("{value:?}"), |n| n.to_string()),
    }
}

/// A value as `RabbitMQ`'s language prints it, as far as it is simple.
pub(crate) fn term(value: &HeaderValue) -> String {
    match value {
        HeaderValue::Null => "undefined".to_owned(),
        HeaderValue::Str(text) => format!("<<\"{text}\">>"),
        HeaderValue::Bytes(bytes) => format!("<<\"{}\">>", String::from_utf8_lossy(bytes)),
        value => plain(value),
    }
}

/// Values of whole types are told apart by value, whatever their width.
fn class(value: &HeaderValue) -> &'static str {
    if integer(value).is_some() { "integer" } else { type_name(value) }
}

fn invalid(queue: &str, arg: &str, why: &str) -> Exception {
    Exception::precondition(format!("invalid arg '{arg}' for queue '{queue}' in vhost '/': {why}"))
}

fn unacceptable(queue: &str, arg: &str, value: &HeaderValue) -> Exception {
    invalid(queue, arg, &format!("{{unacceptable_type,{}}}", type_name(value)))
}

/// The name of an exchange that is none, as `RabbitMQ` says it.
pub(crate) fn wrong_type(arg: &str, value: &HeaderValue, what: &str, name: &str) -> Exception {
    let kind = type_name(value);
    Exception::precondition(format!("invalid type '{kind}' for arg '{arg}' in {what} '{name}' in vhost '/'"))
}

fn find<'a>(arguments: &'a [Header], name: &str) -> Option<&'a HeaderValue> {
    arguments.iter().find(|h| h.name == name).map(|h| &h.value)
}

fn whole_number(
    queue: &str,
    name: &str,
    value: Option<&HeaderValue>,
    max: u64,
) -> Result<Option<u64>, Exception> {
    let Some(value) = value else { return Ok(None) };
    let n = whole(queue, name, value)?;
    match u64::try_from(n) {
        Err(_) => Err(invalid(queue, name, &format!("{{value_negative,{n}}}"))),
        Ok(n) if n > max && name == MAX_PRIORITY => {
            Err(invalid(queue, name, &format!("{{max_value_exceeded,{n}}}")))
        }
        Ok(n) if n > max => Err(invalid(queue, name, &format!("{{value_too_large,{n}}}"))),
        Ok(n) => Ok(Some(n)),
    }
}

/// The number in a value of one of the whole types.
pub(crate) fn whole(queue: &str, name: &str, value: &HeaderValue) -> Result<i128, Exception> {
    integer(value)
        .ok_or_else(|| invalid(queue, name, &format!("\"expected integer, got {}\"", type_name(value))))
}

/// A value of one of the whole types.
pub(crate) fn integer(value: &HeaderValue) -> Option<i128> {
    Some(match value {
        HeaderValue::I8(n) => (*n).into(),
        HeaderValue::I16(n) => (*n).into(),
        HeaderValue::I32(n) => (*n).into(),
        HeaderValue::I64(n) => (*n).into(),
        HeaderValue::U8(n) => (*n).into(),
        HeaderValue::U16(n) => (*n).into(),
        HeaderValue::U32(n) => (*n).into(),
        HeaderValue::U64(n) => (*n).into(),
        _ => return None,
    })
}

/// The name that `RabbitMQ` has for a type.
pub(crate) fn type_name(value: &HeaderValue) -> &'static str {
    match value {
        HeaderValue::Null => "void",
        HeaderValue::Bool(_) => "bool",
        HeaderValue::I8(_) => "byte",
        HeaderValue::U8(_) => "unsignedbyte",
        HeaderValue::I16(_) => "short",
        HeaderValue::U16(_) => "unsignedshort",
        HeaderValue::I32(_) => "signedint",
        HeaderValue::U32(_) => "unsignedint",
        HeaderValue::I64(_) | HeaderValue::U64(_) => "long",
        HeaderValue::F32(_) => "float",
        HeaderValue::F64(_) => "double",
        HeaderValue::Decimal(..) => "decimal",
        HeaderValue::Timestamp(_) => "timestamp",
        HeaderValue::Str(_) => "longstr",
        HeaderValue::Bytes(_) => "binary",
        HeaderValue::Array(_) => "array",
        HeaderValue::Table(_) => "table",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(all: &[(&str, HeaderValue)]) -> Vec<Header> {
        all.iter().map(|(name, value)| Header { name: (*name).to_owned(), value: value.clone() }).collect()
    }

    fn text(e: &Exception) -> String {
        e.reply_text()
    }

    #[test]
    fn a_number_counts_whatever_its_width() {
        for value in [HeaderValue::I8(7), HeaderValue::I32(7), HeaderValue::I64(7), HeaderValue::U16(7)] {
            let read = read("q", Kind::Classic, &arguments(&[("x-message-ttl", value)])).unwrap();
            assert_eq!(read.policy.ttl_ms, Some(7));
        }
        let (a, b) = (
            arguments(&[("x-expires", HeaderValue::I8(7))]),
            arguments(&[("x-expires", HeaderValue::I64(7))]),
        );
        compare("q", &a, &b, &[]).unwrap();
    }

    #[test]
    fn what_differs_is_named_with_both_values() {
        let asked = arguments(&[("x-message-ttl", HeaderValue::I32(5_000))]);
        assert_eq!(
            text(&compare("q", &asked, &[], &[]).unwrap_err()),
            "PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue 'q' in vhost '/': received the value '5000' of type 'signedint' but current is none"
        );
        assert_eq!(
            text(
                &compare("q", &asked, &arguments(&[("x-message-ttl", HeaderValue::I64(6))]), &[])
                    .unwrap_err()
            ),
            "PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue 'q' in vhost '/': received '5000' but current is '6'"
        );
        let unknown = arguments(&[("x-colour", HeaderValue::I32(1))]);
        compare("q", &unknown, &[], &[]).unwrap();
        for (name, default) in DEFAULTS {
            compare("q", &arguments(&[(name, HeaderValue::Str(default.into()))]), &[], &[]).unwrap();
        }
    }

    #[test]
    fn what_another_protocol_made_may_be_declared_by_what_it_is_or_by_nothing() {
        let is = arguments(&[
            ("x-ordering", HeaderValue::Str("key".into())),
            ("x-message-ttl", HeaderValue::I64(345_600_000)),
        ]);
        compare("q", &[], &[], &is).unwrap();
        compare("q", &is, &[], &is).unwrap();
        let one = |value: &str| arguments(&[("x-ordering", HeaderValue::Str(value.into()))]);
        compare("q", &one("key"), &[], &is).unwrap();
        for other in ["none", "fair"] {
            assert_eq!(
                text(&compare("q", &one(other), &[], &is).unwrap_err()),
                format!(
                    "PRECONDITION_FAILED - inequivalent arg 'x-ordering' for queue 'q' in vhost '/': received '{other}' but current is 'key'"
                )
            );
        }
    }

    #[test]
    fn what_was_declared_may_be_declared_again_and_so_may_what_it_became() {
        let ttl = |ms| arguments(&[("x-message-ttl", HeaderValue::I32(ms))]);
        compare("q", &ttl(5), &ttl(5), &ttl(6)).unwrap();
        compare("q", &ttl(6), &ttl(5), &ttl(6)).unwrap();
        compare("q", &ttl(7), &ttl(5), &ttl(6)).unwrap_err();
        compare("q", &[], &ttl(5), &ttl(6)).unwrap_err();
    }

    #[test]
    fn a_wrong_value_is_refused_with_its_reason() {
        for (name, value, why) in [
            ("x-message-ttl", HeaderValue::I32(-1), "{value_negative,-1}"),
            ("x-message-ttl", HeaderValue::Str("a".into()), "\"expected integer, got longstr\""),
            ("x-message-ttl", HeaderValue::I64(315_360_000_001), "{value_too_large,315360000001}"),
            ("x-single-active-consumer", HeaderValue::I32(1), "{unacceptable_type,signedint}"),
            ("x-dead-letter-strategy", HeaderValue::Str("x".into()), "invalid_dlx_strategy"),
            ("x-expires", HeaderValue::I32(0), "{value_zero,0}"),
            ("x-max-priority", HeaderValue::I32(256), "{max_value_exceeded,256}"),
            ("x-overflow", HeaderValue::Str("x".into()), "invalid_overflow"),
            ("x-dead-letter-routing-key", HeaderValue::Str("k".into()), "routing_key_but_no_dlx_defined"),
            ("x-ordering", HeaderValue::Str("fifo".into()), "invalid_ordering"),
            ("x-ordering", HeaderValue::Bool(true), "{unacceptable_type,bool}"),
            ("x-key-from", HeaderValue::Str("header:".into()), "invalid_key_from"),
            ("x-key-from", HeaderValue::Str("routing-key".into()), "key_from_but_no_ordering_defined"),
            ("x-on-exhausted", HeaderValue::Str("x".into()), "invalid_on_exhausted"),
            ("x-on-exhausted", HeaderValue::Str("park".into()), "on_exhausted_but_no_delivery_limit_defined"),
        ] {
            let e = read("q", Kind::Classic, &arguments(&[(name, value)])).unwrap_err();
            assert_eq!(
                text(&e),
                format!("PRECONDITION_FAILED - invalid arg '{name}' for queue 'q' in vhost '/': {why}")
            );
        }
    }

    #[test]
    fn a_quorum_queue_has_a_delivery_limit_unless_it_sets_its_own() {
        let limit =
            |kind, all: &[(&str, HeaderValue)]| read("q", kind, &arguments(all)).unwrap().policy.attempts_max;
        assert_eq!(limit(Kind::Classic, &[]), None);
        assert_eq!(limit(Kind::Quorum, &[]), Some(21));
        assert_eq!(limit(Kind::Quorum, &[("x-delivery-limit", HeaderValue::I32(2))]), Some(3));
        assert_eq!(limit(Kind::Quorum, &[("x-delivery-limit", HeaderValue::I32(-1))]), None);
    }

    #[test]
    fn a_quorum_queue_has_no_priorities_whatever_their_number() {
        for n in [HeaderValue::I32(5), HeaderValue::I32(256), HeaderValue::Str("5".into())] {
            let e = read("q", Kind::Quorum, &arguments(&[("x-max-priority", n)])).unwrap_err();
            assert_eq!(
                text(&e),
                "PRECONDITION_FAILED - invalid arg 'x-max-priority' for queue 'q' in vhost '/' of queue type rabbit_quorum_queue"
            );
        }
    }

    #[test]
    fn a_policy_is_said_in_arguments_that_are_read_as_it() {
        let policy = QueuePolicy {
            ttl_ms: Some(5),
            expires_ms: Some(6),
            messages_max: Some(7),
            bytes_max: Some(8),
            overflow: Overflow::Reject,
            priority_max: 9,
            attempts_max: Some(3),
            single_active: true,
            ordering: Ordering::ByKey,
            on_exhausted: OnExhausted::Park,
            ..QueuePolicy::default()
        };
        let from = KeyFrom::Header("customer".to_owned());
        let dead = DeadLetter {
            exchange: "x".into(),
            routing_key: Some("k".into()),
            at_least_once: true,
            not_expired: false,
            keeps_age: false,
        };
        let said = queue_arguments(&policy, Some(&dead), None, &from);
        let read = read("q", Kind::Classic, &said).unwrap();
        assert_eq!((read.policy, read.dead_letter, read.key_from), (policy, Some(dead), from));
        assert_eq!(queue_arguments(&QueuePolicy::default(), None, None, &KeyFrom::Key), []);
    }
}
