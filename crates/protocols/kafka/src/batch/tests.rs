#![allow(clippy::pedantic, clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::io::Write as _;

use bytes::{BufMut as _, BytesMut};
use millstream_broker::{Header as MessageHeader, HeaderValue, Message};
use proptest::prelude::*;

use super::records::{Found, find};
use super::*;

fn varint(out: &mut Vec<u8>, n: i64) {
    let mut v = ((n << 1) ^ (n >> 63)) as u64;
    while v >= 0x80 {
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

fn plain(values: &[(i64, &[u8])]) -> Vec<u8> {
    let mut records = Vec::new();
    for (index, (delta, value)) in values.iter().enumerate() {
        let mut r = vec![0];
        varint(&mut r, *delta);
        varint(&mut r, index as i64);
        varint(&mut r, -1);
        varint(&mut r, value.len() as i64);
        r.extend_from_slice(value);
        varint(&mut r, 0);
        varint(&mut records, r.len() as i64);
        records.extend(r);
    }
    records
}

struct Made {
    attributes: u16,
    count: i32,
    max: i64,
    records: Vec<u8>,
    producer: (i64, i16, i32),
}

impl Made {
    fn of(values: &[(i64, &[u8])]) -> Self {
        let max = 1_000 + values.iter().map(|v| v.0).max().unwrap_or(0);
        Self {
            attributes: 0,
            count: values.len() as i32,
            max,
            records: plain(values),
            producer: (-1, -1, -1),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut tail = BytesMut::new();
        tail.put_u16(self.attributes);
        tail.put_i32(self.count - 1);
        tail.put_i64(1_000);
        tail.put_i64(self.max);
        tail.put_i64(self.producer.0);
        tail.put_i16(self.producer.1);
        tail.put_i32(self.producer.2);
        tail.put_i32(self.count);
        tail.put_slice(&self.records);
        let mut out = BytesMut::new();
        out.put_i64(0);
        out.put_i32(tail.len() as i32 + 9);
        out.put_i32(-1);
        out.put_u8(2);
        out.put_u32(crc32c(&tail));
        out.put_slice(&tail);
        out.to_vec()
    }
}

fn refused(bytes: &[u8]) -> i16 {
    check(13, bytes, 1 << 20).unwrap_err().code().code()
}

#[test]
fn a_batch_that_is_right_passes_with_its_largest_timestamp() {
    let made = Made { max: 5, ..Made::of(&[(3, b"a"), (70, b"b"), (-2, b"")]) };
    let checked = check(3, &made.bytes(), 1 << 20).unwrap();
    assert_eq!((checked.count, checked.max_timestamp), (3, 1_070));
}

#[test]
fn what_is_wrong_with_a_batch_has_the_code_that_kafka_has_for_it() {
    let good = Made::of(&[(0, b"x"), (1, b"y")]).bytes();
    assert_eq!(refused(b""), 87);
    assert_eq!(refused(&good[..10]), 87);
    assert_eq!(refused(&good[..good.len() - 1]), 87);
    let mut tiny = good.clone();
    tiny[8..12].copy_from_slice(&48_i32.to_be_bytes());
    assert_eq!(refused(&tiny), 2);
    assert_eq!(refused(&[good.clone(), good.clone()].concat()), 87);
    for (magic, code) in [(0, 87), (1, 87), (3, 2), (255, 2)] {
        let mut old = good.clone();
        old[16] = magic;
        assert_eq!(refused(&old), code, "magic {magic}");
    }
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    assert_eq!(refused(&flipped), 2);
    assert_eq!(check(13, &good, good.len() - 1).unwrap_err().code().code(), 10);
    let with = |change: fn(&mut Made)| {
        let mut made = Made::of(&[(0, b"x"), (1, b"y")]);
        change(&mut made);
        refused(&made.bytes())
    };
    assert_eq!(with(|m| m.count = 1), 87);
    assert_eq!(with(|m| m.count = 3), 87);
    assert_eq!(with(|m| m.count = 0), 87);
    assert_eq!(with(|m| m.count = -1), 87);
    assert_eq!(with(|m| m.attributes = 7), 76);
    assert_eq!(with(|m| m.attributes = 0x08), 32);
    assert_eq!(with(|m| m.attributes = 0x10), 53);
    assert_eq!(with(|m| m.attributes = 0x20), 87);
    assert_eq!(with(|m| m.producer = (5, -1, 0)), 87);
    assert_eq!(with(|m| m.producer = (5, 0, -1)), 87);
    assert_eq!(with(|m| m.producer = (-2, 0, 0)), 87);
}

#[test]
fn zstd_needs_produce_version_7() {
    let made = Made { attributes: 4, ..Made::of(&[(0, b"x")]) };
    assert_eq!(check(6, &made.bytes(), 1 << 20).unwrap_err().code().code(), 76);
    assert!(check(7, &made.bytes(), 1 << 20).is_ok());
}

#[test]
fn for_a_reader_only_base_offset_and_leader_epoch_change() {
    let stored = Bytes::from(Made::of(&[(0, b"x")]).bytes());
    let piece = Piece::new(&stored, 0x0102_0304_0506, 9).unwrap();
    let sent = [&piece.prefix[..], &piece.rest].concat();
    let mut want = stored.to_vec();
    want[..8].copy_from_slice(&0x0102_0304_0506_u64.to_be_bytes());
    want[12..16].copy_from_slice(&9_u32.to_be_bytes());
    assert_eq!(sent, want);
    assert_eq!(piece.len(), stored.len());
}

fn compressed(compression: Compression, data: &[u8]) -> (u16, Vec<u8>) {
    match compression {
        Compression::None => (0, data.to_vec()),
        Compression::Gzip => {
            let mut e = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            e.write_all(data).unwrap();
            (1, e.finish().unwrap())
        }
        Compression::Snappy => {
            let mut framed = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
            for block in data.chunks(32 << 10) {
                let block = snap::raw::Encoder::new().compress_vec(block).unwrap();
                framed.extend((block.len() as i32).to_be_bytes());
                framed.extend(block);
            }
            (2, framed)
        }
        Compression::Lz4 => {
            let mut e = lz4_flex::frame::FrameEncoder::new(Vec::new());
            e.write_all(data).unwrap();
            (3, e.finish().unwrap())
        }
        Compression::Zstd => (4, zstd::encode_all(data, 3).unwrap()),
    }
}

const ALL: [Compression; 5] =
    [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

#[test]
fn a_record_is_found_by_its_timestamp_in_every_compression() {
    let long = vec![b'z'; 100_000];
    let values: Vec<(i64, &[u8])> = vec![(0, b"a"), (10, &long), (5, b"c"), (90, b"d"), (90, b"e")];
    for compression in ALL {
        let mut made = Made::of(&values);
        (made.attributes, made.records) = compressed(compression, &plain(&values));
        let batch = made.bytes();
        let at = |ts| find(&batch.clone().into(), |f: &Found| f.timestamp >= ts).unwrap();
        assert_eq!(at(0), Some(Found { timestamp: 1_000, offset_delta: 0 }), "{compression:?}");
        assert_eq!(at(1_006), Some(Found { timestamp: 1_010, offset_delta: 1 }), "{compression:?}");
        assert_eq!(at(1_090), Some(Found { timestamp: 1_090, offset_delta: 3 }), "{compression:?}");
        assert_eq!(at(1_091), None, "{compression:?}");
    }
}

#[test]
fn bare_snappy_blocks_are_read_too() {
    let values: [(i64, &[u8]); 2] = [(0, b"a"), (7, b"bbbbbbbbbbbbbbbbbbbbbbbbbb")];
    let mut made = Made::of(&values);
    made.attributes = 2;
    made.records = snap::raw::Encoder::new().compress_vec(&plain(&values)).unwrap();
    assert_eq!(find(&made.bytes().into(), |f| f.timestamp > 1_000).unwrap().unwrap().offset_delta, 1);
}

#[test]
fn a_snappy_length_that_cannot_be_true_takes_no_memory() {
    let mut made = Made::of(&[(0, b"a")]);
    made.attributes = 2;
    made.records = vec![0xff, 0xff, 0xff, 0xff, 0x0f, 0];
    assert!(find(&made.bytes().into(), |_| true).is_err());
}

#[test]
fn a_message_of_another_protocol_is_one_batch_of_one_record_with_the_same_bytes_each_time() {
    let message = Message {
        key: Some(Bytes::from_static(b"k")),
        payload: Some(Bytes::from_static(b"payload")),
        headers: vec![
            MessageHeader {
                name: "plain".to_owned(),
                value: HeaderValue::Bytes(Bytes::from_static(b"\x01")),
            },
            MessageHeader { name: "n".to_owned(), value: HeaderValue::I32(-3) },
            MessageHeader { name: "amqp.type".to_owned(), value: HeaderValue::Str("forged".to_owned()) },
        ],
        ..Message::default()
    };
    let batch = single::batch(&message, 42, 3, 1_700_000_000_000);
    assert_eq!(batch, single::batch(&message, 42, 3, 1_700_000_000_000));
    let header = Header::read(&batch).unwrap();
    assert_eq!((header.base_offset, header.size, header.records), (42, batch.len(), 1));
    assert_eq!(u32::from_be_bytes(batch[17..21].try_into().unwrap()), crc32c(&batch[21..]));
    let found = find(&batch, |_| true).unwrap().unwrap();
    assert_eq!(found, Found { timestamp: 1_700_000_000_000, offset_delta: 0 });
    let text = String::from_utf8_lossy(&batch).into_owned();
    for part in ["payload", "amqp.type.n", "i32", "_amqp.type", "forged"] {
        assert!(text.contains(part), "{part}");
    }
    let mut as_sent = batch.to_vec();
    as_sent[..8].fill(0);
    assert!(check(13, &as_sent, 1 << 20).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn checking_and_looking_into_any_bytes_never_panics(
        mut bytes in prop::collection::vec(any::<u8>(), 0..300),
        attributes in 0_u16..8,
        fix in any::<bool>(),
    ) {
        if fix && bytes.len() >= HEADER_BYTES {
            // Near enough to a batch to get past the header.
            let length = (bytes.len() - LENGTH_BYTES) as i32;
            bytes[..8].fill(0);
            bytes[8..12].copy_from_slice(&length.to_be_bytes());
            bytes[16] = 2;
            bytes[21..23].copy_from_slice(&attributes.to_be_bytes());
            bytes[23..27].copy_from_slice(&4_i32.to_be_bytes());
            bytes[57..61].copy_from_slice(&5_i32.to_be_bytes());
            let crc = crc32c(&bytes[21..]);
            bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        }
        let _ = check(13, &bytes, 1 << 20);
        let _ = find(&bytes.clone().into(), |f| f.timestamp == i64::MIN);
    }
}
