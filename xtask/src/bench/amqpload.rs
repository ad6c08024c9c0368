//! A load tool for AMQP 0-9-1: one blocking socket and one channel a client. It looks into what it gets no further than it must, so that
//! on two shared cores most of the time is the broker's. For what `PerfTest` cannot do: settling out of order, and being idle in great number.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::clock::Moment;

/// Nothing that is waited for takes longer.
const ANSWERED_WITHIN: Duration = Duration::from_mins(5);
/// What is read at a time.
const READ_BYTES: usize = 256 << 10;
/// Written at a time, about.
const WRITE_BYTES: usize = 64 << 10;
/// Largest frame.
const FRAME_BYTES_MAX: u32 = 131_072;
/// Declarations on their way at a time.
const DECLARATIONS: usize = 500;
/// Prefetch of a consumer that acknowledges all, and how many it acknowledges at a time.
const PREFETCH: u16 = 1_000;
const ACKED_TOGETHER: u64 = 100;
/// Messages that wait for their confirm.
const UNCONFIRMED_MAX: u64 = 1_000;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const END: u8 = 0xCE;

/// Class and method ids.
mod id {
    pub(super) const START: (u16, u16) = (10, 10);
    pub(super) const START_OK: (u16, u16) = (10, 11);
    pub(super) const TUNE: (u16, u16) = (10, 30);
    pub(super) const TUNE_OK: (u16, u16) = (10, 31);
    pub(super) const OPEN: (u16, u16) = (10, 40);
    pub(super) const OPEN_OK: (u16, u16) = (10, 41);
    pub(super) const CLOSE: (u16, u16) = (10, 50);
    pub(super) const CHANNEL_OPEN: (u16, u16) = (20, 10);
    pub(super) const CHANNEL_OPEN_OK: (u16, u16) = (20, 11);
    pub(super) const CHANNEL_CLOSE: (u16, u16) = (20, 40);
    pub(super) const CHANNEL_CLOSE_OK: (u16, u16) = (20, 41);
    pub(super) const DECLARE: (u16, u16) = (50, 10);
    pub(super) const DECLARE_OK: (u16, u16) = (50, 11);
    pub(super) const QOS: (u16, u16) = (60, 10);
    pub(super) const QOS_OK: (u16, u16) = (60, 11);
    pub(super) const CONSUME: (u16, u16) = (60, 20);
    pub(super) const CONSUME_OK: (u16, u16) = (60, 21);
    pub(super) const PUBLISH: (u16, u16) = (60, 40);
    pub(super) const DELIVER: (u16, u16) = (60, 60);
    pub(super) const ACK: (u16, u16) = (60, 80);
    pub(super) const SELECT: (u16, u16) = (85, 10);
    pub(super) const SELECT_OK: (u16, u16) = (85, 11);
}

/// Which deliveries a consumer acknowledges.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Acks {
    /// All, a hundred at a time.
    All,
    /// Every third, each for itself; the others stay out until the connection ends.
    EveryThird,
}

/// A connection with one channel.
pub struct Client {
    socket: TcpStream,
    read: Vec<u8>,
    /// What of `read` was not looked at.
    unread: std::ops::Range<usize>,
    out: Vec<u8>,
}

/// A frame of which only this is looked at.
struct Frame {
    kind: u8,
    /// Of a method.
    id: (u16, u16),
    /// Of an ack or a delivery: its tag. Of a queue that was declared: its messages. Of a header: the bytes of the body.
    number: u64,
    /// Of an ack.
    multiple: bool,
    payload_bytes: usize,
}

impl Client {
    /// Connects as guest, without heartbeats.
    pub fn open(address: &str) -> Result<Self> {
        let mut socket = TcpStream::connect(address).with_context(|| address.to_owned())?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(ANSWERED_WITHIN))?;
        socket.set_write_timeout(Some(ANSWERED_WITHIN))?;
        socket.write_all(b"AMQP\x00\x00\x09\x01")?;
        let mut client = Self { socket, read: Vec::new(), unread: 0..0, out: Vec::new() };
        client.until(id::START)?;
        client.method(0, id::START_OK, |out| {
            out.extend(0_u32.to_be_bytes());
            short(out, "PLAIN");
            out.extend(12_u32.to_be_bytes());
            out.extend(b"\0guest\0guest");
            short(out, "en_US");
        });
        client.ask(id::TUNE)?;
        client.method(0, id::TUNE_OK, |out| {
            out.extend(1_u16.to_be_bytes());
            out.extend(FRAME_BYTES_MAX.to_be_bytes());
            out.extend(0_u16.to_be_bytes());
        });
        client.method(0, id::OPEN, |out| {
            short(out, "/");
            out.extend([0, 0]);
        });
        client.ask(id::OPEN_OK)?;
        client.method(1, id::CHANNEL_OPEN, |out| out.push(0));
        client.ask(id::CHANNEL_OPEN_OK)?;
        // One that stays idle is to take nothing of note.
        client.read = Vec::new();
        Ok(client)
    }

    /// Declares durable queues.
    pub fn declare(&mut self, names: impl Iterator<Item = String>) -> Result<()> {
        let mut asked = 0;
        for name in names {
            self.method(1, id::DECLARE, |out| {
                out.extend([0, 0]);
                short(out, &name);
                out.push(0b10);
                out.extend(0_u32.to_be_bytes());
            });
            asked += 1;
            if asked == DECLARATIONS {
                self.answers(std::mem::take(&mut asked))?;
            }
        }
        self.answers(asked)
    }

    fn answers(&mut self, n: usize) -> Result<()> {
        self.flush()?;
        (0..n).try_for_each(|_| self.until(id::DECLARE_OK).map(drop))
    }

    /// Messages of a queue that are ready.
    pub fn depth(&mut self, queue: &str) -> Result<u64> {
        self.method(1, id::DECLARE, |out| {
            out.extend([0, 0]);
            short(out, queue);
            out.push(0b11);
            out.extend(0_u32.to_be_bytes());
        });
        Ok(self.ask(id::DECLARE_OK)?.number)
    }

    /// Publishes persistent messages, and waits until the last is confirmed. How long it took.
    pub fn fill(&mut self, queue: &str, messages: u64, body_bytes: usize) -> Result<Duration> {
        self.method(1, id::SELECT, |out| out.push(0));
        self.ask(id::SELECT_OK)?;
        let started = Moment::now();
        let message = message(queue, body_bytes)?;
        let (mut sent, mut confirmed) = (0, 0);
        while confirmed < messages {
            while sent < messages && sent - confirmed < UNCONFIRMED_MAX && self.out.len() < WRITE_BYTES {
                self.out.extend_from_slice(&message);
                sent += 1;
            }
            if !self.out.is_empty() {
                self.flush()?;
                if sent < messages && sent - confirmed < UNCONFIRMED_MAX {
                    continue;
                }
            }
            let ack = self.until(id::ACK)?;
            confirmed = if ack.multiple { ack.number } else { confirmed + 1 };
        }
        Ok(started.elapsed())
    }

    /// Consumes so many messages. How long it took; what was acknowledged is settled then, and the rest given back.
    pub fn drain(mut self, queue: &str, messages: u64, acks: Acks) -> Result<Duration> {
        let prefetch = if acks == Acks::All { PREFETCH } else { 0 };
        self.method(1, id::QOS, |out| {
            out.extend(0_u32.to_be_bytes());
            out.extend(prefetch.to_be_bytes());
            out.push(0);
        });
        self.ask(id::QOS_OK)?;
        self.method(1, id::CONSUME, |out| {
            out.extend([0, 0]);
            short(out, queue);
            short(out, "load");
            out.push(0);
            out.extend(0_u32.to_be_bytes());
        });
        self.ask(id::CONSUME_OK)?;
        let started = Moment::now();
        let (mut got, mut tag, mut acked) = (0, 0, 0);
        while got < messages {
            let frame = self.next()?;
            if (frame.kind, frame.id) != (METHOD, id::DELIVER) {
                continue;
            }
            (got, tag) = (got + 1, frame.number);
            match acks {
                Acks::All if got % ACKED_TOGETHER == 0 => {
                    self.ack(tag, true);
                    acked = tag;
                }
                Acks::EveryThird if got % 3 == 0 => self.ack(tag, false),
                _ => {}
            }
            if self.out.len() >= WRITE_BYTES {
                self.flush()?;
            }
        }
        if acks == Acks::All && tag > acked {
            self.ack(tag, true);
        }
        let took = started.elapsed();
        // Answered when what was acknowledged is settled durably.
        self.method(1, id::CHANNEL_CLOSE, |out| out.extend([0; 7]));
        self.ask(id::CHANNEL_CLOSE_OK)?;
        Ok(took)
    }

    fn ack(&mut self, tag: u64, multiple: bool) {
        self.method(1, id::ACK, |out| {
            out.extend(tag.to_be_bytes());
            out.push(multiple.into());
        });
    }

    fn method(&mut self, channel: u16, id: (u16, u16), fields: impl FnOnce(&mut Vec<u8>)) {
        frame(&mut self.out, METHOD, channel, |out| {
            out.extend(id.0.to_be_bytes());
            out.extend(id.1.to_be_bytes());
            fields(out);
        });
    }

    fn flush(&mut self) -> Result<()> {
        self.socket.write_all(&self.out)?;
        self.out.clear();
        Ok(())
    }

    fn ask(&mut self, answer: (u16, u16)) -> Result<Frame> {
        self.flush()?;
        self.until(answer)
    }

    /// Skips frames up to this method.
    fn until(&mut self, id: (u16, u16)) -> Result<Frame> {
        loop {
            let frame = self.next()?;
            if frame.kind == METHOD && frame.id == id {
                return Ok(frame);
            }
        }
    }

    fn next(&mut self) -> Result<Frame> {
        loop {
            let bytes = self.read.get(self.unread.clone()).unwrap_or_default();
            if let Some(frame) = look(bytes)? {
                self.unread.start += frame.payload_bytes + 8;
                return Ok(frame);
            }
            self.read_more()?;
        }
    }

    fn read_more(&mut self) -> Result<()> {
        // Who waits has said all that it has to say.
        self.flush()?;
        if self.read.len() < READ_BYTES {
            self.read.resize(READ_BYTES, 0);
        }
        self.read.copy_within(self.unread.clone(), 0);
        self.unread = 0..self.unread.len();
        let room =
            self.read.get_mut(self.unread.end..).filter(|r| !r.is_empty()).context("a frame too large")?;
        let n = self.socket.read(room)?;
        ensure!(n > 0, "the broker closed the connection");
        self.unread.end += n;
        Ok(())
    }
}

/// A frame at the front of these bytes, if it is there as a whole.
fn look(bytes: &[u8]) -> Result<Option<Frame>> {
    let Some(([kind, _, _, size @ ..], rest)) = bytes.split_first_chunk::<7>() else { return Ok(None) };
    let payload_bytes = u32::from_be_bytes(*size) as usize;
    let Some((payload, [end, ..])) = rest.split_at_checked(payload_bytes) else { return Ok(None) };
    ensure!(*end == END, "a frame that does not end");
    let mut frame = Frame { kind: *kind, id: (0, 0), number: 0, multiple: false, payload_bytes };
    let eight = |at: usize| payload.get(at..)?.first_chunk().map(|n| u64::from_be_bytes(*n));
    match (*kind, payload) {
        (METHOD, [a, b, c, d, fields @ ..]) => {
            frame.id = (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]));
            match frame.id {
                id::ACK => {
                    frame.number = eight(4).context("an ack")?;
                    frame.multiple = fields.get(8).is_some_and(|bits| bits & 1 != 0);
                }
                id::DECLARE_OK => {
                    let at = 1 + usize::from(fields.first().copied().context("declare-ok")?);
                    let ready = fields.get(at..).and_then(|f| f.first_chunk()).context("declare-ok")?;
                    frame.number = u32::from_be_bytes(*ready).into();
                }
                id::DELIVER => {
                    let tag_bytes = fields.first().copied().context("a delivery")?;
                    frame.number = eight(5 + usize::from(tag_bytes)).context("a delivery")?;
                }
                id::CLOSE | id::CHANNEL_CLOSE => {
                    bail!(
                        "the broker closes: {}",
                        String::from_utf8_lossy(fields.get(3..).unwrap_or_default())
                    )
                }
                _ => {}
            }
        }
        (HEADER, _) => frame.number = eight(4).context("a header")?,
        _ => {}
    }
    Ok(Some(frame))
}

/// The frames of a persistent message to a queue.
fn message(queue: &str, body_bytes: usize) -> Result<Vec<u8>> {
    ensure!(body_bytes + 8 <= FRAME_BYTES_MAX as usize, "a body of more than one frame");
    let mut out = Vec::new();
    frame(&mut out, METHOD, 1, |out| {
        out.extend(id::PUBLISH.0.to_be_bytes());
        out.extend(id::PUBLISH.1.to_be_bytes());
        out.extend([0, 0]);
        short(out, "");
        short(out, queue);
        out.push(0);
    });
    frame(&mut out, HEADER, 1, |out| {
        out.extend(60_u16.to_be_bytes());
        out.extend([0, 0]);
        out.extend((body_bytes as u64).to_be_bytes());
        // Only a delivery mode: persistent.
        out.extend((1_u16 << 12).to_be_bytes());
        out.push(2);
    });
    if body_bytes > 0 {
        frame(&mut out, BODY, 1, |out| out.resize(out.len() + body_bytes, b'm'));
    }
    Ok(out)
}

fn frame(out: &mut Vec<u8>, kind: u8, channel: u16, payload: impl FnOnce(&mut Vec<u8>)) {
    out.push(kind);
    out.extend(channel.to_be_bytes());
    let at = out.len();
    out.extend([0; 4]);
    payload(out);
    let bytes = u32::try_from(out.len() - at - 4).unwrap_or(u32::MAX);
    if let Some(size) = out.get_mut(at..at + 4) {
        size.copy_from_slice(&bytes.to_be_bytes());
    }
    out.push(END);
}

fn short(out: &mut Vec<u8>, text: &str) {
    let text = text.get(..text.floor_char_boundary(255)).unwrap_or_default();
    out.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
    out.extend(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_found_one_after_another_and_only_whole() {
        let bytes = message("q", 10).unwrap();
        let publish = look(&bytes).unwrap().unwrap();
        assert_eq!((publish.kind, publish.id), (METHOD, id::PUBLISH));
        let rest = &bytes[publish.payload_bytes + 8..];
        let header = look(rest).unwrap().unwrap();
        assert_eq!((header.kind, header.number), (HEADER, 10));
        let rest = &rest[header.payload_bytes + 8..];
        assert_eq!(look(rest).unwrap().map(|f| (f.kind, f.payload_bytes)), Some((BODY, 10)));
        assert!(look(&rest[..rest.len() - 1]).unwrap().is_none());
    }

    #[test]
    fn the_tag_of_a_delivery_lies_behind_its_consumer() {
        let mut bytes = Vec::new();
        frame(&mut bytes, METHOD, 1, |out| {
            out.extend([0, 60, 0, 60]);
            short(out, "load");
            out.extend(77_u64.to_be_bytes());
            out.push(0);
        });
        assert_eq!(look(&bytes).unwrap().map(|f| f.number), Some(77));
        assert!(look(b"\x01\0\0\0\0\0\0x").is_err());
    }
}
