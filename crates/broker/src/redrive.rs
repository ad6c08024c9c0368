//! Redrive: dead letters go back to where they came from, or to a queue that is named. In steps: some messages are held, durably, and then
//! each is settled here and published there in one record. So a crash at any point leaves one copy, and what was held and not moved is back
//! in its place after a restart.
//!
//! Start at [`Broker::redrive`]. A redrive is a task of the running broker: it does not go on after a restart.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use millstream_engine::op::{Op, Reply};
use millstream_engine::queue::api::{
    MoveError, MoveThen, MoveWork, QueueDef, QueueError, QueueOp, QueueReply, Refusal,
};
use millstream_log::Class;
use millstream_types::{Namespace, ObjectId};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::auth::Principal;
use crate::bodies::{BodyError, Place, QueueMessage};
use crate::broker::Broker;
use crate::error::{CallError, QueueCallError, Refused};
use crate::mover::{Decided, RETRY_WAIT, STEP_BYTES_MAX, STEP_MESSAGES_MAX, moving, submit_moves};
use crate::publish::{Routing, TARGET_BYTES};
use crate::session::{RECORD_OVERHEAD_BYTES, Session, SessionOptions};

/// Messages that a redrive finds no place for and holds until its end, so that it does not meet them again; with more it ends.
const STUCK_MAX: usize = 10_000;
/// Messages that are there and cannot be held yet (their heads are being read): the next try after so long, and the last after so many.
const HOLD_WAIT: Duration = Duration::from_millis(10);
const HOLD_TRIES_MAX: u32 = 500;

/// What to take where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redrive {
    /// The queue with the dead letters.
    pub from: ObjectId,
    /// All to this queue; `None`: each to the queue that its last death names.
    pub to: Option<String>,
    /// At most so many; `None`: as many as are ready when it begins.
    pub max: Option<u64>,
    /// At most so many a second; `None`: as fast as it goes.
    pub per_second: Option<u32>,
}

/// What a redrive did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Redriven {
    /// Messages taken to a queue.
    pub moved: u64,
    /// Left in their places: they name no queue, or one that is not there.
    pub homeless: u64,
    /// Left in their places: the queue they name is full.
    pub refused: u64,
    /// Left in their places: they cannot be read, or are larger than a message may be.
    pub unreadable: u64,
}

/// A redrive that runs. Dropped, it ends after the step that it is in; awaited, it tells what it did.
#[derive(Debug)]
pub struct Redriving {
    task: JoinHandle<Result<Redriven, QueueCallError>>,
    moved: Arc<AtomicU64>,
    _stop: watch::Sender<()>,
}

impl Redriving {
    /// Messages moved so far, also while it runs and after it was dropped.
    #[must_use]
    pub fn progress(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.moved)
    }
}

impl Future for Redriving {
    type Output = Result<Redriven, QueueCallError>;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let done = std::task::ready!(Pin::new(&mut self.task).poll(cx));
        Poll::Ready(done.unwrap_or(Err(QueueCallError::Call(CallError::FateUnknown))))
    }
}

impl Broker {
    /// Takes dead letters back. Each goes to its queue as it was published before it died there, with its death list kept and its counts at
    /// 0; the time to live of its own that it lost stays lost. Messages of one queue keep their order.
    ///
    /// # Durability
    /// What is counted as moved survives a crash where it is now.
    ///
    /// # Errors
    /// `NotFound`: there is no such queue to take from; see [`QueueCallError`].
    pub fn redrive(&self, ns: Namespace, what: Redrive) -> Result<Redriving, QueueCallError> {
        let def = self.directory().by_id(what.from).filter(|d| d.ns == ns).ok_or(QueueError::NotFound)?;
        let (stop, stopped) = watch::channel(());
        let who = Principal::inner("redrive");
        let session = self.session(who, ns, SessionOptions::default());
        let moved = Arc::new(AtomicU64::new(0));
        let counts = Arc::clone(&moved);
        let run = Run { broker: self.clone(), session, def, what, stopped, held: Vec::new(), moved: counts };
        Ok(Redriving { task: tokio::spawn(run.run()), moved, _stop: stop })
    }
}

struct Run {
    broker: Broker,
    session: Session,
    def: Arc<QueueDef>,
    what: Redrive,
    stopped: watch::Receiver<()>,
    /// What is held and was not moved.
    held: Vec<MoveWork>,
    moved: Arc<AtomicU64>,
}

impl Run {
    async fn run(mut self) -> Result<Redriven, QueueCallError> {
        let broker = self.broker.clone();
        let work = async {
            let mut done = Redriven::default();
            let result = self.steps(&mut done).await;
            self.release().await?;
            result.map(|()| done)
        };
        tokio::select! {
            result = work => result,
            () = broker.closed() => Err(CallError::Refused(Refused::Closed).into()),
        }
    }

    async fn steps(&mut self, done: &mut Redriven) -> Result<(), QueueCallError> {
        let ready = self.ready().await?;
        let mut left = self.what.max.unwrap_or(u64::MAX).min(ready);
        let step = self.what.per_second.map_or(STEP_MESSAGES_MAX as u64, |n| u64::from(n.max(1)));
        let (began, mut taken, mut tries) = (Instant::now(), 0_u64, 0);
        while left > 0 && self.held.len() < STUCK_MAX && self.stopped.has_changed().is_ok() {
            let n = left.min(step).min(STEP_MESSAGES_MAX as u64);
            let held = self.hold(u32::try_from(n).unwrap_or(u32::MAX)).await?;
            if held.is_empty() {
                tries += 1;
                if tries >= HOLD_TRIES_MAX || self.ready().await? == 0 {
                    return Ok(());
                }
                tokio::time::sleep(HOLD_WAIT).await;
                continue;
            }
            tries = 0;
            left = left.saturating_sub(held.len() as u64);
            taken += held.len() as u64;
            self.step(held, done).await?;
            if let Some(per_second) = self.what.per_second {
                let due = Duration::from_millis(taken.saturating_mul(1_000) / u64::from(per_second.max(1)));
                tokio::select! {
                    () = tokio::time::sleep_until(began + due) => {}
                    // Nobody waits for it any more.
                    _ = self.stopped.changed() => {}
                }
            }
        }
        Ok(())
    }

    async fn ready(&self) -> Result<u64, QueueCallError> {
        let stats = self.session.queue_stats(self.def.id, true).await?;
        Ok(stats.ok_or(QueueError::NotFound)?.ready.n)
    }

    /// Holds some messages. They are durable as held when this returns.
    async fn hold(&mut self, max: u32) -> Result<Vec<MoveWork>, QueueCallError> {
        let room = RECORD_OVERHEAD_BYTES + max as usize * TARGET_BYTES;
        let permit = self.session.admit(Class::Settle, room).await?;
        match self.session.submit(Some(permit), Op::Queue(QueueOp::Hold { queue: self.def.id, max })).await {
            Reply::Queue(QueueReply::Held(held)) => Ok(held.ok_or(QueueError::NotFound)?),
            _ => Err(CallError::FateUnknown.into()),
        }
    }

    /// Moves what was held. What cannot go stays held.
    async fn step(&mut self, held: Vec<MoveWork>, done: &mut Redriven) -> Result<(), QueueCallError> {
        let places: Vec<Place> = held.iter().map(|w| (w.queue, w.lane, w.pos)).collect();
        let bodies = self.broker.read_places(&places).await;
        let (mut record, mut bytes) = (Vec::new(), 0);
        // Whatever happens from here on, what was not moved is given back at the end.
        self.held.extend(&held);
        for (work, body) in held.into_iter().zip(bodies) {
            let Some(decided) = self.decide(work, body, done) else { continue };
            if !record.is_empty() && bytes + decided.bytes > STEP_BYTES_MAX {
                self.submit(std::mem::take(&mut record), done).await?;
                bytes = 0;
            }
            bytes += decided.bytes;
            record.push(decided);
        }
        self.submit(record, done).await
    }

    fn decide(
        &self,
        work: MoveWork,
        body: Result<QueueMessage, BodyError>,
        done: &mut Redriven,
    ) -> Option<Decided> {
        let Ok(mut body) = body else {
            done.unreadable += 1;
            return None;
        };
        // The last queue that gave it up: not this one, where it may have died too.
        let death = body.message.deaths.iter().find(|d| d.queue != self.def.name);
        let name = self.what.to.as_ref().or(death.map(|d| &d.queue));
        let Some(home) = name.and_then(|name| self.broker.directory().by_name(self.def.ns, name)) else {
            done.homeless += 1;
            return None;
        };
        if let Some((exchange, keys)) = death.map(|d| (d.exchange.clone(), d.keys.clone())) {
            let mut keys = keys.into_iter();
            body.message.exchange = exchange;
            body.message.routing_key = keys.next().unwrap_or_default();
            body.message.keys = keys.collect();
        }
        let decided = moving(&self.session, &self.def, work, &body, vec![Routing::Queue(home)], false);
        if decided.is_none() {
            done.unreadable += 1;
        }
        decided
    }

    async fn submit(&mut self, record: Vec<Decided>, done: &mut Redriven) -> Result<(), QueueCallError> {
        if record.is_empty() {
            return Ok(());
        }
        let works: Vec<MoveWork> = record.iter().map(|d| d.work).collect();
        let results = submit_moves(&self.session, record).await?;
        for (work, result) in works.into_iter().zip(results) {
            match result {
                Ok(()) => {
                    done.moved += 1;
                    self.moved.fetch_add(1, Ordering::Relaxed);
                }
                // Purged meanwhile, or the queue is gone.
                Err(MoveError::NotHeld) => {}
                Err(MoveError::Refused(why)) => {
                    let count = if why == Refusal::Gone { &mut done.homeless } else { &mut done.refused };
                    *count += 1;
                    continue;
                }
            }
            self.held.retain(|h| (h.lane, h.pos) != (work.lane, work.pos));
        }
        Ok(())
    }

    /// Gives back what is still held, in their places.
    async fn release(&mut self) -> Result<(), CallError> {
        while !self.held.is_empty() {
            let step = self.held.get(..self.held.len().min(STEP_MESSAGES_MAX)).unwrap_or_default();
            let back = |work: &MoveWork| Decided {
                work: *work,
                then: MoveThen::Release,
                topics: Vec::new(),
                bytes: TARGET_BYTES,
            };
            let (record, n): (Vec<_>, usize) = (step.iter().map(back).collect(), step.len());
            match submit_moves(&self.session, record).await {
                Ok(_) => drop(self.held.drain(..n)),
                Err(CallError::Refused(Refused::DiskFull | Refused::Overloaded)) => {
                    tokio::time::sleep(RETRY_WAIT).await;
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}
