//! `basic.get`.

use amq_protocol::protocol::{AMQPClass, basic as b};
use millstream_broker::queue::api::{Receive, Verb};
use millstream_broker::{Action, BodyError, ConsumeError, QueueSettings};
use tokio::time::Instant;

use crate::arguments::{self, Kind};
use crate::channel::Channel;
use crate::channel::consume::exception;
use crate::channel::deliver::header_of;
use crate::channel::queue::{count, resource};
use crate::error::ReplyCode;
use crate::exception::Exception;
use crate::text;

impl Channel {
    pub(super) async fn get(&mut self, m: &b::Get) -> Result<(), Exception> {
        let name = self.queue_name(m.queue.as_str())?;
        self.allow(Action::Read, &resource(&name))?;
        let def = self.usable(&name)?;
        let settings = QueueSettings::of(&def);
        let counts = arguments::kind(&name, &settings.arguments) == Ok(Kind::Quorum);
        if counts && def.policy.single_active {
            let text = format!(
                "cannot obtain access to locked queue '{name}' in vhost '/'. basic.get operations are not supported by quorum queues with single active consumer"
            );
            return Err(Exception::new(ReplyCode::ResourceLocked, text));
        }
        // What the channel itself published before is there to be got, also where no confirm was asked for.
        let mut behind_own = self.confirms.is_empty();
        loop {
            let receive = Receive { beside: true, ..Receive::now(def.id, 1) };
            let receiving = self.session.receive(receive).map_err(|e| exception(&name, &e))?;
            let received = receiving.await.map_err(|e| Exception::internal(&e))?;
            let deliveries = received.map_err(|e| exception(&name, &ConsumeError::Receive(e)))?;
            let Some(d) = deliveries.first().copied() else {
                if !std::mem::replace(&mut behind_own, true) {
                    self.session.barrier().await.map_err(|e| Exception::internal(&e))?;
                    continue;
                }
                self.send(AMQPClass::Basic(b::AMQPMethod::GetEmpty(b::GetEmpty {})));
                return Ok(());
            };
            let body = self.session.broker().read_bodies(&deliveries).await.pop();
            let message = match body {
                Some(Ok(message)) => message.message,
                // Purged meanwhile: the next one.
                None | Some(Err(BodyError::Gone)) => continue,
                Some(Err(e)) => {
                    self.settling.add(&d, Verb::Undelivered);
                    self.flush_settlements().await?;
                    return Err(Exception::internal(&e));
                }
            };
            let stats = self.session.queue_stats_now(def.id).await.map_err(|e| Exception::internal(&e))?;
            let tag = self.unacked.next_tag();
            let class = AMQPClass::Basic(b::AMQPMethod::GetOk(b::GetOk {
                delivery_tag: tag,
                redelivered: d.redelivered,
                exchange: text::short(&message.exchange),
                routing_key: text::short(&message.routing_key),
                message_count: count(stats.map_or(0, |s| s.ready.n)),
            }));
            let (header, body) = header_of(message, counts.then_some(d.attempts));
            if let Err(e) = self.link.outbox.content(self.number, &class, &header, &body) {
                self.settling.add(&d, Verb::Undelivered);
                self.flush_settlements().await?;
                return Err(Exception::precondition(format!(
                    "the message cannot be said in this protocol: {e}"
                )));
            }
            self.link.stats().delivered.add(1);
            self.link.stats().redelivered.add(usize::from(d.redelivered));
            if m.no_ack {
                self.settling.add(&d, Verb::Ack);
                return self.flush_settlements().await;
            }
            self.unacked.add(tag, &d, self.settle_within(&settings.arguments), Instant::now());
            return Ok(());
        }
    }
}
