//! Direct reply-to: a queue for answers that a client need not declare.
//!
//! A client consumes from [`REPLY_TO`] and names it as `reply-to`; whoever answers sees a name that belongs to its channel and publishes
//! to it through the default exchange. Behind it is a queue that goes with its consumer.

use bytes::Bytes;
use millstream_broker::queue::policy::QueuePolicy;
use millstream_broker::{NewQueue, property};

use crate::channel::Channel;
use crate::channel::queue::exception;
use crate::exception::Exception;
use crate::names;

/// What clients consume from, and give as `reply-to`.
pub(super) const REPLY_TO: &str = "amq.rabbitmq.reply-to";

impl Channel {
    /// Makes the channel's queue for answers; gives its name.
    pub(super) async fn make_reply_queue(&mut self, no_ack: bool) -> Result<String, Exception> {
        if !no_ack {
            return Err(Exception::precondition("reply consumer cannot acknowledge"));
        }
        if self.reply_to.is_some() {
            return Err(Exception::precondition("reply consumer already set"));
        }
        let name = names::server_named(REPLY_TO);
        let policy = QueuePolicy { auto_delete: true, ..QueuePolicy::default() };
        let new = NewQueue { durable: false, policy, ..NewQueue::named(&name) };
        self.session.declare_queue(new).await.map_err(|e| exception(&name, &e))?;
        self.reply_to = Some(name.clone());
        Ok(name)
    }

    /// Gives a message that wants its answer there the name that others can use.
    pub(super) fn name_reply_queue(&self, properties: &mut [(u8, Bytes)]) -> Result<(), Exception> {
        let wants = properties.iter_mut().find(|p| p.0 == property::REPLY_TO && *p.1 == *REPLY_TO.as_bytes());
        if let Some(wants) = wants {
            let name = self.reply_to.as_ref();
            let name = name.ok_or_else(|| Exception::precondition("fast reply consumer does not exist"))?;
            wants.1 = Bytes::copy_from_slice(name.as_bytes());
        }
        Ok(())
    }
}
