//! A queue's tags: names and values for people, kept with it.

use std::collections::BTreeMap;

use millstream_broker::{Action, QueueSettings};

use super::settings;
use crate::answer::Answer;
use crate::error::{AwsError, shown};
use crate::params::Params;
use crate::server::Cx;

/// Tags of one queue.
const TAGS_MAX: usize = 50;
const KEY_CHARS_MAX: usize = 128;
const VALUE_CHARS_MAX: usize = 256;

/// Where they are kept: a JSON map.
const TAGS: &str = "aws.tags";

fn of(more: Option<&str>) -> BTreeMap<String, String> {
    more.and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default()
}

/// Adds tags; one of a name that is there gets the new value.
pub(crate) fn add(settings: &mut QueueSettings, tags: &[(&str, &str)]) -> Result<(), AwsError> {
    let mut all = of(settings.more.get(TAGS).map(String::as_str));
    for (k, v) in tags {
        let legal_key = !k.is_empty() && k.chars().count() <= KEY_CHARS_MAX;
        if !legal_key || k.to_ascii_lowercase().starts_with("aws:") {
            return Err(AwsError::value("Tag.Key", k, "1 to 128 characters, not beginning with aws:."));
        }
        if v.chars().count() > VALUE_CHARS_MAX {
            return Err(AwsError::value("Tag.Value", v, "at most 256 characters."));
        }
        all.insert((*k).to_owned(), (*v).to_owned());
    }
    if all.len() > TAGS_MAX {
        return Err(AwsError::invalid(&format!("Too many tags added for queue: at most {TAGS_MAX}.")));
    }
    put(settings, &all);
    Ok(())
}

fn put(settings: &mut QueueSettings, all: &BTreeMap<String, String>) {
    let json = serde_json::to_string(all).unwrap_or_default();
    settings::keep(settings, TAGS, (!all.is_empty()).then_some(json));
}

pub(crate) async fn tag(cx: &Cx<'_>, p: Params<'_>) -> Result<(), AwsError> {
    let def = cx.queue(p, Action::Configure)?;
    let tags = p.text_map("Tags", "Tag", "Key", "Value")?;
    if tags.is_empty() {
        return Err(AwsError::missing("Tags"));
    }
    cx.session.update_queue(def.id, |_, _, settings| add(settings, &tags)).await??;
    Ok(())
}

pub(crate) async fn untag(cx: &Cx<'_>, p: Params<'_>) -> Result<(), AwsError> {
    let def = cx.queue(p, Action::Configure)?;
    let keys = p.texts("TagKeys", "TagKey")?;
    if keys.is_empty() {
        return Err(AwsError::missing("TagKeys"));
    }
    if let Some(k) = keys.iter().find(|k| k.chars().count() > KEY_CHARS_MAX) {
        return Err(AwsError::value("TagKey", shown(k), "at most 128 characters."));
    }
    let remove = |_: &_, _: &mut _, settings: &mut QueueSettings| -> Result<(), AwsError> {
        let mut all = of(settings.more.get(TAGS).map(String::as_str));
        all.retain(|k, _| !keys.contains(&k.as_str()));
        put(settings, &all);
        Ok(())
    };
    cx.session.update_queue(def.id, remove).await??;
    Ok(())
}

pub(crate) fn list(cx: &Cx<'_>, p: Params<'_>, a: &mut Answer) -> Result<(), AwsError> {
    let def = cx.queue(p, Action::Describe)?;
    let all = of(QueueSettings::more_of(&def, TAGS));
    if !all.is_empty() {
        let all = all.iter().map(|(k, v)| (k.as_str(), v.as_str()));
        a.text_map(("Tags", "Tag"), ("Key", "Value"), all);
    }
    Ok(())
}
