//! Waiting for a future, or for a condition, without a runtime. A wait that never ends fails the test.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

/// A wait this long is stuck. Far above what any test needs, also on a busy machine.
const STUCK_MS: u64 = 60_000;
const LOOK_MS: u64 = 1;

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Drives one future on this thread.
///
/// # Panics
/// If it is stuck.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut cx = Context::from_waker(&waker);
    // A wake-up between poll and park makes the park return at once; the short time only bounds how late "stuck" is seen.
    for _ in 0..STUCK_MS / 100 {
        if let Poll::Ready(out) = future.as_mut().poll(&mut cx) {
            return out;
        }
        std::thread::park_timeout(Duration::from_millis(100));
    }
    panic!("a future is stuck");
}

/// Whether a future is done now.
pub fn ready<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(out) => Some(out),
        Poll::Pending => None,
    }
}

/// Looks until the condition holds: for what has no future to wait for.
///
/// # Panics
/// If it never does.
pub fn until(what: &str, holds: impl FnMut() -> bool) {
    assert!(comes(holds), "never came: {what}");
}

/// Looks until the condition holds; false if it never does.
pub fn comes(mut holds: impl FnMut() -> bool) -> bool {
    for _ in 0..STUCK_MS / LOOK_MS {
        if holds() {
            return true;
        }
        std::thread::park_timeout(Duration::from_millis(LOOK_MS));
    }
    false
}
