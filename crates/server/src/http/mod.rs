//! The HTTP listener: health, readiness, metrics, and the administration that the command line uses.

mod bridges;
mod error;
mod exchanges;
mod gauges;
mod groups;
mod members;
mod messages;
mod metrics;
mod queue_messages;
mod queues;
mod redrives;
mod topics;
mod users;
mod values;

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::routing::{delete, get, post};
use millstream_broker::{Broker, Principal, Session, SessionOptions};
use millstream_types::Namespace;
use tokio::net::TcpListener;

pub use error::ApiError;

/// Who counts what the Kafka listener does.
pub fn kafka_observer() -> Arc<dyn millstream_kafka::Observer> {
    Arc::clone(&metrics::KAFKA) as Arc<dyn millstream_kafka::Observer>
}

/// What the AMQP listener counts.
pub fn amqp_stats() -> Arc<millstream_amqp::AmqpStats> {
    Arc::clone(&metrics::AMQP)
}

/// What the AWS listener counts.
pub fn aws_stats() -> Arc<millstream_aws::AwsStats> {
    Arc::clone(&metrics::AWS)
}

/// Largest request body, bytes.
const BODY_BYTES_MAX: usize = 16 << 20;

const STARTING: u8 = 0;
const READY: u8 = 1;
const STOPPING: u8 = 2;

/// What the listener knows of the broker, which opens after it.
#[derive(Debug, Default)]
pub struct Health {
    broker: OnceLock<Broker>,
    phase: AtomicU8,
    members: members::Members,
}

impl Health {
    /// The broker is open.
    pub fn set(&self, broker: Broker) {
        let _ = self.broker.set(broker);
    }
    /// Everything serves.
    pub fn ready(&self) {
        self.phase.store(READY, Ordering::SeqCst);
    }
    /// Going down.
    pub fn stopping(&self) {
        self.phase.store(STOPPING, Ordering::SeqCst);
    }
    /// The broker, or 503.
    fn broker(&self) -> Result<&Broker, ApiError> {
        self.broker.get().ok_or_else(|| ApiError::unavailable("starting"))
    }
    fn members(&self) -> &members::Members {
        &self.members
    }
    /// A session for one request.
    fn session(&self) -> Result<Session, ApiError> {
        let options = SessionOptions { client_id: "http".to_owned(), host: "127.0.0.1".to_owned(), owner: 0 };
        Ok(self.broker()?.session(Principal::anonymous(), Namespace::DEFAULT, options))
    }
}

type Shared = State<Arc<Health>>;

/// Serves until `stop` resolves.
pub async fn serve(
    listener: TcpListener,
    health: Arc<Health>,
    stop: impl Future<Output = ()> + Send + 'static,
) {
    let api = Router::new()
        .route("/topics", get(topics::list).post(topics::create))
        .route("/topics/{topic}", get(topics::describe).patch(topics::alter).delete(topics::delete))
        .route("/topics/{topic}/messages", get(messages::consume).post(messages::produce))
        .route("/names/{name}", get(queues::kind))
        .route("/queues", get(queues::list).post(queues::create))
        .route("/queues/{queue}", get(queues::describe).delete(queues::delete))
        .route("/queues/{queue}/purge", post(queues::purge))
        .route("/queues/{queue}/unpark", post(queues::unpark))
        .route("/queues/{queue}/redrives", get(redrives::list).post(redrives::start))
        .route("/queues/{queue}/redrives/{redrive}", get(redrives::describe))
        .route("/queues/{queue}/redrives/{redrive}/cancel", post(redrives::cancel))
        .route("/queues/{queue}/messages", get(queue_messages::peek).post(queue_messages::publish))
        .route("/queues/{queue}/receive", post(queue_messages::receive))
        .route("/queues/{queue}/settle", post(queue_messages::settle))
        .route("/exchanges", get(exchanges::list).post(exchanges::create))
        .route("/exchanges/{exchange}", get(exchanges::describe).delete(exchanges::delete))
        .route("/bindings", get(exchanges::bindings).post(exchanges::bind).delete(exchanges::unbind))
        .route("/users", get(users::list).post(users::add))
        .route("/users/{user}", get(users::describe).delete(users::delete))
        .route("/users/{user}/password", post(users::password))
        .route("/users/{user}/permissions", post(users::permit).delete(users::forbid))
        .route("/bridges", get(bridges::list).post(bridges::create))
        .route("/bridges/{bridge}", get(bridges::describe).delete(bridges::delete))
        .route("/bridges/{bridge}/pause", post(bridges::pause))
        .route("/bridges/{bridge}/resume", post(bridges::resume))
        .route("/groups", get(groups::list))
        .route("/groups/{group}", get(groups::describe).delete(groups::delete))
        .route("/groups/{group}/reset-offsets", post(groups::reset))
        .route("/groups/{group}/members", post(members::join))
        .route("/groups/{group}/members/{member}", delete(members::leave))
        .route("/groups/{group}/members/{member}/poll", post(members::poll));
    let app = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics::metrics))
        .nest("/api/v1", api)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(health);
    if let Err(e) = axum::serve(listener, app).with_graceful_shutdown(stop).await {
        tracing::error!(error = %e, "the HTTP listener ended");
    }
}

/// The process is there.
async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether it serves, and publishes are taken.
async fn readyz(State(health): Shared) -> (StatusCode, String) {
    let not = |text: &str| (StatusCode::SERVICE_UNAVAILABLE, format!("{text}\n"));
    match health.phase.load(Ordering::SeqCst) {
        STARTING => not("starting: the log is being replayed"),
        STOPPING => not("stopping"),
        _ => match health.broker.get() {
            Some(b) if b.lost().is_some() => not("the log can no longer be written"),
            Some(b) if b.is_full() => {
                let room = b.room();
                not(&format!(
                    "held: publish\nwhy: the disk is full\nfree_bytes: {}\nneeded_bytes: {}\n\
                     going on: reading, offset commits, groups, retention, deleting topics",
                    room.free_bytes, room.needed_bytes
                ))
            }
            _ => (StatusCode::OK, "ready\n".to_owned()),
        },
    }
}
