//! Class basic, but for publishing and settling: qos, recover, and on to consumers and get.

use amq_protocol::protocol::{AMQPClass, basic as b};
use millstream_broker::Header;
use millstream_broker::queue::api::Verb;

use crate::channel::Channel;
use crate::error::ReplyCode;
use crate::exception::Exception;

impl Channel {
    pub(super) async fn basic(&mut self, method: b::AMQPMethod, table: &[Header]) -> Result<(), Exception> {
        use b::AMQPMethod as M;
        match method {
            M::Qos(m) => self.qos(&m).await,
            M::Consume(m) => self.consume(&m, table).await,
            M::Cancel(m) => self.cancel(&m).await,
            M::Get(m) => self.get(&m).await,
            M::Recover(m) => {
                self.recover(m.requeue).await?;
                self.send(AMQPClass::Basic(M::RecoverOk(b::RecoverOk {})));
                Ok(())
            }
            M::RecoverAsync(m) => self.recover(m.requeue).await,
            // To a cancel of ours.
            M::CancelOk(_) => Ok(()),
            _ => Err(Exception::new(ReplyCode::CommandInvalid, "not for clients to call")),
        }
    }

    /// As `RabbitMQ` has it: `global` is for the channel, else for each consumer that is yet to come.
    async fn qos(&mut self, m: &b::Qos) -> Result<(), Exception> {
        if m.global {
            let asked = self.session.prefetch(None, m.prefetch_count.into());
            asked.await.map_err(|e| Exception::internal(&e))?;
        } else {
            self.consumers.prefetch = m.prefetch_count.into();
        }
        self.send(AMQPClass::Basic(b::AMQPMethod::QosOk(b::QosOk {})));
        Ok(())
    }

    /// Gives back all that the channel has.
    async fn recover(&mut self, requeue: bool) -> Result<(), Exception> {
        if !requeue {
            return Err(Exception::not_implemented("requeue=false"));
        }
        let taken = self.unacked.take_all();
        self.link.stats().requeued.add(taken.len());
        for (_, out) in taken.into_all() {
            self.settling.add_item(out.settled(Verb::Release { failed: true, delay_ms: None }));
        }
        self.flush_settlements().await
    }
}
