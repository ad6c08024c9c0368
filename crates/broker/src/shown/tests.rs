#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]

use proptest::prelude::*;

use super::*;
use crate::deaths::{Death, DeathReason};

fn record(headers: &[(&str, Option<&str>)]) -> DecodedRecord {
    let own = |(n, v): &(&str, Option<&str>)| ((*n).to_owned(), v.map(|v| Bytes::from(v.to_owned())));
    DecodedRecord {
        offset: 7,
        timestamp_ms: -1,
        key: Some(Bytes::from_static(b"k")),
        value: Some(Bytes::from_static(b"v")),
        headers: headers.iter().map(own).collect(),
    }
}

fn property_of(new: &NewMessage, id: u8) -> Option<&[u8]> {
    new.message.properties.iter().find(|p| p.0 == id).map(|p| &*p.1)
}

fn names(new: &NewMessage) -> Vec<&str> {
    new.message.headers.iter().map(|h| h.name.as_str()).collect()
}

#[test]
fn a_records_key_and_value_are_key_and_payload_and_null_stays_null() {
    let new = read(record(&[]));
    assert_eq!(
        (new.message.key.as_deref(), new.message.payload.as_deref()),
        (Some(&b"k"[..]), Some(&b"v"[..]))
    );
    let new = read(DecodedRecord { key: None, value: None, ..record(&[]) });
    assert_eq!((new.message.key, new.message.payload), (None, None));
}

#[test]
fn headers_keep_their_order_and_their_duplicates() {
    let new = read(record(&[("b", Some("1")), ("a", None), ("b", Some("2"))]));
    let want = [
        ("b", HeaderValue::Str("1".to_owned())),
        ("a", HeaderValue::Null),
        ("b", HeaderValue::Str("2".to_owned())),
    ];
    let got: Vec<_> = new.message.headers.iter().map(|h| (h.name.as_str(), h.value.clone())).collect();
    assert_eq!(got, want);
}

#[test]
fn a_header_that_is_no_text_stays_bytes() {
    let mut r = record(&[]);
    r.headers = vec![("raw".to_owned(), Some(Bytes::from_static(&[0xff, 0])))];
    assert_eq!(read(r).message.headers[0].value, HeaderValue::Bytes(Bytes::from_static(&[0xff, 0])));
}

#[test]
fn bytes_that_could_be_text_say_that_they_are_bytes() {
    let value = HeaderValue::Bytes(Bytes::from_static("ö".as_bytes()));
    let header = Header { name: "raw".to_owned(), value };
    let message = Message { headers: vec![header.clone()], ..Message::default() };
    let shown = show(&message);
    assert_eq!(shown[0], ("amqp.type.raw".to_owned(), Some(Bytes::from_static(b"bytes"))));
    assert_eq!(shown[1].1.as_deref(), Some("ö".as_bytes()));
    let again = read(DecodedRecord { headers: shown, ..record(&[]) });
    assert_eq!(again.message.headers, [header]);
}

#[test]
fn headers_of_our_own_names_set_the_fields_again() {
    let apart = [property::USER_ID, property::SENDER, property::EXPIRATION];
    for (id, name) in texts().filter(|(id, _)| !apart.contains(id)) {
        let new = read(record(&[(name, Some("x"))]));
        assert_eq!((property_of(&new, *id), names(&new).len()), (Some(&b"x"[..]), 0), "{name}");
    }
    let new = read(record(&[("amqp.delivery_mode", Some("1")), ("millstream.priority", Some("9"))]));
    assert_eq!((new.transient, new.priority), (true, 9));
    assert_eq!(property_of(&new, property::DELIVERY_MODE), Some(&[1][..]));
    let new =
        read(record(&[("millstream.expiration_ms", Some("60000")), ("millstream.delay_ms", Some("5"))]));
    assert_eq!((new.ttl_ms, new.delay_ms), (Some(60_000), Some(5)));
    assert_eq!(property_of(&new, property::EXPIRATION), Some(&b"60000"[..]));
    let new = read(record(&[("amqp.exchange", Some("x")), ("amqp.routing_key", Some("a.b"))]));
    assert_eq!((&*new.message.exchange, &*new.message.routing_key), ("x", "a.b"));
    let new = read(DecodedRecord { timestamp_ms: 17, ..record(&[]) });
    assert_eq!(property_of(&new, property::TIMESTAMP_MS), Some(&17_i64.to_le_bytes()[..]));
}

#[test]
fn what_claims_to_be_a_field_and_cannot_be_one_stays_a_header() {
    let long = "x".repeat(256);
    for (name, value) in [
        ("amqp.correlation_id", &*long),
        ("amqp.routing_key", &*long),
        ("millstream.priority", "256"),
        ("millstream.expiration_ms", "soon"),
        ("millstream.delay_ms", "-1"),
        ("amqp.delivery_mode", "x"),
        ("amqp.user_id", "root"),
        ("sqs.sender_id", "root"),
        ("millstream.death.1.queue", "q"),
        ("amqp.type.n", "i32"),
    ] {
        let new = read(record(&[(name, Some(value))]));
        assert_eq!((names(&new), new.message.properties.len()), (vec![name], 0));
        assert_eq!(show(&new.message)[0].0, format!("_{name}"), "and is shown as the client's own");
    }
}

#[test]
fn of_a_property_that_comes_twice_the_first_counts() {
    let new = read(record(&[("amqp.app_id", Some("a")), ("amqp.app_id", Some("b"))]));
    assert_eq!((property_of(&new, property::APP_ID), names(&new)), (Some(&b"a"[..]), vec!["amqp.app_id"]));
}

#[test]
fn a_type_goes_with_the_header_that_follows_it_and_no_other() {
    let new = read(record(&[("amqp.type.n", Some("i32")), ("n", Some("-3")), ("n", Some("-4"))]));
    let got: Vec<_> = new.message.headers.iter().map(|h| h.value.clone()).collect();
    assert_eq!(got, [HeaderValue::I32(-3), HeaderValue::Str("-4".to_owned())]);
    let new = read(record(&[("amqp.type.n", Some("i32")), ("n", Some("many"))]));
    assert_eq!(names(&new), ["amqp.type.n", "n"]);
}

#[test]
fn how_a_message_died_is_shown_with_the_latest_death_first() {
    let death = |queue: &str| Death {
        queue: queue.to_owned(),
        reason: DeathReason::Rejected,
        count: 2,
        time_ms: 5,
        exchange: "x".to_owned(),
        keys: vec!["a".to_owned(), "b".to_owned()],
        expiration: None,
        first: false,
    };
    let message = Message { deaths: vec![death("late"), death("early")], ..Message::default() };
    let shown = show(&message);
    let find = |name: &str| {
        let value = shown.iter().find(|h| h.0 == name).and_then(|h| h.1.clone());
        String::from_utf8(value.unwrap().to_vec()).unwrap()
    };
    assert_eq!(
        (find("millstream.death.1.queue"), find("millstream.death.2.queue")),
        ("late".to_owned(), "early".to_owned())
    );
    assert_eq!(
        (find("millstream.death.1.reason"), find("millstream.death.1.count")),
        ("rejected".to_owned(), "2".to_owned())
    );
    assert_eq!(find("millstream.death.1.routing_keys"), r#"["a","b"]"#);
}

fn values() -> impl Strategy<Value = HeaderValue> {
    prop_oneof![
        Just(HeaderValue::Null),
        any::<bool>().prop_map(HeaderValue::Bool),
        any::<i8>().prop_map(HeaderValue::I8),
        any::<i64>().prop_map(HeaderValue::I64),
        any::<u64>().prop_map(HeaderValue::U64),
        any::<i32>().prop_map(|n| HeaderValue::F64(f64::from(n) / 3.0)),
        (any::<u8>(), any::<u32>()).prop_map(|(s, n)| HeaderValue::Decimal(s, n)),
        any::<i64>().prop_map(HeaderValue::Timestamp),
        ".{0,8}".prop_map(HeaderValue::Str),
        prop::collection::vec(any::<u8>(), 0..8).prop_map(|b| HeaderValue::Bytes(b.into())),
        ".{0,3}".prop_map(|s| HeaderValue::Bytes(s.into())),
    ]
}

fn header_names() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-c]{0,2}",
        "_{0,2}(amqp|sqs|kafka|millstream)\\.(type\\.)?[a-c]{0,2}",
        "_{0,2}amqp.user_id",
        "millstream.priority"
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_shown_and_read_again_is_the_same(
        headers in prop::collection::vec((header_names(), values()), 0..6),
        app in prop::option::of("[a-z]{0,5}"),
        priority in prop::option::of(any::<u8>()),
        exchange in prop_oneof![Just(""), Just("x")],
    ) {
        let mut message = Message {
            key: Some(Bytes::from_static(b"k")),
            payload: Some(Bytes::from_static(b"v")),
            exchange: exchange.to_owned(),
            headers: headers.into_iter().map(|(name, value)| Header { name, value }).collect(),
            ..Message::default()
        };
        message.properties.extend(app.map(|a| (property::APP_ID, Bytes::from(a))));
        message.properties.extend(priority.map(|p| (property::PRIORITY, Bytes::copy_from_slice(&[p]))));
        let new = read(DecodedRecord {
            offset: 0,
            timestamp_ms: -1,
            key: message.key.clone(),
            value: message.payload.clone(),
            headers: show(&message),
        });
        prop_assert_eq!(new.priority, priority.unwrap_or(0));
        prop_assert_eq!(new.message, message);
    }
}
