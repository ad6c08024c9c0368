//! Topics, family [`CAT`](super::family::CAT).
//!
//! Key: `ns u32 · kind u8 (1 = topic; 2 queue and 3 exchange are reserved) · name`. Value, version 1: `version u8 · uuid 16 B ·
//! created_ms u64 · definition version u32 · runs u32 · runs × (first ObjectId u64, how many u32) · settings u32 · settings × (key
//! blob, value blob)`; a blob is its length (u32) and bytes. The partitions are the ids of the runs, one after the other.
//! Effect, version 1: `version u8 · what u8`: 0 = the row is removed, 1 = it is now the value that follows.

use std::collections::BTreeMap;

use millstream_types::{Lsn, Namespace, ObjectId};

use super::{KeyDec, RowKey, RowValue, family, whole};
use crate::catalogue::{Kind, PARTITIONS_MAX, TopicDef};
use crate::codec::{Dec, DecodeError, Enc};
use crate::effect::RowEffect;
use crate::table::Table;

const VERSION: u8 = 1;

/// A name in the catalogue.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CatKey {
    /// Its namespace.
    pub ns: Namespace,
    /// What it names.
    pub kind: Kind,
    /// The name.
    pub name: String,
}

impl CatKey {
    /// The key of a topic.
    #[must_use]
    pub fn topic(ns: Namespace, name: &str) -> Self {
        Self { ns, kind: Kind::Topic, name: name.to_owned() }
    }
}

impl RowKey for CatKey {
    const FAMILY: u8 = family::CAT;
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.ns.0.to_be_bytes());
        out.push(match self.kind {
            Kind::Topic => 1,
            Kind::Queue => 2,
            Kind::Exchange => 3,
        });
        out.extend_from_slice(self.name.as_bytes());
    }
    fn take(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut d = KeyDec(bytes);
        let ns = Namespace(d.u32()?);
        let kind = match d.u8()? {
            1 => Kind::Topic,
            2 => Kind::Queue,
            3 => Kind::Exchange,
            _ => return Err(DecodeError::Value { what: "kind" }),
        };
        Ok(Self { ns, kind, name: d.text()?.to_owned() })
    }
}

/// A topic's definition without what its key says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicRow {
    /// The topic's id.
    pub uuid: [u8; 16],
    /// When it was made, milliseconds since the epoch.
    pub created_ms: u64,
    /// Grows with each change.
    pub version: u32,
    /// The partitions, in order.
    pub partitions: Vec<ObjectId>,
    /// The settings given.
    pub settings: BTreeMap<String, String>,
}

impl TopicRow {
    /// From a definition.
    #[must_use]
    pub fn of(def: &TopicDef) -> Self {
        Self {
            uuid: def.uuid,
            created_ms: def.created_ms,
            version: def.version,
            partitions: def.partitions.clone(),
            settings: def.settings.clone(),
        }
    }

    /// The definition.
    #[must_use]
    pub fn def(&self, key: &CatKey) -> TopicDef {
        TopicDef {
            ns: key.ns,
            name: key.name.clone(),
            uuid: self.uuid,
            partitions: self.partitions.clone(),
            settings: self.settings.clone(),
            created_ms: self.created_ms,
            version: self.version,
        }
    }
}

fn runs(ids: &[ObjectId]) -> Vec<(u64, u32)> {
    let mut runs: Vec<(u64, u32)> = Vec::new();
    for id in ids {
        match runs.last_mut() {
            Some((first, n)) if first.checked_add(u64::from(*n)) == Some(id.0) && *n < u32::MAX => *n += 1,
            _ => runs.push((id.0, 1)),
        }
    }
    runs
}

impl RowValue for TopicRow {
    fn put(&self, out: &mut Vec<u8>) {
        out.u8(VERSION);
        out.extend_from_slice(&self.uuid);
        out.u64(self.created_ms);
        out.u32(self.version);
        let runs = runs(&self.partitions);
        out.len_u32(runs.len());
        for (first, n) in runs {
            out.u64(first);
            out.u32(n);
        }
        out.len_u32(self.settings.len());
        for (k, v) in &self.settings {
            out.blob(k.as_bytes());
            out.blob(v.as_bytes());
        }
    }

    fn take(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut d = Dec::new(bytes);
        d.version(VERSION)?;
        let mut uuid = [0; 16];
        uuid.copy_from_slice(d.bytes(16)?);
        let (created_ms, version) = (d.u64()?, d.u32()?);
        let mut partitions = Vec::new();
        for _ in 0..d.len(12)? {
            let (first, n) = (d.u64()?, d.u32()?);
            if partitions.len() + n as usize > PARTITIONS_MAX as usize {
                return Err(DecodeError::Value { what: "number of partitions" });
            }
            for i in 0..u64::from(n) {
                let id = first.checked_add(i).ok_or(DecodeError::Value { what: "partition id" })?;
                partitions.push(ObjectId(id));
            }
        }
        let mut settings = BTreeMap::new();
        for _ in 0..d.len(8)? {
            let key = d.text()?.to_owned();
            settings.insert(key, d.text()?.to_owned());
        }
        d.end()?;
        Ok(Self { uuid, created_ms, version, partitions, settings })
    }
}

/// The effect after which the definition is `row`; `None` removes it.
#[must_use]
pub fn effect(key: &CatKey, row: Option<&TopicRow>) -> RowEffect {
    whole::effect(key, row)
}

impl Table<CatKey, TopicRow> {
    /// Applies an effect.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn apply_effect(&mut self, lsn: Lsn, key: &[u8], bytes: &[u8]) -> Result<(), DecodeError> {
        let key = CatKey::decode(key)?;
        let value = whole::decode(bytes, "catalogue effect")?;
        self.apply(lsn, &key, |row| *row = value);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;

    use super::*;

    prop_compose! {
        fn any_row()(uuid: [u8; 16], created_ms: u64, version: u32, runs in vec((0..1u64 << 47, 1..40u32), 0..5),
                     settings in btree_map(".{0,9}", ".{0,9}", 0..4)) -> TopicRow {
            let partitions = runs.iter().flat_map(|(f, n)| (0..u64::from(*n)).map(move |i| ObjectId(f + i))).collect();
            TopicRow { uuid, created_ms, version, partitions, settings }
        }
    }
    prop_compose! {
        fn any_key()(ns in 0..3u32, kind in prop_oneof![Just(Kind::Topic), Just(Kind::Queue), Just(Kind::Exchange)],
                     name in "[a-c\u{e9}]{0,3}") -> CatKey {
            CatKey { ns: Namespace(ns), kind, name }
        }
    }

    proptest! {
        #[test]
        fn a_topic_comes_back_as_it_was_written(row in any_row()) {
            let mut bytes = Vec::new();
            row.put(&mut bytes);
            prop_assert_eq!(TopicRow::take(&bytes).unwrap(), row);
        }
        #[test]
        fn keys_come_back_and_keep_their_order(a in any_key(), b in any_key()) {
            prop_assert_eq!(&CatKey::decode(&a.encode()).unwrap(), &a);
            prop_assert_eq!(a.encode().cmp(&b.encode()), a.cmp(&b));
        }
        #[test]
        fn an_effect_sets_and_removes(row in any_row(), key in any_key()) {
            let mut t = Table::<CatKey, TopicRow>::default();
            let set = effect(&key, Some(&row));
            t.apply_effect(Lsn(1), &set.key, &set.bytes).unwrap();
            prop_assert_eq!(t.get(&key), Some(&row));
            let gone = effect(&key, None);
            t.apply_effect(Lsn(2), &gone.key, &gone.bytes).unwrap();
            prop_assert_eq!(t.get(&key), None);
        }
        #[test]
        fn wrong_bytes_are_an_error(bytes: Vec<u8>) {
            let _ = (TopicRow::take(&bytes), CatKey::decode(&bytes));
        }
    }
}
