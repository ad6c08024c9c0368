//! Pure state machines over the log: partitions, work queues, producer deduplication, consumer groups, committed offsets, the catalogue's rows.
//!
//! Inputs and the time come in, operations on the log and effects go out. No sockets, no clock, no await; no protocol is named.
//! Start at [`Engine`]; what may be asked of it is [`op::Op`].
#![forbid(unsafe_code)]

pub mod attrs;
pub mod catalogue;
pub mod codec;
pub mod ctx;
mod decide;
pub mod effect;
mod engine;
pub mod error;
pub mod exchange;
mod expiry;
pub mod group;
mod live;
pub mod op;
pub mod partition;
mod parts;
pub mod queue;
mod replay;
mod routes;
mod routing;
pub mod rows;
mod state;
pub mod table;
pub mod task;
mod transact;

pub use engine::{Engine, EngineConfig};
