//! Where the sequencer leaves a session's answers, and how the session is woken: once for all that one durable write covers.
//!
//! Start at [`Pending`]. An answer shows only when the LSN it waits for has been *published*: durable, and visible to readers.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use foldhash::HashMap;
use millstream_engine::op::{Ended, Reply, Ticket};
use millstream_engine::queue::api::{ConsumerId, Delivery, QueueReply};
use millstream_types::{ConnId, Lsn};

/// The last LSN whose answers may be shown, shared by all mailboxes.
#[derive(Debug, Default)]
pub(crate) struct Published(AtomicU64);

impl Published {
    pub(crate) fn get(&self) -> Lsn {
        Lsn(self.0.load(Ordering::SeqCst))
    }
    pub(crate) fn set(&self, lsn: Lsn) {
        self.0.store(lsn.0, Ordering::SeqCst);
    }
}

#[derive(Debug)]
enum Slot {
    Waiting(Option<Waker>),
    Answered { wait: Lsn, reply: Reply, waker: Option<Waker> },
}

#[derive(Debug, Default)]
struct Inner {
    slots: HashMap<Ticket, Slot>,
    /// In the order in which they are to be handed over. Bounded by what the engine lets a session have in its outbox.
    deliveries: VecDeque<Delivery>,
    taker: Option<Waker>,
    /// Consumers whose queues are gone, and from when on. At most as many as the session has consumers.
    ended: VecDeque<(Lsn, ConsumerId)>,
    ended_taker: Option<Waker>,
    lost: bool,
}

/// One session's answers.
#[derive(Debug)]
pub(crate) struct Mailbox {
    pub(crate) conn: ConnId,
    published: Arc<Published>,
    inner: Mutex<Inner>,
}

impl Mailbox {
    pub(crate) fn new(conn: ConnId, published: Arc<Published>) -> Self {
        Self { conn, published, inner: Mutex::new(Inner::default()) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a slot for an operation about to be submitted.
    pub(crate) fn expect(self: &Arc<Self>, ticket: Ticket) -> Pending {
        let mut inner = self.lock();
        if !inner.lost {
            inner.slots.insert(ticket, Slot::Waiting(None));
        }
        Pending { mailbox: Arc::clone(self), ticket }
    }

    /// From the sequencer: an answer. Given back if nobody waits for it any more.
    pub(crate) fn answer(&self, ticket: Ticket, wait: Lsn, reply: Reply) -> Option<Reply> {
        let mut inner = self.lock();
        let Some(slot) = inner.slots.get_mut(&ticket) else { return Some(reply) };
        let waker = match slot {
            Slot::Waiting(w) | Slot::Answered { waker: w, .. } => w.take(),
        };
        if wait <= self.published.get() {
            *slot = Slot::Answered { wait, reply, waker: None };
            drop(inner);
            if let Some(w) = waker {
                w.wake();
            }
        } else {
            *slot = Slot::Answered { wait, reply, waker };
        }
        None
    }

    /// From the sequencer: messages for the session's consumers, in order. What they wait for, if they are not due yet.
    pub(crate) fn deliver(&self, deliveries: &[Delivery]) -> Option<Lsn> {
        let mut inner = self.lock();
        inner.deliveries.extend(deliveries);
        let front = inner.deliveries.front().map_or(Lsn(0), |d| d.wait);
        let waker = if front <= self.published.get() { inner.taker.take() } else { None };
        drop(inner);
        if let Some(w) = waker {
            w.wake();
        }
        deliveries.iter().map(|d| d.wait).max().filter(|w| *w > self.published.get())
    }

    /// Takes what may be handed over now.
    pub(crate) fn poll_deliveries(&self, cx: &Context<'_>, out: &mut Vec<Delivery>) -> Poll<()> {
        let mut inner = self.lock();
        let published = self.published.get();
        let before = out.len();
        while let Some(d) = inner.deliveries.pop_front_if(|d| d.wait <= published) {
            out.push(d);
        }
        if out.len() > before || inner.lost {
            return Poll::Ready(());
        }
        if !inner.taker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            inner.taker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// From the sequencer: a consumer's queue is gone. Whether that is not durable yet.
    pub(crate) fn end(&self, ended: &Ended) -> bool {
        let mut inner = self.lock();
        inner.ended.push_back((ended.wait, ended.consumer));
        let due = ended.wait <= self.published.get();
        let waker = if due { inner.ended_taker.take() } else { None };
        drop(inner);
        if let Some(w) = waker {
            w.wake();
        }
        !due
    }

    /// The next consumer whose queue is gone.
    pub(crate) fn poll_ended(&self, cx: &Context<'_>) -> Poll<ConsumerId> {
        let mut inner = self.lock();
        let published = self.published.get();
        if let Some((_, consumer)) = inner.ended.pop_front_if(|(wait, _)| *wait <= published) {
            return Poll::Ready(consumer);
        }
        if !inner.ended_taker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            inner.ended_taker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// The session is over: what was delivered and nobody took is given back, and nobody waits for an answer that never comes.
    pub(crate) fn close(&self) -> Vec<Delivery> {
        let mut inner = self.lock();
        inner.lost = true;
        let mut wakers: Vec<Waker> = inner.taker.take().into_iter().collect();
        let mut left: Vec<Delivery> = inner.deliveries.drain(..).collect();
        inner.slots.retain(|_, slot| match slot {
            Slot::Answered { reply: Reply::Queue(QueueReply::Received(Ok(all))), .. } => {
                left.append(all);
                true
            }
            Slot::Answered { .. } => true,
            Slot::Waiting(w) => {
                wakers.extend(w.take());
                false
            }
        });
        drop(inner);
        wakers.into_iter().for_each(Waker::wake);
        left
    }

    /// From the sequencer: more has been published.
    pub(crate) fn wake_published(&self) {
        let published = self.published.get();
        let mut wakers = Vec::new();
        {
            let mut inner = self.lock();
            for slot in inner.slots.values_mut() {
                if let Slot::Answered { wait, waker, .. } = slot
                    && *wait <= published
                    && let Some(w) = waker.take()
                {
                    wakers.push(w);
                }
            }
            if inner.deliveries.front().is_some_and(|d| d.wait <= published) {
                wakers.extend(inner.taker.take());
            }
            if inner.ended.front().is_some_and(|(wait, _)| *wait <= published) {
                wakers.extend(inner.ended_taker.take());
            }
        }
        for w in wakers {
            w.wake();
        }
    }

    /// The log was lost: whatever is not answered never will be.
    pub(crate) fn lose(&self) {
        let mut wakers = Vec::new();
        {
            let mut inner = self.lock();
            inner.lost = true;
            let published = self.published.get();
            inner.deliveries.retain(|d| d.wait <= published);
            wakers.extend(inner.taker.take());
            inner.slots.retain(|_, slot| match slot {
                Slot::Answered { wait, .. } if *wait <= published => true,
                Slot::Waiting(w) | Slot::Answered { waker: w, .. } => {
                    wakers.extend(w.take());
                    false
                }
            });
        }
        for w in wakers {
            w.wake();
        }
    }

    fn poll(&self, ticket: Ticket, cx: &Context<'_>) -> Poll<Reply> {
        let mut inner = self.lock();
        match inner.slots.get_mut(&ticket) {
            None => return Poll::Ready(Reply::FateUnknown),
            Some(Slot::Answered { wait, .. }) if *wait <= self.published.get() => {}
            Some(Slot::Waiting(waker) | Slot::Answered { waker, .. }) => {
                if !waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
                    *waker = Some(cx.waker().clone());
                }
                return Poll::Pending;
            }
        }
        match inner.slots.remove(&ticket) {
            Some(Slot::Answered { reply, .. }) => Poll::Ready(reply),
            _ => Poll::Ready(Reply::FateUnknown),
        }
    }

    /// Nobody waits any more. Gives the answer, if it is there.
    pub(crate) fn forget(&self, ticket: Ticket) -> Option<Reply> {
        match self.lock().slots.remove(&ticket) {
            Some(Slot::Answered { reply, .. }) => Some(reply),
            _ => None,
        }
    }
}

/// An answer on its way. Resolves when what it tells of is durable. Dropping it drops only the answer: the operation goes on.
#[derive(Debug)]
pub struct Pending {
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) ticket: Ticket,
}

impl Future for Pending {
    type Output = Reply;
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Reply> {
        self.mailbox.poll(self.ticket, cx)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        drop(self.mailbox.forget(self.ticket));
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn poll(p: &mut Pending) -> Poll<Reply> {
        Pin::new(p).poll(&mut Context::from_waker(Waker::noop()))
    }

    fn mailbox() -> (Arc<Published>, Arc<Mailbox>) {
        let published = Arc::new(Published::default());
        (Arc::clone(&published), Arc::new(Mailbox::new(ConnId(1), published)))
    }

    #[test]
    fn an_answer_shows_only_when_its_lsn_is_published() {
        let (published, mailbox) = mailbox();
        let mut p = mailbox.expect(Ticket(1));
        assert!(poll(&mut p).is_pending());
        mailbox.answer(Ticket(1), Lsn(5), Reply::Producer { id: 1, epoch: 0 });
        published.set(Lsn(4));
        assert!(poll(&mut p).is_pending());
        published.set(Lsn(5));
        assert!(matches!(poll(&mut p), Poll::Ready(Reply::Producer { id: 1, .. })));
    }

    #[test]
    fn what_was_published_before_the_loss_is_still_answered_and_the_rest_is_unknown() {
        let (published, mailbox) = mailbox();
        let (mut a, mut b) = (mailbox.expect(Ticket(1)), mailbox.expect(Ticket(2)));
        mailbox.answer(Ticket(1), Lsn(1), Reply::Producer { id: 1, epoch: 0 });
        mailbox.answer(Ticket(2), Lsn(2), Reply::Producer { id: 2, epoch: 0 });
        published.set(Lsn(1));
        mailbox.lose();
        assert!(matches!(poll(&mut a), Poll::Ready(Reply::Producer { id: 1, .. })));
        assert!(matches!(poll(&mut b), Poll::Ready(Reply::FateUnknown)));
        assert!(matches!(poll(&mut mailbox.expect(Ticket(3))), Poll::Ready(Reply::FateUnknown)));
    }

    #[test]
    fn a_dropped_answer_leaves_nothing_behind() {
        let (_, mailbox) = mailbox();
        drop(mailbox.expect(Ticket(1)));
        mailbox.answer(Ticket(1), Lsn(0), Reply::FateUnknown);
        assert!(mailbox.lock().slots.is_empty());
    }
}
