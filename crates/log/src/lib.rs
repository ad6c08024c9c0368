//! The durable log: commit, read, trim, recover, reclaim. It knows neither queues nor protocols.
//!
//! Start at [`LogStore`] (what an implementation offers) and [`Opened`] (what one gets). Nothing above this crate
//! may assume a file, a synchronous commit, or a commit latency: one contract suite runs over every implementation.
#![forbid(unsafe_code)]

mod api;
mod bugs;
mod disk;
mod format;
pub mod mem;
mod space;
mod store;

pub use api::*;
#[cfg(all(feature = "deliberate_bugs", debug_assertions))]
pub use bugs::Bug;
pub use disk::DiskLog;
pub use store::{SimStore, StoreKind};
