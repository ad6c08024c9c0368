//! What a connection's channels share.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use amq_protocol::protocol::{AMQPClass, connection};
use millstream_broker::Broker;
use tokio::sync::Notify;

use crate::config::AmqpConfig;
use crate::exception::Exception;
use crate::handshake::Client;
use crate::outbox::Outbox;
use crate::stats::AmqpStats;
use crate::text;

/// What the listener's connections share.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) broker: Broker,
    pub(crate) cfg: AmqpConfig,
}

/// A connection, as its channels see it.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) server: Arc<Server>,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) client: Client,
    pub(crate) peer: SocketAddr,
    /// Why the whole connection ends.
    fault: OnceLock<Exception>,
    failed: Notify,
    /// Channels whose publishing is held because the disk is full, or memory.
    held: AtomicUsize,
}

/// Why publishing is held, as `RabbitMQ` says it.
pub(crate) const LOW_ON_DISK: &str = "low on disk";
pub(crate) const LOW_ON_MEMORY: &str = "low on memory";

impl Link {
    pub(crate) fn new(server: Arc<Server>, outbox: Arc<Outbox>, client: Client, peer: SocketAddr) -> Self {
        let (fault, failed, held) = (OnceLock::new(), Notify::new(), AtomicUsize::new(0));
        Self { server, outbox, client, peer, fault, failed, held }
    }

    /// What the listener counts.
    pub(crate) fn stats(&self) -> &AmqpStats {
        &self.server.cfg.stats
    }

    /// Ends the whole connection. The first reason counts.
    pub(crate) fn fail(&self, exception: Exception) {
        if self.fault.set(exception).is_ok() {
            self.failed.notify_one();
        }
    }

    /// Waits for [`Self::fail`]. For the connection's reader alone.
    pub(crate) async fn failure(&self) -> Exception {
        loop {
            if let Some(exception) = self.fault.get() {
                return exception.clone();
            }
            self.failed.notified().await;
        }
    }

    /// A channel's publishing is held: the client is told, once.
    pub(crate) fn hold(&self, why: &str) {
        if self.held.fetch_add(1, Ordering::Relaxed) > 0 {
            return;
        }
        self.stats().connections_blocked.add(1);
        if self.client.hears_blocked {
            let blocked = connection::Blocked { reason: text::short(why) };
            self.outbox.method(0, &AMQPClass::Connection(connection::AMQPMethod::Blocked(blocked)));
        }
    }

    /// It goes on.
    pub(crate) fn go_on(&self) {
        if self.held.fetch_sub(1, Ordering::Relaxed) > 1 {
            return;
        }
        self.stats().connections_blocked.sub(1);
        if self.client.hears_blocked {
            let unblocked = connection::AMQPMethod::Unblocked(connection::Unblocked {});
            self.outbox.method(0, &AMQPClass::Connection(unblocked));
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // A channel that was cut off did not say that it goes on.
        if self.held.load(Ordering::Relaxed) > 0 {
            self.stats().connections_blocked.sub(1);
        }
    }
}
