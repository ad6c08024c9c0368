//! The one place where this tool reads the real clock and waits: it has no broker semantics to simulate.

use std::thread;
use std::time::{Duration, Instant};

/// How often a condition is looked at again.
const POLL: Duration = Duration::from_millis(5);

/// A moment on the machine's steady clock.
#[derive(Clone, Copy)]
pub struct Moment(Instant);

impl Moment {
    /// This moment.
    #[expect(clippy::disallowed_methods, reason = "a tool that measures real processes")]
    pub fn now() -> Self {
        Self(Instant::now())
    }

    /// Time since.
    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }

    /// Time from `earlier` to this moment.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_duration_since(earlier.0)
    }
}

/// Asks `condition` until it gives something or `within` has passed.
///
/// # Errors
/// Whatever `condition` returns as an error, at once.
pub fn wait_for<T, E>(
    within: Duration,
    mut condition: impl FnMut() -> Result<Option<T>, E>,
) -> Result<Option<T>, E> {
    let start = Moment::now();
    loop {
        if let Some(found) = condition()? {
            return Ok(Some(found));
        }
        if start.elapsed() > within {
            return Ok(None);
        }
        pause(POLL);
    }
}

/// Rests for `time`.
pub fn pause(time: Duration) {
    thread::sleep(time); // tidy: pacing
}
