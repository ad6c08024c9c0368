//! What the batch actions have in common: their entries, each with an id, and a result of its own for each.

use crate::answer::Answer;
use crate::error::{AwsError, Kind, shown};
use crate::params::Params;
use crate::server::Cx;

/// Entries of one batch.
const ENTRIES_MAX: usize = 10;
/// Characters of an entry's id.
const ID_CHARS_MAX: usize = 80;

/// The entries of a batch, with their ids. `query` is what an entry is called in the Query form.
pub(crate) fn entries<'a>(p: Params<'a>, query: &str) -> Result<Vec<(&'a str, Params<'a>)>, AwsError> {
    let all = p.structs("Entries", query)?;
    if all.is_empty() {
        let text = format!("There should be at least one {query} in the request.");
        return Err(AwsError::new(Kind::EmptyBatchRequest, text));
    }
    if all.len() > ENTRIES_MAX {
        let text =
            format!("Maximum number of entries per request are {ENTRIES_MAX}. You have sent {}.", all.len());
        return Err(AwsError::new(Kind::TooManyEntries, text));
    }
    let mut entries: Vec<(&str, Params<'_>)> = Vec::with_capacity(all.len());
    for entry in all {
        let id = entry.needed("Id")?;
        let legal = id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        if !legal || id.len() > ID_CHARS_MAX {
            return Err(AwsError::new(
                Kind::InvalidBatchEntryId,
                "A batch entry id can only contain alphanumeric characters, hyphens and underscores. It can be at most 80 letters long.",
            ));
        }
        if entries.iter().any(|e| e.0 == id) {
            let text = format!("Id {} repeated.", shown(id));
            return Err(AwsError::new(Kind::BatchEntryIdsNotDistinct, text));
        }
        entries.push((id, entry));
    }
    Ok(entries)
}

/// Writes the results of a batch: those that were done, and those that were not.
pub(crate) fn write<T>(
    cx: &Cx<'_>,
    a: &mut Answer,
    result_name: &str,
    results: Vec<(&str, Result<T, AwsError>)>,
    mut one: impl FnMut(&mut Answer, T),
) {
    let (mut done, mut failed) = (Vec::new(), Vec::new());
    for (id, result) in results {
        match result {
            Ok(v) => done.push((id, v)),
            Err(e) => failed.push((id, e)),
        }
    }
    cx.server.cfg.stats.failed_entries.add(failed.len());
    a.structs("Successful", result_name, done, |a, (id, v)| {
        a.text("Id", id);
        one(a, v);
    });
    a.structs("Failed", "BatchResultErrorEntry", failed, |a, (id, e)| {
        a.text("Id", id);
        a.bool("SenderFault", e.kind.is_sender());
        a.text("Code", e.kind.code());
        a.text("Message", &e.message);
    });
}
