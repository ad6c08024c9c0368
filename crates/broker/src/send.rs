//! Sending straight to one queue, past exchanges: what a sender must know of each message is where it is.
//!
//! Start at [`Session::send`].

use std::sync::Arc;

use bytes::Bytes;
use millstream_engine::op::{Op, Reply};
use millstream_engine::queue::PUBLISH_ACTS_BYTES;
use millstream_engine::queue::api::{Publish, Published, QueueDef, QueueOp, QueueReply, Refusal, Target};
use millstream_log::Class;
use millstream_types::LogId;
use thiserror::Error;

use crate::asked::Asked;
use crate::envelope::EnvelopeError;
use crate::error::CallError;
use crate::publish::{NewMessage, TARGET_BYTES, has_memory, targets, timestamp_ms};
use crate::session::{ITEM_OVERHEAD_BYTES, RECORD_OVERHEAD_BYTES, Session};

/// Where a message is that a queue took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Its first home: what its public id is made from. Of a duplicate, that of its original.
    pub home: (LogId, u64),
    /// It was there already, by its id.
    pub duplicate: bool,
}

/// Why a queue did not take a message.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SendError {
    /// The queue is gone.
    #[error("the queue does not exist")]
    Gone,
    /// The queue is full.
    #[error("the queue is full")]
    Full,
    /// So many ids are remembered that whether this one came before would not be known: to be tried again later.
    #[error("too many ids are remembered")]
    DedupFull,
    /// The queue hands out the records of a topic, and takes no other messages.
    #[error("the queue is subscribed to a topic")]
    Subscription,
    /// It cannot be kept.
    #[error(transparent)]
    Message(#[from] EnvelopeError),
}

impl Session {
    /// Sends messages to one queue, in order, in one record. Waits for room; each message has a result of its own.
    ///
    /// # Durability
    /// Returns when what was taken survives a crash.
    ///
    /// # Errors
    /// [`CallError`]: then nothing is known (`FateUnknown`) or nothing happened (`Refused`).
    pub async fn send(
        &self,
        queue: &Arc<QueueDef>,
        batch: Vec<NewMessage>,
    ) -> Result<Vec<Result<Sent, SendError>>, CallError> {
        let mut results: Vec<Option<Result<Sent, SendError>>> = Vec::with_capacity(batch.len());
        let mut publishes = Vec::with_capacity(batch.len());
        let mut room = RECORD_OVERHEAD_BYTES;
        for new in batch {
            match self.for_queue(queue, new) {
                Ok((publish, bytes)) => {
                    room += bytes;
                    publishes.push(publish);
                    results.push(None);
                }
                Err(e) => results.push(Some(Err(e))),
            }
        }
        let mut answers = if publishes.is_empty() {
            Vec::new()
        } else {
            has_memory(self.broker(), targets(&publishes), [])?;
            let permit = self.admit(Class::Publish, room).await?;
            let pending = self.submit(Some(permit), Op::Queue(QueueOp::Publish(publishes)));
            Asked::new(pending, |reply| match reply {
                Reply::Queue(QueueReply::Published(all)) => Some(all),
                _ => None,
            })
            .await?
        }
        .into_iter();
        let one = |known: Option<Result<Sent, SendError>>| match known {
            Some(result) => Ok(result),
            None => answers.next().map(|p| sent(&p)).ok_or(CallError::FateUnknown),
        };
        results.into_iter().map(one).collect()
    }

    fn for_queue(&self, queue: &QueueDef, new: NewMessage) -> Result<(Publish, usize), SendError> {
        let now_ms = self.broker().now_ms();
        let envelope = new.message.encode_envelope()?;
        let too_large = |max| EnvelopeError::TooLarge { what: "message", max };
        let envelope_len = u32::try_from(envelope.len()).map_err(|_| too_large(u32::MAX as usize))?;
        let max_ts_ms = timestamp_ms(&new.message).unwrap_or(-1);
        let expiry_ms = new.expiry_ms(now_ms);
        let due_ms = new.delay_ms.map(|d| now_ms.saturating_add(d));
        let key_hash = self.broker().key_hash(new.message.key.as_ref(), [queue]);
        let own_key = self.broker().key_hash_in(&new.message, queue);
        let dedup = self.broker().id_hash(&new, [queue]);
        let body: Vec<Bytes> = std::iter::once(envelope).chain(new.message.payload).collect();
        let body_len: usize = body.iter().map(Bytes::len).sum();
        let max = self.broker().append_bytes_max();
        if body_len > max {
            return Err(too_large(max).into());
        }
        let publish = Publish {
            to: vec![Target { queue: queue.id, due_ms, key_hash: own_key }],
            transient: new.transient,
            priority: new.priority,
            expiry_ms,
            key_hash,
            origin: None,
            dedup,
            envelope_len,
            max_ts_ms,
            body,
        };
        let limited = queue.policy.messages_max.is_some() || queue.policy.bytes_max.is_some();
        let acts = if limited { PUBLISH_ACTS_BYTES } else { 0 };
        Ok((publish, body_len + ITEM_OVERHEAD_BYTES + TARGET_BYTES + acts))
    }
}

fn sent(published: &Published) -> Result<Sent, SendError> {
    match (published.home, published.refused.first()) {
        (Some(home), _) => Ok(Sent { home, duplicate: published.duplicate }),
        // What a full queue gives to its dead-letter target was refused all the same.
        (None, Some((_, Refusal::Full))) => Err(SendError::Full),
        (None, Some((_, Refusal::DedupFull))) => Err(SendError::DedupFull),
        (None, Some((_, Refusal::Subscription))) => Err(SendError::Subscription),
        (None, Some((_, Refusal::Gone)) | None) => Err(SendError::Gone),
    }
}
