//! A simulated machine: a disk that loses, tears and rots, a clock that is set, and random numbers by seed.
//!
//! Start at [`SimDisk`]. Same seed and same calls give the same results; nothing here reads the real clock,
//! the real disk or real randomness.
//!
//! # What a power cut leaves
//! - Every write that no later sync of its file covered survives whole, in part (any of its sectors) or not
//!   at all, each on its own, so writes are also reordered. A sector holds old or new bytes, never a mixture.
//! - A length that grew (by a write or [`File::allocate`](crate::File::allocate)) may be lost likewise, and one that shrank come back.
//! - Creates, removes and renames that no `sync_dir` covered are lost, kept up to some point, or kept one by
//!   one. A rename is whole or absent; `sync_dir` of either of its directories covers it. Syncing a file does
//!   not cover its name. A file or directory in a directory that was lost is lost with it.
//! - After a failed sync its writes stay readable, but no later sync covers them unless they are written
//!   again.

mod clock;
mod crash;
mod disk;
mod fault;
mod file;
mod names;
mod pages;
mod rng;
mod state;
#[cfg(test)]
mod tests;

pub use clock::SimClock;
pub use crash::Unsynced;
pub use disk::SimDisk;
pub use fault::{Call, Fault};
pub use rng::SimRng;
