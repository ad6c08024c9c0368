//! Frames Fetch responses (versions 4 to 18): fields into small buffers, batches as they lie in the log's.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::ResponseError;

use super::read::PartRead;
use super::session::{Key, TopicKey};
use crate::num::i32_of;
use crate::wire::{Header, Out};

/// Batches up to this size are copied beside the fields: cheaper than a part of their own.
const COPY_BYTES_MAX: usize = 1 << 10;

struct Writer {
    buf: BytesMut,
    out: Out,
    version: i16,
    flexible: bool,
}

impl Writer {
    fn new(h: &Header) -> Self {
        let flexible = h.api.is_flexible(h.version);
        let mut buf = BytesMut::with_capacity(1_024);
        buf.put_i32(h.correlation);
        let mut w = Self { buf, out: Out::default(), version: h.version, flexible };
        w.tags();
        w
    }
    fn uvarint(&mut self, mut n: u32) {
        while n >= 0x80 {
            self.buf.put_u8(u8::try_from(n & 0x7f).unwrap_or_default() | 0x80);
            n >>= 7;
        }
        self.buf.put_u8(u8::try_from(n).unwrap_or_default());
    }
    /// The count of an array, or the length of bytes.
    fn length(&mut self, n: usize) {
        if self.flexible {
            self.uvarint(u32::try_from(n + 1).unwrap_or(u32::MAX));
        } else {
            self.buf.put_i32(i32_of(n));
        }
    }
    /// A null array.
    fn null(&mut self) {
        if self.flexible { self.buf.put_u8(0) } else { self.buf.put_i32(-1) }
    }
    fn text(&mut self, s: &str) {
        if self.flexible {
            self.length(s.len());
        } else {
            self.buf.put_i16(i16::try_from(s.len()).unwrap_or(i16::MAX));
        }
        self.buf.put_slice(s.as_bytes());
    }
    fn tags(&mut self) {
        if self.flexible {
            self.buf.put_u8(0);
        }
    }
    fn cut(&mut self) {
        self.out.push(self.buf.split().freeze());
    }
    fn finish(mut self) -> Out {
        self.cut();
        let length = u32::try_from(self.out.len()).unwrap_or(u32::MAX);
        self.out.push_front(Bytes::copy_from_slice(&length.to_be_bytes()));
        self.out
    }

    fn head(&mut self, error: i16, session: i32) {
        self.buf.put_i32(0); // throttle time
        if self.version >= 7 {
            self.buf.put_i16(error);
            self.buf.put_i32(session);
        }
    }

    fn partition(&mut self, index: i32, read: PartRead) {
        self.buf.put_i32(index);
        self.buf.put_i16(read.error);
        self.buf.put_i64(read.high_watermark);
        self.buf.put_i64(read.high_watermark); // last stable offset
        if self.version >= 5 {
            self.buf.put_i64(read.log_start);
        }
        self.null(); // aborted transactions
        if self.version >= 11 {
            self.buf.put_i32(-1); // preferred read replica
        }
        self.length(read.bytes);
        for piece in read.pieces {
            self.buf.put_slice(&piece.prefix);
            if piece.rest.len() <= COPY_BYTES_MAX {
                self.buf.put_slice(&piece.rest);
            } else {
                self.cut();
                self.out.push(piece.rest);
            }
        }
        match read.diverging {
            Some((epoch, end)) if self.flexible => {
                self.uvarint(1); // one tagged field:
                self.uvarint(0); // diverging epoch,
                self.uvarint(13); // of 13 bytes
                self.buf.put_i32(epoch);
                self.buf.put_i64(end);
                self.tags();
            }
            _ => self.tags(),
        }
    }
}

/// A response that only says what is wrong with the session.
pub(super) fn error(h: &Header, error: ResponseError) -> Out {
    let mut w = Writer::new(h);
    w.head(error.code(), 0);
    w.length(0);
    w.tags();
    w.finish()
}

/// A response with the chosen parts: `(index in reads, key)`, in order.
pub(super) fn frame(h: &Header, session: i32, chosen: &[(usize, Key)], reads: Vec<PartRead>) -> Out {
    let mut reads: Vec<Option<PartRead>> = reads.into_iter().map(Some).collect();
    let mut w = Writer::new(h);
    w.head(0, session);
    // Partitions that follow each other and are of one topic go together; the order is kept.
    let topics: Vec<&[(usize, Key)]> = chosen.chunk_by(|a, b| a.1.topic == b.1.topic).collect();
    w.length(topics.len());
    for parts in topics {
        let Some((_, first)) = parts.first() else { continue };
        match &first.topic {
            TopicKey::Id(id) => w.buf.put_slice(id),
            TopicKey::Name(name) => w.text(name),
        }
        w.length(parts.len());
        for (at, key) in parts {
            let read = reads.get_mut(*at).and_then(Option::take).unwrap_or_default();
            w.partition(key.partition, read);
        }
        w.tags();
    }
    w.tags();
    w.finish()
}
