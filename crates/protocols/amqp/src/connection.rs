//! One connection: frames come in and go to their channels; what they answer goes out.
//!
//! Start at [`run`]. Reading and writing run side by side in one task; each channel is a task of its own, with a bounded inbox. Reading
//! rests when a channel takes nothing more, so that a publisher is held by its own socket; heartbeats go out meanwhile, and a client
//! that is not read from is not taken for dead.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use amq_protocol::protocol::{AMQPClass, channel, connection};
use bytes::Buf as _;
use millstream_broker::{Owner, Principal, SessionOptions};
use millstream_types::Namespace;
use millstream_types::limits::PAYLOAD_BYTES_MAX;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use crate::channel::{Channel, Command, Parcel};
use crate::content::Assembler;
use crate::error::{CodecError, ReplyCode};
use crate::exception::Exception;
use crate::frame::{self, Frame, FrameKind};
use crate::handshake::{self, FRAME_BYTES_FIRST, Refusal};
use crate::input::{Input, InputError};
use crate::link::{Link, Server};
use crate::method::{self, Publish};
use crate::outbox::Outbox;

/// Parcels of commands of one channel that were read and not begun.
const INBOX_PARCELS: usize = 16;
/// Commands of one parcel.
const PARCEL_COMMANDS_MAX: usize = 256;
/// Bytes of all commands of a connection that were read and not begun.
const INBOX_BYTES_MAX: u32 = 4 << 20;
/// What a command counts besides its body.
const COMMAND_BYTES: usize = 512;
/// Bodies of a connection that are not whole, all channels together.
const UNFINISHED_BYTES_MAX: usize = 128 << 20;
/// How long a client gets to answer that it is closed, to take what is left for it, and to close its side of the socket.
const CLOSE_WAIT: Duration = Duration::from_secs(5);
/// How long a connection's channels get to end.
const CHANNELS_WAIT: Duration = Duration::from_secs(30);
/// A client that nothing comes from for so many heartbeats is gone.
const HEARTBEATS_MISSED_MAX: u32 = 2;

/// How a connection ended.
#[derive(Debug)]
pub(crate) enum End {
    /// In order, or the client just went.
    Quiet,
    /// It was closed from this side, for this reason.
    Refused(String),
}

/// Serves a connection to its end.
pub(crate) async fn run(
    socket: TcpStream,
    peer: SocketAddr,
    server: Arc<Server>,
    stopped: watch::Receiver<bool>,
) -> End {
    let (read, write) = socket.into_split();
    let outbox = Arc::new(Outbox::default());
    let (beat, beats) = watch::channel(None);
    let mut serving = Serving { live: None };
    let mut input = Input::new(read, FRAME_BYTES_FIRST, Some(server.cfg.handshake_max));
    let end = {
        let reading = async {
            let end = serving.run(&mut input, peer, &server, &outbox, stopped.clone(), &beat).await;
            outbox.finish();
            end
        };
        let writing = write_out(write, &outbox, beats);
        tokio::pin!(reading, writing);
        tokio::select! {
            () = &mut writing => End::Quiet,
            end = &mut reading => {
                let _ = tokio::time::timeout(CLOSE_WAIT, writing).await;
                end
            }
        }
    };
    outbox.abandon();
    // Apart, as all that is rare: it is not to make each connection larger.
    Box::pin(async {
        serving.end().await;
        linger(&mut input, stopped).await;
    })
    .await;
    end
}

/// Reads on until the client closes its side too. A socket that is closed with something unread is reset, and a reset takes from the
/// client what it has not read yet: why it was closed, or that it is closed as it asked.
async fn linger<R: AsyncRead + Unpin>(input: &mut Input<R>, mut stopped: watch::Receiver<bool>) {
    tokio::select! {
        _ = stopped.wait_for(|s| *s) => {}
        _ = tokio::time::timeout(CLOSE_WAIT, input.discard()) => {}
    }
}

/// Writes what is there; heartbeats when nothing was.
async fn write_out<W: AsyncWrite + Unpin>(
    mut socket: W,
    outbox: &Outbox,
    mut beats: watch::Receiver<Option<Duration>>,
) {
    loop {
        let every = *beats.borrow_and_update();
        let beat = async {
            match every {
                Some(every) => tokio::time::sleep(every / 2).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            taken = outbox.take() => {
                let Some(mut chunks) = taken else { break };
                let bytes = chunks.remaining();
                if socket.write_all_buf(&mut chunks).await.is_err() {
                    return;
                }
                outbox.wrote(bytes);
            }
            Ok(()) = beats.changed() => {}
            () = beat => {
                if socket.write_all(&frame::heartbeat()).await.is_err() {
                    return;
                }
            }
        }
    }
    let _ = socket.shutdown().await;
}

/// What must be ended in order, however reading ends.
struct Serving {
    live: Option<Live>,
}

struct Live {
    link: Arc<Link>,
    owner: Option<Owner>,
    owner_id: u64,
    channels: HashMap<u16, Box<Entry>>,
    tasks: JoinSet<()>,
}

impl Live {
    /// Lets the channels carry out what they took, and end. One that hangs, because its client takes nothing, is cut off.
    async fn end_channels(&mut self) {
        self.channels.clear();
        let ending = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(CHANNELS_WAIT, ending).await.is_err() {
            self.tasks.shutdown().await;
        }
    }
}

/// A channel as the reader knows it. One whose inbox is closed has failed: it waits for the client's `close-ok`.
struct Entry {
    inbox: mpsc::Sender<Box<Parcel>>,
    content: Assembler,
    publish: Option<Publish>,
    /// It was sent content that closes it: what comes until it knows is not looked at.
    failed: bool,
    unfinished_bytes: usize,
    /// What the channel is given next, and what that counts.
    parcel: Vec<Command>,
    parcel_bytes: usize,
}

impl Entry {
    fn gather(&mut self, command: Command, bytes: usize) {
        self.parcel.push(command);
        self.parcel_bytes += bytes + COMMAND_BYTES;
    }
}

impl Serving {
    async fn run<R: AsyncRead + Unpin>(
        &mut self,
        input: &mut Input<R>,
        peer: SocketAddr,
        server: &Arc<Server>,
        outbox: &Arc<Outbox>,
        mut stopped: watch::Receiver<bool>,
        beat: &watch::Sender<Option<Duration>>,
    ) -> End {
        let shaking = Box::pin(handshake::shake(input, outbox, server, peer.ip()));
        let shaken = tokio::select! {
            biased;
            _ = stopped.wait_for(|s| *s) => return End::Quiet,
            shaken = tokio::time::timeout(server.cfg.handshake_max, shaking) => shaken,
        };
        let agreed = match shaken {
            Ok(Ok(agreed)) => agreed,
            Err(_) => return End::Refused("the handshake took too long".to_owned()),
            Ok(Err(Refusal::Input(InputError::Gone(_)))) => return End::Quiet,
            Ok(Err(Refusal::Told(exception))) => {
                outbox.method(0, &exception.connection_close());
                Box::pin(closed(input, outbox)).await;
                return End::Refused(exception.reply_text());
            }
            Ok(Err(other)) => return End::Refused(other.to_string()),
        };
        input.silence_max = agreed.heartbeat.map(|every| every * HEARTBEATS_MISSED_MAX);
        // The writer is there as long as the reader.
        let _ = beat.send(agreed.heartbeat);
        let channels_max = agreed.channels_max;
        let link = Link::new(Arc::clone(server), Arc::clone(outbox), agreed.client, peer);
        let owner = server.broker.owner();
        let live = self.live.insert(Live {
            link: Arc::new(link),
            owner_id: owner.id(),
            owner: Some(owner),
            channels: HashMap::new(),
            tasks: JoinSet::new(),
        });
        let room = Arc::new(Semaphore::new(INBOX_BYTES_MAX as usize));
        let mut reader =
            Reader { live, channels_max, stopped, room, unfinished_bytes: 0, filled: Vec::new() };
        reader.read(input).await
    }

    /// Ends the channels, then takes away the queues that were the connection's own.
    async fn end(&mut self) {
        let Some(live) = &mut self.live else { return };
        live.end_channels().await;
        if let Some(owner) = live.owner.take() {
            owner.leave().await;
        }
    }
}

/// Why reading goes no further.
enum Stop {
    /// The client closes the connection.
    Close,
    /// The listener stops.
    Stopped,
    /// It is closed from this side.
    Failed(Exception),
}

impl<E: Into<Exception>> From<E> for Stop {
    fn from(e: E) -> Self {
        Self::Failed(e.into())
    }
}

struct Reader<'a> {
    live: &'a mut Live,
    channels_max: u16,
    stopped: watch::Receiver<bool>,
    room: Arc<Semaphore>,
    /// Bytes of bodies that are not whole.
    unfinished_bytes: usize,
    /// Channels for which something was gathered.
    filled: Vec<u16>,
}

impl Reader<'_> {
    async fn read<R: AsyncRead + Unpin>(&mut self, input: &mut Input<R>) -> End {
        let stop = loop {
            let first = tokio::select! {
                biased;
                _ = self.stopped.wait_for(|s| *s) => break Stop::Stopped,
                exception = self.live.link.failure() => break Stop::Failed(exception),
                Some(ended) = self.live.tasks.join_next(), if !self.live.tasks.is_empty() => {
                    match ended {
                        Err(e) if e.is_panic() => break Stop::Failed(Exception::internal(&e)),
                        _ => continue,
                    }
                }
                frame = input.next() => frame,
            };
            let result = match first {
                Ok(frame) => self.frames(frame, input).await,
                Err(InputError::Wrong(e)) => Err(e.into()),
                Err(e @ InputError::Silent(_)) => return End::Refused(e.to_string()),
                Err(InputError::Gone(_)) => return End::Quiet,
            };
            if let Err(stop) = result {
                break stop;
            }
        };
        Box::pin(self.end(stop, input)).await
    }

    /// Ends the channels, and says why.
    async fn end<R: AsyncRead + Unpin>(&mut self, stop: Stop, input: &mut Input<R>) -> End {
        let outbox = Arc::clone(&self.live.link.outbox);
        self.live.end_channels().await;
        let exception = match stop {
            Stop::Close => {
                // What the channels settled and published is carried out, and the connection's own queues are gone, before it is said.
                if let Some(owner) = self.live.owner.take() {
                    owner.leave().await;
                }
                outbox.method(0, &close_ok());
                return End::Quiet;
            }
            Stop::Stopped => Exception::new(
                ReplyCode::ConnectionForced,
                "broker forced connection closure with reason 'shutdown'",
            ),
            Stop::Failed(exception) => exception,
        };
        outbox.method(0, &exception.connection_close());
        closed(input, &outbox).await;
        match exception.code {
            ReplyCode::ConnectionForced => End::Quiet,
            _ => End::Refused(exception.reply_text()),
        }
    }

    /// Takes a frame and those that were read with it; what they ask for goes to each channel in one parcel.
    async fn frames<R: AsyncRead + Unpin>(&mut self, first: Frame, input: &mut Input<R>) -> Result<(), Stop> {
        let mut next = Some(first);
        let result = loop {
            let Some(frame) = next.take() else { break Ok(()) };
            if let Err(stop) = self.frame(frame).await {
                break Err(stop);
            }
            match input.at_hand() {
                Ok(frame) => next = frame,
                Err(e) => break Err(e.into()),
            }
        };
        // What came before an error is carried out.
        let handed = self.hand_over().await;
        result.and(handed)
    }

    async fn frame(&mut self, frame: Frame) -> Result<(), Stop> {
        match frame.kind {
            FrameKind::Heartbeat => Ok(()),
            FrameKind::Method if frame.channel == 0 => self.connection_method(&frame),
            FrameKind::Method => self.channel_method(&frame).await,
            FrameKind::Header | FrameKind::Body => self.content(frame).await,
        }
    }

    fn connection_method(&mut self, frame: &Frame) -> Result<(), Stop> {
        use connection::AMQPMethod as M;
        let method = method::decode(&frame.payload)?;
        let ids = method.ids();
        let outbox = &self.live.link.outbox;
        match method.class {
            AMQPClass::Connection(M::Close(_)) => Err(Stop::Close),
            AMQPClass::Connection(M::CloseOk(_)) => Ok(()),
            // There is no secret that runs out.
            AMQPClass::Connection(M::UpdateSecret(_)) => {
                let ok = M::UpdateSecretOk(connection::UpdateSecretOk {});
                outbox.method(0, &AMQPClass::Connection(ok));
                Ok(())
            }
            _ => {
                let text = "unexpected method in connection state running";
                Err(Exception::new(ReplyCode::ChannelError, text).on(ids).into())
            }
        }
    }

    async fn channel_method(&mut self, frame: &Frame) -> Result<(), Stop> {
        use channel::AMQPMethod as M;
        let number = frame.channel;
        if let Some(publish) = method::publish(&frame.payload) {
            return self.publish(number, publish?);
        }
        let link = Arc::clone(&self.live.link);
        let method = method::decode(&frame.payload)?;
        let ids = method.ids();
        let Some(entry) = self.live.channels.get_mut(&number) else {
            return match method.class {
                AMQPClass::Channel(M::Open(_)) => self.open(number),
                // To a close of ours that crossed one of theirs.
                AMQPClass::Channel(M::CloseOk(_)) => Ok(()),
                _ => Err(Exception::new(ReplyCode::ChannelError, "expected 'channel.open'").on(ids).into()),
            };
        };
        if entry.inbox.is_closed() {
            match method.class {
                AMQPClass::Channel(M::Close(_)) => {
                    link.outbox.method(number, &AMQPClass::Channel(M::CloseOk(channel::CloseOk {})));
                }
                AMQPClass::Channel(M::CloseOk(_)) => self.forget(number),
                _ => {}
            }
            return Ok(());
        }
        entry.content.no_frame("method").map_err(|e| Exception::from(e).on(ids))?;
        match method.class {
            AMQPClass::Channel(M::Open(_)) => {
                Err(Exception::new(ReplyCode::ChannelError, "second 'channel.open' seen").on(ids).into())
            }
            AMQPClass::Channel(M::CloseOk(_)) => Ok(()),
            AMQPClass::Connection(_) => {
                let text = "methods of connection belong on channel 0";
                Err(Exception::new(ReplyCode::CommandInvalid, text).on(ids).into())
            }
            AMQPClass::Channel(M::Close(_)) => {
                entry.gather(Command::Method(method), 0);
                if self.forward(number).await? {
                    self.forget(number);
                } else {
                    link.outbox.method(number, &AMQPClass::Channel(M::CloseOk(channel::CloseOk {})));
                }
                Ok(())
            }
            // As after any other error of a channel: only its end still counts.
            _ if entry.failed => Ok(()),
            _ => self.gather(number, Command::Method(method), 0).await,
        }
    }

    fn publish(&mut self, number: u16, publish: Publish) -> Result<(), Stop> {
        let Some(entry) = self.live.channels.get_mut(&number) else {
            let e = Exception::new(ReplyCode::ChannelError, "expected 'channel.open'");
            return Err(e.on(method::BASIC_PUBLISH).into());
        };
        if !entry.failed && !entry.inbox.is_closed() {
            entry.content.begin().map_err(|e| Exception::from(e).on(method::BASIC_PUBLISH))?;
            entry.publish = Some(publish);
        }
        Ok(())
    }

    async fn content(&mut self, frame: Frame) -> Result<(), Stop> {
        let number = frame.channel;
        let Some(entry) = self.live.channels.get_mut(&number) else {
            let e = if number == 0 {
                CodecError::ChannelZero.into()
            } else {
                Exception::new(ReplyCode::ChannelError, "expected 'channel.open'")
            };
            return Err(e.into());
        };
        if entry.failed || entry.inbox.is_closed() {
            return Ok(());
        }
        if frame.kind == FrameKind::Body {
            entry.unfinished_bytes += frame.payload.len();
            self.unfinished_bytes += frame.payload.len();
            if self.unfinished_bytes > UNFINISHED_BYTES_MAX {
                let text = "too many messages of this connection are not whole";
                return Err(Exception::new(ReplyCode::ResourceError, text).into());
            }
        }
        let content = match entry.content.frame(frame, PAYLOAD_BYTES_MAX) {
            Ok(None) => return Ok(()),
            Ok(Some(content)) => content,
            Err(e) if e.reply_code().is_soft() => {
                entry.failed = true;
                let exception = Exception::from(e).on(method::BASIC_PUBLISH);
                return self.gather(number, Command::Fail(exception), 0).await;
            }
            Err(e) => return Err(Exception::from(e).on(method::BASIC_PUBLISH).into()),
        };
        let bytes = std::mem::take(&mut entry.unfinished_bytes);
        self.unfinished_bytes -= bytes;
        match entry.publish.take() {
            Some(publish) => self.gather(number, Command::Publish(publish, content), bytes).await,
            None => Ok(()),
        }
    }

    /// Adds a command to a channel's parcel; a full one is handed over.
    async fn gather(&mut self, number: u16, command: Command, bytes: usize) -> Result<(), Stop> {
        let Some(entry) = self.live.channels.get_mut(&number) else { return Ok(()) };
        if entry.parcel.is_empty() {
            self.filled.push(number);
        }
        entry.gather(command, bytes);
        if entry.parcel.len() >= PARCEL_COMMANDS_MAX {
            self.forward(number).await?;
        }
        Ok(())
    }

    /// Gives the channels what was gathered for them.
    async fn hand_over(&mut self) -> Result<(), Stop> {
        let mut filled = std::mem::take(&mut self.filled);
        for number in filled.drain(..) {
            self.forward(number).await?;
        }
        self.filled = filled;
        Ok(())
    }

    /// Gives a channel its parcel, once there is room; false: the channel has failed.
    async fn forward(&mut self, number: u16) -> Result<bool, Stop> {
        let Some(entry) = self.live.channels.get_mut(&number) else { return Ok(false) };
        if entry.parcel.is_empty() {
            return Ok(!entry.inbox.is_closed());
        }
        let cost = u32::try_from(std::mem::take(&mut entry.parcel_bytes)).unwrap_or(u32::MAX);
        let cost = cost.min(INBOX_BYTES_MAX);
        let commands = std::mem::take(&mut entry.parcel).into_iter();
        // Mostly there is room, and nothing to wait for.
        let waits = match (Arc::clone(&self.room).try_acquire_many_owned(cost), entry.inbox.try_reserve()) {
            (Ok(room), Ok(place)) => {
                place.send(Box::new(Parcel { commands, _room: room }));
                return Ok(true);
            }
            (_, Err(TrySendError::Closed(()))) => return Ok(false),
            (room, _) => room.ok(),
        };
        let inbox = entry.inbox.clone();
        Box::pin(self.forward_late(inbox, commands, cost, waits)).await
    }

    /// As [`Self::forward`], where it has to wait: for room, if there is none yet, and for the channel.
    async fn forward_late(
        &mut self,
        inbox: mpsc::Sender<Box<Parcel>>,
        commands: std::vec::IntoIter<Command>,
        cost: u32,
        room: Option<OwnedSemaphorePermit>,
    ) -> Result<bool, Stop> {
        let all = Arc::clone(&self.room);
        let sending = async {
            let room = match room {
                Some(room) => room,
                None => match all.acquire_many_owned(cost).await {
                    Ok(room) => room,
                    Err(_) => return false,
                },
            };
            inbox.send(Box::new(Parcel { commands, _room: room })).await.is_ok()
        };
        tokio::select! {
            biased;
            sent = sending => Ok(sent),
            _ = self.stopped.wait_for(|s| *s) => Err(Stop::Stopped),
            exception = self.live.link.failure() => Err(Stop::Failed(exception)),
        }
    }

    fn open(&mut self, number: u16) -> Result<(), Stop> {
        let max = self.channels_max;
        if self.live.channels.len() >= usize::from(max) {
            let text =
                format!("number of channels opened ({max}) has reached the negotiated channel_max ({max})");
            return Err(Exception::new(ReplyCode::NotAllowed, text).on((20, 10)).into());
        }
        let link = Arc::clone(&self.live.link);
        let (inbox, commands) = mpsc::channel(INBOX_PARCELS);
        let who = Principal::user(link.client.user.clone());
        let options = SessionOptions {
            client_id: link.client.name.clone(),
            host: link.peer.ip().to_string(),
            owner: self.live.owner_id,
        };
        let session = link.server.broker.session(who, Namespace::DEFAULT, options);
        link.outbox.method(number, &AMQPClass::Channel(channel::AMQPMethod::OpenOk(channel::OpenOk {})));
        let channel = Channel::new(number, link, session, commands);
        self.live.tasks.spawn(Box::new(channel).run());
        let entry = Box::new(Entry {
            inbox,
            content: Assembler::default(),
            publish: None,
            failed: false,
            unfinished_bytes: 0,
            parcel: Vec::new(),
            parcel_bytes: 0,
        });
        self.live.channels.insert(number, entry);
        Ok(())
    }

    fn forget(&mut self, number: u16) {
        if let Some(entry) = self.live.channels.remove(&number) {
            self.unfinished_bytes -= entry.unfinished_bytes;
        }
    }
}

/// Waits for the answer to `connection.close`, or that the client goes. What else comes is dropped (section 1.4.2.9).
async fn closed<R: AsyncRead + Unpin>(input: &mut Input<R>, outbox: &Outbox) {
    let waiting = async {
        loop {
            let frame = match input.next().await {
                Ok(frame) => frame,
                // Out of step: what comes cannot be told from noise, and is read so that the close is not lost with a reset.
                Err(InputError::Wrong(_)) => return input.discard().await,
                Err(_) => return,
            };
            if frame.kind != FrameKind::Method || frame.channel != 0 {
                continue;
            }
            match method::decode(&frame.payload).map(|m| m.class) {
                Ok(AMQPClass::Connection(connection::AMQPMethod::CloseOk(_))) => return,
                Ok(AMQPClass::Connection(connection::AMQPMethod::Close(_))) => outbox.method(0, &close_ok()),
                _ => {}
            }
        }
    };
    let _ = tokio::time::timeout(CLOSE_WAIT, waiting).await;
}

fn close_ok() -> AMQPClass {
    AMQPClass::Connection(connection::AMQPMethod::CloseOk(connection::CloseOk {}))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What one value of a function's answer takes.
    fn of_one<A, F>(_: impl Fn(A) -> F) -> usize {
        size_of::<F>()
    }

    fn of_four<A, B, C, D, F>(_: impl Fn(A, B, C, D) -> F) -> usize {
        size_of::<F>()
    }

    /// A connection that is idle holds its tasks' states and little else. What is rare is in boxes.
    #[test]
    fn the_tasks_of_an_idle_connection_take_little() {
        let (connection, channel) = (of_four(run), of_one(Channel::run));
        assert!(connection <= 3 << 10, "{connection} bytes of a connection");
        assert!(channel <= 2 << 10, "{channel} bytes of a channel");
    }
}
