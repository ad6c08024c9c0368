//! `GET /metrics`: Prometheus text. Counters come from the listeners' observers, gauges ([`gauges`]) are read when asked.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use millstream_amqp::{AmqpStats, Count};
use millstream_aws::AwsStats;
use millstream_broker::Broker;
use millstream_broker::bridge::BridgeInfo;
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

use super::{ApiError, Shared, bridges, gauges};

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

/// Likewise of AMQP.
pub static AMQP: LazyLock<Arc<AmqpStats>> = LazyLock::new(Arc::default);

/// Likewise of AWS.
pub static AWS: LazyLock<Arc<AwsStats>> = LazyLock::new(Arc::default);

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ActionResult {
    action: &'static str,
    result: &'static str,
}

/// Name, help, and where it is counted.
type Counted<'a> = (&'static str, &'static str, &'a Count);

/// What goes up and down.
fn now(r: &mut Registry, all: &[Counted<'_>]) {
    for (name, help, count) in all {
        let gauge = Gauge::<u64, AtomicU64>::default();
        gauge.set(count.get());
        r.register(*name, *help, gauge);
    }
}

/// What only goes up.
fn totals(r: &mut Registry, all: &[Counted<'_>]) {
    for (name, help, count) in all {
        let counter = Counter::<u64>::default();
        counter.inc_by(count.get());
        r.register(*name, *help, counter);
    }
}

fn aws(r: &mut Registry) {
    let a = &**AWS;
    let open = [
        ("sqs_connections", "Open connections of AWS clients", &a.connections),
        ("sqs_waiting_receives", "Receives that wait for a message", &a.waiting),
    ];
    now(r, &open);
    let requests = Family::<ActionResult, Counter>::default();
    for (action, result, n) in a.requests() {
        requests.get_or_create(&ActionResult { action, result }).inc_by(n);
    }
    r.register("sqs_requests", "Requests answered, by action and result", requests);
    let done = [
        (
            "sqs_connections_refused",
            "Connections of AWS clients closed for the limit",
            &a.connections_refused,
        ),
        ("sqs_sent_messages", "Messages that SQS clients sent", &a.sent),
        (
            "sqs_duplicate_messages",
            "Messages of SQS clients not taken, as their deduplication id was known",
            &a.duplicates,
        ),
        ("sqs_received_messages", "Messages given to SQS clients", &a.received),
        ("sqs_deleted_messages", "Messages that SQS clients deleted", &a.deleted),
        ("sqs_failed_batch_entries", "Entries of batches that were refused", &a.failed_entries),
    ];
    totals(r, &done);
}

fn amqp(r: &mut Registry) {
    let a = &**AMQP;
    let open = [
        ("amqp_connections", "Open AMQP connections", &a.connections),
        (
            "amqp_connections_blocked",
            "Those whose publishing is held because the disk is full, or the memory for transient queues",
            &a.connections_blocked,
        ),
        ("amqp_channels", "Open AMQP channels", &a.channels),
        ("amqp_consumers", "Consumers of open AMQP channels", &a.consumers),
    ];
    now(r, &open);
    let done = [
        ("amqp_connections_accepted", "AMQP connections accepted", &a.connections_accepted),
        (
            "amqp_connections_refused",
            "AMQP connections closed for a broken rule or the limit",
            &a.connections_refused,
        ),
        ("amqp_logins_refused", "AMQP logins refused", &a.logins_refused),
        ("amqp_published_messages", "Messages that AMQP clients published", &a.published),
        ("amqp_confirmed_messages", "Of these, confirmed", &a.confirmed),
        ("amqp_nacked_messages", "Of these, refused by a queue", &a.nacked),
        ("amqp_returned_messages", "Of these, sent back as routed nowhere", &a.returned),
        ("amqp_delivered_messages", "Messages delivered to AMQP clients", &a.delivered),
        ("amqp_redelivered_messages", "Of these, marked as redelivered", &a.redelivered),
        ("amqp_acked_deliveries", "Deliveries that AMQP clients acknowledged", &a.acked),
        ("amqp_requeued_deliveries", "Deliveries that AMQP clients put back", &a.requeued),
        ("amqp_rejected_deliveries", "Deliveries that AMQP clients rejected for good", &a.rejected),
        ("amqp_consumer_timeouts", "AMQP channels closed for a delivery not settled in time", &a.timed_out),
    ];
    totals(r, &done);
}

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

fn registry(
    broker: &Broker,
    groups: &[GroupInfo],
    queues: &[(String, QueueStats)],
    all_bridges: &[BridgeInfo],
) -> Registry {
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
    amqp(&mut r);
    aws(&mut r);
    gauges::register(&mut r, broker, groups, queues);
    bridges::register(&mut r, all_bridges);
    r
}

/// All metrics.
pub async fn metrics(State(health): Shared) -> Result<Response, ApiError> {
    let mut text = String::new();
    let session = health.session()?;
    let (groups, queues) = (gauges::groups(&session).await?, gauges::queues(&session).await?);
    let bridges = session.bridges().await?;
    encode(&mut text, &registry(health.broker()?, &groups, &queues, &bridges))
        .map_err(|e| ApiError::unavailable(e.to_string()))?;
    Ok(([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response())
}
