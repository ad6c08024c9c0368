//! The queues there are, by name and by id, as sessions see them: as the last record applied left them.
//!
//! Start at [`Directory`]. Shared by the engine (which writes) and sessions (which read); a change costs the same however many there are.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use millstream_types::{Namespace, ObjectId};

use super::api::QueueDef;

#[derive(Debug, Default)]
struct Known {
    by_name: HashMap<(Namespace, String), Arc<QueueDef>>,
    by_id: HashMap<ObjectId, Arc<QueueDef>>,
}

/// Queues by name and id.
#[derive(Debug, Default)]
pub struct Directory {
    known: RwLock<Known>,
}

impl Directory {
    fn read(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }
    fn write(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }
    /// The queue of that name.
    #[must_use]
    pub fn by_name(&self, ns: Namespace, name: &str) -> Option<Arc<QueueDef>> {
        self.read().by_name.get(&(ns, name.to_owned())).map(Arc::clone)
    }
    /// The queue of that id.
    #[must_use]
    pub fn by_id(&self, id: ObjectId) -> Option<Arc<QueueDef>> {
        self.read().by_id.get(&id).map(Arc::clone)
    }
    /// All queues of a namespace, by name.
    #[must_use]
    pub fn all(&self, ns: Namespace) -> Vec<Arc<QueueDef>> {
        let mut all: Vec<_> = self.read().by_id.values().filter(|d| d.ns == ns).map(Arc::clone).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }
    /// All queues of all namespaces, in no order.
    #[must_use]
    pub fn everywhere(&self) -> Vec<Arc<QueueDef>> {
        self.read().by_id.values().map(Arc::clone).collect()
    }
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.read().by_id.len()
    }
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    pub(crate) fn put(&self, def: QueueDef) -> Arc<QueueDef> {
        let def = Arc::new(def);
        let mut known = self.write();
        known.by_name.insert((def.ns, def.name.clone()), Arc::clone(&def));
        known.by_id.insert(def.id, Arc::clone(&def));
        def
    }
    pub(crate) fn remove(&self, def: &QueueDef) {
        let mut known = self.write();
        known.by_id.remove(&def.id);
        let key = (def.ns, def.name.clone());
        if known.by_name.get(&key).is_some_and(|d| d.id == def.id) {
            known.by_name.remove(&key);
        }
    }
}
