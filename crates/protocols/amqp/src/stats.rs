//! What an AMQP listener counts. Counted by the batch, not by the message, where there is one.

pub use millstream_accept::Count;

/// What a listener counts. Those that say *open* are of this moment, the others since the listener began.
#[derive(Debug, Default)]
pub struct AmqpStats {
    /// Open connections.
    pub connections: Count,
    /// Connections ever accepted.
    pub connections_accepted: Count,
    /// Connections closed for a broken rule, or refused because there were too many.
    pub connections_refused: Count,
    /// Logins refused.
    pub logins_refused: Count,
    /// Open connections whose publishing is held because the disk is full, or memory.
    pub connections_blocked: Count,
    /// Open channels.
    pub channels: Count,
    /// Consumers of open channels.
    pub consumers: Count,
    /// Messages published.
    pub published: Count,
    /// Of these, confirmed.
    pub confirmed: Count,
    /// Of these, refused by a queue, and said so with a nack.
    pub nacked: Count,
    /// Of these, sent back because they were routed nowhere.
    pub returned: Count,
    /// Messages delivered, those that were asked for with `basic.get` included.
    pub delivered: Count,
    /// Of these, marked as redelivered.
    pub redelivered: Count,
    /// Deliveries acknowledged by clients.
    pub acked: Count,
    /// Deliveries put back by clients (nack or reject with requeue, recover).
    pub requeued: Count,
    /// Deliveries rejected for good.
    pub rejected: Count,
    /// Channels closed because a delivery was not settled in time.
    pub timed_out: Count,
}
