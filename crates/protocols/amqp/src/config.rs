//! Settings of the listener.

use std::sync::Arc;
use std::time::Duration;

use crate::stats::AmqpStats;

/// Settings of an AMQP listener. `Default` is what `millstream serve` uses.
#[derive(Clone)]
pub struct AmqpConfig {
    /// Most connections at once; a further one is closed at once.
    pub connections_max: usize,
    /// Most channels of one connection, as proposed to it.
    pub channels_max: u16,
    /// Largest frame, head and end included, as proposed to a client.
    pub frame_bytes_max: u32,
    /// Time between signs of life, seconds, as proposed to a client; 0 = none.
    pub heartbeat_s: u16,
    /// How long a client may take to log in.
    pub handshake_max: Duration,
    /// How long connections may go on once the listener is told to stop.
    pub drain_max: Duration,
    /// What is counted.
    pub stats: Arc<AmqpStats>,
    /// A delivery that is not settled within closes its channel, unless its queue has an `x-consumer-timeout`; `None`: whenever.
    pub consumer_timeout: Option<Duration>,
    /// Users that may log in from this machine only.
    pub loopback_users: Vec<String>,
}

impl Default for AmqpConfig {
    fn default() -> Self {
        Self {
            connections_max: 10_000,
            channels_max: 2_047,
            frame_bytes_max: 131_072,
            heartbeat_s: 60,
            handshake_max: Duration::from_secs(10),
            drain_max: Duration::from_secs(3),
            stats: Arc::default(),
            consumer_timeout: Some(Duration::from_mins(30)),
            loopback_users: vec!["guest".to_owned()],
        }
    }
}

impl std::fmt::Debug for AmqpConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AmqpConfig")
            .field("connections_max", &self.connections_max)
            .field("channels_max", &self.channels_max)
            .field("frame_bytes_max", &self.frame_bytes_max)
            .field("heartbeat_s", &self.heartbeat_s)
            .finish_non_exhaustive()
    }
}
