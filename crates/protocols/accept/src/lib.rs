//! Accepts the connections of one listener, as many at once as there may be, until told to stop. Every protocol's listener does it so;
//! what a connection is, only the protocol knows. Start at [`serve`].
#![forbid(unsafe_code)]

mod count;

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use count::{Count, During};

/// How long to rest when a connection cannot be accepted (file descriptors, memory).
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// What bounds a listener.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Of which protocol it is, for the log.
    pub protocol: &'static str,
    /// Connections at once; more are closed as they come.
    pub connections_max: usize,
    /// How long connections get to end after the stop; those that are left then are cut off.
    pub drain_max: Duration,
}

/// Serves connections with `connection` until `shutdown` resolves. Then none is accepted any more, the watch that each connection was
/// given turns true, and this returns when all have ended, after [`Limits::drain_max`] at the latest. `refused` is called for each
/// connection that is closed because there are too many.
pub async fn serve<C>(
    listener: TcpListener,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
    refused: impl Fn(),
    mut connection: impl FnMut(TcpStream, SocketAddr, watch::Receiver<bool>) -> C,
) where
    C: Future<Output = ()> + Send + 'static,
{
    let Limits { protocol, connections_max, drain_max } = limits;
    let (stop, stopped) = watch::channel(false);
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
                tracing::warn!(%error, "a connection of {protocol} could not be accepted");
                tokio::time::sleep(ACCEPT_REST).await;
                continue;
            }
        };
        // Those that ended leave room.
        while tasks.try_join_next().is_some() {}
        if tasks.len() >= connections_max {
            tracing::warn!(%peer, max = connections_max, "{protocol} connection closed: too many connections");
            refused();
            continue;
        }
        if socket.set_nodelay(true).is_err() {
            continue; // it has gone already
        }
        // As it is: a task that only waits for another future holds it twice.
        tasks.spawn(connection(socket, peer, stopped.clone()));
    }
    drop(listener);
    // Nobody listening is the case of no connection.
    let _ = stop.send(true);
    let drained = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(drain_max, drained).await.is_err() {
        tracing::warn!("{protocol} connections were cut off with work unanswered");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::oneshot;

    use super::*;

    /// A listener whose connections say a byte and wait for the stop, or for ever.
    async fn start(
        connections_max: usize,
        heeds_stop: bool,
    ) -> (SocketAddr, oneshot::Sender<()>, tokio::task::JoinHandle<usize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let served = tokio::spawn(async move {
            let refused = AtomicUsize::new(0);
            let limits = Limits { protocol: "test", connections_max, drain_max: Duration::from_millis(20) };
            let shutdown = async { drop(stopped.await) };
            let count = || {
                refused.fetch_add(1, Ordering::SeqCst);
            };
            serve(listener, limits, shutdown, count, |mut socket, _, mut stop| async move {
                socket.write_all(b"!").await.unwrap();
                if heeds_stop {
                    stop.wait_for(|s| *s).await.unwrap();
                } else {
                    std::future::pending::<()>().await;
                }
            })
            .await;
            refused.into_inner()
        });
        (address, stop, served)
    }

    async fn greeted(address: SocketAddr) -> Option<TcpStream> {
        let mut socket = TcpStream::connect(address).await.unwrap();
        (socket.read(&mut [0]).await.is_ok_and(|n| n == 1)).then_some(socket)
    }

    #[tokio::test]
    async fn one_connection_too_many_is_closed_and_counted_and_room_comes_back() {
        let (address, stop, served) = start(2, true).await;
        let (one, two) = (greeted(address).await, greeted(address).await);
        assert!(one.is_some() && two.is_some());
        assert!(greeted(address).await.is_none());
        stop.send(()).unwrap();
        assert_eq!(served.await.unwrap(), 1);
    }

    #[tokio::test]
    async fn what_does_not_end_by_itself_is_cut_off() {
        let (address, stop, served) = start(2, false).await;
        let mut one = greeted(address).await.unwrap();
        stop.send(()).unwrap();
        served.await.unwrap();
        assert_eq!(one.read(&mut [0]).await.unwrap(), 0);
        assert!(TcpStream::connect(address).await.is_err(), "nobody listens");
    }
}
