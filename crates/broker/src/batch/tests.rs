#![allow(clippy::pedantic, clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]

use std::io::Write as _;

use bytes::{BufMut as _, Bytes, BytesMut};
use proptest::prelude::*;

use super::*;

fn varint(out: &mut Vec<u8>, n: i64) {
    let mut v = ((n << 1) ^ (n >> 63)) as u64;
    while v >= 0x80 {
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

fn nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    varint(out, bytes.map_or(-1, |b| b.len() as i64));
    out.extend_from_slice(bytes.unwrap_or_default());
}

type Rec = (Option<Vec<u8>>, Option<Vec<u8>>, Vec<(String, Option<Vec<u8>>)>);

fn plain(records: &[Rec]) -> Vec<u8> {
    let mut out = Vec::new();
    for (index, (key, value, headers)) in records.iter().enumerate() {
        let mut r = vec![0];
        varint(&mut r, index as i64 * 10);
        varint(&mut r, index as i64);
        nullable(&mut r, key.as_deref());
        nullable(&mut r, value.as_deref());
        varint(&mut r, headers.len() as i64);
        for (name, value) in headers {
            nullable(&mut r, Some(name.as_bytes()));
            nullable(&mut r, value.as_deref());
        }
        varint(&mut out, r.len() as i64);
        out.extend(r);
    }
    out
}

fn made(attributes: u16, count: i32, records: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i64(0);
    out.put_i32((HEADER_BYTES - LENGTH_BYTES + records.len()) as i32);
    out.put_i32(-1);
    out.put_u8(2);
    out.put_u32(0);
    out.put_u16(attributes);
    out.put_i32(count - 1);
    out.put_i64(1_000);
    out.put_i64(1_000);
    out.put_i64(-1);
    out.put_i16(-1);
    out.put_i32(-1);
    out.put_i32(count);
    out.put_slice(records);
    out.freeze()
}

fn compressed(kind: u16, data: &[u8]) -> Vec<u8> {
    match kind {
        1 => {
            let mut e = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            e.write_all(data).unwrap();
            e.finish().unwrap()
        }
        2 => {
            let mut framed = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
            for block in data.chunks(32 << 10) {
                let block = snap::raw::Encoder::new().compress_vec(block).unwrap();
                framed.extend((block.len() as i32).to_be_bytes());
                framed.extend(block);
            }
            framed
        }
        3 => {
            let mut e = lz4_flex::frame::FrameEncoder::new(Vec::new());
            e.write_all(data).unwrap();
            e.finish().unwrap()
        }
        4 => zstd::encode_all(data, 3).unwrap(),
        _ => data.to_vec(),
    }
}

fn some(records: usize, value_bytes: usize) -> Vec<Rec> {
    let one = |n: usize| {
        let headers = vec![("h".to_owned(), Some(vec![n as u8])), ("h".to_owned(), None)];
        (Some(n.to_string().into_bytes()), (n % 3 != 1).then(|| vec![b'v'; value_bytes]), headers)
    };
    (0..records).map(one).collect()
}

#[test]
fn records_come_out_as_they_went_in_in_every_compression() {
    let records = some(5, 100_000);
    for kind in 0..5 {
        let batch = made(kind, 5, &compressed(kind, &plain(&records)));
        let got = decode_batch(&batch, 40).unwrap();
        assert_eq!(got.len(), 5, "compression {kind}");
        for (n, (r, want)) in got.iter().zip(&records).enumerate() {
            assert_eq!((r.offset, r.timestamp_ms), (40 + n as u64, 1_000 + n as i64 * 10));
            assert_eq!((r.key.as_deref(), r.value.as_deref()), (want.0.as_deref(), want.1.as_deref()));
            assert_eq!(r.headers.len(), 2);
            assert_eq!((r.headers[0].1.as_deref(), r.headers[1].1.as_deref()), (Some(&[n as u8][..]), None));
        }
    }
}

#[test]
fn a_control_batch_has_no_records() {
    assert_eq!(decode_batch(&made(CONTROL, 1, &plain(&some(1, 1))), 0).unwrap(), []);
}

#[test]
fn a_batch_that_inflates_beyond_the_limit_is_an_error_and_gives_what_came_before() {
    // 70 MiB of records in a few kilobytes.
    let records = some(7, 10 << 20);
    let many: Vec<Rec> = records.into_iter().map(|r| (r.0, Some(vec![0; 10 << 20]), r.2)).collect();
    let batch = made(4, 7, &compressed(4, &plain(&many)));
    assert!(batch.len() < 100_000);
    let mut some = Records::bounded(&batch, 0, DECODED_BYTES_MAX).unwrap();
    let whole = some.by_ref().take_while(Result::is_ok).count();
    assert!((1..7).contains(&whole), "{whole}");
    assert!(some.next().is_none(), "nothing comes behind an error");
    assert!(decode_batch(&batch, 0).is_err());
}

#[test]
fn a_record_that_claims_more_than_any_may_have_takes_no_memory() {
    for kind in 0..5 {
        let mut claim = Vec::new();
        varint(&mut claim, i64::from(i32::MAX));
        claim.extend([0; 30]);
        assert!(decode_batch(&made(kind, 1, &compressed(kind, &claim)), 0).is_err(), "compression {kind}");
        let mut within = Vec::new();
        varint(&mut within, RECORD_BYTES_MAX as i64);
        within.extend([0; 30]);
        assert!(decode_batch(&made(kind, 1, &compressed(kind, &within)), 0).is_err(), "compression {kind}");
    }
}

#[test]
fn more_headers_than_a_message_may_have_are_an_error() {
    let headers = vec![(String::new(), None); 5_000];
    assert!(decode_batch(&made(0, 1, &plain(&[(None, None, headers)])), 0).is_err());
}

#[test]
fn an_unknown_compression_and_less_than_a_header_are_errors() {
    assert!(Records::new(&made(7, 1, &plain(&some(1, 1))), 0).is_err());
    assert!(Records::new(&made(0, 1, &[]).slice(..60), 0).is_err());
    assert!(Records::new(&Bytes::new(), 0).is_err());
}

#[test]
fn an_offset_past_all_others_is_an_error() {
    assert!(decode_batch(&made(0, 2, &plain(&some(2, 1))), u64::MAX).is_err());
}

#[test]
fn a_bare_block_of_snappy_is_read_and_one_that_lies_about_its_length_takes_no_memory() {
    let records = plain(&some(3, 10));
    let bare = snap::raw::Encoder::new().compress_vec(&records).unwrap();
    assert_eq!(decode_batch(&made(2, 3, &bare), 0).unwrap().len(), 3);
    assert!(decode_batch(&made(2, 3, &[0xff, 0xff, 0xff, 0xff, 0x0f, 0]), 0).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn taking_any_bytes_apart_never_panics(
        kind in 0_u16..8,
        count in -1_i32..6,
        records in prop::collection::vec(any::<u8>(), 0..300),
        whole in any::<bool>(),
    ) {
        let data = if whole { compressed(kind, &records) } else { records };
        let _ = decode_batch(&made(kind, count, &data), 3);
    }

    #[test]
    fn a_batch_cut_or_changed_anywhere_never_panics(kind in 0_u16..5, at in any::<prop::sample::Index>(), bit in 0_u8..8, cut in any::<bool>()) {
        let mut batch = made(kind, 4, &compressed(kind, &plain(&some(4, 50)))).to_vec();
        let at = at.index(batch.len());
        if cut { batch.truncate(at) } else { batch[at] ^= 1 << bit }
        let _ = decode_batch(&batch.into(), 3);
    }
}
