use millstream_broker::DeathReason;

use super::*;

fn attribute(name: &str, data_type: &str, value: &str) -> Attribute {
    Attribute::text(name, data_type, value)
}

fn sent(body: &str, attributes: Vec<Attribute>) -> Message {
    incoming(Incoming { queue: "q", body, attributes, ..Incoming::default() }).unwrap().message
}

fn stored(message: Message) -> QueueMessage {
    QueueMessage::new(message, 1_000)
}

fn shown_as(message: Message) -> Outgoing {
    outgoing(&stored(message), "q", 1_000).unwrap()
}

fn refused(attributes: Vec<Attribute>) -> String {
    incoming(Incoming { queue: "q", body: "b", attributes, ..Incoming::default() }).unwrap_err().message
}

fn named<'a>(o: &'a Outgoing, name: &str) -> Option<&'a Attribute> {
    o.attributes.iter().find(|a| a.name == name)
}

#[test]
fn a_message_that_goes_in_and_out_by_sqs_is_whole() {
    let attributes = vec![
        attribute("b", "String", "text\n"),
        attribute("c", "String.label", "x"),
        attribute("d", "Number", "42"),
        attribute("e", "Number", "1.50"),
        attribute("f", "Number.money", "007"),
        Attribute::binary("g", Bytes::from_static(b"\x00\xff")),
        Attribute { data_type: "Binary.png".to_owned(), ..Attribute::binary("h", Bytes::from_static(b"p")) },
        attribute("i", "Number.i32", "99999999999"),
        attribute("j", "String.bool", "yes"),
    ];
    let message = incoming(Incoming {
        queue: "q",
        body: "hello",
        attributes: attributes.clone(),
        trace: Some("Root=1-2-3"),
        group: Some("g1"),
        deduplication: Some("d1"),
        sender: Some("AKID"),
        delay_ms: None,
    })
    .unwrap()
    .message;
    let out = shown_as(message);
    assert_eq!((out.body.as_str(), &out.attributes), ("hello", &attributes));
    assert_eq!((out.trace.as_deref(), out.group.as_deref()), (Some("Root=1-2-3"), Some("g1")));
    assert_eq!((out.deduplication.as_deref(), out.sender.as_deref()), (Some("d1"), Some("AKID")));
    assert_eq!((out.death, out.died_in), (None, None));
}

#[test]
fn payload_that_is_no_sqs_text_is_base64_and_back() {
    for payload in [&b"\x00\xff"[..], b"a\x01b", "\u{ffff}".as_bytes()] {
        let m = Message {
            routing_key: "q".to_owned(),
            payload: Some(Bytes::from_static(b"")),
            ..Message::default()
        };
        let m = Message { payload: Some(Bytes::copy_from_slice(payload)), ..m };
        let out = shown_as(m.clone());
        assert_eq!(out.body, STANDARD.encode(payload));
        assert_eq!(
            named(&out, "millstream.encoding").unwrap(),
            &attribute("millstream.encoding", "String", "base64")
        );
        assert_eq!(sent(&out.body, out.attributes), m);
    }
}

#[test]
fn a_body_that_sqs_cannot_carry_is_not_shown() {
    let text = Message { payload: Some(Bytes::from(vec![b'a'; BODY_BYTES_MAX])), ..Message::default() };
    assert_eq!(outgoing(&stored(text), "q", 0).unwrap().body.len(), BODY_BYTES_MAX);
    let binary = |n: usize| Message { payload: Some(Bytes::from(vec![0; n])), ..Message::default() };
    assert!(outgoing(&stored(binary(BODY_BYTES_MAX / 4 * 3)), "q", 0).is_ok());
    assert_eq!(outgoing(&stored(binary(BODY_BYTES_MAX / 4 * 3 + 1)), "q", 0), Err(TooLarge));
    let long = Message { payload: Some(Bytes::from(vec![b'a'; BODY_BYTES_MAX + 1])), ..Message::default() };
    assert_eq!(outgoing(&stored(long), "q", 0), Err(TooLarge));
}

#[test]
fn null_is_not_the_same_as_empty() {
    let null = Message { routing_key: "q".to_owned(), ..Message::default() };
    let out = shown_as(null.clone());
    assert_eq!((out.body.as_str(), out.attributes.len()), ("", 1));
    assert_eq!(sent("", out.attributes), null);
    let empty = Message { payload: Some(Bytes::new()), ..null };
    let out = shown_as(empty.clone());
    assert_eq!(sent(&out.body, out.attributes), empty);
}

#[test]
fn a_key_is_the_message_group_or_stands_beside_its_hash() {
    let keyed = |key: &[u8]| Message {
        routing_key: "q".to_owned(),
        key: Some(Bytes::copy_from_slice(key)),
        payload: Some(Bytes::from_static(b"b")),
        ..Message::default()
    };
    assert_eq!(shown_as(keyed(b"order-7")).group.as_deref(), Some("order-7"));
    for key in [&b"a b"[..], b"\xff", b"", &[b'x'; 129]] {
        let out = shown_as(keyed(key));
        assert_eq!(out.group.as_ref().unwrap().len(), 43);
        assert_eq!(
            named(&out, "kafka.key").unwrap(),
            &Attribute::binary("kafka.key", Bytes::copy_from_slice(key))
        );
        assert_eq!(sent("b", out.attributes), keyed(key));
    }
}

#[test]
fn headers_of_every_type_are_attributes_or_packed_and_come_back() {
    let headers = vec![
        header("s", HeaderValue::Str("x".to_owned())),
        header("b", HeaderValue::Bytes(Bytes::from_static(b"\x01"))),
        header("bool", HeaderValue::Bool(true)),
        header("i8", HeaderValue::I8(-1)),
        header("i16", HeaderValue::I16(-300)),
        header("i32", HeaderValue::I32(70_000)),
        header("i64", HeaderValue::I64(i64::MIN)),
        header("u64", HeaderValue::U64(u64::MAX)),
        header("f64", HeaderValue::F64(1.5e100)),
        header("t", HeaderValue::Timestamp(5)),
    ];
    let m = Message {
        routing_key: "q".to_owned(),
        headers,
        payload: Some(Bytes::from_static(b"b")),
        ..Message::default()
    };
    let out = shown_as(m.clone());
    assert_eq!(out.attributes.len(), 10);
    assert_eq!(named(&out, "i64").unwrap(), &attribute("i64", "Number", "-9223372036854775808"));
    assert_eq!(named(&out, "bool").unwrap(), &attribute("bool", "String.bool", "true"));
    assert_eq!(sent("b", out.attributes), m);

    let odd = [
        HeaderValue::Null,
        HeaderValue::Str(String::new()),
        HeaderValue::Str("\u{0}".to_owned()),
        HeaderValue::F32(f32::INFINITY),
        HeaderValue::F64(1e300),
        HeaderValue::Decimal(2, 150),
        HeaderValue::Array(vec![
            HeaderValue::U8(1),
            HeaderValue::Table(vec![header("k", HeaderValue::U16(2))]),
        ]),
    ];
    for value in odd {
        let m = Message { headers: vec![header("a", HeaderValue::U32(1)), header("h", value)], ..m.clone() };
        let out = shown_as(m.clone());
        assert_eq!(
            out.attributes.iter().map(|a| a.name.as_str()).collect::<Vec<_>>(),
            ["millstream.headers"]
        );
        assert_eq!(sent("b", out.attributes), m);
    }
}

#[test]
fn too_many_headers_doubles_and_names_that_are_no_attributes_are_packed_in_order() {
    let m = |names: &[&str]| Message {
        routing_key: "q".to_owned(),
        headers: names.iter().map(|n| header(n, HeaderValue::I64(1))).collect(),
        payload: Some(Bytes::from_static(b"b")),
        ..Message::default()
    };
    let many: Vec<String> = (0..11).map(|n| format!("h{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for names in [&many[..], &["b", "a", "b"], &["a b"], &["AWS.x"], &["ü"], &[""]] {
        let out = shown_as(m(names));
        assert_eq!(out.attributes.len(), 1, "{names:?}");
        assert_eq!(sent("b", out.attributes), m(names));
    }
}

#[test]
fn every_property_is_an_attribute_that_sets_it_again() {
    let text = |id: u8| (id, Bytes::from(format!("value {id}")));
    let mut properties: Vec<(u8, Bytes)> =
        AMQP_TEXTS.iter().map(|t| t.0).filter(|id| *id != property::USER_ID).map(text).collect();
    properties.push((property::TIMESTAMP_MS, Bytes::copy_from_slice(&77_000_i64.to_le_bytes())));
    properties.push((property::DELIVERY_MODE, Bytes::from_static(&[2])));
    properties.push((property::PRIORITY, Bytes::from_static(&[7])));
    let whole = Message {
        exchange: "x".to_owned(),
        routing_key: "k".to_owned(),
        payload: Some(Bytes::from_static(b"b")),
        ..Message::default()
    };
    // Each alone; and all together, where there are more than attributes.
    for some in properties.chunks(1).chain([&properties[..]]) {
        let m = Message { properties: some.to_vec(), ..whole.clone() };
        let out = shown_as(m.clone());
        assert!(out.attributes.len() <= ATTRIBUTES_MAX);
        let back = sent("b", out.attributes);
        assert_eq!(
            (&back.exchange, &back.routing_key, &back.properties),
            (&m.exchange, &m.routing_key, &m.properties)
        );
    }
    let new = |name, value| {
        let attributes = vec![attribute(name, "Number", value)];
        incoming(Incoming { queue: "q", body: "b", attributes, ..Incoming::default() }).unwrap()
    };
    assert_eq!(new("millstream.priority", "7").priority, 7);
    assert_eq!(new("millstream.expiration_ms", "500").ttl_ms, Some(500));
}

#[test]
fn what_is_left_of_the_time_to_live_is_shown() {
    let mut m = stored(Message { routing_key: "q".to_owned(), ..Message::default() });
    m.expiry_ms = Some(1_500);
    let out = outgoing(&m, "q", 1_100).unwrap();
    assert_eq!(
        named(&out, "millstream.expiration_ms").unwrap(),
        &attribute("millstream.expiration_ms", "Number", "400")
    );
}

#[test]
fn properties_may_hold_any_bytes() {
    let properties = vec![(property::CORRELATION_ID, Bytes::from_static(b"\xff\x00"))];
    let m = Message { routing_key: "q".to_owned(), properties, ..Message::default() };
    let out = shown_as(m.clone());
    assert_eq!(sent("", out.attributes), m);
}

#[test]
fn a_clients_own_header_in_a_reserved_namespace_has_an_underscore_and_cannot_be_forged() {
    for name in ["amqp.user_id", "millstream.priority", "kafka.key", "sqs.x", "_amqp.type", "__sqs.y"] {
        let m = Message {
            headers: vec![header(name, HeaderValue::I64(1))],
            routing_key: "q".to_owned(),
            ..Message::default()
        };
        let out = shown_as(m.clone());
        assert!(named(&out, &format!("_{name}")).is_some(), "{name}");
        assert_eq!(sent("", out.attributes), m);
    }
    assert!(refused(vec![attribute("amqp.user_id", "String", "somebody")]).contains("who signed"));
    let own = Incoming {
        queue: "q",
        body: "b",
        attributes: vec![attribute("amqp.user_id", "String", "AKID")],
        sender: Some("AKID"),
        ..Incoming::default()
    };
    assert!(incoming(own).is_ok());
    for name in ["amqp.unknown", "millstream.death", "sqs.type.a", "kafka.offset"] {
        assert!(refused(vec![attribute(name, "String", "x")]).contains("reserved"), "{name}");
    }
}

#[test]
fn a_reserved_attribute_with_a_value_that_cannot_be_is_refused() {
    for (name, value) in [
        ("millstream.encoding", "gzip"),
        ("millstream.priority", "256"),
        ("millstream.priority", "high"),
        ("millstream.expiration_ms", "-1"),
        ("kafka.null", "no"),
        ("amqp.delivery_mode", "3"),
        ("millstream.headers", "{}"),
        ("millstream.headers", "[{\"name\":\"a\",\"type\":\"i8\",\"value\":300}]"),
        (
            "millstream.headers",
            "[{\"attribute\":\"millstream.headers\",\"type\":\"String\",\"value\":\"[]\"}]",
        ),
    ] {
        assert!(refused(vec![attribute(name, "String", value)]).contains(name), "{name} {value}");
    }
    let not_base64 = Incoming {
        queue: "q",
        body: "???",
        attributes: vec![attribute("millstream.encoding", "String", "base64")],
        ..Incoming::default()
    };
    assert!(incoming(not_base64).is_err());
}

#[test]
fn the_death_list_tells_the_source_and_is_not_among_the_attributes() {
    let death = Death {
        queue: "jobs".to_owned(),
        reason: DeathReason::Exhausted,
        count: 2,
        time_ms: 9,
        exchange: String::new(),
        keys: vec!["jobs".to_owned()],
        expiration: None,
        first: true,
    };
    let out = shown_as(Message { deaths: vec![death], routing_key: "q".to_owned(), ..Message::default() });
    assert_eq!(out.died_in.as_deref(), Some("jobs"));
    let death = out.death.unwrap();
    let AttributeValue::Text(json) = death.value else { panic!() };
    assert!(json.contains("\"reason\":\"delivery_limit\"") && json.contains("\"count\":2"), "{json}");
    assert!(out.attributes.iter().all(|a| a.name != DEATH));
}
