//! Publishes on their way, and what the client is told of them: returns, then confirms, in order.

use std::collections::VecDeque;

use amq_protocol::protocol::{AMQPClass, basic as b};
use bytes::Bytes;
use futures_util::FutureExt as _;
use millstream_broker::{CallError, PublishError, PublishOutcomes, Publishing, RouteError};

use crate::channel::Channel;
use crate::error::ReplyCode;
use crate::exception::Exception;
use crate::properties::ContentHeader;
use crate::text;

/// Batches on their way at once; beyond, no command is taken.
const PUBLISHINGS_MAX: usize = 256;

/// A mandatory message: it goes back if it is routed nowhere.
#[derive(Debug)]
pub(super) struct Mandatory {
    pub(super) exchange: String,
    pub(super) routing_key: String,
    pub(super) header: ContentHeader,
    pub(super) body: Bytes,
}

/// A batch on its way.
#[derive(Debug)]
struct OnWay {
    publishing: Publishing,
    /// Number of its first message, if the client wants confirms.
    first: Option<u64>,
    /// By index.
    mandatory: Vec<(usize, Box<Mandatory>)>,
}

/// All of a channel's, in order.
#[derive(Debug, Default)]
pub(super) struct Confirms {
    on_way: VecDeque<OnWay>,
    /// The answer to the first of them.
    answer: Option<Result<PublishOutcomes, CallError>>,
    /// Number of the last message that is to be confirmed.
    last: u64,
}

impl Confirms {
    pub(super) fn is_empty(&self) -> bool {
        self.on_way.is_empty()
    }
    pub(super) fn has_room(&self) -> bool {
        self.on_way.len() < PUBLISHINGS_MAX
    }

    pub(super) fn add(
        &mut self,
        publishing: Publishing,
        messages: u64,
        confirmed: bool,
        mandatory: Vec<(usize, Box<Mandatory>)>,
    ) {
        let first = confirmed.then_some(self.last + 1);
        if confirmed {
            self.last += messages;
        }
        self.on_way.push_back(OnWay { publishing, first, mandatory });
    }

    /// Waits for the first one's answer. May be dropped and called again.
    pub(super) async fn ready(&mut self) {
        if self.answer.is_none()
            && let Some(first) = self.on_way.front_mut()
        {
            self.answer = Some((&mut first.publishing).await);
        }
    }
}

/// Confirms that go out together.
#[derive(Default)]
struct Acks {
    /// Up to and with this one, and how many.
    last: Option<(u64, u64)>,
}

impl Channel {
    /// Tells the client of all that is answered.
    pub(super) fn confirm(&mut self) -> Result<(), Exception> {
        let mut acks = Acks::default();
        let told = self.tell(&mut acks);
        self.send_acks(&mut acks);
        told
    }

    fn tell(&mut self, acks: &mut Acks) -> Result<(), Exception> {
        while self.confirms.ready().now_or_never().is_some() {
            let (Some(answer), Some(batch)) = (self.confirms.answer.take(), self.confirms.on_way.pop_front())
            else {
                return Ok(());
            };
            let outcomes = answer.map_err(|e| Exception::internal(&e))?;
            let mut mandatory = batch.mandatory.into_iter().peekable();
            let mut number = batch.first;
            for (index, outcome) in outcomes.into_iter().enumerate() {
                let returned = mandatory.next_if(|(i, _)| *i == index);
                let outcome = outcome.map_err(|e| exception(&e).on((60, 40)))?;
                if let (false, Some((_, message))) = (outcome.routed, returned) {
                    self.send_back(&message);
                }
                if let Some(n) = &mut number {
                    if outcome.refused.is_empty() {
                        acks.last = Some((*n, acks.last.map_or(1, |l| l.1 + 1)));
                    } else {
                        self.send_acks(acks);
                        let nack = b::Nack { delivery_tag: *n, multiple: false, requeue: false };
                        self.send(AMQPClass::Basic(b::AMQPMethod::Nack(nack)));
                        self.link.stats().nacked.add(1);
                    }
                    *n += 1;
                }
            }
        }
        Ok(())
    }

    /// Sends back what a transaction routed nowhere.
    pub(super) fn returns(
        &mut self,
        outcomes: PublishOutcomes,
        mandatory: Vec<(usize, Box<Mandatory>)>,
    ) -> Result<(), Exception> {
        let mut mandatory = mandatory.into_iter().peekable();
        for (index, outcome) in outcomes.into_iter().enumerate() {
            let returned = mandatory.next_if(|(i, _)| *i == index);
            let outcome = outcome.map_err(|e| exception(&e))?;
            if let (false, Some((_, message))) = (outcome.routed, returned) {
                self.send_back(&message);
            }
        }
        Ok(())
    }

    fn send_acks(&self, acks: &mut Acks) {
        if let Some((delivery_tag, n)) = acks.last.take() {
            self.link.stats().confirmed.add(usize::try_from(n).unwrap_or_default());
            let ack = b::Ack { delivery_tag, multiple: n > 1 };
            self.send(AMQPClass::Basic(b::AMQPMethod::Ack(ack)));
        }
    }

    fn send_back(&self, message: &Mandatory) {
        let class = AMQPClass::Basic(b::AMQPMethod::Return(b::Return {
            reply_code: ReplyCode::NoRoute.number(),
            reply_text: text::short(ReplyCode::NoRoute.name()),
            exchange: text::short(&message.exchange),
            routing_key: text::short(&message.routing_key),
        }));
        self.link.stats().returned.add(1);
        // It came in like this, so it goes out.
        let _ = self.link.outbox.content(self.number, &class, &message.header, &message.body);
    }
}

/// What the client is told of a message that was not taken.
pub(super) fn exception(e: &PublishError) -> Exception {
    match e {
        PublishError::Route(RouteError::NoExchange { name }) => Exception::not_found_exchange(name),
        PublishError::Route(RouteError::Internal { name }) => internal_exchange(name),
        PublishError::Route(RouteError::Subscription { name }) => {
            let text = format!("cannot publish to queue '{name}' in vhost '/': it is subscribed to a topic");
            Exception::new(ReplyCode::AccessRefused, text)
        }
        e => Exception::precondition(e.to_string()),
    }
}

/// Only other exchanges may publish there.
pub(super) fn internal_exchange(name: &str) -> Exception {
    let text = format!("cannot publish to internal exchange '{name}' in vhost '/'");
    Exception::new(ReplyCode::AccessRefused, text)
}
