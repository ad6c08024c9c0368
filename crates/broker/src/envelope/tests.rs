use proptest::prelude::*;

use super::*;

fn value() -> impl Strategy<Value = HeaderValue> {
    let leaf = prop_oneof![
        Just(HeaderValue::Null),
        any::<bool>().prop_map(HeaderValue::Bool),
        any::<i8>().prop_map(HeaderValue::I8),
        any::<i16>().prop_map(HeaderValue::I16),
        any::<i32>().prop_map(HeaderValue::I32),
        any::<i64>().prop_map(HeaderValue::I64),
        any::<u8>().prop_map(HeaderValue::U8),
        any::<u16>().prop_map(HeaderValue::U16),
        any::<u32>().prop_map(HeaderValue::U32),
        any::<u64>().prop_map(HeaderValue::U64),
        any::<i32>().prop_map(|v| HeaderValue::F64(f64::from(v) / 8.0)),
        any::<i16>().prop_map(|v| HeaderValue::F32(f32::from(v) / 8.0)),
        (any::<u8>(), any::<u32>()).prop_map(|(s, v)| HeaderValue::Decimal(s, v)),
        any::<i64>().prop_map(HeaderValue::Timestamp),
        ".{0,12}".prop_map(HeaderValue::Str),
        proptest::collection::vec(any::<u8>(), 0..20).prop_map(|b| HeaderValue::Bytes(b.into())),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(HeaderValue::Array),
            proptest::collection::vec((".{0,6}", inner), 0..4).prop_map(|hs| HeaderValue::Table(
                hs.into_iter().map(|(name, value)| Header { name, value }).collect()
            )),
        ]
    })
}

fn message() -> impl Strategy<Value = Message> {
    let bytes = || proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from));
    (".{0,10}", ".{0,10}", bytes(), bytes(), proptest::collection::vec((".{0,8}", value()), 0..6)).prop_map(
        |(exchange, routing_key, key, payload, headers)| Message {
            keys: [&exchange, &routing_key].into_iter().filter(|k| k.len() > 4).cloned().collect(),
            exchange,
            routing_key,
            key,
            deaths: Vec::new(),
            properties: vec![(property::CONTENT_TYPE, Bytes::from_static(b"text/plain"))],
            headers: headers.into_iter().map(|(name, value)| Header { name, value }).collect(),
            payload,
        },
    )
}

fn body(m: &Message) -> (Bytes, usize) {
    let env = m.encode_envelope().unwrap();
    let mut all = env.to_vec();
    all.extend_from_slice(m.payload.as_deref().unwrap_or_default());
    (all.into(), env.len())
}

proptest! {
    #[test]
    fn a_message_comes_back_whole(m in message()) {
        let (bytes, len) = body(&m);
        prop_assert_eq!(Message::decode(bytes, len).unwrap(), m);
    }

    #[test]
    fn any_bytes_are_an_error_or_a_message_and_never_a_panic(b in proptest::collection::vec(any::<u8>(), 0..200), len in 0usize..220) {
        let _ = Message::decode(b.into(), len);
    }

    #[test]
    fn a_changed_byte_never_panics(m in message(), at in any::<prop::sample::Index>(), x in 1u8..) {
        let (bytes, len) = body(&m);
        let mut b = bytes.to_vec();
        let i = at.index(b.len());
        b[i] ^= x;
        let _ = Message::decode(b.into(), len);
    }
}

#[test]
fn a_header_nested_deeper_than_the_limit_is_refused_both_ways() {
    let mut v = HeaderValue::Null;
    for _ in 0..=HEADER_DEPTH_MAX + 1 {
        v = HeaderValue::Array(vec![v]);
    }
    let m = Message { headers: vec![Header { name: "deep".into(), value: v }], ..Message::default() };
    assert_eq!(
        m.encode_envelope(),
        Err(EnvelopeError::TooLarge { what: "depth of headers", max: HEADER_DEPTH_MAX })
    );
    let mut raw = vec![0, 0, 0, 0, 0, 0, 1, 0, 0, 0];
    for _ in 0..2_000 {
        raw.extend_from_slice(&[16, 1, 0]);
    }
    raw.push(0);
    let len = raw.len();
    assert_eq!(Message::decode(raw.into(), len), Err(EnvelopeError::Damaged("nested too deep")));
}
