//! Definitions of queues, family [`QUEUE`](family::QUEUE).
//!
//! Key: `ns u32 · name`. Value, version 1: `version u8 · id u64 · created_ms u64 · definition version u32 · policy (blob, see
//! [`policy`](crate::queue::policy)) · settings u32 · settings × (key blob, value blob)`; in version 2, of a queue that is subscribed to a topic,
//! then `topic blob · its id, 16 bytes`. Effect, version 1: `version u8 · what u8`: 0 = the
//! row is removed, 1 = it is now the value that follows.

use std::collections::BTreeMap;
use std::sync::Arc;

use foldhash::HashSet;

use millstream_types::{Lsn, ObjectId};

use crate::codec::{Dec, DecodeError, Enc};
use crate::effect::RowEffect;
use crate::queue::api::{QueueDef, Terms};
use crate::queue::policy::QueuePolicy;
use crate::queue::source::Source;
use crate::rows::name::Name;
use crate::rows::{RowKey, RowValue, family, whole};
use crate::table::Table;

const VERSION: u8 = 1;
/// Subscribed to a topic.
const VERSION_SOURCE: u8 = 2;
/// So few different terms are not worth looking through.
const SHARED_LOW: usize = 1_024;

/// A queue's name.
pub type QueueName = Name<{ family::QUEUE }>;

/// A definition without what its key says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefRow {
    /// The queue's id.
    pub id: ObjectId,
    /// When it was made, milliseconds since the epoch.
    pub created_ms: u64,
    /// Grows with each change.
    pub version: u32,
    /// What its owner has set.
    pub terms: Arc<Terms>,
}

impl DefRow {
    /// The definition.
    #[must_use]
    pub fn def(&self, key: &QueueName) -> QueueDef {
        QueueDef {
            ns: key.ns,
            name: key.name.clone(),
            id: self.id,
            created_ms: self.created_ms,
            version: self.version,
            terms: Arc::clone(&self.terms),
        }
    }
}

/// What owners of queues have set, each different one once. Without it a million queues that are alike would take a gigabyte.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    all: HashSet<Arc<Terms>>,
    /// With so many, those that no queue has any more go.
    max: usize,
}

impl Shared {
    /// Has a row share what is there already.
    pub(crate) fn share(&mut self, row: &mut DefRow) {
        if let Some(known) = self.all.get(&row.terms) {
            row.terms = Arc::clone(known);
            return;
        }
        if self.all.len() >= self.max {
            self.all.retain(|terms| Arc::strong_count(terms) > 1);
            self.max = self.all.len().saturating_mul(2).max(SHARED_LOW);
        }
        self.all.insert(Arc::clone(&row.terms));
    }
}

impl RowValue for DefRow {
    fn put(&self, out: &mut Vec<u8>) {
        let Terms { policy: p, settings, source } = &*self.terms;
        out.u8(if source.is_some() { VERSION_SOURCE } else { VERSION });
        out.u64(self.id.0);
        out.u64(self.created_ms);
        out.u32(self.version);
        let mut policy = Vec::new();
        p.put(&mut policy);
        out.blob(&policy);
        out.len_u32(settings.len());
        for (k, v) in settings {
            out.blob(k.as_bytes());
            out.blob(v.as_bytes());
        }
        if let Some(source) = source {
            out.blob(source.topic.as_bytes());
            out.extend_from_slice(&source.uuid);
        }
    }

    fn take(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut d = Dec::new(bytes);
        let row_version = d.version(VERSION_SOURCE)?;
        let (id, created_ms, version) = (ObjectId(d.u64()?), d.u64()?, d.u32()?);
        let mut p = Dec::new(d.blob()?);
        let policy = QueuePolicy::take(&mut p)?;
        p.end()?;
        let mut settings = BTreeMap::new();
        for _ in 0..d.len(8)? {
            let key = d.text()?.to_owned();
            settings.insert(key, d.text()?.to_owned());
        }
        let source = if row_version == VERSION_SOURCE {
            let topic = d.text()?.to_owned();
            Some(Source { topic, uuid: d.array()? })
        } else {
            None
        };
        d.end()?;
        Ok(Self { id, created_ms, version, terms: Arc::new(Terms { policy, settings, source }) })
    }
}

/// The effect after which the definition is `row`; `None` removes it.
#[must_use]
pub fn effect(key: &QueueName, row: Option<&DefRow>) -> RowEffect {
    whole::effect(key, row)
}

impl Table<QueueName, DefRow> {
    /// Applies an effect.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(crate) fn apply_effect(
        &mut self,
        lsn: Lsn,
        key: &[u8],
        bytes: &[u8],
        shared: &mut Shared,
    ) -> Result<(), DecodeError> {
        let key = QueueName::decode(key)?;
        let mut value: Option<DefRow> = whole::decode(bytes, "queue effect")?;
        if let Some(row) = &mut value {
            shared.share(row);
        }
        self.apply(lsn, &key, |row| *row = value);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use millstream_types::Namespace;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_definition_comes_back_as_it_was_written(id in 0..1u64 << 44, created_ms: u64, version: u32, name in ".{0,9}", value in ".{0,9}", topic in proptest::option::of(("[a-z]{1,9}", any::<[u8; 16]>()))) {
            let source = topic.map(|(topic, uuid)| Source { topic, uuid });
            let settings = BTreeMap::from([(name.clone(), value)]);
            let terms = Arc::new(Terms { policy: QueuePolicy::default(), settings, source });
            let row = DefRow { id: ObjectId(id), created_ms, version, terms };
            let key = QueueName { ns: Namespace(3), name };
            prop_assert_eq!(&QueueName::decode(&key.encode()).unwrap(), &key);
            let mut t = Table::<QueueName, DefRow>::default();
            let set = effect(&key, Some(&row));
            let mut shared = Shared::default();
            t.apply_effect(Lsn(1), &set.key, &set.bytes, &mut shared).unwrap();
            prop_assert_eq!(t.get(&key), Some(&row));
            let gone = effect(&key, None);
            t.apply_effect(Lsn(2), &gone.key, &gone.bytes, &mut shared).unwrap();
            prop_assert_eq!(t.get(&key), None);
        }
        #[test]
        fn wrong_bytes_are_an_error(bytes: Vec<u8>) {
            let _ = (DefRow::take(&bytes), QueueName::decode(&bytes));
        }
    }

    #[test]
    fn queues_that_are_alike_share_their_terms_and_what_nobody_has_is_forgotten() {
        let row = |ttl_ms| {
            let policy = QueuePolicy { ttl_ms: Some(ttl_ms), ..QueuePolicy::default() };
            let terms = Arc::new(Terms { policy, ..Terms::default() });
            DefRow { id: ObjectId(1), created_ms: 0, version: 1, terms }
        };
        let mut shared = Shared::default();
        let (mut a, mut b) = (row(7), row(7));
        shared.share(&mut a);
        shared.share(&mut b);
        assert!(Arc::ptr_eq(&a.terms, &b.terms));
        for ttl_ms in 0..5_000 {
            shared.share(&mut row(ttl_ms));
            assert!(shared.all.len() <= SHARED_LOW);
        }
        let mut c = row(7);
        shared.share(&mut c);
        assert!(Arc::ptr_eq(&a.terms, &c.terms));
    }
}
