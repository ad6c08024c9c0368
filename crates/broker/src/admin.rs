//! Making, altering and removing topics.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_engine::catalogue::{CatalogueError, Change, PARTITIONS_MAX, Topic, TopicDef};
use millstream_engine::op::{Op, Reply};
use millstream_log::Class;
use millstream_types::Namespace;

use crate::broker::Broker;
use crate::error::{AdminError, CallError};
use crate::policy;
use crate::session::Session;

/// A topic to be made.
#[derive(Clone, Debug, Default)]
pub struct NewTopic {
    /// Name.
    pub name: String,
    /// Partitions; `None` = the broker's default.
    pub partitions: Option<u32>,
    /// Settings.
    pub settings: BTreeMap<String, String>,
}

/// A change of one setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TopicAlter {
    /// Gives it a value.
    Set(String, String),
    /// Back to the default.
    Delete(String),
}

/// Room for a catalogue record: names, settings, and the ids of the partitions.
fn room_bytes(name: &str, settings: &BTreeMap<String, String>, partitions: u32) -> usize {
    1_024
        + 2 * name.len()
        + settings.iter().map(|(k, v)| k.len() + v.len() + 16).sum::<usize>()
        + partitions as usize * 96
}

/// Most settings of one topic and bytes of one value: there are fewer names than that, and none needs a long value.
const SETTING_BYTES_MAX: usize = 4_096;

impl Broker {
    /// Whether a topic could be made so, now.
    ///
    /// # Errors
    /// Why not.
    pub fn validate_topic(&self, ns: Namespace, new: &NewTopic) -> Result<(), AdminError> {
        policy::check_topic_name(&new.name)
            .map_err(|reason| AdminError::InvalidName { name: new.name.clone(), reason })?;
        let partitions = new.partitions.unwrap_or(self.config().topic_partitions);
        if partitions == 0 || partitions > PARTITIONS_MAX {
            return Err(AdminError::InvalidPartitions {
                partitions: i64::from(partitions),
                max: PARTITIONS_MAX,
            });
        }
        if self.catalogue().by_name.contains_key(&(ns, new.name.clone())) {
            return Err(CatalogueError::Exists { name: new.name.clone() }.into());
        }
        self.validate_settings(&new.settings)?;
        Ok(())
    }

    /// Whether these could be a topic's settings.
    ///
    /// # Errors
    /// The first that could not.
    pub fn validate_settings(
        &self,
        settings: &BTreeMap<String, String>,
    ) -> Result<policy::TopicPolicy, policy::SettingError> {
        if let Some((k, v)) = settings.iter().find(|(_, v)| v.len() > SETTING_BYTES_MAX) {
            let reason = format!("longer than {SETTING_BYTES_MAX} bytes");
            let value = v.chars().take(32).collect();
            return Err(policy::SettingError { key: k.clone(), value, reason });
        }
        policy::check(settings)?;
        Ok(policy::resolve(settings, self.config()))
    }
}

impl Session {
    /// Makes topics in the session's namespace, each on its own.
    ///
    /// # Durability
    /// What is answered with success survives a crash.
    pub async fn create_topics(&self, new: Vec<NewTopic>) -> Vec<Result<Arc<Topic>, AdminError>> {
        let mut results = Vec::with_capacity(new.len());
        for topic in new {
            results.push(self.create_topic(topic).await);
        }
        results
    }

    /// Makes one topic.
    ///
    /// # Errors
    /// See [`AdminError`].
    pub async fn create_topic(&self, new: NewTopic) -> Result<Arc<Topic>, AdminError> {
        self.broker().validate_topic(self.namespace(), &new)?;
        let partitions = new.partitions.unwrap_or(self.broker().config().topic_partitions);
        let bytes = room_bytes(&new.name, &new.settings, partitions);
        let change = Change::CreateTopic {
            ns: self.namespace(),
            name: new.name,
            uuid: self.broker().new_uuid(),
            partitions,
            settings: new.settings,
        };
        self.change(change, bytes).await
    }

    /// Removes a topic, its messages, and all groups' offsets on it.
    ///
    /// # Errors
    /// `NotFound`, or see [`CallError`].
    pub async fn delete_topic(&self, uuid: [u8; 16]) -> Result<(), AdminError> {
        let topic = self.topic(uuid)?;
        let partitions = u32::try_from(topic.def.partitions.len()).unwrap_or(u32::MAX);
        let bytes = room_bytes(&topic.def.name, &topic.def.settings, partitions);
        self.submit_change(Change::DeleteTopic { uuid }, bytes).await.map(drop)
    }

    /// Adds partitions.
    ///
    /// # Errors
    /// `NotMore` if there are as many already; `NotFound`; `InvalidPartitions`.
    pub async fn add_partitions(&self, uuid: [u8; 16], total: u32) -> Result<Arc<Topic>, AdminError> {
        let topic = self.topic(uuid)?;
        if total == 0 || total > PARTITIONS_MAX {
            return Err(AdminError::InvalidPartitions { partitions: i64::from(total), max: PARTITIONS_MAX });
        }
        let bytes = room_bytes(&topic.def.name, &topic.def.settings, total);
        self.change(Change::AddPartitions { uuid, total }, bytes).await
    }

    /// Alters settings; with `replace_all` those not named go back to their defaults.
    ///
    /// # Errors
    /// `Setting` if one is unknown or has a value it cannot have; `NotFound`.
    pub async fn alter_topic(
        &self,
        uuid: [u8; 16],
        changes: Vec<TopicAlter>,
        replace_all: bool,
    ) -> Result<Arc<Topic>, AdminError> {
        loop {
            let topic = self.topic(uuid)?;
            let mut settings = if replace_all { BTreeMap::new() } else { topic.def.settings.clone() };
            for c in &changes {
                match c {
                    TopicAlter::Set(k, v) => drop(settings.insert(k.clone(), v.clone())),
                    TopicAlter::Delete(k) => drop(settings.remove(k)),
                }
            }
            self.broker().validate_settings(&settings)?;
            let partitions = u32::try_from(topic.def.partitions.len()).unwrap_or(u32::MAX);
            let bytes = room_bytes(&topic.def.name, &settings, partitions);
            match self.change(Change::AlterTopic { uuid, expect: topic.def.version, settings }, bytes).await {
                // Somebody else altered it meanwhile: look again.
                Err(AdminError::Catalogue(CatalogueError::Version { .. })) => {}
                result => return result,
            }
        }
    }

    fn topic(&self, uuid: [u8; 16]) -> Result<Arc<Topic>, AdminError> {
        self.broker()
            .catalogue()
            .by_uuid
            .get(&uuid)
            .cloned()
            .ok_or(AdminError::Catalogue(CatalogueError::NotFound))
    }

    async fn change(&self, change: Change, bytes: usize) -> Result<Arc<Topic>, AdminError> {
        let def = self.submit_change(change, bytes).await?;
        let uuid = def.first().map(|d| d.uuid).ok_or(CatalogueError::NotFound)?;
        self.topic(uuid)
    }

    async fn submit_change(&self, change: Change, mut bytes: usize) -> Result<Vec<TopicDef>, AdminError> {
        loop {
            let permit = self.admit(Class::Settle, bytes).await?;
            match self.submit(Some(permit), Op::Catalogue(vec![change.clone()])).await {
                // More is bound to it than one looked for.
                Reply::Catalogue(Err(CatalogueError::Room { bytes: needed })) if needed > bytes => {
                    bytes = needed;
                }
                Reply::Catalogue(result) => return Ok(result?),
                _ => return Err(CallError::FateUnknown.into()),
            }
        }
    }
}
