//! Accepts connections until told to stop. Start at [`serve`].

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use millstream_broker::Broker;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::config::AmqpConfig;
use crate::connection::{self, End};
use crate::link::Server;
use crate::stats::AmqpStats;

/// How long to rest when a connection cannot be accepted (file descriptors, memory).
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// Serves AMQP clients on `listener` until `shutdown` resolves; then no connection is accepted, those that are open are closed with
/// 320, and it returns, after [`AmqpConfig::drain_max`] at the latest.
pub async fn serve(
    listener: TcpListener,
    broker: Broker,
    cfg: AmqpConfig,
    shutdown: impl Future<Output = ()>,
) {
    let (connections_max, drain_max) = (cfg.connections_max, cfg.drain_max);
    let stats = Arc::clone(&cfg.stats);
    let server = Arc::new(Server { broker, cfg });
    let (stop, stopped) = watch::channel(false);
    let room = Arc::new(Semaphore::new(connections_max));
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
                tracing::warn!(%error, "an AMQP connection could not be accepted");
                tokio::time::sleep(ACCEPT_REST).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&room).try_acquire_owned() else {
            tracing::warn!(%peer, max = connections_max, "AMQP connection closed: too many connections");
            stats.connections_refused.add(1);
            continue;
        };
        if socket.set_nodelay(true).is_err() {
            continue;
        }
        let (server, stopped) = (Arc::clone(&server), stopped.clone());
        let stats = Arc::clone(&stats);
        stats.connections_accepted.add(1);
        stats.connections.add(1);
        tasks.spawn(async move {
            let open = Open(&stats);
            if let End::Refused(reason) = connection::run(socket, peer, server, stopped).await {
                stats.connections_refused.add(1);
                tracing::warn!(%peer, %reason, "AMQP connection closed");
            }
            drop(open);
            drop(place);
        });
    }
    drop(listener);
    // Nobody listening is the case of no connection.
    let _ = stop.send(true);
    let drained = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(drain_max, drained).await.is_err() {
        tracing::warn!("AMQP connections were cut off");
    }
}

/// Counts a connection as open while it is there, however it ends.
struct Open<'a>(&'a AmqpStats);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.connections.sub(1);
    }
}
