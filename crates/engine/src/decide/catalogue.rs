//! Decides changes of the catalogue: all of them or none.
//!
//! Start at [`decide`]. Each change sees those before it.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_log::Op;
use millstream_types::limits::NAME_BYTES_MAX;
use millstream_types::{LogId, Namespace, ObjectId, ObjectKind};

use crate::catalogue::{CatalogueError, Change, PARTITIONS_MAX, PARTITIONS_TOTAL_MAX, Snapshot, TopicDef};
use crate::decide::routing;
use crate::effect::{OP_OVERHEAD_BYTES, RowEffect};
use crate::exchange::{Target, TargetKind};
use crate::parts::Parts;
use crate::queue::api::QueueDef;
use crate::queue::rows::def::{self, QueueName};
use crate::queue::source::SUBSCRIBED_PARTITIONS_MAX;
use crate::routes::Index;
use crate::rows::cat::{CatKey, TopicRow, effect};
use crate::rows::id::{Counter, Ids};
use crate::state::State;

/// What becomes of the changes of one operation.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Per change: the definition made or changed; of a removal, the one removed.
    pub(crate) defs: Vec<TopicDef>,
    /// Names that change, with what they stand for afterwards.
    pub(crate) changed: BTreeMap<CatKey, Option<TopicRow>>,
    /// Bindings to topics that are removed go with them.
    pub(crate) routing: routing::Plan,
    /// Subscriptions that go with their topic.
    pub(crate) queues: Vec<ObjectId>,
    effects: Vec<RowEffect>,
    deleted: Vec<LogId>,
}

impl Plan {
    /// The operations; none if nothing changes.
    pub(crate) fn parts(&self) -> Parts<'_> {
        let mut parts: Parts<'_> = self.effects.iter().chain(&self.routing.effects).collect();
        for log in &self.deleted {
            parts.push(Op::Delete { log: *log }, log.object().is_transient());
        }
        parts
    }
}

struct Draft<'a> {
    state: &'a State,
    catalogue: &'a Snapshot,
    wall_ms: u64,
    changed: BTreeMap<CatKey, Option<TopicRow>>,
    /// Topics made or removed by this operation.
    uuids: BTreeMap<[u8; 16], Option<CatKey>>,
    deleted: Vec<LogId>,
    next_object: u64,
    total: usize,
    subscriptions: Subscriptions<'a>,
    queues: Vec<Arc<QueueDef>>,
    routing: routing::Draft<'a>,
}

/// The subscriptions of a topic.
pub(crate) type Subscriptions<'a> = &'a dyn Fn(&[u8; 16]) -> Vec<Arc<QueueDef>>;

/// Decides the changes, in order.
pub(crate) fn decide(
    state: &State,
    catalogue: &Snapshot,
    index: &Index,
    wall_ms: u64,
    changes: &[Change],
    room: usize,
    subscriptions: Subscriptions<'_>,
) -> Result<Plan, CatalogueError> {
    let first_object = state.ids.next(Counter::Objects);
    let mut draft = Draft {
        state,
        catalogue,
        wall_ms,
        changed: BTreeMap::new(),
        uuids: BTreeMap::new(),
        deleted: Vec::new(),
        next_object: first_object,
        total: catalogue.by_log.len(),
        subscriptions,
        queues: Vec::new(),
        routing: routing::Draft::new(state, index, wall_ms),
    };
    let mut defs = Vec::with_capacity(changes.len());
    for change in changes {
        defs.push(draft.change(change)?);
    }
    let mut effects: Vec<RowEffect> =
        draft.changed.iter().map(|(key, row)| effect(key, row.as_ref())).collect();
    for queue in &draft.queues {
        let gone = def::effect(&QueueName { ns: queue.ns, name: queue.name.clone() }, None);
        effects.push(gone.in_memory(queue.id.is_transient()));
    }
    if draft.next_object > first_object {
        effects.push(Ids::effect(Counter::Objects, draft.next_object));
    }
    let own =
        effects.iter().map(RowEffect::bytes_bound).sum::<usize>() + draft.deleted.len() * OP_OVERHEAD_BYTES;
    let unbinds = draft.routing.bytes();
    if (unbinds > 0 || !draft.queues.is_empty()) && own + unbinds > room {
        return Err(CatalogueError::Room { bytes: own + unbinds });
    }
    let routing = draft.routing.into_plan();
    let queues = draft.queues.iter().map(|q| q.id).collect();
    Ok(Plan { defs, changed: draft.changed, routing, queues, effects, deleted: draft.deleted })
}

impl Draft<'_> {
    fn change(&mut self, change: &Change) -> Result<TopicDef, CatalogueError> {
        match change {
            Change::CreateTopic { ns, name, uuid, partitions, settings } => {
                self.create(*ns, name, *uuid, *partitions, settings)
            }
            Change::DeleteTopic { uuid } => self.delete(*uuid),
            Change::AddPartitions { uuid, total } => self.add_partitions(*uuid, *total),
            Change::AlterTopic { uuid, expect, settings } => self.alter(*uuid, *expect, settings),
        }
    }

    fn get(&self, key: &CatKey) -> Option<&TopicRow> {
        match self.changed.get(key) {
            Some(row) => row.as_ref(),
            None => self.state.cat.get(key),
        }
    }

    fn find(&self, uuid: [u8; 16]) -> Result<(CatKey, TopicRow), CatalogueError> {
        let key = match self.uuids.get(&uuid) {
            Some(key) => key.clone(),
            None => self.catalogue.by_uuid.get(&uuid).map(|t| CatKey::topic(t.def.ns, &t.def.name)),
        };
        let key = key.ok_or(CatalogueError::NotFound)?;
        let row = self.get(&key).cloned().ok_or(CatalogueError::NotFound)?;
        Ok((key, row))
    }

    fn put(&mut self, key: CatKey, row: TopicRow) -> TopicDef {
        let def = row.def(&key);
        self.changed.insert(key, Some(row));
        def
    }

    fn new_partitions(&mut self, count: u32) -> Result<Vec<ObjectId>, CatalogueError> {
        self.total += count as usize;
        if self.total > PARTITIONS_TOTAL_MAX as usize {
            return Err(CatalogueError::TooMany { max: PARTITIONS_TOTAL_MAX });
        }
        let first = self.next_object;
        self.next_object += u64::from(count);
        Ok((first..self.next_object).map(|n| ObjectId::new(ObjectKind::Partition, n)).collect())
    }

    fn create(
        &mut self,
        ns: Namespace,
        name: &str,
        uuid: [u8; 16],
        partitions: u32,
        settings: &BTreeMap<String, String>,
    ) -> Result<TopicDef, CatalogueError> {
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            return Err(CatalogueError::InvalidName);
        }
        let key = CatKey::topic(ns, name);
        if self.get(&key).is_some() || self.find(uuid).is_ok() {
            return Err(CatalogueError::Exists { name: name.to_owned() });
        }
        let queue = QueueName { ns, name: name.to_owned() };
        if self.state.queues.defs.get(&queue).is_some() {
            return Err(CatalogueError::WrongKind { name: name.to_owned() });
        }
        match partitions {
            0 => return Err(CatalogueError::NotMore { current: 0 }),
            1..=PARTITIONS_MAX => {}
            _ => return Err(CatalogueError::TooMany { max: PARTITIONS_MAX }),
        }
        let row = TopicRow {
            uuid,
            created_ms: self.wall_ms,
            version: 1,
            partitions: self.new_partitions(partitions)?,
            settings: settings.clone(),
        };
        self.uuids.insert(uuid, Some(key.clone()));
        Ok(self.put(key, row))
    }

    fn delete(&mut self, uuid: [u8; 16]) -> Result<TopicDef, CatalogueError> {
        let (key, row) = self.find(uuid)?;
        self.total = self.total.saturating_sub(row.partitions.len());
        self.deleted.extend(row.partitions.iter().map(|o| LogId::new(*o, 0)));
        let def = row.def(&key);
        self.routing.target_gone(key.ns, &Target { kind: TargetKind::Topic, name: key.name.clone() });
        // Nothing is left that its subscriptions could hand out: they go with it.
        for queue in (self.subscriptions)(&uuid) {
            self.deleted.push(LogId::new(queue.id, 0));
            self.routing.target_gone(queue.ns, &Target { kind: TargetKind::Queue, name: queue.name.clone() });
            self.queues.push(queue);
        }
        self.uuids.insert(uuid, None);
        self.changed.insert(key, None);
        Ok(def)
    }

    fn add_partitions(&mut self, uuid: [u8; 16], total: u32) -> Result<TopicDef, CatalogueError> {
        let (key, mut row) = self.find(uuid)?;
        let current = u32::try_from(row.partitions.len()).unwrap_or(u32::MAX);
        if total > PARTITIONS_MAX {
            return Err(CatalogueError::TooMany { max: PARTITIONS_MAX });
        }
        if total as usize > SUBSCRIBED_PARTITIONS_MAX && !(self.subscriptions)(&uuid).is_empty() {
            return Err(CatalogueError::Subscribed);
        }
        if total <= current {
            return Err(CatalogueError::NotMore { current });
        }
        row.partitions.extend(self.new_partitions(total - current)?);
        row.version = row.version.saturating_add(1);
        Ok(self.put(key, row))
    }

    fn alter(
        &mut self,
        uuid: [u8; 16],
        expect: u32,
        settings: &BTreeMap<String, String>,
    ) -> Result<TopicDef, CatalogueError> {
        let (key, mut row) = self.find(uuid)?;
        if row.version != expect {
            return Err(CatalogueError::Version { current: row.version });
        }
        row.settings.clone_from(settings);
        row.version = row.version.saturating_add(1);
        Ok(self.put(key, row))
    }
}
