//! Settings of the listener, and whom it tells what it did.

use std::sync::Arc;
use std::time::Duration;

/// Settings of a Kafka listener. `Default` is what `millstream serve` uses.
#[derive(Clone)]
pub struct KafkaConfig {
    /// Host that clients are told to connect to; `None` = the address that the client connected to.
    pub advertised_host: Option<String>,
    /// Port that clients are told to connect to; `None` = the listener's.
    pub advertised_port: Option<u16>,
    /// Largest request, bytes (inclusive); only Produce may be so large, others see [`KafkaConfig::control_bytes_max`].
    pub frame_bytes_max: usize,
    /// Largest request that carries no records, bytes (inclusive).
    pub control_bytes_max: usize,
    /// Most connections at once; a further one is closed at once.
    pub connections_max: usize,
    /// Most requests of one connection that are read but not answered; reading rests then.
    pub inflight_max: usize,
    /// A connection on which nothing came for so long, with nothing left to answer, is closed.
    pub idle_max: Duration,
    /// This broker's id.
    pub node_id: i32,
    /// Most incremental fetch sessions; without room a fetch is answered in full each time.
    pub fetch_sessions_max: usize,
    /// Most partitions of all fetch sessions together.
    pub fetch_session_partitions_max: usize,
    /// How long connections may go on answering once the listener is told to stop.
    pub drain_max: Duration,
    /// Is told what happens.
    pub observer: Arc<dyn Observer>,
}

impl Default for KafkaConfig {
    fn default() -> Self {
        Self {
            advertised_host: None,
            advertised_port: None,
            frame_bytes_max: 100 << 20,
            control_bytes_max: 16 << 20,
            connections_max: 10_000,
            inflight_max: 64,
            idle_max: Duration::from_mins(10),
            node_id: 1,
            fetch_sessions_max: 1_000,
            fetch_session_partitions_max: 500_000,
            drain_max: Duration::from_secs(3),
            observer: Arc::new(NoObserver),
        }
    }
}

impl std::fmt::Debug for KafkaConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaConfig")
            .field("advertised_host", &self.advertised_host)
            .field("advertised_port", &self.advertised_port)
            .field("node_id", &self.node_id)
            .finish_non_exhaustive()
    }
}

/// Is told what happens, for metrics. Called on hot paths: it must be quick and never block. Every method may be left out.
pub trait Observer: Send + Sync {
    /// A connection was accepted.
    fn connection_opened(&self) {}
    /// A connection is gone.
    fn connection_closed(&self) {}
    /// A connection was closed because the other side broke the protocol, or there were too many.
    fn connection_refused(&self) {}
    /// A request was answered (or, with acks=0, done): its API by name, the time from the last byte read to the response, and the
    /// frames' bytes.
    fn request(&self, api: &'static str, took: Duration, bytes_in: usize, bytes_out: usize) {
        let _ = (api, took, bytes_in, bytes_out);
    }
    /// Batches were stored: how many records and bytes of batches.
    fn produced(&self, records: u64, bytes: u64) {
        let _ = (records, bytes);
    }
    /// Batches were sent to a consumer: bytes of batches.
    fn fetched(&self, bytes: u64) {
        let _ = bytes;
    }
    /// A partition or group was answered with an error code other than 0.
    fn error(&self, api: &'static str, code: i16) {
        let _ = (api, code);
    }
}

/// Nobody listens.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoObserver;

impl Observer for NoObserver {}
