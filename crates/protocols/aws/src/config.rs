//! Settings of the listener.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::stats::AwsStats;

/// A pair that requests are signed with.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessKey {
    /// Its public half.
    pub id: String,
    /// Its secret half.
    pub secret: String,
}

impl fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Settings of an AWS listener. `Default` is what `millstream serve` uses.
#[derive(Clone, Debug)]
pub struct AwsConfig {
    /// The region in ARNs.
    pub region: String,
    /// The account in ARNs and URLs: 12 digits.
    pub account: String,
    /// Who may sign requests. None: requests are taken as they come, signed or not.
    pub keys: Vec<AccessKey>,
    /// Most connections at once; a further one is closed at once.
    pub connections_max: usize,
    /// Largest request body, bytes.
    pub request_bytes_max: usize,
    /// Bytes of large request bodies that are in memory at once, of all connections.
    pub bodies_bytes_max: usize,
    /// How long after a deletion a queue of the same name cannot be made, and after a purge the queue not be purged again.
    pub cooldown: Duration,
    /// How long a client may take to send a body.
    pub read_max: Duration,
    /// How long a connection may be without a whole head of a request.
    pub idle_max: Duration,
    /// How long requests may go on once the listener is told to stop.
    pub drain_max: Duration,
    /// Where the listener counts what it does.
    pub stats: Arc<AwsStats>,
}

impl Default for AwsConfig {
    fn default() -> Self {
        Self {
            region: "us-east-1".to_owned(),
            account: "000000000000".to_owned(),
            keys: Vec::new(),
            connections_max: 10_000,
            request_bytes_max: 8 << 20,
            bodies_bytes_max: 256 << 20,
            cooldown: Duration::from_mins(1),
            read_max: Duration::from_secs(30),
            idle_max: Duration::from_mins(10),
            drain_max: Duration::from_secs(3),
            stats: Arc::default(),
        }
    }
}
