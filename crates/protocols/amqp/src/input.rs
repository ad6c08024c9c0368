//! Frames off a socket. Start at [`Input`].

use std::future::Future as _;
use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::error::CodecError;
use crate::frame::{self, Frame};
use crate::greeting::{self, Greeting};

/// Room that a read has while more comes than fits.
const READ_BYTES: usize = 64 << 10;
/// Room that it has else: a connection that says little holds no more than this, and none while it waits.
const READ_BYTES_FEW: usize = 1 << 10;

/// Why there is no further frame.
#[derive(Debug, Error)]
pub(crate) enum InputError {
    /// The other side closed, or the socket failed.
    #[error("the client went away")]
    Gone(#[from] Option<io::Error>),
    /// Nothing came for too long.
    #[error("nothing came for {0:?}")]
    Silent(Duration),
    /// What came is wrong.
    #[error("{0}")]
    Wrong(#[from] CodecError),
}

/// The reading side of a connection.
#[derive(Debug)]
pub(crate) struct Input<R> {
    socket: R,
    buffer: BytesMut,
    /// Room that the next read has.
    room: usize,
    /// Largest frame.
    pub(crate) frame_bytes_max: u32,
    /// Nothing read for so long is the end; `None` = never.
    pub(crate) silence_max: Option<Duration>,
}

impl<R: AsyncRead + Unpin> Input<R> {
    pub(crate) fn new(socket: R, frame_bytes_max: u32, silence_max: Option<Duration>) -> Self {
        Self { socket, buffer: BytesMut::new(), room: READ_BYTES_FEW, frame_bytes_max, silence_max }
    }

    /// The greeting; its bytes are taken if they are ours.
    pub(crate) async fn greeting(&mut self) -> Result<Greeting, InputError> {
        loop {
            match greeting::look(&self.buffer) {
                Greeting::More => self.read().await?,
                Greeting::Amqp091 => {
                    let _ = self.buffer.split_to(greeting::AMQP_0_9_1.len());
                    return Ok(Greeting::Amqp091);
                }
                other => return Ok(other),
            }
        }
    }

    /// The next frame. May be dropped at any point and called again.
    pub(crate) async fn next(&mut self) -> Result<Frame, InputError> {
        loop {
            if let Some(frame) = self.at_hand()? {
                return Ok(frame);
            }
            self.read().await?;
        }
    }

    /// The next frame of what was read already, if all of it is there.
    pub(crate) fn at_hand(&mut self) -> Result<Option<Frame>, CodecError> {
        frame::take(&mut self.buffer, self.frame_bytes_max)
    }

    /// Reads on and drops it, until the other side closes.
    pub(crate) async fn discard(&mut self) {
        loop {
            self.buffer.clear();
            if self.read().await.is_err() {
                return;
            }
        }
    }

    async fn read(&mut self) -> Result<(), InputError> {
        if self.buffer.is_empty() && self.room < READ_BYTES && self.buffer.capacity() > self.room {
            self.buffer = BytesMut::new();
        }
        let (socket, buffer, room) = (&mut self.socket, &mut self.buffer, self.room);
        let reading = std::future::poll_fn(|cx| poll_read(socket, buffer, room, cx));
        let read = match self.silence_max {
            None => reading.await,
            Some(max) => tokio::time::timeout(max, reading).await.map_err(|_| InputError::Silent(max))?,
        };
        match read {
            Ok((0, _)) => Err(InputError::Gone(None)),
            Ok((n, free)) => {
                match n {
                    _ if n >= free => self.room = READ_BYTES,
                    _ if n < READ_BYTES_FEW => self.room = READ_BYTES_FEW,
                    _ => {}
                }
                Ok(())
            }
            Err(e) => Err(InputError::Gone(Some(e))),
        }
    }
}

/// Reads into the buffer: how much, of how much that there was room for. While it waits for the first bytes of a frame there is no room.
fn poll_read<R: AsyncRead + Unpin>(
    socket: &mut R,
    buffer: &mut BytesMut,
    room: usize,
    cx: &mut Context<'_>,
) -> Poll<io::Result<(usize, usize)>> {
    if buffer.capacity() - buffer.len() < room / 4 {
        buffer.reserve(room);
    }
    let free = buffer.capacity() - buffer.len();
    let read = std::pin::pin!(socket.read_buf(buffer)).poll(cx);
    // One that is busy needs it again at once.
    if read.is_pending() && buffer.is_empty() && room == READ_BYTES_FEW {
        *buffer = BytesMut::new();
    }
    read.map_ok(|n| (n, free))
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    #[tokio::test]
    async fn a_connection_has_much_room_to_read_only_while_much_comes() {
        let (mut client, server) = tokio::io::duplex(1 << 20);
        let mut input = Input::new(server, 1 << 20, None);
        let beat = frame::heartbeat();
        client.write_all(&beat).await.unwrap();
        input.next().await.unwrap();
        assert!(input.buffer.capacity() <= READ_BYTES_FEW);
        client.write_all(&beat.repeat(20_000)).await.unwrap();
        let mut most = 0;
        for _ in 0..20_000 {
            input.next().await.unwrap();
            most = most.max(input.buffer.capacity());
        }
        assert!(most > READ_BYTES_FEW);
        for _ in 0..2 {
            client.write_all(&beat).await.unwrap();
            input.next().await.unwrap();
        }
        assert!(input.buffer.capacity() <= READ_BYTES_FEW);
        assert!(input.next().now_or_never().is_none());
        assert_eq!(input.buffer.capacity(), 0, "it waits for what may never come");
    }
}
