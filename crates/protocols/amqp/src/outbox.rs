//! What is to be written to a connection's socket: filled by its channels, emptied by its writer, bounded.
//!
//! Start at [`Outbox`]. Replies are always taken (a peer gets one for each request that was read, and reading rests while the outbox is
//! full); deliveries wait for [`Outbox::room`] first.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::{Mutex, MutexGuard, PoisonError};

use amq_protocol::protocol::AMQPClass;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::sync::Notify;

use crate::error::EncodeError;
use crate::frame::{self, FRAME_BYTES_MIN, FRAME_END, FrameKind};
use crate::method;
use crate::properties::ContentHeader;

/// Above this many bytes nothing is added that can wait. A busy consumer has about as much again on its way.
pub(crate) const OUTBOX_BYTES_MAX: usize = 256 << 10;
/// Pieces of a body from here on are not copied.
pub(crate) const COPY_BYTES_MAX: usize = 4 << 10;

/// Bytes on their way to a socket.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    inner: Mutex<Inner>,
    filled: Notify,
    drained: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    out: Chunks,
    /// Bytes in `out`, and those that the writer has taken and not written.
    bytes: usize,
    frame_bytes_max: u32,
    /// Room for one header while it is encoded.
    header: BytesMut,
    /// Nothing more will come.
    finished: bool,
    /// Nobody writes any more.
    dead: bool,
}

impl Outbox {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was agreed; bodies are cut to it from now on.
    pub(crate) fn set_frame_bytes_max(&self, max: u32) {
        self.lock().frame_bytes_max = max;
    }

    /// Adds bytes as they are.
    pub(crate) fn raw(&self, bytes: &[u8]) {
        self.add(|inner| inner.out.tail.put_slice(bytes));
    }

    /// Adds a method's frame.
    pub(crate) fn method(&self, channel: u16, class: &AMQPClass) {
        self.add(|inner| put_method(&mut inner.out.tail, channel, class));
    }

    /// Adds a method with content: its frames stay together.
    ///
    /// # Errors
    /// If the properties cannot be expressed; nothing is added then.
    pub(crate) fn content(
        &self,
        channel: u16,
        class: &AMQPClass,
        header: &ContentHeader,
        body: &Bytes,
    ) -> Result<(), EncodeError> {
        self.filling().content(channel, |out| method::encode(out, class), header, body)
    }

    /// Adds many at once. Nobody else adds, and nothing is written, while this lives: not for long.
    pub(crate) fn filling(&self) -> Filling<'_> {
        let inner = self.lock();
        Filling { before: inner.out.remaining(), inner: Some(inner), filled: &self.filled }
    }

    fn add(&self, f: impl FnOnce(&mut Inner)) {
        self.filling().add(f);
    }

    /// Waits until there is room, or nobody writes any more.
    pub(crate) async fn room(&self) {
        loop {
            let drained = self.drained.notified();
            tokio::pin!(drained);
            drained.as_mut().enable();
            {
                let inner = self.lock();
                if inner.bytes <= OUTBOX_BYTES_MAX || inner.dead {
                    return;
                }
            }
            drained.await;
        }
    }

    /// Nothing more will be added: the writer ends when it has written what is there.
    pub(crate) fn finish(&self) {
        self.lock().finished = true;
        self.filled.notify_one();
    }

    /// Nobody writes any more: what is there is dropped.
    pub(crate) fn abandon(&self) {
        let mut inner = self.lock();
        inner.dead = true;
        inner.out = Chunks::default();
        drop(inner);
        self.drained.notify_waiters();
    }

    /// For the writer: what is there, or `None` at the end.
    pub(crate) async fn take(&self) -> Option<Chunks> {
        loop {
            {
                let mut inner = self.lock();
                if inner.out.has_remaining() {
                    return Some(std::mem::take(&mut inner.out));
                }
                if inner.finished || inner.dead {
                    return None;
                }
            }
            self.filled.notified().await;
        }
    }

    /// From the writer: the socket took so much.
    pub(crate) fn wrote(&self, bytes: usize) {
        let mut inner = self.lock();
        inner.bytes = inner.bytes.saturating_sub(bytes);
        let room = inner.bytes <= OUTBOX_BYTES_MAX;
        drop(inner);
        if room {
            self.drained.notify_waiters();
        }
    }
}

/// Adds to an outbox; the writer is woken once, when this is dropped.
#[derive(Debug)]
pub(crate) struct Filling<'a> {
    inner: Option<MutexGuard<'a, Inner>>,
    /// Bytes that were there before.
    before: usize,
    filled: &'a Notify,
}

impl Filling<'_> {
    fn add(&mut self, f: impl FnOnce(&mut Inner)) {
        if let Some(inner) = self.inner.as_mut().filter(|i| !i.finished && !i.dead) {
            f(inner);
        }
    }

    /// So many bytes will be added, about.
    pub(crate) fn expect(&mut self, bytes: usize) {
        self.add(|inner| inner.out.tail.reserve(bytes));
    }

    /// As [`Outbox::content`], the method written by `put_method`.
    ///
    /// # Errors
    /// Likewise.
    pub(crate) fn content(
        &mut self,
        channel: u16,
        put_method: impl FnOnce(&mut BytesMut),
        header: &ContentHeader,
        body: &Bytes,
    ) -> Result<(), EncodeError> {
        let mut encoded = Ok(());
        self.add(|inner| {
            inner.header.clear();
            encoded = header.encode(&mut inner.header);
            if encoded.is_err() {
                return;
            }
            frame::put(&mut inner.out.tail, FrameKind::Method, channel, put_method);
            let header = &inner.header;
            frame::put(&mut inner.out.tail, FrameKind::Header, channel, |out| out.put_slice(header));
            for piece in frame::body_payloads(body, inner.frame_bytes_max.max(FRAME_BYTES_MIN)) {
                inner.out.body(channel, piece);
            }
        });
        encoded
    }
}

impl Drop for Filling<'_> {
    fn drop(&mut self) {
        let Some(mut inner) = self.inner.take() else { return };
        let added = inner.out.remaining().saturating_sub(self.before);
        inner.bytes += added;
        drop(inner);
        if added > 0 {
            self.filled.notify_one();
        }
    }
}

fn put_method(out: &mut BytesMut, channel: u16, class: &AMQPClass) {
    frame::put(out, FrameKind::Method, channel, |out| method::encode(out, class));
}

/// A chain of bytes, written as one.
#[derive(Debug, Default)]
pub(crate) struct Chunks {
    parts: VecDeque<Bytes>,
    parts_bytes: usize,
    tail: BytesMut,
}

impl Chunks {
    fn body(&mut self, channel: u16, piece: Bytes) {
        let size = u32::try_from(piece.len()).unwrap_or(u32::MAX);
        self.tail.put_slice(&frame::head(FrameKind::Body, channel, size));
        if piece.len() <= COPY_BYTES_MAX {
            self.tail.put_slice(&piece);
        } else {
            self.push(piece);
        }
        self.tail.put_u8(FRAME_END);
    }

    fn push(&mut self, part: Bytes) {
        let before = self.tail.split().freeze();
        self.parts_bytes += before.len() + part.len();
        if !before.is_empty() {
            self.parts.push_back(before);
        }
        self.parts.push_back(part);
    }
}

impl Buf for Chunks {
    fn remaining(&self) -> usize {
        self.parts_bytes + self.tail.len()
    }
    fn chunk(&self) -> &[u8] {
        self.parts.front().map_or(&self.tail, |p| p)
    }
    fn advance(&mut self, mut cnt: usize) {
        while let Some(front) = self.parts.front_mut() {
            let n = front.len().min(cnt);
            front.advance(n);
            self.parts_bytes -= n;
            cnt -= n;
            if !front.is_empty() {
                return;
            }
            self.parts.pop_front();
        }
        self.tail.advance(cnt);
    }
    fn chunks_vectored<'a>(&'a self, dst: &mut [IoSlice<'a>]) -> usize {
        let parts = self.parts.iter().map(|p| &p[..]).chain(std::iter::once(&self.tail[..]));
        let mut n = 0;
        for (slot, part) in dst.iter_mut().zip(parts.filter(|p| !p.is_empty())) {
            *slot = IoSlice::new(part);
            n += 1;
        }
        n
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::methods::channel;

    #[tokio::test]
    async fn a_large_body_goes_out_in_frames_as_agreed_and_uncopied() {
        let outbox = Outbox::default();
        outbox.set_frame_bytes_max(8_192);
        let body = Bytes::from(vec![7; 20_000]);
        let class = AMQPClass::Channel(channel::AMQPMethod::OpenOk(channel::OpenOk {}));
        let header = ContentHeader { body_bytes: 20_000, ..ContentHeader::default() };
        outbox.content(3, &class, &header, &body).unwrap();
        let mut chunks = outbox.take().await.unwrap();
        assert!(chunks.parts.iter().any(|p| p.as_ptr() == body.as_ptr()));
        let mut bytes = BytesMut::from(&chunks.copy_to_bytes(chunks.remaining())[..]);
        let mut sizes = Vec::new();
        while let Some(f) = frame::take(&mut bytes, 8_192).unwrap() {
            assert_eq!(f.channel, 3);
            sizes.push((f.kind, f.payload.len()));
        }
        assert_eq!(
            sizes[2..],
            [(FrameKind::Body, 8_184), (FrameKind::Body, 8_184), (FrameKind::Body, 3_632)]
        );
    }

    #[tokio::test]
    async fn there_is_room_again_once_the_socket_took_what_was_there() {
        let outbox = Outbox::default();
        outbox.raw(&vec![0; OUTBOX_BYTES_MAX + 1]);
        let room = outbox.room();
        tokio::pin!(room);
        assert!(room.as_mut().now_or_never().is_none());
        let taken = outbox.take().await.unwrap();
        assert!(room.as_mut().now_or_never().is_none());
        outbox.wrote(taken.remaining());
        room.await;
    }
}
