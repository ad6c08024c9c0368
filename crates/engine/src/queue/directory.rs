//! The queues there are, by name and by id, as sessions see them: as the last record applied left them.
//!
//! Start at [`Directory`]. Shared by the engine (which writes) and sessions (which read); a change costs the same however many there are.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use foldhash::HashMap;

use millstream_types::{Namespace, ObjectId};

use super::api::QueueDef;

/// What has a queue's name: a definition, or who asks for one. So the name need not be kept beside the definition that has it.
trait Named {
    fn name(&self) -> (Namespace, &str);
}

impl Named for (Namespace, &str) {
    fn name(&self) -> (Namespace, &str) {
        *self
    }
}

/// A definition, found by its name.
#[derive(Debug)]
struct ByName(Arc<QueueDef>);

impl Named for ByName {
    fn name(&self) -> (Namespace, &str) {
        (self.0.ns, &self.0.name)
    }
}

impl<'a> Borrow<dyn Named + 'a> for ByName {
    fn borrow(&self) -> &(dyn Named + 'a) {
        self
    }
}

impl Hash for dyn Named + '_ {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name().hash(state);
    }
}

impl PartialEq for dyn Named + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for dyn Named + '_ {}

impl Hash for ByName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name().hash(state);
    }
}

impl PartialEq for ByName {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for ByName {}

#[derive(Debug, Default)]
struct Known {
    by_name: HashSet<ByName>,
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
        let asked: &dyn Named = &(ns, name);
        self.read().by_name.get(asked).map(|d| Arc::clone(&d.0))
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
    /// There will be so many more.
    pub(crate) fn reserve(&self, more: usize) {
        let mut known = self.write();
        known.by_name.reserve(more);
        known.by_id.reserve(more);
    }
    pub(crate) fn put(&self, def: QueueDef) -> Arc<QueueDef> {
        let def = Arc::new(def);
        let mut known = self.write();
        known.by_name.replace(ByName(Arc::clone(&def)));
        known.by_id.insert(def.id, Arc::clone(&def));
        def
    }
    pub(crate) fn remove(&self, def: &QueueDef) {
        let mut known = self.write();
        known.by_id.remove(&def.id);
        let key: &dyn Named = &(def.ns, def.name.as_str());
        if known.by_name.get(key).is_some_and(|d| d.0.id == def.id) {
            known.by_name.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_found_by_name_and_by_id_and_a_later_one_takes_its_name() {
        let def = |ns, name: &str, id, version| QueueDef {
            ns: Namespace(ns),
            name: name.to_owned(),
            id: ObjectId(id),
            created_ms: 0,
            version,
            terms: Arc::default(),
        };
        let all = Directory::default();
        for (ns, name, id, version) in [(0, "a", 1, 1), (1, "a", 2, 1), (0, "b", 3, 1), (0, "a", 1, 2)] {
            all.put(def(ns, name, id, version));
        }
        let named = |ns, name| all.by_name(Namespace(ns), name).map(|d| (d.id.0, d.version));
        assert_eq!((named(0, "a"), named(1, "a"), named(0, "b")), (Some((1, 2)), Some((2, 1)), Some((3, 1))));
        assert_eq!((named(1, "b"), all.by_id(ObjectId(1)).unwrap().version, all.len()), (None, 2, 3));
        all.put(def(0, "a", 4, 1));
        all.remove(&def(0, "a", 1, 2));
        assert_eq!((named(0, "a"), all.by_id(ObjectId(1)), all.len()), (Some((4, 1)), None, 3));
        all.remove(&def(0, "a", 4, 1));
        assert_eq!((named(0, "a"), named(1, "a")), (None, Some((2, 1))));
    }
}
