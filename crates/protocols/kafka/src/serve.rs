//! Serves the connections of a listener until told to stop. Start at [`serve`].

use std::future::Future;
use std::sync::Arc;

use millstream_accept::Limits;
use millstream_broker::{Broker, Principal, SessionOptions};
use millstream_types::Namespace;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::config::KafkaConfig;
use crate::connection::{self, Conn};
use crate::fetch::Sessions;

/// Serves Kafka clients on `listener` until `shutdown` resolves; then no connection is accepted, no further request is read, what
/// was read is answered (for at most [`KafkaConfig::drain_max`]), and it returns.
pub async fn serve(
    listener: TcpListener,
    broker: Broker,
    cfg: KafkaConfig,
    shutdown: impl Future<Output = ()>,
) {
    let sessions = Arc::new(Sessions::new(cfg.fetch_sessions_max, cfg.fetch_session_partitions_max));
    let cfg = Arc::new(cfg);
    let limits = Limits { protocol: "Kafka", connections_max: cfg.connections_max, drain_max: cfg.drain_max };
    let refused = || cfg.observer.connection_refused();
    millstream_accept::serve(listener, limits, shutdown, refused, |socket, peer, stopped| {
        let (broker, cfg, sessions) = (broker.clone(), Arc::clone(&cfg), Arc::clone(&sessions));
        async move {
            cfg.observer.connection_opened();
            let observer = Arc::clone(&cfg.observer);
            if let Err(close) = one(socket, broker, cfg, sessions, stopped).await {
                if close.is_violation() {
                    observer.connection_refused();
                    tracing::warn!(%peer, reason = %close, "Kafka connection closed");
                } else {
                    tracing::debug!(%peer, reason = %close, "Kafka connection closed");
                }
            }
            observer.connection_closed();
        }
    })
    .await;
}

async fn one(
    socket: TcpStream,
    broker: Broker,
    cfg: Arc<KafkaConfig>,
    sessions: Arc<Sessions>,
    stopped: watch::Receiver<bool>,
) -> Result<(), crate::wire::Close> {
    let (local, peer) = (socket.local_addr()?, socket.peer_addr()?);
    let host = cfg.advertised_host.clone().unwrap_or_else(|| local.ip().to_string());
    let port = cfg.advertised_port.unwrap_or(local.port());
    let who = Principal::anonymous();
    let ns = Namespace::DEFAULT;
    let options = SessionOptions { client_id: String::new(), host: peer.ip().to_string(), owner: 0 };
    let session = broker.session(who.clone(), ns, options);
    let conn = Conn {
        broker,
        session,
        who,
        ns,
        peer_host: format!("/{}", peer.ip()),
        advertised_host: crate::wire::text(&host),
        advertised_port: i32::from(port),
        sessions,
        cfg,
    };
    connection::run(socket, conn, stopped).await
}
