//! Serves the connections of a listener until told to stop. Start at [`serve`].

use std::future::Future;
use std::sync::Arc;

use millstream_accept::Limits;
use millstream_broker::Broker;
use tokio::net::TcpListener;

use crate::config::AmqpConfig;
use crate::connection::{self, End};
use crate::link::Server;

/// Serves AMQP clients on `listener` until `shutdown` resolves; then no connection is accepted, those that are open are closed with
/// 320, and it returns, after [`AmqpConfig::drain_max`] at the latest.
pub async fn serve(
    listener: TcpListener,
    broker: Broker,
    cfg: AmqpConfig,
    shutdown: impl Future<Output = ()>,
) {
    let limits = Limits { protocol: "AMQP", connections_max: cfg.connections_max, drain_max: cfg.drain_max };
    let stats = Arc::clone(&cfg.stats);
    let server = Arc::new(Server { broker, cfg });
    let refused = || stats.connections_refused.add(1);
    millstream_accept::serve(listener, limits, shutdown, refused, |socket, peer, stopped| {
        let (server, stats) = (Arc::clone(&server), Arc::clone(&stats));
        stats.connections_accepted.add(1);
        async move {
            let _open = stats.connections.during();
            if let End::Refused(reason) = connection::run(socket, peer, server, stopped).await {
                stats.connections_refused.add(1);
                tracing::warn!(%peer, %reason, "AMQP connection closed");
            }
        }
    })
    .await;
}
