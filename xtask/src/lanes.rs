//! Programs side by side: several workers take jobs from one list, in its order.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

/// Something to do that gives a `T`.
pub type Job<'a, T> = Box<dyn FnOnce() -> T + Send + 'a>;

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Does all jobs, at most `lanes` of them at a time, begun in their order. What they gave comes back in that order too.
pub fn run<T: Send>(lanes: usize, jobs: Vec<Job<'_, T>>) -> Vec<T> {
    let count = jobs.len();
    let waiting: Mutex<VecDeque<_>> = Mutex::new(jobs.into_iter().enumerate().collect());
    let done = Mutex::new(Vec::with_capacity(count));
    thread::scope(|scope| {
        for _ in 0..lanes.min(count) {
            scope.spawn(|| {
                loop {
                    let next = lock(&waiting).pop_front();
                    let Some((at, job)) = next else { return };
                    let gave = job();
                    lock(&done).push((at, gave));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, gave)| gave).collect()
}

/// Something that one thread makes and others wait for.
pub struct Later<T>(Arc<(Mutex<Option<T>>, Condvar)>);

impl<T> Clone for Later<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for Later<T> {
    fn default() -> Self {
        Self(Arc::new((Mutex::new(None), Condvar::new())))
    }
}

impl<T> Later<T> {
    /// Here it is.
    pub fn set(&self, value: T) {
        *lock(&self.0.0) = Some(value);
        self.0.1.notify_all();
    }
}

impl<T: Clone> Later<T> {
    /// Waits for it.
    pub fn get(&self) -> T {
        let mut here = lock(&self.0.0);
        loop {
            if let Some(value) = &*here {
                return value.clone();
            }
            here = self.0.1.wait(here).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn all_jobs_are_done_no_more_at_a_time_than_there_are_lanes_and_their_order_is_kept() {
        let (at_once, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let job = |n: usize| -> Job<'_, usize> {
            let (at_once, most) = (&at_once, &most);
            Box::new(move || {
                most.fetch_max(at_once.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                thread::yield_now();
                at_once.fetch_sub(1, Ordering::SeqCst);
                n
            })
        };
        let gave = run(3, (0..100).map(job).collect());
        assert_eq!(gave, (0..100).collect::<Vec<_>>());
        assert!(most.into_inner() <= 3);
    }

    #[test]
    fn what_comes_later_is_waited_for() {
        let later = Later::default();
        let setter = later.clone();
        let waiter = thread::spawn(move || later.get());
        setter.set(7);
        assert_eq!(waiter.join().unwrap(), 7);
    }
}
