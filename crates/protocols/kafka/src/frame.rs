//! Cuts the byte stream of a connection into frames. Memory grows with what has come, never with what a length promises.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::versions::PRODUCE;
use crate::wire::Close;

/// Least request: API key, version, correlation id.
const FRAME_BYTES_MIN: usize = 8;
/// What a connection keeps for reading, at least.
const IDLE_BYTES: usize = 4 << 10;
/// What it keeps at most between frames: the size of the last one, so that one like it is read at once.
const KEPT_BYTES: usize = 256 << 10;
/// Room made inside a frame at once; beyond that as much as has come already.
const READ_BYTES: usize = 1 << 20;

/// What is read ahead to notice the end of the stream.
const AHEAD_BYTES: usize = 64 << 10;

/// Bounds of frames, inclusive.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameLimits {
    /// Largest Produce.
    pub(crate) produce_bytes: usize,
    /// Largest of all others.
    pub(crate) control_bytes: usize,
    /// Longest silence.
    pub(crate) idle: Duration,
}

/// Reads frames.
pub(crate) struct Frames<R> {
    socket: R,
    buf: BytesMut,
    limits: FrameLimits,
    /// Room to make before a frame's length is known.
    ahead: usize,
}

impl<R: AsyncRead + Unpin> Frames<R> {
    pub(crate) fn new(socket: R, limits: FrameLimits) -> Self {
        Self { socket, buf: BytesMut::new(), limits, ahead: IDLE_BYTES }
    }

    /// The next frame, without its length; `None` at the end of the stream. `is_idle` says whether silence counts now.
    ///
    /// # Errors
    /// The connection is to be closed.
    pub(crate) async fn next(&mut self, is_idle: impl Fn() -> bool) -> Result<Option<Bytes>, Close> {
        loop {
            let wanted = match self.wanted()? {
                Some(length) if self.buf.len() >= 4 + length => {
                    self.ahead = (4 + length).clamp(IDLE_BYTES, KEPT_BYTES);
                    self.buf.advance(4);
                    return Ok(Some(self.buf.split_to(length).freeze()));
                }
                Some(length) => (4 + length - self.buf.len()).min(READ_BYTES.max(self.buf.len())),
                None => self.ahead,
            };
            self.buf.reserve(wanted);
            let n = loop {
                match tokio::time::timeout(self.limits.idle, self.socket.read_buf(&mut self.buf)).await {
                    Ok(n) => break n?,
                    Err(_) if is_idle() => return Err(Close::Idle),
                    Err(_) => {}
                }
            };
            if n == 0 {
                return if self.buf.is_empty() { Ok(None) } else { Err(Close::CutShort) };
            }
        }
    }

    /// Resolves when the other side has closed, reading ahead a little to notice; never, if it sends more than that instead. What
    /// was read ahead is not lost, also if this is dropped.
    pub(crate) async fn closed(&mut self) {
        while self.buf.len() < AHEAD_BYTES {
            self.buf.reserve(IDLE_BYTES);
            match self.socket.read_buf(&mut self.buf).await {
                Ok(n) if n > 0 => {}
                _ => return,
            }
        }
        std::future::pending::<()>().await;
    }

    /// The length of the frame at the front, as soon as it is known to be within bounds.
    fn wanted(&self) -> Result<Option<usize>, Close> {
        let Some(prefix) = self.buf.first_chunk::<4>() else { return Ok(None) };
        let length = i32::from_be_bytes(*prefix);
        let refuse = |max| Close::FrameLength { length: i64::from(length), min: FRAME_BYTES_MIN, max };
        let most = self.limits.produce_bytes;
        let size = usize::try_from(length).map_err(|_| refuse(most))?;
        if size < FRAME_BYTES_MIN || size > most {
            return Err(refuse(most));
        }
        if size > self.limits.control_bytes {
            let Some(head) = self.buf.first_chunk::<6>() else { return Ok(Some(size)) };
            if i16::from_be_bytes([head[4], head[5]]) != PRODUCE {
                return Err(refuse(self.limits.control_bytes));
            }
        }
        Ok(Some(size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: FrameLimits =
        FrameLimits { produce_bytes: 1_000, control_bytes: 100, idle: Duration::from_mins(1) };

    async fn read(bytes: &[u8]) -> Vec<Result<Option<Bytes>, String>> {
        let mut frames = Frames::new(bytes, LIMITS);
        let mut got = Vec::new();
        loop {
            let one = frames.next(|| true).await.map_err(|e| e.to_string());
            let end = !matches!(one, Ok(Some(_)));
            got.push(one);
            if end {
                return got;
            }
        }
    }

    fn frame(key: i16, length: usize) -> Vec<u8> {
        let mut out = i32::try_from(length).unwrap().to_be_bytes().to_vec();
        out.extend(key.to_be_bytes());
        out.resize(4 + length, 7);
        out
    }

    #[tokio::test]
    async fn frames_come_out_as_they_went_in() {
        let mut bytes = frame(3, 20);
        bytes.extend(frame(0, 900));
        let got = read(&bytes).await;
        assert_eq!(got.len(), 3);
        assert_eq!(got[0].as_ref().unwrap().as_ref().unwrap(), &bytes[4..24]);
        assert_eq!(got[1].as_ref().unwrap().as_ref().unwrap().len(), 900);
        assert_eq!(got[2], Ok(None));
    }

    #[tokio::test]
    async fn lengths_out_of_bounds_are_refused_before_memory_is_taken() {
        for length in [-1, -2_147_483_648, 0, 7, 1_001, i32::MAX] {
            let got = read(&length.to_be_bytes()).await;
            assert!(got[0].as_ref().unwrap_err().contains("allowed are 8 to 1000"), "{length}");
        }
        let got = read(&frame(3, 101)[..10]).await;
        assert!(got[0].as_ref().unwrap_err().contains("allowed are 8 to 100"));
    }

    #[tokio::test]
    async fn an_end_inside_a_frame_is_told_from_an_end_between_frames() {
        assert!(read(&frame(3, 20)[..23]).await[0].is_err());
        assert!(read(&[0, 0]).await[0].is_err());
        assert_eq!(read(&[]).await[0], Ok(None));
    }

    #[tokio::test]
    async fn a_promised_length_takes_no_memory() {
        let mut head = 1_000_i32.to_be_bytes().to_vec();
        head.extend([0, 0]);
        let limits = FrameLimits { produce_bytes: 100 << 20, ..LIMITS };
        let mut frames = Frames::new(&head[..], limits);
        frames.buf.extend_from_slice(&(90_i32 << 20).to_be_bytes());
        let _ = frames.next(|| true).await;
        assert!(frames.buf.capacity() <= 4 * READ_BYTES);
    }
}
