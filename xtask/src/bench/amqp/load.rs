//! The loads, as figures, and what a load tool measures of one: [`super::perftest`] and [`super::own`] are the tools.

use anyhow::Result;

/// What goes through a broker.
pub struct Load {
    pub name: &'static str,
    /// Each with a connection of its own.
    pub publishers: usize,
    pub consumers: usize,
    /// Messages of a publisher that wait for their confirm, at most.
    pub unconfirmed_max: u64,
    /// Deliveries of a consumer that wait for its acknowledgement, at most, and how many it acknowledges at a time.
    pub prefetch: u16,
    pub acked_together: u64,
    pub body_bytes: usize,
    pub to: To,
}

/// Where messages go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum To {
    /// Persistent ones, to one durable queue.
    Queue,
    /// Through a fanout exchange to an exclusive queue of each consumer; not persistent. No quorum queue is exclusive.
    ExclusiveQueues,
    /// Persistent ones, through a fanout exchange to a durable queue for each consumer.
    DurableQueues,
}

/// Loads that run for a while.
pub const LOADS: &[Load] = &[
    Load {
        name: "1 KiB persistent, confirmed, 2 connections",
        publishers: 1,
        consumers: 1,
        unconfirmed_max: 500,
        prefetch: 500,
        acked_together: 50,
        body_bytes: 1024,
        to: To::Queue,
    },
    Load {
        name: "1 KiB persistent, confirmed, 50 connections",
        publishers: 25,
        consumers: 25,
        unconfirmed_max: 100,
        prefetch: 100,
        acked_together: 20,
        body_bytes: 1024,
        to: To::Queue,
    },
    Load {
        name: "16 bytes persistent, confirmed",
        publishers: 1,
        consumers: 1,
        unconfirmed_max: 1000,
        prefetch: 1000,
        acked_together: 100,
        body_bytes: 16,
        to: To::Queue,
    },
    FANOUT,
    Load { name: "1 KiB persistent to 50 durable queues of a fanout", to: To::DurableQueues, ..FANOUT },
];

const FANOUT: Load = Load {
    name: "1 KiB to 50 queues of a fanout",
    publishers: 1,
    consumers: 50,
    unconfirmed_max: 100,
    prefetch: 500,
    acked_together: 50,
    body_bytes: 1024,
    to: To::ExclusiveQueues,
};

/// How a backlog is filled, then drained.
pub const BACKLOG: Load = Load {
    name: "backlog",
    publishers: 1,
    consumers: 1,
    unconfirmed_max: 1000,
    prefetch: 1000,
    acked_together: 100,
    body_bytes: 1024,
    to: To::Queue,
};

/// What a run measured.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Measured {
    /// Messages in all, for which the tool and the broker worked: those received, where there are consumers.
    pub messages: f64,
    /// Messages sent a second.
    pub sent: Option<f64>,
    /// Messages received a second, all consumers together.
    pub received: Option<f64>,
    /// From a message's publish to its delivery, ms: the median, and what 99 of 100 stay under.
    pub latency_ms: Option<(f64, f64)>,
    /// From a publish to its confirm, ms: the same.
    pub confirm_ms: Option<(f64, f64)>,
}

/// A load tool, pointed at one broker and a kind of queue there.
pub trait Tool {
    /// Runs a load for so long through queues whose names begin with `queue`.
    fn run(&self, load: &Load, queue: &str, seconds: u64) -> Result<Measured>;

    /// Publishes so many messages to a durable queue, which stays.
    fn fill(&self, load: &Load, queue: &str, messages: u64) -> Result<Measured>;

    /// Consumes so many of it.
    fn drain(&self, load: &Load, queue: &str, messages: u64) -> Result<Measured>;
}
