//! Owners of exclusive queues, and the task that removes queues whose time is over: those of an owner that went, those that nobody
//! used for long, those that go with their last consumer.
//!
//! Start at [`Broker::owner`]. Queues that go at a restart are removed before the broker is open, by the sequencer.

use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use millstream_engine::queue::api::{QueueChange, QueueError, Unused};
use millstream_types::{Namespace, ObjectId};

use crate::auth::Principal;
use crate::broker::Broker;
use crate::error::{CallError, QueueCallError};
use crate::queue_settings::owner_of;
use crate::session::{Session, SessionOptions};

/// When there is no room: the next try after so long.
const RETRY_WAIT: Duration = Duration::from_millis(100);

static OWNERS: AtomicU64 = AtomicU64::new(1);

/// Somebody who owns exclusive queues: a connection. They go when it is dropped.
#[derive(Debug)]
pub struct Owner {
    broker: Broker,
    id: u64,
}

impl Owner {
    /// For [`SessionOptions::owner`].
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Removes its queues, and comes back when they are gone for good.
    pub async fn leave(self) {
        let session = keeper(&self.broker);
        remove_owned(&self.broker, &session, self.id).await;
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.broker.shared().owners.put([self.id]);
    }
}

impl Broker {
    /// A new owner of exclusive queues.
    #[must_use]
    pub fn owner(&self) -> Owner {
        Owner { broker: self.clone(), id: OWNERS.fetch_add(1, Ordering::Relaxed) }
    }

    /// A queue of this name is about to be made for an owner.
    pub(crate) fn will_own(&self, owner: u64, ns: Namespace, name: &str) {
        let mut all = self.shared().owned.lock().unwrap_or_else(PoisonError::into_inner);
        let names = all.entry(owner).or_default();
        if !names.iter().any(|n| n.0 == ns && n.1 == name) {
            names.push((ns, name.to_owned()));
        }
    }
}

fn keeper(broker: &Broker) -> Session {
    let who = Principal::inner("keeper");
    broker.session(who, Namespace::DEFAULT, SessionOptions::default())
}

/// Removes what is to go, until the broker is closed.
pub(crate) async fn run(broker: Broker) {
    tokio::select! {
        () = work(&broker) => {}
        () = broker.closed() => {}
    }
}

async fn work(broker: &Broker) {
    let session = keeper(broker);
    let (mut unused, mut owners) = (Vec::new(), Vec::new());
    loop {
        tokio::select! {
            () = broker.shared().unused.take(&mut unused) => {}
            () = broker.shared().owners.take(&mut owners) => {}
        }
        for what in unused.drain(..) {
            let (id, if_idle) = match what {
                Unused::Idle(id) => (id, true),
                Unused::LastConsumer(id) => (id, false),
            };
            remove(&session, id, true, if_idle).await;
        }
        for owner in owners.drain(..) {
            remove_owned(broker, &session, owner).await;
        }
    }
}

async fn remove_owned(broker: &Broker, session: &Session, owner: u64) {
    let names = broker.shared().owned.lock().unwrap_or_else(PoisonError::into_inner).remove(&owner);
    let Some(names) = names else { return };
    // What the owner's sessions submitted before they went is decided behind this.
    if session.barrier().await.is_err() {
        return;
    }
    for (ns, name) in names {
        let def = broker.queue(ns, &name).filter(|d| owner_of(d) == Some(owner));
        if let Some(def) = def {
            remove(session, def.id, false, false).await;
        }
    }
}

/// Removes a queue, if it is there and still unused.
async fn remove(session: &Session, id: ObjectId, if_unused: bool, if_idle: bool) {
    let change = QueueChange::Delete { id, if_unused, if_empty: false, if_idle };
    loop {
        match session.change_queue(change.clone(), 0).await {
            Err(QueueCallError::Call(CallError::Refused(why))) if why.is_retryable() => {
                tokio::time::sleep(RETRY_WAIT).await;
            }
            Ok(_) | Err(QueueCallError::Queue(QueueError::InUse | QueueError::NotFound)) => return,
            Err(e) => {
                if !matches!(e, QueueCallError::Call(_)) {
                    tracing::warn!(error = %e, "a queue that should go could not be removed");
                }
                return;
            }
        }
    }
}
