//! One channel: commands in the order they came, deliveries and confirms in between.
//!
//! Start at [`Channel::run`]. A channel is a task and a session of the broker. What a method does is found from [`Channel::method`], one
//! file per class. Publishes and settlements that were read together are submitted together. An error closes the channel, or the
//! connection, as its code says (section 1.2); then what had been accepted before it is still carried out.

mod basic;
mod confirms;
mod consume;
mod deliver;
mod exchange;
mod get;
mod publish;
mod queue;
mod reply;
mod settle;
mod transactions;
mod unacked;

use std::sync::Arc;
use std::time::Duration;

use amq_protocol::protocol::{AMQPClass, access, basic as b, channel as ch, confirm};
use futures_util::FutureExt as _;
use millstream_broker::queue::api::Delivery;
use millstream_broker::{Action, Resource, Session};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::Instant;

use crate::content::Content;
use crate::error::ReplyCode;
use crate::exception::Exception;
use crate::link::Link;
use crate::method::{BASIC_PUBLISH, Method, Publish};
use confirms::Confirms;
use consume::Consumers;
use publish::Batch;
use settle::Settling;
use transactions::Transaction;
use unacked::Unacked;

/// Commands that are taken one after another before deliveries and confirms have their turn.
const COMMANDS_MAX: usize = 256;
/// How often a channel that holds messages because the disk is full looks whether it still is.
const FULL_CHECK: Duration = Duration::from_millis(100);

/// What the reader gives to a channel.
#[derive(Debug)]
pub(crate) enum Command {
    /// A method without content.
    Method(Method),
    /// A message.
    Publish(Publish, Content),
    /// The channel is to be closed.
    Fail(Exception),
}

/// Commands that were read together, and the room that they take among those that wait.
#[derive(Debug)]
pub(crate) struct Parcel {
    pub(crate) commands: std::vec::IntoIter<Command>,
    pub(crate) _room: OwnedSemaphorePermit,
}

/// How a channel's life ended, if not by an exception.
enum End {
    /// The client closed it.
    Closed,
    /// Its connection is ending.
    Gone,
}

/// A channel.
#[derive(Debug)]
pub(crate) struct Channel {
    number: u16,
    link: Arc<Link>,
    session: Session,
    inbox: mpsc::Receiver<Box<Parcel>>,
    /// Of what came in last: what is not begun.
    parcel: Option<Box<Parcel>>,
    /// `confirm.select` was said.
    confirming: bool,
    /// `tx.select` was said.
    tx: Option<Transaction>,
    /// The queue that an empty name stands for: the one declared last.
    last_queue: String,
    /// The queue for answers, while there is a consumer on it.
    reply_to: Option<String>,
    consumers: Consumers,
    unacked: Unacked,
    batch: Batch,
    /// The batch waits until the disk is no longer full.
    held: bool,
    /// A method that waits for it.
    behind: Option<Method>,
    confirms: Confirms,
    settling: Settling,
}

impl Channel {
    pub(crate) fn new(
        number: u16,
        link: Arc<Link>,
        session: Session,
        inbox: mpsc::Receiver<Box<Parcel>>,
    ) -> Self {
        link.stats().channels.add(1);
        Self {
            number,
            link,
            session,
            inbox,
            parcel: None,
            confirming: false,
            tx: None,
            last_queue: String::new(),
            reply_to: None,
            consumers: Consumers::default(),
            unacked: Unacked::default(),
            batch: Batch::default(),
            held: false,
            behind: None,
            confirms: Confirms::default(),
            settling: Settling::default(),
        }
    }

    /// Runs it to its end. Dropping the session then gives back what it had leased.
    pub(crate) async fn run(mut self: Box<Self>) {
        let served = self.serve().await;
        let finished = self.finish().await;
        if std::mem::take(&mut self.held) {
            self.link.go_on();
        }
        match served.and_then(|end| finished.map(|()| end)) {
            Ok(End::Gone) => {}
            Ok(End::Closed) => self.send(AMQPClass::Channel(ch::AMQPMethod::CloseOk(ch::CloseOk {}))),
            Err(exception) if exception.code.is_soft() => {
                // First of all: from now on the reader knows that the channel has failed.
                self.inbox.close();
                tracing::debug!(
                    channel = self.number,
                    reason = exception.reply_text(),
                    "AMQP channel closed"
                );
                self.send(exception.channel_close());
                while let Some(command) = self.next_command() {
                    if let Command::Method(Method {
                        class: AMQPClass::Channel(ch::AMQPMethod::Close(_)),
                        ..
                    }) = command
                    {
                        self.send(AMQPClass::Channel(ch::AMQPMethod::CloseOk(ch::CloseOk {})));
                    }
                }
            }
            Err(exception) => self.link.fail(exception),
        }
    }

    async fn serve(&mut self) -> Result<End, Exception> {
        loop {
            self.link.outbox.room().await;
            let listens = !self.held && self.confirms.has_room();
            let (look, looks) = match self.unacked.next_look() {
                Some(at) => (at, true),
                None => (Instant::now(), false),
            };
            tokio::select! {
                came = arrive(&mut self.parcel, &mut self.inbox), if listens => {
                    if !came {
                        return Ok(End::Gone);
                    }
                    if let Some(end) = self.commands().await? {
                        return Ok(end);
                    }
                },
                deliveries = self.session.deliveries(), if self.consumers.were_any() => {
                    self.deliver(deliveries).await?;
                }
                () = self.confirms.ready(), if !self.confirms.is_empty() => self.confirm()?,
                () = tokio::time::sleep_until(look), if looks => self.check_overdue()?,
                () = tokio::time::sleep(FULL_CHECK), if self.held => {
                    if self.inbox.is_closed() {
                        return Ok(End::Gone);
                    }
                    self.flush_batch().await?;
                    if !self.held && let Some(method) = self.behind.take() {
                        let ids = method.ids();
                        if let Some(end) = Box::pin(self.method(method)).await.map_err(|e| e.on(ids))? {
                            return Ok(end);
                        }
                    }
                }
                id = self.session.ended(), if !self.consumers.is_empty() => self.consumer_ended(id),
            }
        }
    }

    /// The next command of those that came.
    fn next_command(&mut self) -> Option<Command> {
        loop {
            if let Some(command) = self.parcel.as_mut().and_then(|p| p.commands.next()) {
                return Some(command);
            }
            self.parcel = self.inbox.try_recv().ok();
            self.parcel.as_ref()?;
        }
    }

    /// Takes commands that came.
    async fn commands(&mut self) -> Result<Option<End>, Exception> {
        for _ in 0..COMMANDS_MAX {
            let Some(command) = self.next_command() else { break };
            let end = match command {
                Command::Fail(exception) => return Err(exception),
                Command::Publish(publish, content) => {
                    self.publish(publish, content).map_err(|e| e.on(BASIC_PUBLISH))?;
                    if self.batch.is_full() {
                        self.flush().await.map_err(|e| e.on(BASIC_PUBLISH))?;
                    }
                    None
                }
                Command::Method(method) => {
                    let ids = method.ids();
                    match self.settlement(&method) {
                        Some(settled) => settled.map(|()| None),
                        // Apart: what is rare is not to make each channel larger.
                        None => Box::pin(self.method(method)).await,
                    }
                    .map_err(|e| e.on(ids))?
                }
            };
            if end.is_some() || self.held {
                return Ok(end);
            }
        }
        self.flush().await?;
        Ok(None)
    }

    /// What settles is gathered; all else finds what was gathered carried out.
    fn settlement(&mut self, method: &Method) -> Option<Result<(), Exception>> {
        use b::AMQPMethod as B;
        match &method.class {
            AMQPClass::Basic(B::Ack(m)) => Some(self.ack(m)),
            AMQPClass::Basic(B::Nack(m)) => Some(self.reject(m.delivery_tag, m.multiple, m.requeue)),
            AMQPClass::Basic(B::Reject(m)) => Some(self.reject(m.delivery_tag, false, m.requeue)),
            _ => None,
        }
    }

    async fn method(&mut self, method: Method) -> Result<Option<End>, Exception> {
        self.flush().await?;
        if self.held {
            self.behind = Some(method);
            return Ok(None);
        }
        match method.class {
            AMQPClass::Channel(ch::AMQPMethod::Close(_)) => return Ok(Some(End::Closed)),
            AMQPClass::Channel(ch::AMQPMethod::Flow(m)) => self.flow(m.active).await?,
            AMQPClass::Channel(ch::AMQPMethod::FlowOk(_)) => {}
            AMQPClass::Exchange(m) => self.exchange(m, method.table).await?,
            AMQPClass::Queue(m) => self.queue(m, method.table).await?,
            AMQPClass::Basic(m) => self.basic(m, &method.table).await?,
            AMQPClass::Confirm(confirm::AMQPMethod::Select(m)) => self.select_confirms(&m)?,
            AMQPClass::Tx(m) => self.transaction(m).await?,
            // Of AMQP 0-8: a ticket that says nothing, for clients that still ask for one.
            AMQPClass::Access(access::AMQPMethod::Request(_)) => {
                self.send(AMQPClass::Access(access::AMQPMethod::RequestOk(access::RequestOk {})));
            }
            other => {
                let text = format!("class {} is not for clients to call here", other.get_amqp_class_id());
                return Err(Exception::new(ReplyCode::CommandInvalid, text));
            }
        }
        Ok(None)
    }

    fn select_confirms(&mut self, m: &confirm::Select) -> Result<(), Exception> {
        if self.tx.is_some() {
            return Err(Exception::precondition("cannot switch from tx to confirm mode"));
        }
        self.confirming = true;
        if !m.nowait {
            self.send(AMQPClass::Confirm(confirm::AMQPMethod::SelectOk(confirm::SelectOk {})));
        }
        Ok(())
    }

    async fn flow(&mut self, active: bool) -> Result<(), Exception> {
        self.session.flow(None, active).await.map_err(|e| Exception::internal(&e))?;
        self.send(AMQPClass::Channel(ch::AMQPMethod::FlowOk(ch::FlowOk { active })));
        Ok(())
    }

    /// Submits what was gathered: settlements first, so that what is published after them is never durable without them.
    async fn flush(&mut self) -> Result<(), Exception> {
        self.flush_settlements().await?;
        self.flush_batch().await
    }

    /// What was accepted is carried out, and settlements are durable.
    async fn finish(&mut self) -> Result<(), Exception> {
        self.flush().await?;
        self.settled().await
    }

    #[expect(clippy::needless_pass_by_value, reason = "callers make it for this call")]
    fn send(&self, class: AMQPClass) {
        self.link.outbox.method(self.number, &class);
    }

    /// Deliveries that came already.
    fn deliveries_now(&self) -> Option<Vec<Delivery>> {
        self.session.deliveries().now_or_never()
    }

    /// Whether the user may do this; else 403.
    fn allow(&self, action: Action, resource: &Resource) -> Result<(), Exception> {
        if self.session.may(action, resource) {
            return Ok(());
        }
        let (kind, name) = match resource {
            Resource::Queue(_, name) => ("queue", name.as_str()),
            Resource::Exchange(_, name) if name.is_empty() => ("exchange", "amq.default"),
            Resource::Exchange(_, name) => ("exchange", name.as_str()),
            _ => ("object", ""),
        };
        let user = &self.session.principal().name;
        let text = format!("access to {kind} '{name}' in vhost '/' refused for user '{user}'");
        Err(Exception::new(ReplyCode::AccessRefused, text))
    }
}

/// Waits until there is something in a parcel that is not begun; false: nothing more comes. May be dropped and called again.
async fn arrive(parcel: &mut Option<Box<Parcel>>, inbox: &mut mpsc::Receiver<Box<Parcel>>) -> bool {
    if parcel.is_none() {
        *parcel = inbox.recv().await;
    }
    parcel.is_some()
}

impl Drop for Channel {
    fn drop(&mut self) {
        let stats = self.link.stats();
        stats.channels.sub(1);
        stats.consumers.sub(self.consumers.len());
    }
}
