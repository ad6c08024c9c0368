//! `SendMessage` and `SendMessageBatch`.

use std::sync::Arc;

use millstream_broker::queue::api::QueueDef;
use millstream_broker::{Action, EnvelopeError, NewMessage, SendError, Sent};

use super::attributes::message_bytes_max;
use super::mapping::{self, BODY_BYTES_MAX, Incoming, is_id};
use super::message_attributes::{
    self, ATTRIBUTES_MAX, Attribute, AttributeValue, INVALID_CHARACTERS, is_sqs_text, md5_hex, md5_of,
};
use super::settings::DELAY_S_MAX;
use super::{batch, fifo};
use crate::answer::Answer;
use crate::error::{AwsError, Kind};
use crate::hex::uuid;
use crate::params::Params;
use crate::server::Cx;

/// Bytes of a batch in all.
const BATCH_BYTES_MAX: usize = 1 << 20;
/// The one system attribute that a message is sent with.
const TRACE: &str = "AWSTraceHeader";

/// A message that may be sent, and what its sender is told of it.
struct Ready {
    new: NewMessage,
    told: Told,
}

/// Digests.
struct Told {
    body: String,
    attributes: Option<String>,
    system: Option<String>,
}

pub(crate) async fn send(cx: &Cx<'_>, p: Params<'_>, a: &mut Answer) -> Result<(), AwsError> {
    let def = cx.queue(p, Action::Write)?;
    let Ready { new, told } = ready(cx, &def, p)?;
    let sent = cx.session.send(&def, vec![new]).await?.pop();
    let sent = sent.ok_or_else(|| AwsError::new(Kind::InternalFailure, "The message has no result."))?;
    let sent = sent.map_err(refused)?;
    count(cx, &[&sent]);
    write(cx, a, &def, &told, sent);
    Ok(())
}

pub(crate) async fn send_batch(cx: &Cx<'_>, p: Params<'_>, a: &mut Answer) -> Result<(), AwsError> {
    let def = cx.queue(p, Action::Write)?;
    let entries = batch::entries(p, "SendMessageBatchRequestEntry")?;
    let mut bytes = 0;
    for (_, entry) in &entries {
        bytes += size(*entry)?;
    }
    if bytes > BATCH_BYTES_MAX {
        let text = format!(
            "Batch requests cannot be longer than {BATCH_BYTES_MAX} bytes. You have sent {bytes} bytes."
        );
        return Err(AwsError::new(Kind::BatchRequestTooLong, text));
    }
    let (mut batch, mut all) = (Vec::new(), Vec::new());
    for (id, entry) in entries {
        match ready(cx, &def, entry) {
            Ok(Ready { new, told }) => {
                batch.push(new);
                all.push((id, Ok(told)));
            }
            Err(e) => all.push((id, Err(e))),
        }
    }
    let mut sent = cx.session.send(&def, batch).await?.into_iter();
    let results = all.into_iter().map(|(id, told)| {
        let result = told.and_then(|told| {
            let lost = || AwsError::new(Kind::InternalFailure, "The message has no result.");
            Ok((told, sent.next().ok_or_else(lost)?.map_err(refused)?))
        });
        (id, result)
    });
    let results: Vec<_> = results.collect();
    count(cx, &results.iter().filter_map(|(_, r)| Some(&r.as_ref().ok()?.1)).collect::<Vec<_>>());
    batch::write(cx, a, "SendMessageBatchResultEntry", results, |a, (told, sent)| {
        write(cx, a, &def, &told, sent);
    });
    Ok(())
}

fn count(cx: &Cx<'_>, sent: &[&Sent]) {
    let stats = &cx.server.cfg.stats;
    let duplicates = sent.iter().filter(|s| s.duplicate).count();
    stats.duplicates.add(duplicates);
    stats.sent.add(sent.len() - duplicates);
}

fn write(cx: &Cx<'_>, a: &mut Answer, def: &QueueDef, told: &Told, sent: Sent) {
    a.text("MD5OfMessageBody", &told.body);
    if let Some(md5) = &told.attributes {
        a.text("MD5OfMessageAttributes", md5);
    }
    if let Some(md5) = &told.system {
        a.text("MD5OfMessageSystemAttributes", md5);
    }
    a.text("MessageId", &uuid(cx.server.broker.message_id(sent.home)));
    if fifo::is_fifo(&def.policy) {
        a.text("SequenceNumber", &fifo::sequence_number(&sent));
    }
}

fn refused(e: SendError) -> AwsError {
    match e {
        SendError::Gone => AwsError::no_queue(),
        SendError::Full => {
            AwsError::new(Kind::OverLimit, "The queue is full: it refuses messages until some are gone.")
        }
        SendError::DedupFull => AwsError::new(
            Kind::OverLimit,
            "Too many deduplication ids are remembered: try again in some minutes.",
        ),
        SendError::Subscription => AwsError::new(
            Kind::UnsupportedOperation,
            "The queue is subscribed to a topic: messages are published to the topic.",
        ),
        SendError::Message(EnvelopeError::TooLarge { what, max }) => AwsError::invalid(&format!(
            "One or more parameters are invalid. Reason: the {what} must not exceed {max}."
        )),
        SendError::Message(e) => AwsError::invalid(&e.to_string()),
    }
}

/// What a message counts of a batch's bytes, whether it can be sent or not.
fn size(p: Params<'_>) -> Result<usize, AwsError> {
    let attributes = p.struct_map("MessageAttributes", "MessageAttribute")?;
    let value = |p: Params<'_>| -> Result<usize, AwsError> {
        let len = |t: Option<&str>| t.map_or(0, str::len);
        Ok(len(p.text("DataType")?) + len(p.text("StringValue")?) + len(p.text("BinaryValue")?) / 4 * 3)
    };
    let attributes = attributes.into_iter().map(|(name, p)| Ok(name.len() + value(p)?));
    Ok(p.text("MessageBody")?.map_or(0, str::len) + attributes.sum::<Result<usize, AwsError>>()?)
}

/// Checks a message.
fn ready(cx: &Cx<'_>, def: &Arc<QueueDef>, p: Params<'_>) -> Result<Ready, AwsError> {
    let attributes = message_attributes::read(p, "MessageAttributes", "MessageAttribute")?;
    if attributes.len() > ATTRIBUTES_MAX {
        let text =
            format!("Number of message attributes [{}] exceeds the allowed maximum [10].", attributes.len());
        return Err(AwsError::invalid(&text));
    }
    let body = p.text("MessageBody")?.unwrap_or_default();
    // A body may be empty only where an attribute of ours says what it stands for.
    if body.is_empty()
        && !attributes.iter().any(|a| a.name.starts_with("kafka.") || a.name.starts_with("millstream."))
    {
        return Err(AwsError::missing("MessageBody"));
    }
    if !is_sqs_text(body) {
        return Err(AwsError::new(Kind::InvalidMessageContents, INVALID_CHARACTERS));
    }
    let max = message_bytes_max(def).min(BODY_BYTES_MAX);
    if body.len() + attributes.iter().map(Attribute::bytes).sum::<usize>() > max {
        let text =
            format!("One or more parameters are invalid. Reason: Message must be shorter than {max} bytes.");
        return Err(AwsError::invalid(&text));
    }
    let delay = p.int("DelaySeconds")?.map(|s| {
        let seconds = u64::try_from(s).ok().filter(|s| *s <= DELAY_S_MAX);
        seconds.ok_or_else(|| AwsError::value("DelaySeconds", s, "DelaySeconds must be >= 0 and <= 900."))
    });
    let delay_ms = delay.transpose()?.map(|s| s * 1_000);
    let system = message_attributes::read(p, "MessageSystemAttributes", "MessageSystemAttribute")?;
    let trace = match system.as_slice() {
        [] => None,
        [Attribute { name, data_type, value: AttributeValue::Text(text) }]
            if name == TRACE && data_type == "String" =>
        {
            Some(text.as_str())
        }
        _ => {
            return Err(AwsError::invalid(
                "Message system attributes can only be AWSTraceHeader, of the type String.",
            ));
        }
    };
    let group = p.text("MessageGroupId")?;
    if let Some(group) = group.filter(|g| !is_id(g)) {
        return Err(AwsError::value("MessageGroupId", group, ID_RULE));
    }
    let identity = if fifo::is_fifo(&def.policy) {
        Some(fifo::identity(&cx.server.id_key, def, p, body)?)
    } else if let Some(id) = p.text("MessageDeduplicationId")? {
        return Err(AwsError::value(
            "MessageDeduplicationId",
            id,
            "The request includes a parameter that is not valid for this queue type.",
        ));
    } else {
        None
    };
    // A FIFO queue's messages are delayed by the queue alone: 0 says nothing.
    let delay_ms = delay_ms.filter(|_| identity.is_none());
    let told = Told {
        body: md5_hex(body.as_bytes()),
        attributes: (!attributes.is_empty()).then(|| md5_of(&attributes)),
        system: (!system.is_empty()).then(|| md5_of(&system)),
    };
    let mut new = mapping::incoming(Incoming {
        queue: &def.name,
        body,
        attributes,
        trace,
        group,
        deduplication: identity.as_ref().map(|i| i.id.as_str()),
        sender: cx.signer,
        delay_ms,
    })?;
    new.dedup = identity.and_then(|i| i.hash);
    Ok(Ready { new, told })
}

const ID_RULE: &str = "it can only include alphanumeric and punctuation characters. 1 to 128 in length.";
