//! Our own load tool's client of AMQP 0-9-1: one blocking socket and one channel. It looks into what it gets no further than it must, so
//! that on two shared cores most of the time is the broker's. It knows no loads: [`super::own`] and [`super::deep`] do.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::confirms::Confirms;
use super::wire::{self, FRAME_BYTES_MAX, FRAME_BYTES_MORE, Frame, Id, METHOD};
use crate::clock::Moment;

/// Nothing that is waited for takes longer.
const ANSWERED_WITHIN: Duration = Duration::from_mins(5);
/// A consumer that gets nothing asks this often whether it is to go on.
const ASKS_AGAIN: Duration = Duration::from_millis(20);
/// What is read at a time.
const READ_BYTES: usize = 256 << 10;
/// Written at a time, about.
const WRITE_BYTES: usize = 64 << 10;
/// Declarations on their way at a time.
const DECLARATIONS: usize = 500;

/// Which deliveries a consumer acknowledges.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Acks {
    /// All, so many at a time.
    Together(u64),
    /// Every third, each for itself; the others stay out until the connection ends.
    EveryThird,
}

/// What a queue is declared as.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Durable, of the type that the broker has by default.
    Durable,
    /// Durable, `x-queue-type` quorum.
    Quorum,
    /// Of this connection, gone with its consumer.
    Exclusive,
}

impl Kind {
    fn bits(self) -> u8 {
        match self {
            Self::Durable | Self::Quorum => 0b00010,
            Self::Exclusive => 0b01100,
        }
    }

    fn arguments(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Quorum => &[("x-queue-type", "quorum")],
            Self::Durable | Self::Exclusive => &[],
        }
    }
}

/// A connection with one channel.
pub struct Client {
    socket: TcpStream,
    read: Vec<u8>,
    /// What of `read` was not looked at.
    unread: std::ops::Range<usize>,
    out: Vec<u8>,
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
        client.until(wire::START)?;
        wire::method(&mut client.out, 0, wire::START_OK, |out| {
            wire::table(out, &[]);
            wire::short(out, "PLAIN");
            out.extend(12_u32.to_be_bytes());
            out.extend(b"\0guest\0guest");
            wire::short(out, "en_US");
        });
        client.ask(wire::TUNE)?;
        wire::method(&mut client.out, 0, wire::TUNE_OK, |out| {
            out.extend(1_u16.to_be_bytes());
            out.extend(FRAME_BYTES_MAX.to_be_bytes());
            out.extend(0_u16.to_be_bytes());
        });
        wire::method(&mut client.out, 0, wire::OPEN, |out| {
            wire::short(out, "/");
            out.extend([0, 0]);
        });
        client.ask(wire::OPEN_OK)?;
        client.method(wire::CHANNEL_OPEN, |out| out.push(0));
        client.ask(wire::CHANNEL_OPEN_OK)?;
        // One that stays idle is to take nothing of note.
        client.read = Vec::new();
        Ok(client)
    }

    /// Declares queues.
    pub fn declare(&mut self, names: impl Iterator<Item = String>, kind: Kind) -> Result<()> {
        let mut asked = 0;
        for name in names {
            self.method(wire::DECLARE, |out| {
                out.extend([0, 0]);
                wire::short(out, &name);
                out.push(kind.bits());
                wire::table(out, kind.arguments());
            });
            asked += 1;
            if asked == DECLARATIONS {
                self.declared(std::mem::take(&mut asked))?;
            }
        }
        self.declared(asked)
    }

    fn declared(&mut self, n: usize) -> Result<()> {
        self.flush()?;
        (0..n).try_for_each(|_| self.until(wire::DECLARE_OK).map(drop))
    }

    /// Declares a fanout exchange that goes with its last binding.
    pub fn declare_fanout(&mut self, name: &str) -> Result<()> {
        self.method(wire::EXCHANGE_DECLARE, |out| {
            out.extend([0, 0]);
            wire::short(out, name);
            wire::short(out, "fanout");
            out.push(0b00100);
            wire::table(out, &[]);
        });
        self.ask(wire::EXCHANGE_DECLARE_OK).map(drop)
    }

    /// Binds a queue to an exchange, without a key.
    pub fn bind(&mut self, queue: &str, exchange: &str) -> Result<()> {
        self.method(wire::BIND, |out| {
            out.extend([0, 0]);
            wire::short(out, queue);
            wire::short(out, exchange);
            wire::short(out, "");
            out.push(0);
            wire::table(out, &[]);
        });
        self.ask(wire::BIND_OK).map(drop)
    }

    /// Deletes a queue and what is in it.
    pub fn delete(&mut self, queue: &str) -> Result<()> {
        self.method(wire::DELETE, |out| {
            out.extend([0, 0]);
            wire::short(out, queue);
            out.push(0);
        });
        self.ask(wire::DELETE_OK).map(drop)
    }

    /// Messages of a queue that are ready.
    pub fn depth(&mut self, queue: &str) -> Result<u64> {
        self.method(wire::DECLARE, |out| {
            out.extend([0, 0]);
            wire::short(out, queue);
            out.push(0b11);
            wire::table(out, &[]);
        });
        Ok(self.ask(wire::DECLARE_OK)?.number)
    }

    /// Has what is published confirmed.
    pub fn select(&mut self) -> Result<()> {
        self.method(wire::SELECT, |out| out.push(0));
        self.ask(wire::SELECT_OK).map(drop)
    }

    /// Publishes a message ([`wire::message`]) again and again, after [`Self::select`], while `more` says so, of which it asks with how many
    /// were sent and how many are confirmed. Waits until the last is confirmed; gives how many that are.
    pub fn publish(
        &mut self,
        message: &[u8],
        unconfirmed_max: u64,
        mut more: impl FnMut(u64, u64) -> bool,
    ) -> Result<u64> {
        let (mut sent, mut confirms, mut ended) = (0, Confirms::default(), false);
        loop {
            let confirmed = confirms.count();
            while sent - confirmed < unconfirmed_max && self.out.len() < WRITE_BYTES {
                ended = ended || !more(sent, confirmed);
                if ended {
                    break;
                }
                self.out.extend_from_slice(message);
                sent += 1;
            }
            self.flush()?;
            if !ended && sent - confirmed < unconfirmed_max {
                continue;
            }
            if confirmed == sent {
                return Ok(confirmed);
            }
            // All that are there, before more is sent.
            let mut ack = Some(self.until(wire::ACK)?);
            while let Some(frame) = ack {
                if frame.kind == METHOD && frame.id == wire::ACK {
                    confirms.ack(frame.number, frame.multiple);
                }
                ack = self.there()?;
            }
        }
    }

    /// Subscribes to a queue; `prefetch` 0: without end.
    pub fn subscribe(&mut self, queue: &str, prefetch: u16) -> Result<()> {
        self.method(wire::QOS, |out| {
            out.extend(0_u32.to_be_bytes());
            out.extend(prefetch.to_be_bytes());
            out.push(0);
        });
        self.ask(wire::QOS_OK)?;
        self.method(wire::CONSUME, |out| {
            out.extend([0, 0]);
            wire::short(out, queue);
            wire::short(out, "load");
            out.push(0);
            wire::table(out, &[]);
        });
        self.ask(wire::CONSUME_OK).map(drop)
    }

    /// Takes deliveries, after [`Self::subscribe`], while `more` says so, of which it asks with how many came: before each one, and while
    /// none comes. What is to be acknowledged is when it returns.
    pub fn consume(&mut self, acks: Acks, mut more: impl FnMut(u64) -> bool) -> Result<()> {
        self.socket.set_read_timeout(Some(ASKS_AGAIN))?;
        let (mut got, mut tag, mut acked) = (0, 0, 0);
        let mut silent_since = None;
        while more(got) {
            let Some(frame) = self.next()? else {
                let since: Moment = *silent_since.get_or_insert_with(Moment::now);
                ensure!(since.elapsed() < ANSWERED_WITHIN, "no delivery for too long");
                continue;
            };
            silent_since = None;
            if (frame.kind, frame.id) != (METHOD, wire::DELIVER) {
                continue;
            }
            (got, tag) = (got + 1, frame.number);
            match acks {
                Acks::Together(n) if got % n == 0 => {
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
        if acks != Acks::EveryThird && tag > acked {
            self.ack(tag, true);
        }
        self.flush()?;
        self.socket.set_read_timeout(Some(ANSWERED_WITHIN))?;
        Ok(())
    }

    /// Takes one delivery, after [`Self::subscribe`]; the acknowledgement goes with what is sent next.
    pub fn take(&mut self) -> Result<()> {
        let tag = self.until(wire::DELIVER)?.number;
        self.ack(tag, false);
        Ok(())
    }

    /// Sends a message ([`wire::message`]) at once.
    pub fn send(&mut self, message: &[u8]) -> Result<()> {
        self.out.extend_from_slice(message);
        self.flush()
    }

    /// Closes the channel: answered when what was acknowledged is settled durably. What was not is given back.
    pub fn close(mut self) -> Result<()> {
        self.method(wire::CHANNEL_CLOSE, |out| out.extend([0; 7]));
        self.ask(wire::CHANNEL_CLOSE_OK).map(drop)
    }

    fn ack(&mut self, tag: u64, multiple: bool) {
        self.method(wire::ACK, |out| {
            out.extend(tag.to_be_bytes());
            out.push(multiple.into());
        });
    }

    fn method(&mut self, id: Id, fields: impl FnOnce(&mut Vec<u8>)) {
        wire::method(&mut self.out, 1, id, fields);
    }

    fn flush(&mut self) -> Result<()> {
        self.socket.write_all(&self.out)?;
        self.out.clear();
        Ok(())
    }

    fn ask(&mut self, answer: Id) -> Result<Frame> {
        self.flush()?;
        self.until(answer)
    }

    /// Skips frames up to this method.
    fn until(&mut self, id: Id) -> Result<Frame> {
        loop {
            let frame = self.next()?.with_context(|| format!("no method {id:?}"))?;
            if frame.kind == METHOD && frame.id == id {
                return Ok(frame);
            }
        }
    }

    /// The next frame; none if it does not come in the socket's time.
    fn next(&mut self) -> Result<Option<Frame>> {
        loop {
            if let Some(frame) = self.there()? {
                return Ok(Some(frame));
            }
            if !self.read_more()? {
                return Ok(None);
            }
        }
    }

    /// A frame that was read already.
    fn there(&mut self) -> Result<Option<Frame>> {
        let frame = wire::look(self.read.get(self.unread.clone()).unwrap_or_default())?;
        if let Some(frame) = &frame {
            self.unread.start += frame.payload_bytes + FRAME_BYTES_MORE;
        }
        Ok(frame)
    }

    /// Whether there was something in the socket's time.
    fn read_more(&mut self) -> Result<bool> {
        // Who waits has said all that it has to say.
        self.flush()?;
        if self.read.len() < READ_BYTES {
            self.read.resize(READ_BYTES, 0);
        }
        self.read.copy_within(self.unread.clone(), 0);
        self.unread = 0..self.unread.len();
        let room =
            self.read.get_mut(self.unread.end..).filter(|r| !r.is_empty()).context("a frame too large")?;
        match self.socket.read(room) {
            Ok(0) => bail!("the broker closed the connection"),
            Ok(n) => self.unread.end += n,
            Err(late) if matches!(late.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Ok(false);
            }
            Err(other) => return Err(other.into()),
        }
        Ok(true)
    }
}
