//! Request headers in, responses out, and the reasons to close a connection. Knows no API.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, StrBytes};
use thiserror::Error;

use crate::guard::{self, GuardError};
use crate::versions::{self, Api};

/// Longest text of an error message sent to a client, bytes.
const MESSAGE_BYTES_MAX: usize = 1_000;

/// Why a connection is closed. Said in the log, not to the client.
#[derive(Debug, Error)]
pub(crate) enum Close {
    /// The socket failed.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// A frame's length is out of bounds.
    #[error("a frame of {length} bytes; allowed are {min} to {max}")]
    FrameLength {
        /// As read.
        length: i64,
        /// Least.
        min: usize,
        /// Most.
        max: usize,
    },
    /// The client closed in the middle of a frame.
    #[error("the client closed in the middle of a frame")]
    CutShort,
    /// The header is not one.
    #[error("the request's header is malformed: {0}")]
    Header(&'static str),
    /// An API that is not served.
    #[error("API {0} is not served")]
    UnknownApi(i16),
    /// A version that is not served.
    #[error("version {version} of {api} is not served")]
    Version {
        /// Which API.
        api: &'static str,
        /// Which version.
        version: i16,
    },
    /// The body is not one of its API and version.
    #[error("the body of {api} version {version} is malformed: {why}")]
    Body {
        /// Which API.
        api: &'static str,
        /// Which version.
        version: i16,
        /// Why.
        why: String,
    },
    /// A response could not be encoded: a bug of ours.
    #[error("the response to {api} version {version} cannot be encoded: {why}")]
    Response {
        /// Which API.
        api: &'static str,
        /// Which version.
        version: i16,
        /// Why.
        why: String,
    },
    /// Whether what was asked happened is not known: no answer would be true.
    #[error("the log was lost: it is not known whether the request was carried out")]
    FateUnknown,
    /// A Produce without acknowledgement failed.
    #[error("a Produce with acks=0 failed with code {0}")]
    Unacknowledged(i16),
    /// Nothing came for too long.
    #[error("nothing came for too long")]
    Idle,
}

impl Close {
    /// Whether the other side broke the protocol (as against networks failing and logs being lost).
    pub(crate) fn is_violation(&self) -> bool {
        !matches!(self, Self::Io(_) | Self::FateUnknown | Self::Idle | Self::CutShort)
    }
}

/// A request's header.
#[derive(Clone, Debug)]
pub(crate) struct Header {
    pub(crate) api: &'static Api,
    pub(crate) version: i16,
    pub(crate) correlation: i32,
    /// Empty if the client says none.
    pub(crate) client_id: String,
}

impl Header {
    /// Takes the header off the front of a frame. An unserved version of `ApiVersions` passes: it has an answer of its own.
    ///
    /// # Errors
    /// The connection is to be closed.
    pub(crate) fn take(frame: &mut Bytes) -> Result<Self, Close> {
        const SHORT: Close = Close::Header("cut short");
        let key = frame.try_get_i16().map_err(|_| SHORT)?;
        let version = frame.try_get_i16().map_err(|_| SHORT)?;
        let correlation = frame.try_get_i32().map_err(|_| SHORT)?;
        let api = versions::find(key).ok_or(Close::UnknownApi(key))?;
        let served = api.serves(version);
        if !served && key != versions::API_VERSIONS {
            return Err(Close::Version { api: api.name, version });
        }
        if version < 0 {
            return Err(Close::Version { api: api.name, version });
        }
        let client_id = match frame.try_get_i16().map_err(|_| SHORT)? {
            -1 => String::new(),
            n => {
                let n =
                    usize::try_from(n).map_err(|_| Close::Header("the client id's length is negative"))?;
                if n > frame.len() {
                    return Err(SHORT);
                }
                String::from_utf8(frame.split_to(n).to_vec())
                    .map_err(|_| Close::Header("the client id is not UTF-8"))?
            }
        };
        if served && api.is_flexible(version) {
            let n =
                guard::header_tags(frame).map_err(|_| Close::Header("its tagged fields are malformed"))?;
            frame.advance(n);
        }
        Ok(Self { api, version, correlation, client_id })
    }

    fn malformed(&self, why: &impl ToString) -> Close {
        Close::Body { api: self.api.name, version: self.version, why: why.to_string() }
    }
}

/// Decodes a body, after walking it.
///
/// # Errors
/// The connection is to be closed.
pub(crate) fn decode<T: Decodable>(h: &Header, body: Bytes) -> Result<T, Close> {
    let refused = |e: GuardError| h.malformed(&e);
    let rewritten = h.version > h.api.codec_max && h.api.key != versions::LIST_OFFSETS;
    let mut body = if rewritten {
        guard::name_for_id(h.api, h.version, &body).map_err(refused)?
    } else {
        guard::check(h.api, h.version, &body).map_err(refused)?;
        body
    };
    T::decode(&mut body, h.version.min(h.api.codec_max)).map_err(|e| h.malformed(&e))
}

/// Frames a response.
///
/// # Errors
/// The connection is to be closed.
pub(crate) fn encode<R: Encodable + HeaderVersion>(h: &Header, response: &R) -> Result<Out, Close> {
    let version =
        if h.api.key == versions::LIST_OFFSETS { h.version.min(h.api.codec_max) } else { h.version };
    encode_as(h, response, version)
}

/// Frames a response in a version other than the request's.
///
/// # Errors
/// The connection is to be closed.
pub(crate) fn encode_as<R: Encodable + HeaderVersion>(
    h: &Header,
    response: &R,
    version: i16,
) -> Result<Out, Close> {
    let mut buf = BytesMut::with_capacity(256);
    buf.put_i32(0);
    buf.put_i32(h.correlation);
    if R::header_version(version) >= 1 {
        buf.put_u8(0);
    }
    response.encode(&mut buf, version).map_err(|e| Close::Response {
        api: h.api.name,
        version,
        why: e.to_string(),
    })?;
    let length = u32::try_from(buf.len() - 4).unwrap_or(u32::MAX);
    if let Some(prefix) = buf.first_chunk_mut::<4>() {
        *prefix = length.to_be_bytes();
    }
    let mut out = Out::default();
    out.push(buf.freeze());
    Ok(out)
}

/// Bytes on their way out, in pieces that are not copied together.
#[derive(Debug, Default)]
pub(crate) struct Out {
    parts: VecDeque<Bytes>,
    len: usize,
}

impl Out {
    pub(crate) fn push(&mut self, part: Bytes) {
        if !part.is_empty() {
            self.len += part.len();
            self.parts.push_back(part);
        }
    }
    pub(crate) fn push_front(&mut self, part: Bytes) {
        self.len += part.len();
        self.parts.push_front(part);
    }
    pub(crate) fn append(&mut self, other: Self) {
        self.len += other.len;
        self.parts.extend(other.parts);
    }
    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

impl Buf for Out {
    fn remaining(&self) -> usize {
        self.len
    }
    fn chunk(&self) -> &[u8] {
        self.parts.front().map_or(&[], |p| p.as_ref())
    }
    fn advance(&mut self, mut cnt: usize) {
        assert!(cnt <= self.len, "advanced past the end");
        self.len -= cnt;
        while let Some(front) = self.parts.front_mut() {
            if cnt < front.len() {
                front.advance(cnt);
                return;
            }
            cnt -= front.len();
            self.parts.pop_front();
        }
    }
    fn chunks_vectored<'a>(&'a self, dst: &mut [IoSlice<'a>]) -> usize {
        let mut n = 0;
        for (slot, part) in dst.iter_mut().zip(&self.parts) {
            *slot = IoSlice::new(part);
            n += 1;
        }
        n
    }
}

/// Text for a response.
pub(crate) fn text(s: &str) -> StrBytes {
    StrBytes::from_string(s.to_owned())
}

/// An error message for a response, not longer than any version can carry.
pub(crate) fn message(e: &(impl ToString + ?Sized)) -> StrBytes {
    let mut s = e.to_string();
    if s.len() > MESSAGE_BYTES_MAX {
        let mut end = MESSAGE_BYTES_MAX;
        while !s.is_char_boundary(end) {
            end -= 1;
        }
        s.truncate(end);
    }
    StrBytes::from_string(s)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_of_parts_reads_as_one() {
        let mut out = Out::default();
        for part in [&b"ab"[..], b"", b"cde", b"f"] {
            out.push(Bytes::copy_from_slice(part));
        }
        assert_eq!(out.len(), 6);
        out.advance(1);
        assert_eq!(out.chunk(), b"b");
        out.advance(3);
        assert_eq!((out.chunk(), out.remaining()), (&b"e"[..], 2));
        out.advance(2);
        assert!(!out.has_remaining());
    }

    #[test]
    fn a_message_is_cut_between_characters() {
        let m = message(&"ü".repeat(600));
        assert_eq!(m.len(), 1_000);
    }
}
