//! A naive log, and random histories that a real one must share with it.
//!
//! Start at [`run`]: one seed is one history of appends, fan-outs, retires, trims, deletions, effects, rows, reads, clean stops,
//! power cuts, kills, failing syncs and rot, also while the log recovers. After each opening everything that is left is compared;
//! where nothing lives any more, the room must come back; and a log may only be lost where something was broken on purpose.
//! The seed fixes the history and the faults. A log with threads of its own may still take another path each time: how many
//! records a cut takes depends on them.

mod check;
mod history;
mod past;

pub use history::{Shape, SpaceHeld, Tally, run};
pub use past::{Model, Operation, fold};
