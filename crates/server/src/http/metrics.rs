//! `GET /metrics`: Prometheus text. Counters come from the listeners' observers, gauges ([`gauges`]) are read when asked.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use millstream_broker::Broker;
use millstream_broker::group::GroupInfo;
use millstream_broker::queue::api::QueueStats;
use millstream_kafka::Observer;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::{ApiError, Shared, gauges};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Api {
    api: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ApiCode {
    api: &'static str,
    code: i16,
}

/// Counts what the Kafka listener does.
#[derive(Debug)]
pub struct KafkaMetrics {
    connections: Gauge,
    refused: Counter,
    requests: Family<Api, Histogram>,
    errors: Family<ApiCode, Counter>,
    bytes_in: Counter,
    bytes_out: Counter,
    records: Counter,
    stored: Counter,
    fetched: Counter,
}

impl Default for KafkaMetrics {
    fn default() -> Self {
        Self {
            connections: Gauge::default(),
            refused: Counter::default(),
            requests: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.000_1, 2.5, 14))),
            errors: Family::default(),
            bytes_in: Counter::default(),
            bytes_out: Counter::default(),
            records: Counter::default(),
            stored: Counter::default(),
            fetched: Counter::default(),
        }
    }
}

/// The one set of counters of the process.
pub static KAFKA: LazyLock<Arc<KafkaMetrics>> = LazyLock::new(|| Arc::new(KafkaMetrics::default()));

impl Observer for KafkaMetrics {
    fn connection_opened(&self) {
        self.connections.inc();
    }
    fn connection_closed(&self) {
        self.connections.dec();
    }
    fn connection_refused(&self) {
        self.refused.inc();
    }
    fn request(&self, api: &'static str, took: Duration, bytes_in: usize, bytes_out: usize) {
        self.requests.get_or_create(&Api { api }).observe(took.as_secs_f64());
        self.bytes_in.inc_by(bytes_in as u64);
        self.bytes_out.inc_by(bytes_out as u64);
    }
    fn produced(&self, records: u64, bytes: u64) {
        self.records.inc_by(records);
        self.stored.inc_by(bytes);
    }
    fn fetched(&self, bytes: u64) {
        self.fetched.inc_by(bytes);
    }
    fn error(&self, api: &'static str, code: i16) {
        self.errors.get_or_create(&ApiCode { api, code }).inc();
    }
}

fn registry(broker: &Broker, groups: &[GroupInfo], queues: &[(String, QueueStats)]) -> Registry {
    let mut r = Registry::with_prefix("millstream");
    let k = &**KAFKA;
    r.register("kafka_connections", "Open Kafka connections", k.connections.clone());
    r.register(
        "kafka_connections_refused",
        "Kafka connections closed for a broken protocol or the limit",
        k.refused.clone(),
    );
    r.register_with_unit("kafka_request", "Time from request to response", Unit::Seconds, k.requests.clone());
    r.register("kafka_errors", "Error codes answered", k.errors.clone());
    r.register_with_unit("kafka_received", "Bytes of requests", Unit::Bytes, k.bytes_in.clone());
    r.register_with_unit("kafka_sent", "Bytes of responses", Unit::Bytes, k.bytes_out.clone());
    r.register("kafka_produced_records", "Records stored", k.records.clone());
    r.register_with_unit("kafka_produced", "Bytes of batches stored", Unit::Bytes, k.stored.clone());
    r.register_with_unit(
        "kafka_fetched",
        "Bytes of batches sent to consumers",
        Unit::Bytes,
        k.fetched.clone(),
    );
    gauges::register(&mut r, broker, groups, queues);
    r
}

/// All metrics.
pub async fn metrics(State(health): Shared) -> Result<Response, ApiError> {
    let mut text = String::new();
    let session = health.session()?;
    let (groups, queues) = (gauges::groups(&session).await?, gauges::queues(&session).await?);
    encode(&mut text, &registry(health.broker()?, &groups, &queues))
        .map_err(|e| ApiError::unavailable(e.to_string()))?;
    Ok(([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response())
}
