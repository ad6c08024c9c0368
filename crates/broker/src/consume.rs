//! Taking messages of queues: consumers, single receives, settling, and the way deliveries come.
//!
//! Start at [`Session::subscribe`] and [`Session::poll_deliveries`]. A delivery names a message; [`Broker::read_bodies`] has it.
//!
//! [`Broker::read_bodies`]: crate::Broker::read_bodies

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use millstream_engine::op::{Op, Reply};
use millstream_engine::queue::DELIVERY_BYTES;
use millstream_engine::queue::api::{
    ConsumerId, ConsumerOpts, Delivery, ExtendItem, QueueOp, QueueReply, Receive, ReceiveError, SettleError,
    SettleItem, SubscribeError, Verb,
};
use millstream_log::Class;
use millstream_types::ObjectId;

use crate::asked::Asked;
use crate::error::{CallError, ConsumeError, Refused};
use crate::mailbox::Pending;
use crate::session::{Core, RECORD_OVERHEAD_BYTES, Session};
use crate::turn::Input;

/// Room that the end of one lease takes: its chunk named, and then each position more.
const SETTLE_BYTES: usize = 224;
const SETTLE_MORE_BYTES: usize = 32;

/// Items that did not count, by index.
pub type Settled = Vec<(usize, SettleError)>;

impl Session {
    /// A consumer: deliveries come until it is cancelled or the session ends. `consumer` is the session's own number for it: not 0,
    /// never used again.
    ///
    /// # Errors
    /// `Locked` at once; the others when answered.
    pub fn subscribe(
        &self,
        queue: ObjectId,
        consumer: ConsumerId,
        opts: ConsumerOpts,
    ) -> Result<Asked<Result<(), SubscribeError>>, ConsumeError> {
        if self.is_locked(queue) {
            return Err(ConsumeError::Locked);
        }
        let pending = self.submit(None, Op::Queue(QueueOp::Subscribe { queue, consumer, opts }));
        Ok(Asked::new(pending, |reply| match reply {
            Reply::Queue(QueueReply::Subscribed(result)) => Some(result),
            _ => None,
        }))
    }

    /// Explicit credit more, for a consumer that has one.
    pub fn credit(&self, consumer: ConsumerId, add: u64) -> Asked<()> {
        self.done(QueueOp::Credit { consumer, add })
    }

    /// Most leases at a time of a consumer, or of the whole session; 0 = no limit. What is out stays out.
    pub fn prefetch(&self, consumer: Option<ConsumerId>, max: u32) -> Asked<()> {
        self.done(QueueOp::Prefetch { consumer, max })
    }

    /// Stops or starts deliveries to a consumer, or to the whole session.
    pub fn flow(&self, consumer: Option<ConsumerId>, on: bool) -> Asked<()> {
        self.done(QueueOp::Flow { consumer, on })
    }

    /// Ends a consumer; no delivery to it comes after the answer. Its leases stay.
    pub fn cancel(&self, consumer: ConsumerId) -> Asked<()> {
        self.done(QueueOp::Cancel { consumer })
    }

    fn done(&self, op: QueueOp) -> Asked<()> {
        Asked::new(self.submit(None, Op::Queue(op)), |reply| match reply {
            Reply::Queue(QueueReply::Done) => Some(()),
            _ => None,
        })
    }

    /// Takes messages that are ready, or waits for the first. Dropping the answer stops the waiting, and gives back what came.
    ///
    /// # Errors
    /// `Locked` at once; the others when answered.
    pub fn receive(&self, what: Receive) -> Result<Receiving, ConsumeError> {
        if self.is_locked(what.queue) {
            return Err(ConsumeError::Locked);
        }
        let pending = self.submit(None, Op::Queue(QueueOp::Receive(what)));
        Ok(Receiving { core: Arc::clone(self.core()), pending, done: false })
    }

    /// What was delivered since the last call, in order; ready when there is something, or the broker is lost or closed. What a session
    /// took and its socket did not take over yet is bounded: see [`Session::handed_over`].
    pub fn poll_deliveries(&self, cx: &mut Context<'_>, out: &mut Vec<Delivery>) -> Poll<()> {
        self.core().mailbox.poll_deliveries(cx, out)
    }

    /// As [`Session::poll_deliveries`], waiting. Nothing: the broker is lost or closed.
    pub async fn deliveries(&self) -> Vec<Delivery> {
        let mut out = Vec::new();
        std::future::poll_fn(|cx| self.poll_deliveries(cx, &mut out)).await;
        out
    }

    /// The next of the session's consumers that ended because its queue is gone; pending for ever where the broker is. May be dropped
    /// and called again.
    ///
    /// # Durability
    /// Told when the end of the queue survives a crash.
    pub async fn ended(&self) -> ConsumerId {
        std::future::poll_fn(|cx| self.core().mailbox.poll_ended(cx)).await
    }

    /// The socket took these over (or they were dropped): as much more may be delivered. Only for consumers, not for receives. To be
    /// called once per write, not per message.
    pub fn handed_over(&self, deliveries: &[Delivery]) {
        let bytes = deliveries.iter().map(|d| u64::from(d.bytes) + DELIVERY_BYTES).sum();
        let conn = self.core().mailbox.conn;
        self.broker().shared().inbox.put(Input::HandedOver(conn, bytes));
    }

    /// Ends leases, in one record. Waits for room; the answer, which need not be waited for, has what did not count.
    ///
    /// # Durability
    /// Answered when it survives a crash.
    ///
    /// # Errors
    /// [`Refused`]: nothing happened.
    pub async fn settle(&self, items: Vec<SettleItem>) -> Result<Asked<Settled>, Refused> {
        let permit = self.admit(Class::Settle, settle_bytes(items.iter().map(|i| i.len))).await?;
        Ok(settled(self.submit(Some(permit), Op::Queue(QueueOp::Settle(items)))))
    }

    /// Moves the end of timed leases, in one record; as [`Session::settle`].
    ///
    /// # Errors
    /// [`Refused`]: nothing happened.
    pub async fn extend(&self, items: Vec<ExtendItem>) -> Result<Asked<Settled>, Refused> {
        let permit = self.admit(Class::Settle, settle_bytes(items.iter().map(|i| i.len))).await?;
        Ok(settled(self.submit(Some(permit), Op::Queue(QueueOp::Extend(items)))))
    }

    /// What was received never reached its consumer: it goes back as if it had not been taken. Never waits. For receives, not for
    /// consumers.
    pub fn give_back(&self, deliveries: Vec<Delivery>) {
        self.broker().shared().inbox.put(Input::Undelivered(deliveries));
    }

    /// Resolves when all that this session submitted before is decided and durable.
    pub fn barrier(&self) -> Asked<()> {
        Asked::new(self.submit(None, Op::Barrier), |reply| match reply {
            Reply::Barrier => Some(()),
            _ => None,
        })
    }
}

/// The end of the lease that a delivery began.
#[must_use]
pub fn settle_item(d: &Delivery, verb: Verb) -> SettleItem {
    SettleItem { queue: d.queue, lane: d.lane, pos: d.pos, len: 1, delivery_no: d.delivery_no, verb }
}

/// Room for leases that end.
pub(crate) fn settle_bytes(lens: impl Iterator<Item = u32>) -> usize {
    RECORD_OVERHEAD_BYTES + lens.map(|len| SETTLE_BYTES + len as usize * SETTLE_MORE_BYTES).sum::<usize>()
}

fn settled(pending: Pending) -> Asked<Settled> {
    Asked::new(pending, |reply| match reply {
        Reply::Queue(QueueReply::Settled { errors }) => Some(errors),
        _ => None,
    })
}

/// The answer to a receive, on its way: the messages, none if nothing came in time.
#[derive(Debug)]
pub struct Receiving {
    core: Arc<Core>,
    pending: Pending,
    done: bool,
}

impl Future for Receiving {
    type Output = Result<Result<Vec<Delivery>, ReceiveError>, CallError>;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let reply = std::task::ready!(Pin::new(&mut self.pending).poll(cx));
        self.done = true;
        Poll::Ready(match reply {
            Reply::Queue(QueueReply::Received(result)) => Ok(result),
            _ => Err(CallError::FateUnknown),
        })
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let ticket = self.pending.ticket;
        match self.core.mailbox.forget(ticket) {
            Some(Reply::Queue(QueueReply::Received(Ok(all)))) if !all.is_empty() => {
                self.core.broker.shared().inbox.put(Input::Undelivered(all));
            }
            Some(_) => {}
            // What comes although nobody waits is given back by who would have answered.
            None => drop(self.core.submit(None, Op::Queue(QueueOp::StopReceive { ticket }))),
        }
    }
}
