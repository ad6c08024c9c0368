//! Class tx: what was published and settled since the last commit happens in one step, or not at all.
//!
//! Until then publishes and settlements are kept here. What a full queue refuses at the commit is dropped, as `RabbitMQ` does it.

use amq_protocol::protocol::{AMQPClass, tx as t};
use millstream_broker::queue::api::Verb;
use millstream_broker::{Broker, CallError, NotPublished, Refused, TransactionError};

use crate::channel::confirms::exception as publish_exception;
use crate::channel::publish::Batch;
use crate::channel::settle::Settling;
use crate::channel::unacked::{Out, Taken};
use crate::channel::{Channel, FULL_CHECK};
use crate::error::ReplyCode;
use crate::exception::Exception;
use crate::link::{LOW_ON_DISK, LOW_ON_MEMORY};

/// Publishes and settlements of one transaction.
const ITEMS_MAX: usize = millstream_broker::TRANSACT_OPS_MAX;
/// Payload bytes of one transaction: it is one record.
const BYTES_MAX: usize = millstream_broker::TRANSACT_BYTES_MAX;

/// What is to happen at the commit.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    pub(super) batch: Batch,
    settled: Vec<(u64, Out, Verb)>,
}

impl Transaction {
    /// Keeps settlements, with their tags: a rollback gives these back.
    pub(super) fn settle(&mut self, taken: Taken, verb: Verb) -> Result<(), Exception> {
        self.settled.extend(taken.into_all().map(|(tag, out)| (tag, out, verb)));
        self.check()
    }

    pub(super) fn check(&self) -> Result<(), Exception> {
        let (n, bytes) = self.batch.size();
        if n + self.settled.len() > ITEMS_MAX || bytes > BYTES_MAX {
            return Err(Exception::precondition(format!(
                "a transaction has {ITEMS_MAX} messages and settlements and {BYTES_MAX} bytes at most"
            )));
        }
        Ok(())
    }
}

impl Channel {
    pub(super) async fn transaction(&mut self, method: t::AMQPMethod) -> Result<(), Exception> {
        use t::AMQPMethod as M;
        let ok = match method {
            M::Select(_) if self.confirming => {
                return Err(Exception::precondition("cannot switch from confirm to tx mode"));
            }
            M::Select(_) => {
                self.tx.get_or_insert_default();
                M::SelectOk(t::SelectOk {})
            }
            M::Commit(_) => {
                self.commit().await?;
                M::CommitOk(t::CommitOk {})
            }
            M::Rollback(_) => {
                for (tag, out, _) in self.open_transaction()?.settled {
                    self.unacked.add_again(tag, out);
                }
                M::RollbackOk(t::RollbackOk {})
            }
            _ => return Err(Exception::new(ReplyCode::CommandInvalid, "not for clients to call")),
        };
        self.send(AMQPClass::Tx(ok));
        Ok(())
    }

    /// What was gathered; the next transaction is begun.
    fn open_transaction(&mut self) -> Result<Transaction, Exception> {
        let tx = self.tx.as_mut().ok_or_else(|| Exception::precondition("channel is not transactional"))?;
        Ok(std::mem::take(tx))
    }

    async fn commit(&mut self) -> Result<(), Exception> {
        let Transaction { mut batch, settled } = self.open_transaction()?;
        let mut settling = Settling::default();
        for (_, out, verb) in &settled {
            settling.add_item(out.settled(*verb));
        }
        let (messages, mandatory) = batch.take();
        if messages.is_empty() && settled.is_empty() {
            return self.settled().await; // what was settled before the channel had transactions
        }
        if !messages.is_empty() {
            self.hold_while(LOW_ON_DISK, Broker::is_full).await?;
        }
        self.link.stats().published.add(messages.len());
        let tx = millstream_broker::Transaction {
            publish: messages,
            settle: settling.take(),
            unrouted_stand: true,
            ..millstream_broker::Transaction::default()
        };
        let done = loop {
            match self.session.transaction(&tx).await {
                Err(TransactionError::Call(CallError::Refused(Refused::MemoryFull))) => {
                    self.hold_while(LOW_ON_MEMORY, Broker::is_transient_full).await?;
                }
                done => break done,
            }
        };
        match done {
            Ok(done) => self.returns(done.published, mandatory),
            Err(TransactionError::Call(e)) => Err(Exception::internal(&e)),
            Err(TransactionError::Publish { why: NotPublished::Error(e), .. }) => Err(publish_exception(&e)),
            Err(e) => Err(Exception::precondition(format!("nothing was committed: {e}"))),
        }
    }

    /// What publishes is held while there is no room for it.
    async fn hold_while(&mut self, why: &str, full: fn(&Broker) -> bool) -> Result<(), Exception> {
        let full = || full(self.session.broker());
        if !full() {
            return Ok(());
        }
        self.link.hold(why);
        while full() && !self.inbox.is_closed() {
            tokio::time::sleep(FULL_CHECK).await;
        }
        self.link.go_on();
        if full() { Err(Exception::new(ReplyCode::ResourceError, why)) } else { Ok(()) }
    }
}
