//! The bridges that run: what is known of each besides its task, and who works on it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::HashMap;
use millstream_types::ObjectId;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// Partitions, or queues, that are worked on at once, by all bridges together: each may have a message and what one read gave in memory.
const STEPS_MAX: usize = 16;
/// A rate is taken over so long, milliseconds.
const RATE_MS: u64 = 10_000;
/// Points of time that a rate is taken from.
const RATE_POINTS_MAX: usize = 16;

/// All bridges' workers.
#[derive(Debug)]
pub(crate) struct Bridges {
    pub(crate) steps: Semaphore,
    /// One change of bridges at a time.
    pub(crate) changing: tokio::sync::Mutex<()>,
    live: Mutex<HashMap<ObjectId, Live>>,
}

#[derive(Debug)]
struct Live {
    status: Arc<Status>,
    worker: Option<JoinHandle<()>>,
}

impl Default for Bridges {
    fn default() -> Self {
        Self {
            steps: Semaphore::new(STEPS_MAX),
            changing: tokio::sync::Mutex::default(),
            live: Mutex::default(),
        }
    }
}

impl Bridges {
    fn lock(&self) -> MutexGuard<'_, HashMap<ObjectId, Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of a bridge.
    pub(crate) fn status(&self, id: ObjectId) -> Arc<Status> {
        let mut live = self.lock();
        let one = live.entry(id).or_insert_with(|| Live { status: Arc::default(), worker: None });
        Arc::clone(&one.status)
    }

    /// Ends whoever works on it. What was submitted goes on; the task's version keeps it apart from who comes next.
    pub(crate) fn stop(&self, id: ObjectId) {
        if let Some(worker) = self.lock().get_mut(&id).and_then(|l| l.worker.take()) {
            worker.abort();
        }
    }

    pub(crate) fn began(&self, id: ObjectId, worker: JoinHandle<()>) {
        let mut live = self.lock();
        let one = live.entry(id).or_insert_with(|| Live { status: Arc::default(), worker: None });
        if let Some(before) = one.worker.replace(worker) {
            before.abort();
        }
    }

    /// Whether a bridge has a worker that goes on.
    pub(crate) fn is_running(&self, id: ObjectId) -> bool {
        self.lock().get(&id).and_then(|l| l.worker.as_ref()).is_some_and(|w| !w.is_finished())
    }

    /// It is no more.
    pub(crate) fn forget(&self, id: ObjectId) {
        self.stop(id);
        self.lock().remove(&id);
    }
}

/// What is known of a bridge since the broker was opened.
#[derive(Debug, Default)]
pub(crate) struct Status(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    errors: u64,
    blocked: Option<Blocked>,
    /// (when, messages passed on so far), milliseconds, ascending.
    passed: VecDeque<(u64, u64)>,
}

/// Why a bridge rests, to try again by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// Why.
    pub cause: String,
    /// Since when, milliseconds since the epoch.
    pub since_ms: u64,
    /// When it tries again at the latest, milliseconds since the epoch.
    pub retry_ms: u64,
}

impl Status {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It came on.
    pub(crate) fn passed(&self, now_ms: u64, messages: u64) {
        let mut s = self.lock();
        s.blocked = None;
        let sum = s.passed.back().map_or(0, |p| p.1) + messages;
        // Few points: the newest moves on until it is old enough to stay.
        match s.passed.len() {
            n if n >= 2 && s.passed.get(n - 2).is_some_and(|p| now_ms < p.0 + RATE_MS / 10) => {
                if let Some(last) = s.passed.back_mut() {
                    *last = (now_ms, sum);
                }
            }
            0 => s.passed.extend([(now_ms, 0), (now_ms, sum)]),
            _ => s.passed.push_back((now_ms, sum)),
        }
        while s.passed.len() > RATE_POINTS_MAX
            || s.passed.len() > 2 && s.passed.get(1).is_some_and(|p| p.0 + RATE_MS < now_ms)
        {
            s.passed.pop_front();
        }
    }

    /// It rests, for a cause that may go away.
    pub(crate) fn blocked(&self, cause: &str, now_ms: u64, retry_ms: u64) {
        let mut s = self.lock();
        s.errors += 1;
        let since_ms = s.blocked.as_ref().filter(|b| b.cause == cause).map_or(now_ms, |b| b.since_ms);
        s.blocked = Some(Blocked { cause: cause.to_owned(), since_ms, retry_ms });
    }

    /// Nothing keeps it from working.
    pub(crate) fn unblocked(&self) {
        self.lock().blocked = None;
    }

    /// Errors so far, what blocks it, and messages passed on in a second, lately.
    pub(crate) fn get(&self, now_ms: u64) -> (u64, Option<Blocked>, f64) {
        let s = self.lock();
        let first = s.passed.iter().find(|p| p.0 + RATE_MS >= now_ms).or(s.passed.back());
        let rate = match (first, s.passed.back()) {
            (Some(first), Some(last)) if now_ms > first.0 => {
                let n = u32::try_from(last.1 - first.1).map_or(f64::from(u32::MAX), f64::from);
                n * 1_000.0
                    / u32::try_from((now_ms - first.0).max(1_000)).map_or(f64::from(u32::MAX), f64::from)
            }
            _ => 0.0,
        };
        (s.errors, s.blocked.clone(), rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_of_the_last_seconds_and_falls_to_nothing() {
        let s = Status::default();
        for tick in 0..100 {
            s.passed(tick * 100, 10);
        }
        let rate = s.get(9_900).2;
        assert!((80.0..=120.0).contains(&rate), "{rate}");
        assert!(s.get(40_000).2 < 0.1);
        assert!(s.lock().passed.len() <= RATE_POINTS_MAX);
    }

    #[test]
    fn what_blocks_is_told_since_it_began_and_gone_with_the_first_step() {
        let s = Status::default();
        s.blocked("a", 5, 6);
        s.blocked("a", 7, 8);
        assert_eq!(s.get(7).1, Some(Blocked { cause: "a".to_owned(), since_ms: 5, retry_ms: 8 }));
        s.blocked("b", 9, 10);
        assert_eq!((s.get(9).0, s.get(9).1.unwrap().since_ms), (3, 9));
        s.passed(11, 1);
        assert_eq!(s.get(11).1, None);
    }

    #[tokio::test]
    async fn a_bridge_whose_worker_goes_on_is_running_and_one_whose_worker_ended_is_not() {
        let (bridges, id) = (Bridges::default(), ObjectId(1));
        assert!(!bridges.is_running(id));
        bridges.began(id, tokio::spawn(std::future::pending()));
        assert!(bridges.is_running(id));
        let ended = tokio::spawn(async {});
        while !ended.is_finished() {
            tokio::task::yield_now().await;
        }
        bridges.began(id, ended);
        assert!(!bridges.is_running(id));
    }
}
