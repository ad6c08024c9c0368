//! Redrive: dead letters go back to where they came from, or to a queue that is named. In steps: some messages are held, durably, and then
//! each is settled here and published there in one record. So a crash at any point leaves one copy, and what was held and not moved is back
//! in its place after a restart.
//!
//! Start at [`Broker::redrive`], which ends with the running broker. One that goes on after a restart is in [`redrive_tasks`](crate::redrive_tasks).

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use millstream_engine::op::{Op, Reply, Tolerance, Transact, TransactError};
use millstream_engine::queue::api::{
    HeldItem, MoveThen, MoveWork, QueueDef, QueueError, QueueOp, QueueReply, Refusal,
};
use millstream_engine::task::TaskStep;
use millstream_log::{Class, Permit};
use millstream_types::{Namespace, ObjectId};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::auth::Principal;
use crate::bodies::{BodyError, Place, QueueMessage};
use crate::broker::Broker;
use crate::error::{CallError, QueueCallError, Refused};
use crate::mover::{Decided, RETRY_WAIT, STEP_BYTES_MAX, STEP_MESSAGES_MAX, moving, submit_moves};
use crate::publish::{Routing, TARGET_BYTES, has_memory, targets};
use crate::session::{ITEM_OVERHEAD_BYTES, RECORD_OVERHEAD_BYTES, Session, SessionOptions};
use crate::transaction::STEP_BYTES;

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
        let (stop, stopped) = watch::channel(());
        let run = Run::new(self, ns, what, stopped)?;
        let moved = Arc::clone(&run.moved);
        let (broker, max) = (self.clone(), run.what.max);
        let task = tokio::spawn(async move {
            tokio::select! {
                done = run.run(max) => done.map_err(|end| match end {
                    End::Call(e) => e,
                    End::Changed => CallError::FateUnknown.into(),
                }),
                () = broker.closed() => Err(CallError::Refused(Refused::Closed).into()),
            }
        });
        Ok(Redriving { task, moved, _stop: stop })
    }
}

/// Why a run ended before its end.
#[derive(Debug)]
pub(crate) enum End {
    /// A call failed.
    Call(QueueCallError),
    /// Its task was changed: whoever did that knows how it goes on.
    Changed,
}

impl From<QueueCallError> for End {
    fn from(e: QueueCallError) -> Self {
        Self::Call(e)
    }
}

impl From<CallError> for End {
    fn from(e: CallError) -> Self {
        Self::Call(e.into())
    }
}

impl From<Refused> for End {
    fn from(e: Refused) -> Self {
        Self::Call(CallError::from(e).into())
    }
}

/// A redrive at work.
pub(crate) struct Run {
    broker: Broker,
    pub(crate) session: Session,
    def: Arc<QueueDef>,
    what: Redrive,
    stopped: watch::Receiver<()>,
    /// What is held and was not moved.
    held: Vec<MoveWork>,
    moved: Arc<AtomicU64>,
    /// Whose steps these are, if they are a task's; and which of its counters counts what was moved. On a full disk a task waits.
    pub(crate) task: Option<(TaskStep, usize)>,
}

impl Run {
    pub(crate) fn new(
        broker: &Broker,
        ns: Namespace,
        what: Redrive,
        stopped: watch::Receiver<()>,
    ) -> Result<Self, QueueCallError> {
        let def = broker.directory().by_id(what.from).filter(|d| d.ns == ns).ok_or(QueueError::NotFound)?;
        let session = broker.session(Principal::inner("redrive"), ns, SessionOptions::default());
        let (broker, moved) = (broker.clone(), Arc::default());
        Ok(Self { broker, session, def, what, stopped, held: Vec::new(), moved, task: None })
    }

    /// Takes `max` messages, or as many as are ready, and gives back in the end what it holds and did not move.
    pub(crate) async fn run(mut self, max: Option<u64>) -> Result<Redriven, End> {
        let mut done = Redriven::default();
        let result = self.steps(max, &mut done).await;
        self.release().await?;
        result.map(|()| done)
    }

    async fn steps(&mut self, max: Option<u64>, done: &mut Redriven) -> Result<(), End> {
        let ready = self.ready().await?;
        let mut left = max.unwrap_or(u64::MAX).min(ready);
        let step = self.what.per_second.map_or(STEP_MESSAGES_MAX as u64, |n| u64::from(n.max(1)));
        let (began, mut taken, mut tries) = (Instant::now(), 0_u64, 0);
        while left > 0 && self.held.len() < STUCK_MAX && self.goes_on() {
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

    /// Whether somebody wants it.
    fn goes_on(&self) -> bool {
        self.stopped.has_changed().is_ok()
    }

    async fn ready(&self) -> Result<u64, QueueCallError> {
        let stats = self.session.queue_stats(self.def.id, true).await?;
        Ok(stats.ok_or(QueueError::NotFound)?.ready.n)
    }

    /// Waits until what was held when the broker died is back in its place, so that what is moved keeps its order; not for ever, as it may be
    /// held for another cause.
    pub(crate) async fn settled(&self) -> Result<(), QueueCallError> {
        for _ in 0..HOLD_TRIES_MAX {
            let stats = self.session.queue_stats(self.def.id, true).await?;
            if stats.ok_or(QueueError::NotFound)?.held.n == 0 {
                break;
            }
            tokio::time::sleep(HOLD_WAIT).await;
        }
        Ok(())
    }

    /// Room for a record that moves these messages. A task waits for it while the disk is full, or the memory.
    async fn admit(&self, class: Class, bytes: usize, record: &[Decided]) -> Result<Permit, Refused> {
        let publishes = record.iter().filter_map(|d| match &d.then {
            MoveThen::Publish { publish, .. } => Some(publish),
            MoveThen::Release | MoveThen::Drop(_) => None,
        });
        loop {
            let admitted = match has_memory(&self.broker, targets(publishes.clone()), [self.def.id]) {
                Ok(()) => self.session.admit(class, bytes).await,
                Err(full) => Err(full),
            };
            match admitted {
                Err(why) if why.is_retryable() && self.task.is_some() && self.goes_on() => {
                    tokio::time::sleep(RETRY_WAIT).await;
                }
                result => return result,
            }
        }
    }

    /// Holds some messages. They are durable as held when this returns.
    async fn hold(&mut self, max: u32) -> Result<Vec<MoveWork>, QueueCallError> {
        let room = RECORD_OVERHEAD_BYTES + max as usize * TARGET_BYTES;
        let permit = self.admit(Class::Settle, room, &[]).await?;
        match self.session.submit(Some(permit), Op::Queue(QueueOp::Hold { queue: self.def.id, max })).await {
            Reply::Queue(QueueReply::Held(held)) => Ok(held.ok_or(QueueError::NotFound)?),
            _ => Err(CallError::FateUnknown.into()),
        }
    }

    /// Moves what was held. What cannot go stays held.
    async fn step(&mut self, held: Vec<MoveWork>, done: &mut Redriven) -> Result<(), End> {
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
        body.expiry_ms = None;
        body.forget_deliveries();
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

    /// Settles here and publishes there, and counts it, in one record. What a queue refuses stays held, and the others go without it.
    async fn submit(&mut self, mut record: Vec<Decided>, done: &mut Redriven) -> Result<(), End> {
        while !record.is_empty() {
            let permit = self.admit(Class::Publish, room(&record), &record).await?;
            let op = self.transact(&record);
            let Reply::Transact(result) = self.session.submit(Some(permit), Op::Transact(Box::new(op))).await
            else {
                return Err(CallError::FateUnknown.into());
            };
            let refused = match result {
                Ok(_) => {
                    done.moved += record.len() as u64;
                    self.moved.fetch_add(record.len() as u64, Ordering::Relaxed);
                    for decided in &record {
                        self.let_go(decided.work);
                    }
                    return Ok(());
                }
                Err(TransactError::Publish { index, why, .. }) => {
                    let count = if why == Refusal::Gone { &mut done.homeless } else { &mut done.refused };
                    *count += 1;
                    index
                }
                // Purged meanwhile, or the queue is gone.
                Err(TransactError::NotHeld { index }) => {
                    if let Some(work) = record.get(index).map(|d| d.work) {
                        self.let_go(work);
                    }
                    index
                }
                Err(_) => return Err(End::Changed),
            };
            if refused >= record.len() {
                return Err(CallError::FateUnknown.into());
            }
            record.remove(refused);
        }
        Ok(())
    }

    fn let_go(&mut self, work: MoveWork) {
        self.held.retain(|h| (h.lane, h.pos) != (work.lane, work.pos));
    }

    /// Each message of `record` stands in its place in `publishes` and in `moved`.
    fn transact(&self, record: &[Decided]) -> Transact {
        let mut op = Transact { tolerance: Tolerance::Nothing, ..Transact::default() };
        for Decided { work, then, .. } in record {
            let MoveThen::Publish { publish, .. } = then else { continue };
            op.publishes.push(publish.clone());
            let MoveWork { queue, lane, pos, delivery_no, .. } = *work;
            op.moved.push(HeldItem { queue, lane, pos, delivery_no });
        }
        op.task = self.task.clone().map(|(mut step, counter)| {
            if let Some(moved) = step.add.get_mut(counter) {
                *moved = op.moved.len() as u64;
            }
            step
        });
        op
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
                Err(CallError::Refused(why)) if why.is_retryable() => {
                    tokio::time::sleep(RETRY_WAIT).await;
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

/// Room for a record that moves messages.
fn room(record: &[Decided]) -> usize {
    let items: usize = record.iter().map(|d| d.bytes + ITEM_OVERHEAD_BYTES).sum();
    RECORD_OVERHEAD_BYTES + STEP_BYTES + items
}
