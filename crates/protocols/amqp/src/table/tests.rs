//! Tables come back whole, and hostile ones cost nothing.

use amq_protocol::types::parsing::parse_field_table;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn written(headers: &[Header]) -> Bytes {
    let mut out = BytesMut::new();
    write(&mut out, headers).unwrap();
    out.freeze()
}

fn one(kind: u8, value: &[u8]) -> Vec<u8> {
    let mut out = vec![0, 0, 0, 0, 1, b'n', kind];
    out.extend_from_slice(value);
    let n = u32::try_from(out.len() - 4).unwrap();
    out[..4].copy_from_slice(&n.to_be_bytes());
    out
}

fn header(value: HeaderValue) -> Header {
    Header { name: "n".to_owned(), value }
}

/// Values that every table can hold as they are.
pub(crate) fn any_value() -> impl Strategy<Value = HeaderValue> {
    use HeaderValue as V;
    let leaf = prop_oneof![
        Just(V::Null),
        any::<bool>().prop_map(V::Bool),
        any::<i8>().prop_map(V::I8),
        any::<u8>().prop_map(V::U8),
        any::<i16>().prop_map(V::I16),
        any::<u16>().prop_map(V::U16),
        any::<i32>().prop_map(V::I32),
        any::<u32>().prop_map(V::U32),
        any::<i64>().prop_map(V::I64),
        (-1e9..1e9f32).prop_map(V::F32),
        (-1e9..1e9f64).prop_map(V::F64),
        any::<(u8, u32)>().prop_map(|(s, v)| V::Decimal(s, v)),
        (0..1i64 << 50).prop_map(|s| V::Timestamp(s * 1_000)),
        ".{0,9}".prop_map(V::Str),
        vec(any::<u8>(), 0..9).prop_map(|b| V::Bytes(Bytes::from(b))),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(V::Array),
            vec(("[a-c]{0,2}", inner), 0..4).prop_map(|t| {
                V::Table(t.into_iter().map(|(name, value)| Header { name, value }).collect())
            }),
        ]
    })
}

pub(crate) fn any_headers() -> impl Strategy<Value = Vec<Header>> {
    vec(("[a-c]{0,2}", any_value()).prop_map(|(name, value)| Header { name, value }), 0..6)
}

proptest! {
    #[test]
    fn headers_come_back_in_order_and_with_duplicates(headers in any_headers(), behind: [u8; 3]) {
        let mut bytes = written(&headers).to_vec();
        let len = bytes.len();
        bytes.extend_from_slice(&behind);
        prop_assert_eq!(scan(&bytes).unwrap(), len);
        let mut bytes = Bytes::from(bytes);
        prop_assert_eq!(read(&mut bytes).unwrap(), headers);
        prop_assert_eq!(&bytes[..], behind);
    }

    #[test]
    fn another_codec_reads_what_we_write(headers in any_headers()) {
        let bytes = written(&headers);
        let (left, table) = parse_field_table(&bytes[..]).unwrap();
        prop_assert!(left.is_empty());
        let names: std::collections::BTreeSet<_> = headers.iter().map(|h| h.name.as_str()).collect();
        prop_assert_eq!(table.inner().len(), names.len());
    }

    #[test]
    fn bytes_cut_short_or_changed_are_an_error_or_another_table(headers in any_headers(), cut: prop::sample::Index, at: prop::sample::Index, byte: u8) {
        let bytes = written(&headers);
        let cut = cut.index(bytes.len());
        prop_assert_eq!(read(&mut bytes.slice(..cut)), Err(CodecError::Short { what: "field table" }));
        let mut changed = bytes.to_vec();
        let at = at.index(changed.len());
        changed[at] = byte;
        if let Ok(n) = scan(&changed) {
            prop_assert!(read(&mut Bytes::from(changed.clone())).is_ok());
            // What we let through, the other codec reads without trouble.
            let _ = parse_field_table(&changed[..n]);
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
        let scanned = scan(&bytes).is_ok();
        prop_assert_eq!(read(&mut Bytes::from(bytes)).is_ok(), scanned);
    }
}

#[test]
fn every_type_of_the_wire_is_read() {
    use HeaderValue as V;
    let eight = [0, 0, 0, 0, 0, 0, 0, 5];
    let cases = [
        (one(b'V', &[]), V::Null),
        (one(b't', &[7]), V::Bool(true)),
        (one(b'b', &[0xff]), V::I8(-1)),
        (one(b'B', &[0xff]), V::U8(255)),
        (one(b's', &[0xff, 0xfe]), V::I16(-2)),
        (one(b'U', &[0xff, 0xfe]), V::I16(-2)),
        (one(b'u', &[0xff, 0xfe]), V::U16(65_534)),
        (one(b'I', &[0xff, 0xff, 0xff, 0xfd]), V::I32(-3)),
        (one(b'i', &[0xff, 0xff, 0xff, 0xfd]), V::U32(u32::MAX - 2)),
        (one(b'l', &eight), V::I64(5)),
        (one(b'L', &eight), V::I64(5)),
        (one(b'f', &1.5f32.to_be_bytes()), V::F32(1.5)),
        (one(b'd', &(-2.5f64).to_be_bytes()), V::F64(-2.5)),
        (one(b'D', &[2, 0, 0, 1, 0]), V::Decimal(2, 256)),
        (one(b'T', &eight), V::Timestamp(5_000)),
        (one(b'T', &[0xff; 8]), V::U64(u64::MAX)),
        (one(b'S', &[0, 0, 0, 2, b'h', b'i']), V::Str("hi".to_owned())),
        (one(b'S', &[0, 0, 0, 1, 0xff]), V::Bytes(Bytes::from_static(&[0xff]))),
        (one(b'x', &[0, 0, 0, 1, b'h']), V::Bytes(Bytes::from_static(b"h"))),
        (one(b'A', &[0, 0, 0, 3, b'V', b't', 0]), V::Array(vec![V::Null, V::Bool(false)])),
        (one(b'F', &[0, 0, 0, 3, 1, b'n', b'V']), V::Table(vec![header(V::Null)])),
    ];
    for (bytes, value) in cases {
        assert_eq!(read(&mut Bytes::from(bytes)).unwrap(), [header(value)]);
    }
}

#[test]
fn values_that_the_protocol_has_no_type_for_go_out_as_the_nearest() {
    use HeaderValue as V;
    for (value, back) in [
        (V::U64(9), V::I64(9)),
        (V::U64(u64::MAX), V::Str(u64::MAX.to_string())),
        (V::Timestamp(1_999), V::Timestamp(1_000)),
        (V::Timestamp(-5), V::I64(-5)),
    ] {
        assert_eq!(read(&mut written(&[header(value)]).clone()).unwrap(), [header(back)]);
    }
    let long = Header { name: "n".repeat(256), value: V::Null };
    let error = write(&mut BytesMut::new(), &[long]);
    assert_eq!(error, Err(EncodeError::TooLong { what: "a header's name", bytes: 256 }));
}

fn nested(kind: u8, depth: usize) -> Vec<u8> {
    let mut inner = Vec::new();
    for level in 0..depth {
        let n = u32::try_from(inner.len()).unwrap().to_be_bytes();
        let mut outer = if kind == b'F' || level + 1 == depth { vec![1, b'n', kind] } else { vec![kind] };
        outer.extend_from_slice(&n);
        outer.append(&mut inner);
        inner = outer;
    }
    let mut bytes = u32::try_from(inner.len()).unwrap().to_be_bytes().to_vec();
    bytes.append(&mut inner);
    bytes
}

/// 2,000 levels overflow the stack of a codec that recurses (`amq-protocol` does).
#[test]
fn tables_nested_deep_are_refused_before_anything_recurses() {
    for kind in [b'F', b'A'] {
        assert!(read(&mut Bytes::from(nested(kind, HEADER_DEPTH_MAX))).is_ok());
        for depth in [HEADER_DEPTH_MAX + 1, 2_000, 100_000] {
            assert_eq!(read(&mut Bytes::from(nested(kind, depth))), Err(CodecError::TooDeep));
        }
    }
}

#[test]
fn what_is_read_can_be_kept_in_an_envelope() {
    let headers = read(&mut Bytes::from(nested(b'F', HEADER_DEPTH_MAX))).unwrap();
    let message = millstream_broker::Message { headers, ..Default::default() };
    assert!(message.encode_envelope().is_ok());
}

#[test]
fn a_table_has_limits() {
    let many = vec![header(HeaderValue::Null); HEADERS_MAX + 1];
    let error = read(&mut written(&many).clone());
    assert_eq!(error, Err(CodecError::TooMany { what: "entries in a field table", max: HEADERS_MAX }));
    assert!(read(&mut written(&many[1..]).clone()).is_ok());
    let big = header(HeaderValue::Bytes(Bytes::from(vec![0; HEADERS_BYTES_MAX])));
    let error = read(&mut written(&[big]).clone());
    assert!(matches!(error, Err(CodecError::TooMany { .. })), "{error:?}");
    let lies = [0xff, 0xff, 0xff, 0xff, 1, b'n', b'V'];
    assert_eq!(scan(&lies), Err(CodecError::Short { what: "field table" }));
    let lies = one(b'S', &[0xff, 0xff, 0xff, 0xff]);
    assert_eq!(scan(&lies), Err(CodecError::Short { what: "field table" }));
    assert_eq!(scan(&one(b'?', &[])), Err(CodecError::Illegal { what: "the type of an entry" }));
}
