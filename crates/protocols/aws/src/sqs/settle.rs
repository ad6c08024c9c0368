//! `DeleteMessage`, `ChangeMessageVisibility`, and their batches: what becomes of messages that were received, by their handles.
//!
//! A handle of an earlier receive: on a standard queue it deletes the message until it was received again, and then does nothing.

use millstream_broker::Action;
use millstream_broker::queue::api::{QueueDef, SettleError, SettleItem, Verb};

use super::handle::Handle;
use super::receive::extend_item;
use super::settings::VISIBILITY_S_MAX;
use super::{batch, fifo};
use crate::answer::Answer;
use crate::error::{AwsError, Kind, shown};
use crate::params::Params;
use crate::server::Cx;

/// The handle that a request names, if it is one of this queue.
fn handle(cx: &Cx<'_>, def: &QueueDef, p: Params<'_>) -> Result<Handle, AwsError> {
    let text = p.needed("ReceiptHandle")?;
    let handle = Handle::decode(text, &cx.server.handle_key).filter(|h| h.queue == def.id.0);
    handle.ok_or_else(|| {
        let text = format!("The input receipt handle \"{}\" is not a valid receipt handle.", shown(text));
        AwsError::new(Kind::ReceiptHandleIsInvalid, text)
    })
}

fn item(h: &Handle, def: &QueueDef, verb: Verb) -> SettleItem {
    SettleItem { queue: def.id, lane: h.lane, pos: h.pos, len: 1, delivery_no: h.delivery_no, verb }
}

pub(crate) async fn delete(cx: &Cx<'_>, p: Params<'_>) -> Result<(), AwsError> {
    let def = cx.queue(p, Action::Read)?;
    let handle = handle(cx, &def, p)?;
    let results = delete_all(cx, &def, vec![Ok(handle)]).await?;
    results.into_iter().collect()
}

pub(crate) async fn delete_batch(cx: &Cx<'_>, p: Params<'_>, a: &mut Answer) -> Result<(), AwsError> {
    let def = cx.queue(p, Action::Read)?;
    let entries = batch::entries(p, "DeleteMessageBatchRequestEntry")?;
    let handles = entries.iter().map(|(_, p)| handle(cx, &def, *p)).collect();
    let results = delete_all(cx, &def, handles).await?;
    let results = entries.iter().map(|e| e.0).zip(results).collect();
    batch::write(cx, a, "DeleteMessageBatchResultEntry", results, |_, ()| {});
    Ok(())
}

/// Deletes messages in one record. A handle that stands twice in a batch deletes once.
async fn delete_all(
    cx: &Cx<'_>,
    def: &QueueDef,
    handles: Vec<Result<Handle, AwsError>>,
) -> Result<Vec<Result<(), AwsError>>, AwsError> {
    let mut places: Vec<Handle> = handles.iter().filter_map(|h| h.as_ref().ok()).copied().collect();
    places.sort_unstable_by_key(|h| (h.lane, h.pos, h.delivery_no));
    places.dedup_by_key(|h| (h.lane, h.pos, h.delivery_no));
    let fifo = fifo::is_fifo(&def.policy);
    let verb = if fifo { Verb::Ack } else { Verb::AckLate };
    let items: Vec<SettleItem> = places.iter().map(|h| item(h, def, verb)).collect();
    if fifo {
        cx.server.attempts.modified(places.iter());
    }
    let mut late = Vec::new();
    if !items.is_empty() {
        let errors = cx.session.settle(items).await?.await?;
        cx.server.cfg.stats.deleted.add(places.len().saturating_sub(errors.len()));
        // What is gone is no error; on a standard queue, what was received again since is none either.
        let is_late = |e: &&(usize, SettleError)| fifo && e.1 != SettleError::Unknown;
        late = errors.iter().filter(is_late).filter_map(|(i, _)| places.get(*i)).copied().collect();
    }
    let one = |h: Handle| if late.contains(&h) { Err(expired()) } else { Ok(()) };
    Ok(handles.into_iter().map(|h| h.and_then(one)).collect())
}

pub(crate) async fn change(cx: &Cx<'_>, p: Params<'_>) -> Result<(), AwsError> {
    let def = cx.queue(p, Action::Read)?;
    let change = wanted(cx, &def, p)?;
    change_all(cx, &def, vec![Ok(change)]).await?.into_iter().collect()
}

pub(crate) async fn change_batch(cx: &Cx<'_>, p: Params<'_>, a: &mut Answer) -> Result<(), AwsError> {
    let def = cx.queue(p, Action::Read)?;
    let entries = batch::entries(p, "ChangeMessageVisibilityBatchRequestEntry")?;
    let changes = entries.iter().map(|(_, p)| wanted(cx, &def, *p)).collect();
    let results = change_all(cx, &def, changes).await?;
    let results = entries.iter().map(|e| e.0).zip(results).collect();
    batch::write(cx, a, "ChangeMessageVisibilityBatchResultEntry", results, |_, ()| {});
    Ok(())
}

/// A handle, and how long its message is to be invisible from now on.
struct Change {
    handle: Handle,
    seconds: u64,
}

fn wanted(cx: &Cx<'_>, def: &QueueDef, p: Params<'_>) -> Result<Change, AwsError> {
    let handle = handle(cx, def, p)?;
    let given = p.int("VisibilityTimeout")?.ok_or_else(|| AwsError::missing("VisibilityTimeout"))?;
    let wrong = |reason: &str| AwsError::value("VisibilityTimeout", given, reason);
    let seconds = u64::try_from(given).ok().filter(|s| *s <= VISIBILITY_S_MAX);
    let seconds = seconds.ok_or_else(|| wrong("Must be between 0 and 43200."))?;
    let so_far_ms = cx.server.broker.now_ms().saturating_sub(handle.received_ms);
    if so_far_ms.saturating_add(seconds * 1_000) > VISIBILITY_S_MAX * 1_000 && seconds > 0 {
        return Err(wrong("Total VisibilityTimeout for the message is beyond the limit [43200 seconds]."));
    }
    Ok(Change { handle, seconds })
}

async fn change_all(
    cx: &Cx<'_>,
    def: &QueueDef,
    changes: Vec<Result<Change, AwsError>>,
) -> Result<Vec<Result<(), AwsError>>, AwsError> {
    let known: Vec<(usize, &Change)> =
        changes.iter().enumerate().filter_map(|(i, c)| Some((i, c.as_ref().ok()?))).collect();
    if fifo::is_fifo(&def.policy) {
        cx.server.attempts.modified(known.iter().map(|(_, c)| &c.handle));
    }
    let (back, longer): (Vec<_>, Vec<_>) = known.into_iter().partition(|(_, c)| c.seconds == 0);
    let release = Verb::Release { failed: true, delay_ms: Some(0) };
    let releases: Vec<SettleItem> = back.iter().map(|(_, c)| item(&c.handle, def, release)).collect();
    let extends =
        longer.iter().map(|(_, c)| extend_item(&c.handle, def, c.seconds * 1_000)).collect::<Vec<_>>();
    let mut errors: Vec<(usize, SettleError)> = Vec::new();
    if !extends.is_empty() {
        let failed = cx.session.extend(extends).await?.await?;
        errors.extend(failed.into_iter().filter_map(|(i, e)| Some((longer.get(i)?.0, e))));
    }
    if !releases.is_empty() {
        let failed = cx.session.settle(releases).await?.await?;
        errors.extend(failed.into_iter().filter_map(|(i, e)| Some((back.get(i)?.0, e))));
    }
    let mut results: Vec<Result<(), AwsError>> = changes.into_iter().map(|c| c.map(drop)).collect();
    for (i, e) in errors {
        if let Some(result) = results.get_mut(i) {
            let late = fifo::is_fifo(&def.policy) && e != SettleError::Unknown;
            *result = Err(if late { expired() } else { not_there(e) });
        }
    }
    Ok(results)
}

/// A FIFO queue's message is another's, or nobody's, when the visibility of a receive is over.
fn expired() -> AwsError {
    AwsError::invalid("Value for parameter ReceiptHandle is invalid. Reason: The receipt handle has expired.")
}

fn not_there(e: SettleError) -> AwsError {
    match e {
        SettleError::Unknown => AwsError::invalid(
            "Value for parameter ReceiptHandle is invalid. Reason: Message does not exist or is not available for visibility timeout \
             change.",
        ),
        SettleError::Stale | SettleError::Expired | SettleError::NotHolder => {
            AwsError::new(Kind::MessageNotInflight, "The specified message isn't in flight.")
        }
    }
}
