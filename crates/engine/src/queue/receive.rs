//! What a receive asks for: messages, once. A consumer's asking is in [`ConsumerOpts`](super::api::ConsumerOpts).

use millstream_types::ObjectId;

use super::api::{LEASES_MAX, LeaseKind};

/// Takes messages once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receive {
    /// The queue.
    pub queue: ObjectId,
    /// Most messages, 1 to [`RECEIVE_MAX`](super::api::RECEIVE_MAX).
    pub max: u32,
    /// Payload bytes after which no more are taken; at least one message.
    pub bytes_max: u64,
    /// How long to wait for the first, milliseconds.
    pub wait_ms: u64,
    /// How long the leases are.
    pub lease: LeaseKind,
    /// The answer goes out before the leases are durable.
    pub ride: bool,
    /// They are settled as they are handed out; see [`ConsumerOpts::auto_ack`](super::api::ConsumerOpts::auto_ack).
    pub auto_ack: bool,
    /// Served also if an exclusive or single active consumer has the queue.
    pub beside: bool,
    /// With so many leases of the queue out it gets nothing, [`LEASES_MAX`] at most: refused if it does not wait, else it waits for one to end.
    pub leases_max: usize,
}

impl Receive {
    /// What is there now, at most so many messages, leased until they are settled or the session ends; answered before that is durable.
    #[must_use]
    pub fn now(queue: ObjectId, max: u32) -> Self {
        Self {
            queue,
            max,
            bytes_max: u64::MAX,
            wait_ms: 0,
            lease: LeaseKind::Bound,
            ride: true,
            auto_ack: false,
            beside: false,
            leases_max: LEASES_MAX,
        }
    }
}
