//! Properties come back whole, by our codec and by another.

use amq_protocol::frame::parsing::parse_content_header;
use amq_protocol::protocol::BasicProperties;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::error::ReplyCode;
use crate::table::tests::any_headers;

fn encoded(header: &ContentHeader) -> Bytes {
    let mut out = BytesMut::new();
    header.encode(&mut out).unwrap();
    out.freeze()
}

fn any_property() -> impl Strategy<Value = (u8, Bytes)> {
    let texts = prop_oneof![1..9u8, Just(11), Just(13)];
    prop_oneof![
        8 => (texts, vec(any::<u8>(), 0..9)).prop_map(|(id, text)| (id, Bytes::from(text))),
        2 => (prop_oneof![Just(10u8), Just(12)], any::<u8>()).prop_map(|(id, v)| (id, Bytes::from(vec![v]))),
        1 => (0..1i64 << 50).prop_map(|s| (9, Bytes::copy_from_slice(&(s * 1_000).to_le_bytes()))),
    ]
}

prop_compose! {
    fn any_header()(body_bytes: u64, all in vec(any_property(), 0..9), headers in any_headers(), has: bool) -> ContentHeader {
        let mut properties: Vec<(u8, Bytes)> = Vec::new();
        for (_, form, id) in PROPERTIES {
            if !matches!(form, Form::Headers) {
                properties.extend(all.iter().find(|p| p.0 == id).cloned());
            }
        }
        let has_headers = has || !headers.is_empty();
        ContentHeader { body_bytes, properties, headers, has_headers }
    }
}

proptest! {
    #[test]
    fn a_content_header_comes_back_as_it_was(header in any_header()) {
        prop_assert_eq!(ContentHeader::decode(&encoded(&header)).unwrap(), header);
    }

    #[test]
    fn a_content_header_cut_short_is_a_syntax_error(header in any_header(), cut: prop::sample::Index) {
        let bytes = encoded(&header);
        let error = ContentHeader::decode(&bytes.slice(..cut.index(bytes.len()))).unwrap_err();
        prop_assert_eq!(error.reply_code(), ReplyCode::SyntaxError);
        let long = Bytes::from([&bytes[..], &[0]].concat());
        prop_assert!(ContentHeader::decode(&long).is_err());
    }

    #[test]
    fn any_bytes_are_a_content_header_or_an_error(bytes: Vec<u8>, flags: u16) {
        let _ = ContentHeader::decode(&Bytes::from(bytes.clone()));
        let head = [&[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], &flags.to_be_bytes(), &bytes].concat();
        let _ = ContentHeader::decode(&Bytes::from(head));
    }
}

#[test]
fn another_codec_reads_every_property_where_it_belongs() {
    let text = |id, s: &'static str| (id, Bytes::from_static(s.as_bytes()));
    let header = ContentHeader {
        body_bytes: 77,
        properties: vec![
            text(property::CONTENT_TYPE, "text/plain"),
            text(property::CONTENT_ENCODING, "gzip"),
            (property::DELIVERY_MODE, Bytes::from_static(&[2])),
            (property::PRIORITY, Bytes::from_static(&[9])),
            text(property::CORRELATION_ID, "corr"),
            text(property::REPLY_TO, "reply"),
            text(property::EXPIRATION, "60000"),
            text(property::MESSAGE_ID, "id"),
            (property::TIMESTAMP_MS, Bytes::copy_from_slice(&5_000i64.to_le_bytes())),
            text(property::TYPE, "kind"),
            text(property::USER_ID, "guest"),
            text(property::APP_ID, "app"),
            text(property::CLUSTER_ID, "cluster"),
        ],
        headers: Vec::new(),
        has_headers: false,
    };
    let bytes = encoded(&header);
    let (left, read) = parse_content_header(&bytes[..]).unwrap();
    assert!(left.is_empty());
    let expected = BasicProperties::default()
        .with_content_type("text/plain".into())
        .with_content_encoding("gzip".into())
        .with_delivery_mode(2)
        .with_priority(9)
        .with_correlation_id("corr".into())
        .with_reply_to("reply".into())
        .with_expiration("60000".into())
        .with_message_id("id".into())
        .with_timestamp(5)
        .with_type("kind".into())
        .with_user_id("guest".into())
        .with_app_id("app".into())
        .with_cluster_id("cluster".into());
    assert_eq!((read.class_id, read.body_size, read.properties), (60, 77, expected));
    assert_eq!(header.expiration_ms(), Ok(Some(60_000)));
    assert_eq!((header.priority(), header.is_persistent()), (9, true));
}

#[test]
fn a_correlation_id_may_be_any_bytes() {
    let property = (property::CORRELATION_ID, Bytes::from_static(&[0xff, 0, 0xfe]));
    let header = ContentHeader { properties: vec![property], ..ContentHeader::default() };
    assert_eq!(ContentHeader::decode(&encoded(&header)).unwrap(), header);
}

#[test]
fn an_expiration_is_a_whole_number_of_milliseconds() {
    let with = |text: &'static [u8]| {
        let properties = vec![(property::EXPIRATION, Bytes::from_static(text))];
        ContentHeader { properties, ..ContentHeader::default() }.expiration_ms()
    };
    for (text, ms) in [(&b"0"[..], 0), (b"+1", 1), (b"315360000000", 315_360_000_000)] {
        assert_eq!(with(text), Ok(Some(ms)));
    }
    for (bad, why) in [
        (&b""[..], "no_integer"),
        (b"-", "no_integer"),
        (b"abc", "no_integer"),
        (&[0xff], "no_integer"),
        (b"-1", "{value_negative,-1}"),
        (b"1.5", "{leftover_string,\".5\"}"),
        (b"315360000001", "{value_too_large,315360000001}"),
        (b"99999999999999999999", "{value_too_large,99999999999999999999}"),
    ] {
        let e = with(bad).unwrap_err();
        assert_eq!(e.reply_code().number(), 406, "{bad:?}");
        let said = String::from_utf8_lossy(bad);
        assert_eq!(e.to_string(), format!("invalid expiration '{said}': {why}"));
    }
    // Longer than any number here, on either side.
    let long: &'static [u8] = Box::leak(vec![b'9'; 200].into());
    assert!(with(long).is_err());
    assert_eq!(ContentHeader::default().expiration_ms(), Ok(None));
}

#[test]
fn content_of_another_class_is_unexpected_and_unknown_flags_are_a_syntax_error() {
    let head =
        |class: u8, flags: u8| Bytes::copy_from_slice(&[0, class, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, flags]);
    assert_eq!(ContentHeader::decode(&head(50, 0)).unwrap_err().reply_code().number(), 505);
    for flags in [1, 2] {
        assert_eq!(ContentHeader::decode(&head(60, flags)).unwrap_err().reply_code().number(), 502);
    }
    assert_eq!(ContentHeader::decode(&head(60, 0)), Ok(ContentHeader::default()));
}
