//! Topics as the engine knows them, and the changes that make, alter and remove them.
//!
//! A definition's settings are opaque to the engine (the broker parses them); it cares for names, ids and partitions.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use millstream_types::limits::NAME_BYTES_MAX;
use millstream_types::{LogId, Namespace, ObjectId};
use thiserror::Error;

use crate::partition::PartitionView;
use crate::queue::source::SUBSCRIBED_PARTITIONS_MAX;

/// What a name stands for. A name is one of them, never two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// A topic.
    Topic,
    /// A queue (reserved: no operation makes one yet).
    Queue,
    /// An exchange, in a name space of its own (reserved likewise).
    Exchange,
}

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicDef {
    /// Its namespace.
    pub ns: Namespace,
    /// Its name, unique in the namespace over topics and queues.
    pub name: String,
    /// Never used again, not even for a topic of the same name. Version 4 UUID, given by the broker when it drafts the change.
    pub uuid: [u8; 16],
    /// The partitions, in order.
    pub partitions: Vec<ObjectId>,
    /// Settings that were given, by key, as text. What is not here follows the broker's defaults.
    pub settings: BTreeMap<String, String>,
    /// When it was made, milliseconds since the epoch.
    pub created_ms: u64,
    /// Grows by one with each change.
    pub version: u32,
}

impl TopicDef {
    /// The log of partition `index`.
    #[must_use]
    pub fn log(&self, index: u32) -> Option<LogId> {
        self.partitions.get(index as usize).map(|o| LogId::new(*o, 0))
    }
}

/// The catalogue at one moment: immutable, shared by all sessions.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Grows with each change.
    pub version: u64,
    /// By namespace and name.
    pub by_name: BTreeMap<(Namespace, String), Arc<Topic>>,
    /// By id.
    pub by_uuid: HashMap<[u8; 16], Arc<Topic>>,
    /// The topic and index of each partition's log.
    pub by_log: HashMap<LogId, (Arc<Topic>, u32)>,
}

/// A topic with the views of its partitions.
#[derive(Debug)]
pub struct Topic {
    /// The definition.
    pub def: TopicDef,
    /// One view per partition, in order.
    pub partitions: Vec<Arc<PartitionView>>,
}

/// A change of the catalogue.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Makes a topic.
    CreateTopic {
        /// Namespace.
        ns: Namespace,
        /// Name.
        name: String,
        /// Its id: random, from the broker.
        uuid: [u8; 16],
        /// Partitions, 1..=`PARTITIONS_MAX`.
        partitions: u32,
        /// Settings.
        settings: BTreeMap<String, String>,
    },
    /// Removes a topic, its logs, producers and all groups' offsets on it.
    DeleteTopic {
        /// Which.
        uuid: [u8; 16],
    },
    /// Adds partitions.
    AddPartitions {
        /// Which.
        uuid: [u8; 16],
        /// Partitions afterwards.
        total: u32,
    },
    /// Replaces the settings.
    AlterTopic {
        /// Which.
        uuid: [u8; 16],
        /// The version that the new settings were made from: another one is a conflict.
        expect: u32,
        /// All settings afterwards.
        settings: BTreeMap<String, String>,
    },
}

/// Most partitions of one topic.
pub const PARTITIONS_MAX: u32 = 65_536;
/// Most partitions of a broker.
pub const PARTITIONS_TOTAL_MAX: u32 = 1_000_000;

/// Why a change was refused; nothing was changed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CatalogueError {
    /// The name is taken by something of the same kind.
    #[error("{name} exists already")]
    Exists {
        /// The name.
        name: String,
    },
    /// The name is taken by something of another kind.
    #[error("{name} exists and is of another kind")]
    WrongKind {
        /// The name.
        name: String,
    },
    /// Empty, or longer than `NAME_BYTES_MAX`.
    #[error("a name has 1 to {NAME_BYTES_MAX} bytes")]
    InvalidName,
    /// No such object.
    #[error("no such topic")]
    NotFound,
    /// Partitions can only grow.
    #[error("there are {current} partitions already")]
    NotMore {
        /// How many there are.
        current: u32,
    },
    /// A limit was reached.
    #[error("more than {max} partitions")]
    TooMany {
        /// The limit.
        max: u32,
    },
    /// Queues are subscribed to it.
    #[error("a topic with subscriptions has at most {SUBSCRIBED_PARTITIONS_MAX} partitions")]
    Subscribed,
    /// The record needs more room than was taken for it: take this much and ask again.
    #[error("the change needs {bytes} bytes of room")]
    Room {
        /// How much.
        bytes: usize,
    },
    /// Somebody else changed it meanwhile: look again.
    #[error("the definition changed meanwhile (version {current})")]
    Version {
        /// The version now.
        current: u32,
    },
}
