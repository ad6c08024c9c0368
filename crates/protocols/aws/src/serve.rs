//! Serves the connections of a listener until told to stop. Start at [`serve`].

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use millstream_accept::Limits;
use millstream_broker::{Broker, Principal, SessionOptions};
use millstream_types::Namespace;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::config::AwsConfig;
use crate::server::{Peer, Server};

/// Bytes of a request's head.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// Serves AWS clients on `listener` until `shutdown` resolves; then no connection is accepted, receives that wait are answered with
/// nothing, and it returns when requests under way are answered, after [`AwsConfig::drain_max`] at the latest.
pub async fn serve(
    listener: TcpListener,
    broker: Broker,
    cfg: AwsConfig,
    shutdown: impl Future<Output = ()>,
) {
    let limits = Limits { protocol: "AWS", connections_max: cfg.connections_max, drain_max: cfg.drain_max };
    // Receives that wait end with the stop: the server has a watch of its own for them.
    let (stop, stopped) = watch::channel(false);
    let shutdown = async {
        shutdown.await;
        let _ = stop.send(true); // nobody listening is the case of no receive
    };
    let server = Arc::new(Server::new(broker, cfg, stopped));
    let refused = || server.cfg.stats.connections_refused.add(1);
    millstream_accept::serve(listener, limits, shutdown, refused, |socket, peer, _| {
        let server = Arc::clone(&server);
        async move {
            let open = Arc::clone(&server);
            let _open = open.cfg.stats.connections.during();
            if let Err(error) = connection(socket, server).await {
                tracing::debug!(%peer, %error, "AWS connection ended");
            }
        }
    })
    .await;
}

async fn connection(socket: TcpStream, server: Arc<Server>) -> Result<(), hyper::Error> {
    let (Ok(local), Ok(remote)) = (socket.local_addr(), socket.peer_addr()) else {
        return Ok(());
    };
    let options = SessionOptions { client_id: "aws".to_owned(), host: remote.ip().to_string(), owner: 0 };
    let session = server.broker.session(Principal::anonymous(), Namespace::DEFAULT, options);
    let peer = Arc::new(Peer { session: Arc::new(session), local });
    let mut stopped = server.stopped.clone();
    let idle_max = server.cfg.idle_max;
    let service = service_fn(move |request| {
        let (server, peer) = (Arc::clone(&server), Arc::clone(&peer));
        async move { Ok::<_, Infallible>(server.serve(&peer, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(idle_max)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(socket), service);
    tokio::pin!(connection);
    tokio::select! {
        result = connection.as_mut() => return result,
        _ = stopped.wait_for(|s| *s) => {}
    }
    connection.as_mut().graceful_shutdown();
    connection.await
}
