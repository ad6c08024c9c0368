//! Frames and content as a peer sends them, whole, in pieces, and wrong.
#![allow(clippy::pedantic, clippy::unwrap_used, clippy::indexing_slicing)]

use bytes::{Bytes, BytesMut};
use millstream_amqp::content::{Assembler, BODY_PIECES_MAX};
use millstream_amqp::frame::{
    FRAME_BYTES_MIN, FRAME_END, FRAME_OVERHEAD_BYTES, Frame, FrameKind, body_payloads, head, heartbeat, put,
    take,
};
use millstream_amqp::properties::ContentHeader;
use millstream_amqp::{CodecError, ReplyCode};
use proptest::collection::vec;
use proptest::prelude::*;

const MAX: u32 = 8_192;
const BODY_MAX: usize = 1 << 20;

fn any_frame() -> impl Strategy<Value = Frame> {
    let kind = prop_oneof![Just(FrameKind::Method), Just(FrameKind::Header), Just(FrameKind::Body)];
    let other = (kind, any::<u16>(), vec(any::<u8>(), 0..200)).prop_map(|(kind, channel, payload)| Frame {
        kind,
        channel,
        payload: payload.into(),
    });
    prop_oneof![
        9 => other,
        1 => Just(Frame { kind: FrameKind::Heartbeat, channel: 0, payload: Bytes::new() })
    ]
}

fn written(frames: &[Frame]) -> BytesMut {
    let mut out = BytesMut::new();
    for f in frames {
        put(&mut out, f.kind, f.channel, |out| out.extend_from_slice(&f.payload));
    }
    out
}

proptest! {
    #[test]
    fn frames_come_back_however_they_are_cut(frames in vec(any_frame(), 1..6), piece in 1..300usize) {
        let bytes = written(&frames);
        let (mut buffer, mut got) = (BytesMut::new(), Vec::new());
        for piece in bytes.chunks(piece) {
            buffer.extend_from_slice(piece);
            while let Some(frame) = take(&mut buffer, MAX).unwrap() {
                got.push(frame);
            }
        }
        prop_assert!(buffer.is_empty());
        prop_assert_eq!(got, frames);
    }

    #[test]
    fn any_bytes_are_frames_or_a_frame_error(bytes: Vec<u8>) {
        let mut buffer = BytesMut::from(&bytes[..]);
        loop {
            match take(&mut buffer, MAX) {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(e) => {
                    prop_assert_eq!(e.reply_code(), ReplyCode::FrameError);
                    break;
                }
            }
        }
    }

    #[test]
    fn a_body_comes_back_from_its_frames(body in vec(any::<u8>(), 0..20_000), max in 4_096..9_000u32) {
        let body = Bytes::from(body);
        let pieces: Vec<Bytes> = body_payloads(&body, max).collect();
        prop_assert!(pieces.iter().all(|p| !p.is_empty() && p.len() + FRAME_OVERHEAD_BYTES <= max as usize));
        prop_assert_eq!(pieces.concat(), body.to_vec());
        prop_assert!(pieces.iter().all(|p| body.as_ptr_range().contains(&p.as_ptr())), "copied");
    }
}

#[test]
fn a_frame_is_refused_by_its_size_before_room_is_taken_for_it() {
    let fits = MAX - FRAME_OVERHEAD_BYTES as u32;
    let mut buffer = BytesMut::from(&head(FrameKind::Body, 1, fits)[..]);
    assert_eq!(take(&mut buffer, MAX), Ok(None));
    assert!(buffer.capacity() >= MAX as usize && buffer.capacity() < 2 * MAX as usize);
    for size in [fits + 1, u32::MAX] {
        let mut buffer = BytesMut::from(&head(FrameKind::Body, 1, size)[..]);
        let before = buffer.capacity();
        let error = take(&mut buffer, MAX).unwrap_err();
        let bytes = u64::from(size) + 8;
        assert_eq!(error, CodecError::FrameTooLarge { bytes, max: MAX });
        assert_eq!((error.reply_code().number(), buffer.capacity()), (501, before));
    }
}

#[test]
fn a_wrong_end_octet_or_type_is_a_frame_error_and_a_heartbeat_has_neither_channel_nor_payload() {
    let mut bytes =
        written(&[Frame { kind: FrameKind::Method, channel: 1, payload: Bytes::from_static(b"xyz") }]);
    let last = bytes.len() - 1;
    bytes[last] = 0xCD;
    assert_eq!(take(&mut bytes, MAX), Err(CodecError::FrameEnd { found: 0xCD }));
    for kind in [0, 4, 5, 7, 9, b'A', 255] {
        let mut one = BytesMut::from(&[kind][..]);
        assert_eq!(take(&mut one, MAX), Err(CodecError::FrameType { found: kind }));
    }
    for (channel, payload, code) in [(1, &b""[..], 505), (0, b"x", 501)] {
        let mut bytes =
            written(&[Frame { kind: FrameKind::Heartbeat, channel, payload: Bytes::from_static(payload) }]);
        let error = take(&mut bytes, MAX).unwrap_err();
        assert_eq!(error, CodecError::Heartbeat { channel, bytes: payload.len() });
        assert_eq!(error.reply_code().number(), code);
    }
    let mut beat = BytesMut::from(&heartbeat()[..]);
    assert_eq!(take(&mut beat, FRAME_BYTES_MIN).unwrap().unwrap().kind, FrameKind::Heartbeat);
    assert_eq!(*heartbeat().last().unwrap(), FRAME_END);
}

fn content_header(body_bytes: u64) -> Frame {
    let header = ContentHeader { body_bytes, ..ContentHeader::default() };
    let mut out = BytesMut::new();
    header.encode(&mut out).unwrap();
    Frame { kind: FrameKind::Header, channel: 1, payload: out.freeze() }
}

fn body(payload: &[u8]) -> Frame {
    Frame { kind: FrameKind::Body, channel: 1, payload: Bytes::copy_from_slice(payload) }
}

fn open(body_bytes: u64) -> Assembler {
    let mut a = Assembler::default();
    a.begin().unwrap();
    assert_eq!(a.frame(content_header(body_bytes), BODY_MAX).unwrap(), None);
    a
}

#[test]
fn content_is_put_together_from_its_frames_without_copying() {
    let mut a = open(5);
    let first = body(b"he");
    let at = first.payload.as_ptr();
    assert_eq!(a.frame(first, BODY_MAX).unwrap(), None);
    assert_eq!(a.frame(body(b""), BODY_MAX).unwrap(), None);
    assert!(a.is_open());
    let content = a.frame(body(b"llo"), BODY_MAX).unwrap().unwrap();
    assert_eq!(content.body, [&b"he"[..], b"llo"]);
    assert_eq!(content.body[0].as_ptr(), at);
    assert!(!a.is_open());
    let mut a = Assembler::default();
    a.begin().unwrap();
    let empty = a.frame(content_header(0), BODY_MAX).unwrap().unwrap();
    assert!(empty.body.is_empty());
}

#[test]
fn a_body_of_single_bytes_is_kept_in_few_pieces() {
    let n = 3 * BODY_PIECES_MAX;
    let mut a = open(n as u64);
    let mut whole = None;
    for i in 0..n {
        whole = a.frame(body(&[i as u8]), BODY_MAX).unwrap();
    }
    let content = whole.unwrap();
    assert_eq!(content.body.len(), BODY_PIECES_MAX + 1);
    assert_eq!(content.body.concat(), (0..n).map(|i| i as u8).collect::<Vec<_>>());
}

#[test]
fn frames_out_of_place_have_their_reply_codes() {
    let code = |r: Result<_, CodecError>| r.map(|_: Option<_>| ()).unwrap_err().reply_code().number();
    let mut idle = Assembler::default();
    assert_eq!(code(idle.frame(content_header(1), BODY_MAX)), 505);
    assert_eq!(code(idle.frame(body(b"x"), BODY_MAX)), 505);
    assert_eq!(idle.no_frame("method"), Ok(()));
    let mut a = Assembler::default();
    a.begin().unwrap();
    assert_eq!(a.no_frame("method").unwrap_err().reply_code().number(), 505);
    assert_eq!(a.begin().unwrap_err().reply_code().number(), 505);
    assert_eq!(code(a.frame(body(b"x"), BODY_MAX)), 505, "a body before its header");
    assert_eq!(code(open(3).frame(content_header(1), BODY_MAX)), 505, "a header within a body");
    assert_eq!(code(open(3).frame(body(b"four"), BODY_MAX)), 505, "more than the header said");
    let channel_zero = Frame { channel: 0, ..body(b"x") };
    assert_eq!(code(open(3).frame(channel_zero, BODY_MAX)), 505);
}

#[test]
fn a_message_larger_than_any_may_be_is_refused_by_its_header_and_closes_the_channel_only() {
    for bytes in [BODY_MAX as u64 + 1, u64::MAX] {
        let mut a = Assembler::default();
        a.begin().unwrap();
        let error = a.frame(content_header(bytes), BODY_MAX).unwrap_err();
        assert_eq!(error, CodecError::ContentTooLarge { bytes, max: BODY_MAX });
        assert!(error.reply_code().is_soft() && error.reply_code().number() == 406);
        assert!(!a.is_open());
    }
}
