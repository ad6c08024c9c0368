//! Work queues: a settlement state for every message, owned by the broker.
//!
//! What may be asked is in [`api`]; what a queue's owner may set is in [`policy`].

pub mod api;
pub mod policy;
