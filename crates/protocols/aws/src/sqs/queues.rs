//! Making, finding, listing, purging and removing queues.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use millstream_broker::queue::api::QueueDef;
use millstream_broker::queue::policy::{Ordering, QueuePolicy};
use millstream_broker::{Action, NewQueue, QueueCallError, QueueSettings};

use super::names::{FIFO_SUFFIX, is_sqs_name};
use super::settings::{self, READ_ONLY, RETENTION_MS_DEFAULT, Target};
use super::{fifo, tags};
use crate::answer::Answer;
use crate::error::{AwsError, Kind, shown};
use crate::params::Params;
use crate::server::Cx;

/// Queues of one page, and of one answer without pages.
const PAGE_MAX: i64 = 1_000;

pub(crate) async fn create(cx: &Cx<'_>, p: Params<'_>, a: &mut Answer) -> Result<(), AwsError> {
    let name = p.needed("QueueName")?;
    if !is_sqs_name(name) {
        return Err(AwsError::invalid(
            "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length.",
        ));
    }
    cx.may(name, Action::Configure)?;
    let given = p.text_map("Attributes", "Attribute", "Name", "Value")?;
    let tags = p.text_map("tags", "Tag", "Key", "Value")?;
    if let Some((k, _)) = given.iter().find(|g| READ_ONLY.contains(&g.0)) {
        return Err(settings::unknown(k));
    }
    let asks_fifo = given.contains(&("FifoQueue", "true"));
    let named_fifo = name.ends_with(FIFO_SUFFIX);
    if let Some(def) = cx.session.queue(name) {
        if cx.session.is_locked(def.id) {
            return Err(exists("of another connection's, exclusive"));
        }
        alike(cx, &def, &given)?;
        // The answer shows when the queue is durable.
        if cx.session.queue_stats(def.id, false).await?.is_some() {
            a.text("QueueUrl", &cx.url(name));
            return Ok(());
        }
    }
    if asks_fifo && !named_fifo {
        return Err(AwsError::invalid(
            "The name of a FIFO queue can only include alphanumeric characters, hyphens, or underscores, must end with .fifo suffix and \
             be 1 to 80 in length.",
        ));
    }
    if named_fifo && !asks_fifo {
        return Err(AwsError::invalid(
            "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length. The suffix .fifo is of FIFO queues: \
             set FifoQueue to true.",
        ));
    }
    if cx.server.deleted.has(name, cx.server.broker.now_ms()) {
        let seconds = cx.server.cfg.cooldown.as_secs();
        let text = format!(
            "You must wait {seconds} seconds after deleting a queue before you can create another with the same name."
        );
        return Err(AwsError::new(Kind::QueueDeletedRecently, text));
    }
    // A group on a standard queue does not keep others from theirs.
    let ordering = Ordering::Fair;
    let mut policy = QueuePolicy { ttl_ms: Some(RETENTION_MS_DEFAULT), ordering, ..QueuePolicy::default() };
    if asks_fifo {
        fifo::make(&mut policy);
    }
    let mut settings = QueueSettings::default();
    let mut target = Target { name, policy: &mut policy, settings: &mut settings };
    for (k, v) in &given {
        settings::apply(cx, &mut target, k, v)?;
    }
    fifo::check(&settings)?;
    tags::add(&mut settings, &tags)?;
    let QueueSettings { dead_letter, more, .. } = settings;
    let new = NewQueue { policy, dead_letter, more, ..NewQueue::named(name) };
    match cx.session.declare_queue(new).await {
        Ok(_) => {
            a.text("QueueUrl", &cx.url(name));
            Ok(())
        }
        Err(QueueCallError::Differs { what }) => Err(exists(what)),
        Err(e) => Err(e.into()),
    }
}

fn exists(attribute: &str) -> AwsError {
    let text =
        format!("A queue already exists with the same name and a different value for attribute {attribute}");
    AwsError::new(Kind::QueueNameExists, text)
}

/// Whether a queue that is there has all the attributes that it is asked to be made with.
fn alike(cx: &Cx<'_>, def: &QueueDef, given: &[(&str, &str)]) -> Result<(), AwsError> {
    let settings = QueueSettings::of(def);
    for (name, value) in given {
        let (mut p, mut s) = (def.policy.clone(), settings.clone());
        let mut target = Target { name: &def.name, policy: &mut p, settings: &mut s };
        settings::apply(cx, &mut target, name, value)?;
        if p != def.policy || s != settings {
            return Err(exists(name));
        }
    }
    Ok(())
}

pub(crate) fn url(cx: &Cx<'_>, p: Params<'_>, a: &mut Answer) -> Result<(), AwsError> {
    let name = p.needed("QueueName")?;
    let def = cx.named(name, Action::Describe)?;
    a.text("QueueUrl", &cx.url(&def.name));
    Ok(())
}

pub(crate) fn list(cx: &Cx<'_>, p: Params<'_>, a: &mut Answer) -> Result<(), AwsError> {
    let prefix = p.text("QueueNamePrefix")?.unwrap_or_default();
    let all = cx.server.broker.queues(cx.session.namespace());
    let mine = |q: &QueueDef| q.name.starts_with(prefix) && !cx.session.is_locked(q.id);
    let names = all.iter().filter(|q| mine(q)).map(|q| q.name.clone()).collect();
    page(cx, p, a, names, "QueueUrls")
}

/// Writes the URLs of queues, sorted by name: a page of them, if pages are asked for.
pub(crate) fn page(
    cx: &Cx<'_>,
    p: Params<'_>,
    a: &mut Answer,
    mut names: Vec<String>,
    list: &str,
) -> Result<(), AwsError> {
    let max = p.int("MaxResults")?;
    if let Some(n) = max.filter(|n| !(1..=PAGE_MAX).contains(n)) {
        return Err(AwsError::value("MaxResults", n, "must be between 1 and 1000."));
    }
    let token = p.text("NextToken")?.filter(|t| !t.is_empty());
    let after = token.map(|t| {
        let name = URL_SAFE_NO_PAD.decode(t).ok().and_then(|b| String::from_utf8(b).ok());
        name.ok_or_else(|| AwsError::value("NextToken", t, "it is not one that this service gave."))
    });
    names.sort_unstable();
    if let Some(after) = after.transpose()? {
        names.retain(|n| *n > after);
    }
    let most = usize::try_from(max.unwrap_or(PAGE_MAX)).unwrap_or(usize::MAX);
    let more = names.len() > most;
    names.truncate(most);
    if !names.is_empty() {
        let urls: Vec<String> = names.iter().map(|n| cx.url(n)).collect();
        a.texts(list, "QueueUrl", urls.iter().map(String::as_str));
    }
    // Without `MaxResults`, AWS gives no token either.
    if let Some(last) = names.last().filter(|_| more && max.is_some()) {
        a.text("NextToken", &URL_SAFE_NO_PAD.encode(last));
    }
    Ok(())
}

pub(crate) async fn delete(cx: &Cx<'_>, p: Params<'_>) -> Result<(), AwsError> {
    let def = cx.queue(p, Action::Configure)?;
    cx.session.delete_queue(def.id, false, false).await?;
    cx.server.deleted.note(&def.name, cx.server.broker.now_ms());
    Ok(())
}

pub(crate) async fn purge(cx: &Cx<'_>, p: Params<'_>) -> Result<(), AwsError> {
    let def = cx.queue(p, Action::Configure)?;
    let (id, now_ms) = (def.id.0.to_string(), cx.server.broker.now_ms());
    if cx.server.purged.has(&id, now_ms) {
        let seconds = cx.server.cfg.cooldown.as_secs();
        let text = format!(
            "Only one PurgeQueue operation on {} is allowed every {seconds} seconds.",
            shown(&def.name)
        );
        return Err(AwsError::new(Kind::PurgeQueueInProgress, text));
    }
    cx.session.purge_queue(def.id, false).await?;
    cx.server.purged.note(&id, now_ms);
    Ok(())
}
