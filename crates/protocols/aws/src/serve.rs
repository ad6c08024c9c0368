//! Accepts connections until told to stop. Start at [`serve`].

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use millstream_broker::{Broker, Principal, SessionOptions};
use millstream_types::Namespace;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::config::AwsConfig;
use crate::server::{Peer, Server};

/// How long to rest when a connection cannot be accepted (file descriptors, memory).
const ACCEPT_REST: Duration = Duration::from_millis(50);
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
    let (connections_max, drain_max) = (cfg.connections_max, cfg.drain_max);
    let (stop, stopped) = watch::channel(false);
    let server = Arc::new(Server::new(broker, cfg, stopped));
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
                tracing::warn!(%error, "an AWS connection could not be accepted");
                tokio::time::sleep(ACCEPT_REST).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&room).try_acquire_owned() else {
            server.cfg.stats.connections_refused.add(1);
            tracing::warn!(%peer, max = connections_max, "AWS connection closed: too many connections");
            continue;
        };
        let server = Arc::clone(&server);
        tasks.spawn(async move {
            let open = Arc::clone(&server);
            let _open = open.cfg.stats.connections.during();
            if let Err(error) = connection(socket, server).await {
                tracing::debug!(%peer, %error, "AWS connection ended");
            }
            drop(place);
        });
    }
    drop(listener);
    // Nobody listening is the case of no connection.
    let _ = stop.send(true);
    let drained = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(drain_max, drained).await.is_err() {
        tracing::warn!("AWS connections were cut off");
    }
}

async fn connection(socket: TcpStream, server: Arc<Server>) -> Result<(), hyper::Error> {
    let (Ok(()), Ok(local), Ok(remote)) = (socket.set_nodelay(true), socket.local_addr(), socket.peer_addr())
    else {
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
