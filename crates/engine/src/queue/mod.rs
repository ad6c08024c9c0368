//! Work queues: a settlement state for every message, owned by the broker.
//!
//! What may be asked is in [`api`]; what a queue's owner may set is in [`policy`]; what is durable, and how records change it, is in
//! [`rows`]. The rest is memory, built again from rows and log: [`queues`] is the way in, [`live`] one queue, [`lane`] one lane of it.
//! Nothing here reads a body.

pub mod api;
mod blocks;
mod change;
mod consumer;
mod delays;
pub mod directory;
mod dispatch;
pub mod ids;
mod keys;
mod lane;
pub mod lanes;
mod late;
mod lease;
mod leaving;
mod live;
mod moves;
mod order;
pub mod policy;
mod publish;
mod purge;
pub(crate) mod queues;
mod receive;
mod record;
mod rest;
pub mod rows;
mod settle;
mod slots;
pub mod source;
mod tidy;
mod timers;
mod topics;
mod transient;
mod tx;
mod window;

pub use self::dispatch::DELIVERY_BYTES;
pub use self::lane::WindowSizes;
pub use self::publish::PUBLISH_ACTS_BYTES;
pub use self::rest::REST_MS;

/// A floor that stood so long is recorded, and what is settled past it retired, milliseconds.
pub(crate) const TIDY_MS: u64 = 1_000;
