//! Methods round trip, and wrong ones have their reply codes.

use amq_protocol::protocol::{basic, channel, confirm, connection, exchange, queue, tx};
use amq_protocol::types::{AMQPValue, FieldTable};
use proptest::prelude::*;

use super::*;
use crate::error::ReplyCode;

fn encoded(class: &AMQPClass) -> Bytes {
    let mut out = BytesMut::new();
    encode(&mut out, class);
    out.freeze()
}

fn table() -> FieldTable {
    let mut table = FieldTable::default();
    table.insert("x-match".into(), AMQPValue::LongString("all".into()));
    table.insert("n".into(), AMQPValue::LongInt(-5));
    table
}

/// One of each method with a table, and some of the others.
fn some() -> Vec<AMQPClass> {
    use AMQPClass::{Basic, Channel, Confirm, Connection, Exchange, Queue, Tx};
    let (arguments, name) = (table(), || "some-name".into());
    vec![
        Connection(connection::AMQPMethod::Start(connection::Start {
            version_major: 0,
            version_minor: 9,
            server_properties: table(),
            mechanisms: "PLAIN".into(),
            locales: "en_US".into(),
        })),
        Connection(connection::AMQPMethod::StartOk(connection::StartOk {
            client_properties: table(),
            mechanism: "PLAIN".into(),
            response: "\0guest\0guest".into(),
            locale: "en_US".into(),
        })),
        Connection(connection::AMQPMethod::Tune(connection::Tune {
            channel_max: 7,
            frame_max: 131_072,
            heartbeat: 60,
        })),
        Channel(channel::AMQPMethod::Open(channel::Open {})),
        Exchange(exchange::AMQPMethod::Declare(exchange::Declare {
            exchange: name(),
            kind: "topic".into(),
            passive: false,
            durable: true,
            auto_delete: false,
            internal: true,
            nowait: false,
            arguments: arguments.clone(),
        })),
        Exchange(exchange::AMQPMethod::Bind(exchange::Bind {
            destination: name(),
            source: name(),
            routing_key: name(),
            nowait: true,
            arguments: arguments.clone(),
        })),
        Exchange(exchange::AMQPMethod::Unbind(exchange::Unbind {
            destination: name(),
            source: name(),
            routing_key: name(),
            nowait: false,
            arguments: arguments.clone(),
        })),
        Queue(queue::AMQPMethod::Declare(queue::Declare {
            queue: name(),
            passive: false,
            durable: true,
            exclusive: false,
            auto_delete: true,
            nowait: false,
            arguments: arguments.clone(),
        })),
        Queue(queue::AMQPMethod::Bind(queue::Bind {
            queue: name(),
            exchange: name(),
            routing_key: name(),
            nowait: false,
            arguments: arguments.clone(),
        })),
        Queue(queue::AMQPMethod::Unbind(queue::Unbind {
            queue: name(),
            exchange: name(),
            routing_key: name(),
            arguments: arguments.clone(),
        })),
        Basic(basic::AMQPMethod::Consume(basic::Consume {
            queue: name(),
            consumer_tag: name(),
            no_local: false,
            no_ack: true,
            exclusive: false,
            nowait: false,
            arguments,
        })),
        Basic(basic::AMQPMethod::Publish(basic::Publish {
            exchange: name(),
            routing_key: name(),
            mandatory: true,
            immediate: false,
        })),
        Basic(basic::AMQPMethod::Ack(basic::Ack { delivery_tag: u64::MAX, multiple: true })),
        Tx(tx::AMQPMethod::Select(tx::Select {})),
        Confirm(confirm::AMQPMethod::Select(confirm::Select { nowait: true })),
    ]
}

fn has_table(class: &AMQPClass) -> bool {
    let ids = (class.get_amqp_class_id(), class.get_amqp_method_id());
    TABLES.iter().any(|t| (t.0, t.1) == ids)
}

#[test]
fn a_method_comes_back_with_its_table_in_order() {
    let mut tables = 0;
    for class in some() {
        let method = decode(&encoded(&class)).unwrap();
        assert_eq!(method.class, class);
        let names: Vec<_> = method.table.iter().map(|h| h.name.as_str()).collect();
        if has_table(&class) {
            tables += 1;
            assert_eq!(names, ["n", "x-match"], "{class:?}");
        } else {
            assert!(names.is_empty());
        }
    }
    assert_eq!(tables, TABLES.len());
}

#[test]
fn a_method_cut_short_or_too_long_is_a_syntax_error() {
    for class in some() {
        let bytes = encoded(&class);
        for cut in 0..bytes.len() {
            let error = decode(&bytes.slice(..cut)).unwrap_err();
            assert_eq!(error.reply_code(), ReplyCode::SyntaxError, "{class:?} cut at {cut}: {error}");
        }
        let long = Bytes::from([&bytes[..], &[0]].concat());
        let error = decode(&long).unwrap_err();
        assert_eq!(error.reply_code(), ReplyCode::SyntaxError, "{class:?}: {error}");
    }
}

#[test]
fn an_unknown_class_or_method_is_not_implemented() {
    for ids in [[0, 70, 0, 10], [0, 60, 0, 22], [0xff, 0xff, 0, 0], [0, 10, 0, 12]] {
        let error = decode(&Bytes::copy_from_slice(&ids)).unwrap_err();
        assert_eq!(error.reply_code().number(), 540, "{error}");
    }
}

#[test]
fn every_method_listed_is_known_to_the_codec_beneath() {
    for (class, methods) in METHODS {
        for method in *methods {
            let bytes = [class.to_be_bytes(), method.to_be_bytes()].concat();
            // Enough zeros for any method's fields: it is read, or too long, or ends early; it is never unknown.
            let padded = [&bytes[..], &[0; 64]].concat();
            match parse_class(&padded[..]) {
                Ok((_, read)) => {
                    assert_eq!((read.get_amqp_class_id(), read.get_amqp_method_id()), (*class, *method));
                }
                Err(e) => panic!("{class}.{method}: {e:?}"),
            }
        }
    }
}

#[test]
fn a_method_nested_deep_is_refused_before_login() {
    let mut table = Vec::new();
    for _ in 0..3_000 {
        let n = u32::try_from(table.len()).unwrap().to_be_bytes();
        table = [&[1, b'n', b'F'][..], &n, &table].concat();
    }
    let n = u32::try_from(table.len()).unwrap().to_be_bytes();
    let start_ok = [&[0, 10, 0, 11][..], &n, &table, &[5], b"PLAIN", &[0; 4], &[5], b"en_US"].concat();
    assert_eq!(decode(&Bytes::from(start_ok)), Err(CodecError::TooDeep));
}

proptest! {
    #[test]
    fn any_bytes_are_a_method_or_an_error(which in 0..80usize, tail: Vec<u8>) {
        let ids: Vec<(u16, u16)> = METHODS.iter().flat_map(|(c, m)| m.iter().map(|m| (*c, *m))).collect();
        let (class, method) = ids[which % ids.len()];
        let bytes = [&class.to_be_bytes()[..], &method.to_be_bytes(), &tail].concat();
        let _ = decode(&Bytes::from(bytes));
        let _ = decode(&Bytes::from(tail));
    }
    #[test]
    fn a_changed_byte_is_another_method_or_an_error(which in 0..15usize, at: prop::sample::Index, byte: u8) {
        let all = some();
        let mut bytes = encoded(&all[which % all.len()]).to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(method) = decode(&Bytes::from(bytes)) {
            let again = decode(&encoded(&method.class)).unwrap();
            prop_assert_eq!(again.class, method.class);
        }
    }
    #[test]
    fn publish_is_read_as_the_codec_beneath_reads_it(small in prop::collection::vec(0..4u8, 0..14), any: Vec<u8>) {
        for fields in [small, any] {
            let bytes = Bytes::from([&[0, 60, 0, 40], &fields[..]].concat());
            match (publish(&bytes).unwrap(), decode(&bytes).map(|m| m.class)) {
                (Ok(ours), Ok(AMQPClass::Basic(basic::AMQPMethod::Publish(theirs)))) => {
                    prop_assert_eq!(&ours.exchange, theirs.exchange.as_str());
                    prop_assert_eq!(&ours.routing_key, theirs.routing_key.as_str());
                    prop_assert_eq!((ours.mandatory, ours.immediate), (theirs.mandatory, theirs.immediate));
                }
                (Err(ours), Err(theirs)) => prop_assert_eq!(ours.reply_code(), theirs.reply_code()),
                (ours, theirs) => prop_assert!(false, "{:?} but {:?}", ours, theirs),
            }
        }
    }
    #[test]
    fn deliver_is_written_as_the_codec_beneath_writes_it(
        names in prop::array::uniform3("\\PC{0,40}"),
        tag: u64,
        redelivered: bool,
    ) {
        let [consumer, exchange, key] = &names;
        let mut out = BytesMut::new();
        put_deliver(&mut out, tag, redelivered, [consumer, exchange, key]);
        let theirs = basic::Deliver {
            consumer_tag: text::short(consumer),
            delivery_tag: tag,
            redelivered,
            exchange: text::short(exchange),
            routing_key: text::short(key),
        };
        prop_assert_eq!(out.freeze(), encoded(&AMQPClass::Basic(basic::AMQPMethod::Deliver(theirs))));
    }
}

#[test]
fn only_publish_is_read_as_publish() {
    for class in some() {
        let is_publish = matches!(class, AMQPClass::Basic(basic::AMQPMethod::Publish(_)));
        assert_eq!(publish(&encoded(&class)).is_some(), is_publish, "{class:?}");
    }
}
