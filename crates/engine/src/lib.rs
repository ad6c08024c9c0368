//! Pure state machines over the log: partitions, producer deduplication, consumer groups, committed offsets, the catalogue's rows.
//!
//! Inputs and the time come in, operations on the log and effects go out. No sockets, no clock, no await; no protocol is named.
#![forbid(unsafe_code)]

pub mod attrs;
pub mod catalogue;
pub mod codec;
pub mod ctx;
pub mod effect;
pub mod error;
pub mod group;
pub mod op;
pub mod partition;
pub mod rows;
pub mod table;
