//! Accepts connections until told to stop. Start at [`serve`].

use std::future::Future;
use std::sync::Arc;

use millstream_broker::{Broker, Principal, SessionOptions};
use millstream_types::Namespace;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::config::KafkaConfig;
use crate::connection::{self, Conn};
use crate::fetch::Sessions;

/// How long to rest when a connection cannot be accepted (file descriptors, memory).
const ACCEPT_REST: std::time::Duration = std::time::Duration::from_millis(50);

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
    let (stop, stopped) = watch::channel(false);
    let room = Arc::new(Semaphore::new(cfg.connections_max));
    let mut tasks = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            Some(_) = tasks.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let (socket, peer) = match accepted {
            Ok(pair) => pair,
            Err(error) => {
                tracing::warn!(%error, "a Kafka connection could not be accepted");
                tokio::time::sleep(ACCEPT_REST).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&room).try_acquire_owned() else {
            tracing::warn!(%peer, max = cfg.connections_max, "Kafka connection closed: too many connections");
            cfg.observer.connection_refused();
            continue;
        };
        let (broker, cfg, sessions, stopped) =
            (broker.clone(), Arc::clone(&cfg), Arc::clone(&sessions), stopped.clone());
        tasks.spawn(async move {
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
            drop(place);
        });
    }
    drop(listener);
    // Nobody listening is the case of no connection.
    let _ = stop.send(true);
    let drained = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(cfg.drain_max, drained).await.is_err() {
        tracing::warn!("Kafka connections were closed with requests unanswered");
    }
}

async fn one(
    socket: TcpStream,
    broker: Broker,
    cfg: Arc<KafkaConfig>,
    sessions: Arc<Sessions>,
    stopped: watch::Receiver<bool>,
) -> Result<(), crate::wire::Close> {
    socket.set_nodelay(true)?;
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
