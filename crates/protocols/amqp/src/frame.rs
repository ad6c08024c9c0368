//! Frames (section 4.2.3): `type u8 · channel u16 · size u32 · payload · 0xCE`. Payloads are slices of what was read.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::error::CodecError;

/// Bytes before the payload.
pub const FRAME_HEAD_BYTES: usize = 7;
/// Bytes of a frame besides its payload.
pub const FRAME_OVERHEAD_BYTES: usize = FRAME_HEAD_BYTES + 1;
/// Behind every payload.
pub const FRAME_END: u8 = 0xCE;
/// Least frame size that a peer must take, and the greatest that may be used before one is agreed.
pub const FRAME_BYTES_MIN: u32 = 4_096;

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// A method.
    Method,
    /// The header of content.
    Header,
    /// A piece of content.
    Body,
    /// A sign of life.
    Heartbeat,
}

impl FrameKind {
    const fn number(self) -> u8 {
        match self {
            Self::Method => 1,
            Self::Header => 2,
            Self::Body => 3,
            Self::Heartbeat => 8,
        }
    }

    /// Its name, for errors.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::Header => "header",
            Self::Body => "body",
            Self::Heartbeat => "heartbeat",
        }
    }
}

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it carries.
    pub kind: FrameKind,
    /// Its channel.
    pub channel: u16,
    /// What is in it.
    pub payload: Bytes,
}

/// Takes the next frame off what was read. `frame_bytes_max` is what was agreed, head and end included. `None`: more must be read; the
/// buffer then has room for the whole frame, and never for more than one that was agreed.
///
/// # Errors
/// `FrameTooLarge` (before room is taken for it), `FrameType`, `FrameEnd`, `Heartbeat`. Nothing more can be read then.
pub fn take(buffer: &mut BytesMut, frame_bytes_max: u32) -> Result<Option<Frame>, CodecError> {
    let Some(head) = buffer.first_chunk::<FRAME_HEAD_BYTES>() else {
        // A type that is none is noise, whatever follows.
        if let Some(kind) = buffer.first() {
            kind_of(*kind)?;
        }
        buffer.reserve(FRAME_HEAD_BYTES - buffer.len());
        return Ok(None);
    };
    let [kind, c0, c1, s0, s1, s2, s3] = *head;
    let kind = kind_of(kind)?;
    let channel = u16::from_be_bytes([c0, c1]);
    let size = u32::from_be_bytes([s0, s1, s2, s3]);
    let bytes = u64::from(size) + FRAME_OVERHEAD_BYTES as u64;
    let too_large = CodecError::FrameTooLarge { bytes, max: frame_bytes_max };
    if bytes > u64::from(frame_bytes_max) {
        return Err(too_large);
    }
    let (Ok(size), Ok(bytes)) = (usize::try_from(size), usize::try_from(bytes)) else {
        return Err(too_large);
    };
    if kind == FrameKind::Heartbeat && (channel != 0 || size != 0) {
        return Err(CodecError::Heartbeat { channel, bytes: size });
    }
    if buffer.len() < bytes {
        buffer.reserve(bytes - buffer.len());
        return Ok(None);
    }
    buffer.advance(FRAME_HEAD_BYTES);
    let payload = buffer.split_to(size).freeze();
    match buffer.get_u8() {
        FRAME_END => Ok(Some(Frame { kind, channel, payload })),
        found => Err(CodecError::FrameEnd { found }),
    }
}

fn kind_of(number: u8) -> Result<FrameKind, CodecError> {
    let all = [FrameKind::Method, FrameKind::Header, FrameKind::Body, FrameKind::Heartbeat];
    all.into_iter().find(|k| k.number() == number).ok_or(CodecError::FrameType { found: number })
}

/// The bytes before a payload, for writing it where it lies. [`FRAME_END`] goes behind it.
#[must_use]
pub fn head(kind: FrameKind, channel: u16, payload_bytes: u32) -> [u8; FRAME_HEAD_BYTES] {
    let [c0, c1] = channel.to_be_bytes();
    let [s0, s1, s2, s3] = payload_bytes.to_be_bytes();
    [kind.number(), c0, c1, s0, s1, s2, s3]
}

/// Writes a frame around what `payload` writes.
///
/// # Panics
/// If that is 4 GiB or more; an agreed frame is far below.
pub fn put(out: &mut BytesMut, kind: FrameKind, channel: u16, payload: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_slice(&head(kind, channel, 0));
    let before = out.len();
    payload(out);
    let size = u32::try_from(out.len() - before).expect("a frame that is written is far below 4 GiB");
    if let Some(room) = out.get_mut(start..before) {
        room.copy_from_slice(&head(kind, channel, size));
    }
    out.put_u8(FRAME_END);
}

/// A heartbeat.
#[must_use]
pub fn heartbeat() -> [u8; FRAME_OVERHEAD_BYTES] {
    [FrameKind::Heartbeat.number(), 0, 0, 0, 0, 0, 0, FRAME_END]
}

/// Cuts a body into the payloads of body frames, in order.
pub fn body_payloads(body: &Bytes, frame_bytes_max: u32) -> impl Iterator<Item = Bytes> + use<> {
    let most =
        usize::try_from(frame_bytes_max.max(FRAME_BYTES_MIN)).unwrap_or(usize::MAX) - FRAME_OVERHEAD_BYTES;
    let mut left = body.clone();
    std::iter::from_fn(move || if left.is_empty() { None } else { Some(left.split_to(left.len().min(most))) })
}
