//! Class queue: declare, bind, unbind, purge, delete.

use amq_protocol::protocol::{AMQPClass, queue as q};
use millstream_broker::queue::api::{QueueDef, QueueError, QueueStats};
use millstream_broker::{
    Action, Declared, Header, NewQueue, QueueCallError, QueueSettings, Resource, Target, TargetKind,
};
use millstream_types::Namespace;

use crate::arguments::{self, Kind, inequivalent};
use crate::channel::Channel;
use crate::channel::exchange::{RESERVED_PREFIX, reserved};
use crate::channel::reply::REPLY_TO;
use crate::error::ReplyCode;
use crate::exception::Exception;
use crate::{names, text};

impl Channel {
    pub(super) async fn queue(&mut self, method: q::AMQPMethod, table: Vec<Header>) -> Result<(), Exception> {
        use q::AMQPMethod as M;
        let (ok, nowait) = match method {
            M::Declare(mut m) => {
                m.queue = text::one_line(&m.queue);
                (M::DeclareOk(self.declare_queue(&m, table).await?), m.nowait)
            }
            M::Bind(m) => {
                let name = self.queue_name(m.queue.as_str())?;
                let key = own_key(m.queue.as_str(), m.routing_key.as_str(), &name).to_owned();
                let target = Target { kind: TargetKind::Queue, name };
                self.change_binding(m.exchange.as_str(), target, &key, table, true).await?;
                (M::BindOk(q::BindOk {}), m.nowait)
            }
            M::Unbind(m) => {
                let name = self.queue_name(m.queue.as_str())?;
                let key = own_key(m.queue.as_str(), m.routing_key.as_str(), &name).to_owned();
                let target = Target { kind: TargetKind::Queue, name };
                self.change_binding(m.exchange.as_str(), target, &key, table, false).await?;
                (M::UnbindOk(q::UnbindOk {}), false)
            }
            M::Purge(m) => {
                let name = self.queue_name(m.queue.as_str())?;
                self.allow(Action::Read, &resource(&name))?;
                let def = self.usable(&name)?;
                let purged =
                    self.session.purge_queue(def.id, true).await.map_err(|e| exception(&def.name, &e))?;
                (M::PurgeOk(q::PurgeOk { message_count: count(purged) }), m.nowait)
            }
            M::Delete(mut m) => {
                m.queue = text::one_line(&m.queue);
                (M::DeleteOk(self.delete_queue(&m).await?), m.nowait)
            }
            _ => return Err(Exception::new(ReplyCode::CommandInvalid, "not for clients to call")),
        };
        if !nowait {
            self.send(AMQPClass::Queue(ok));
        }
        Ok(())
    }

    /// The name that a client means: an empty one stands for the queue that it declared last.
    pub(super) fn queue_name(&self, name: &str) -> Result<String, Exception> {
        match (name, self.last_queue.as_str()) {
            ("", "") => Err(Exception::new(ReplyCode::NotFound, "no previously declared queue")),
            ("", last) => Ok(last.to_owned()),
            (name, _) => Ok(name.to_owned()),
        }
    }

    /// The queue of this name, if it is there and not somebody else's.
    pub(super) fn usable(&self, name: &str) -> Result<std::sync::Arc<QueueDef>, Exception> {
        let def = self.session.queue(name).ok_or_else(|| Exception::not_found_queue(name))?;
        if self.session.is_locked(def.id) { Err(locked(name)) } else { Ok(def) }
    }

    async fn declare_queue(&mut self, m: &q::Declare, table: Vec<Header>) -> Result<q::DeclareOk, Exception> {
        if m.passive {
            let name = self.queue_name(m.queue.as_str())?;
            if name == REPLY_TO {
                return Ok(declare_ok(&name, &QueueStats::default()));
            }
            let def = self.usable(&name)?;
            let stats = self.session.queue_stats(def.id, true).await.map_err(|e| Exception::internal(&e))?;
            let stats = stats.ok_or_else(|| Exception::not_found_queue(&name))?;
            self.last_queue.clone_from(&name);
            return Ok(declare_ok(&name, &stats));
        }
        let name = match m.queue.as_str() {
            "" => names::server_named("amq.gen"),
            name => name.to_owned(),
        };
        self.allow(Action::Configure, &resource(&name))?;
        if let Some(def) = self.session.queue(&name) {
            self.same(&def, m, &table)?;
            // All that a declaration can say is alike; what else its policy holds was set by other means. It may be gone by now.
            let stats = self.session.queue_stats(def.id, true).await.map_err(|e| Exception::internal(&e))?;
            if let Some(stats) = stats {
                self.last_queue.clone_from(&name);
                return Ok(declare_ok(&name, &stats));
            }
        } else if m.queue.as_str().starts_with(RESERVED_PREFIX) {
            return Err(reserved("queue", &name));
        }
        let kind = arguments::kind(&name, &table)?;
        if kind == Kind::Quorum && m.queue.as_str().is_empty() {
            let text = "Cannot declare a server-named queue for type rabbit_quorum_queue";
            return Err(Exception::precondition(text));
        }
        let read = arguments::read(&name, kind, &table)?;
        properties(&name, kind, m)?;
        if let Some(dead) = &read.dead_letter {
            self.allow(Action::Read, &resource(&name))?;
            self.allow(Action::Write, &Resource::Exchange(Namespace::DEFAULT, dead.exchange.clone()))?;
        }
        if let Some(s) = &read.subscription {
            self.allow(Action::Read, &Resource::Topic(Namespace::DEFAULT, s.topic.clone()))?;
        }
        let mut policy = read.policy;
        policy.auto_delete = m.auto_delete;
        let new = NewQueue {
            name: name.clone(),
            durable: m.durable,
            exclusive: m.exclusive,
            policy,
            dead_letter: read.dead_letter,
            subscription: read.subscription,
            key_from: read.key_from,
            arguments: table,
            more: std::collections::BTreeMap::new(),
        };
        let Declared { stats, .. } =
            self.session.declare_queue(new).await.map_err(|e| exception(&name, &e))?;
        self.last_queue.clone_from(&name);
        Ok(declare_ok(&name, &stats))
    }

    /// Whether a queue that is there is as it is declared.
    fn same(&self, def: &QueueDef, m: &q::Declare, table: &[Header]) -> Result<(), Exception> {
        let has = QueueSettings::of(def);
        if self.session.is_locked(def.id) || has.owner.is_some() != m.exclusive {
            return Err(locked(&def.name));
        }
        // What goes with its connection is not durable, whatever is said.
        let durable = if m.exclusive { has.durable } else { m.durable };
        let flags =
            [("durable", durable, has.durable), ("auto_delete", m.auto_delete, def.policy.auto_delete)];
        if let Some((arg, asked, is)) = flags.iter().find(|(_, asked, is)| asked != is) {
            return Err(inequivalent(&def.name, arg, &format!("'{asked}'"), &format!("'{is}'")));
        }
        let is = arguments::queue_arguments(
            &def.policy,
            has.dead_letter.as_ref(),
            has.subscription.as_ref(),
            &has.key_from,
        );
        arguments::compare(&def.name, table, &has.arguments, &is)
    }

    async fn delete_queue(&mut self, m: &q::Delete) -> Result<q::DeleteOk, Exception> {
        let name = self.queue_name(m.queue.as_str())?;
        self.allow(Action::Configure, &resource(&name))?;
        // What is not there is deleted.
        if self.session.queue(&name).is_none() {
            return Ok(q::DeleteOk { message_count: 0 });
        }
        let def = self.usable(&name)?;
        match self.session.delete_queue(def.id, m.if_unused, m.if_empty).await {
            Ok(messages) => Ok(q::DeleteOk { message_count: count(messages) }),
            Err(QueueCallError::Queue(QueueError::NotFound)) => Ok(q::DeleteOk { message_count: 0 }),
            Err(e) => Err(exception(&name, &e)),
        }
    }
}

/// With neither a queue nor a key, the key is the name of the queue declared last (section 1.7.2.3, binding without names).
fn own_key<'a>(queue: &str, key: &'a str, name: &'a str) -> &'a str {
    if queue.is_empty() && key.is_empty() { name } else { key }
}

pub(super) fn resource(name: &str) -> Resource {
    Resource::Queue(Namespace::DEFAULT, name.to_owned())
}

/// Somebody else has the queue for himself.
pub(super) fn locked(name: &str) -> Exception {
    let text = format!(
        "cannot obtain exclusive access to locked queue '{name}' in vhost '/'. It could be originally declared on another connection or the exclusive property value does not match that of the original declaration."
    );
    Exception::new(ReplyCode::ResourceLocked, text)
}

/// A quorum queue stays: it may not be what goes.
fn properties(name: &str, kind: Kind, m: &q::Declare) -> Result<(), Exception> {
    let wrong =
        [("non-durable", !m.durable), ("exclusive-owner", m.exclusive), ("auto-delete", m.auto_delete)];
    match wrong.iter().find(|(_, is)| kind == Kind::Quorum && *is) {
        Some((what, _)) => {
            Err(Exception::precondition(format!("invalid property '{what}' for queue '{name}' in vhost '/'")))
        }
        None => Ok(()),
    }
}

fn declare_ok(name: &str, stats: &QueueStats) -> q::DeclareOk {
    q::DeclareOk {
        queue: text::short(name),
        message_count: count(stats.ready.n),
        consumer_count: stats.consumers,
    }
}

/// A number as the protocol has it.
pub(super) fn count(n: u64) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// What the client is told of a call about a queue that failed.
pub(super) fn exception(name: &str, e: &QueueCallError) -> Exception {
    match e {
        QueueCallError::Locked => locked(name),
        QueueCallError::Queue(QueueError::NotFound) => Exception::not_found_queue(name),
        QueueCallError::Queue(QueueError::InUse) => {
            Exception::precondition(format!("queue '{name}' in vhost '/' in use"))
        }
        QueueCallError::Queue(QueueError::NotEmpty) => {
            Exception::precondition(format!("queue '{name}' in vhost '/' not empty"))
        }
        QueueCallError::Call(e) => Exception::internal(e),
        e => Exception::precondition(format!("queue '{name}' in vhost '/': {e}")),
    }
}
