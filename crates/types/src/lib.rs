//! Ids, positions and limits that every layer shares. No I/O, no policy.
//!
//! Start at [`LogId`].
#![forbid(unsafe_code)]

mod ids;
pub mod limits;

pub use ids::{ConnId, Epoch, LogId, Lsn, Namespace, ObjectId, ObjectKind};
