//! The durable state of all groups: three tables, changed only by effects. It decides nothing and knows no time.
//!
//! Start at [`Rows`]. One file per family: [`group`], [`member`], [`offset`].

pub mod group;
pub mod member;
pub mod offset;

use std::collections::BTreeSet;
use std::sync::Arc;

use millstream_log::StateReader;
use millstream_types::{LogId, Lsn, ObjectId};

use self::group::{GroupEffect, GroupKey, GroupRow};
use self::member::{MemberEffect, MemberKey, MemberRow};
use self::offset::{OffsetEffect, OffsetKey, OffsetRow};
use crate::codec::DecodeError;
use crate::error::LoadError;
use crate::rows::{RowKey, family};
use crate::table::{Dirty, Table};

/// GROUP, MEMBER and OFFSET rows. A MEMBER or OFFSET is reachable only by its group's object, so a group made again under
/// the same name inherits nothing.
#[derive(Debug, Default)]
pub struct Rows {
    /// Groups by name.
    pub groups: Table<GroupKey, GroupRow>,
    /// Members of groups.
    pub members: Table<MemberKey, MemberRow>,
    /// Offsets of groups.
    pub offsets: Table<OffsetKey, OffsetRow>,
    /// Which groups have an offset on a log: exactly the keys of `offsets`, the other way round.
    by_log: BTreeSet<(LogId, ObjectId)>,
}

impl Rows {
    /// Loads all rows.
    ///
    /// # Errors
    /// If the store fails or holds what cannot be read.
    pub fn load(rows: &Arc<dyn StateReader>) -> Result<Self, LoadError> {
        let offsets: Table<OffsetKey, OffsetRow> = Table::load(rows)?;
        let by_log = offsets.iter().map(|(k, _)| (k.log, k.group)).collect();
        Ok(Self { groups: Table::load(rows)?, members: Table::load(rows)?, offsets, by_log })
    }

    /// Applies one effect of record `lsn` to the row it names. That a group is gone voids the rows beneath it.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn apply_effect(&mut self, lsn: Lsn, key: &[u8], bytes: &[u8]) -> Result<(), DecodeError> {
        match key.first() {
            Some(&family::GROUP) => {
                let (key, effect) = (GroupKey::decode(key)?, GroupEffect::take(bytes)?);
                match effect {
                    GroupEffect::Put(row) => self.groups.apply(lsn, &key, |r| *r = Some(row)),
                    GroupEffect::Gone { object } => {
                        self.groups.apply(lsn, &key, |r| *r = None);
                        self.void(lsn, object);
                    }
                }
            }
            Some(&family::MEMBER) => {
                let (key, effect) = (MemberKey::decode(key)?, MemberEffect::take(bytes)?);
                self.members.apply(lsn, &key, |r| effect.apply(r));
            }
            Some(&family::OFFSET) => {
                let (key, effect) = (OffsetKey::decode(key)?, OffsetEffect::take(bytes)?);
                match effect {
                    OffsetEffect::Set(row) => {
                        let by_log = &mut self.by_log;
                        self.offsets.apply(lsn, &key, |r| {
                            by_log.insert((key.log, key.group));
                            *r = Some(row);
                        });
                    }
                    OffsetEffect::Gone => self.forget_offset(lsn, &key),
                }
            }
            _ => return Err(DecodeError::Value { what: "row family" }),
        }
        Ok(())
    }

    /// Record `lsn` deleted a log: what was committed for it goes.
    pub fn partition_deleted(&mut self, lsn: Lsn, log: LogId) {
        let groups: Vec<ObjectId> =
            self.by_log.range((log, ObjectId(0))..=(log, ObjectId(u64::MAX))).map(|(_, g)| *g).collect();
        for group in groups {
            self.forget_offset(lsn, &OffsetKey { group, log });
        }
    }

    /// Members of a group, ascending by id.
    pub fn members_of(&self, group: ObjectId) -> impl Iterator<Item = (&MemberKey, &MemberRow)> {
        self.members.range(MemberKey::first_of(group)..).take_while(move |(k, _)| k.group == group)
    }

    /// Offsets of a group, ascending by log.
    pub fn offsets_of(&self, group: ObjectId) -> impl Iterator<Item = (&OffsetKey, &OffsetRow)> {
        self.offsets.range(OffsetKey { group, log: LogId(0) }..=OffsetKey { group, log: LogId(u64::MAX) })
    }

    /// The tables, for the flusher. Every LSN closes in each of them.
    pub fn tables(&mut self) -> Vec<&mut dyn Dirty> {
        vec![&mut self.groups, &mut self.members, &mut self.offsets]
    }

    /// Record `lsn` is complete.
    pub fn record_end(&mut self, lsn: Lsn) {
        self.groups.record_end(lsn);
        self.members.record_end(lsn);
        self.offsets.record_end(lsn);
    }

    fn forget_offset(&mut self, lsn: Lsn, key: &OffsetKey) {
        let by_log = &mut self.by_log;
        self.offsets.apply(lsn, key, |r| {
            by_log.remove(&(key.log, key.group));
            *r = None;
        });
    }

    fn void(&mut self, lsn: Lsn, object: ObjectId) {
        let members: Vec<MemberKey> = self.members_of(object).map(|(k, _)| k.clone()).collect();
        for key in members {
            self.members.apply(lsn, &key, |r| *r = None);
        }
        let offsets: Vec<OffsetKey> = self.offsets_of(object).map(|(k, _)| *k).collect();
        for key in offsets {
            self.forget_offset(lsn, &key);
        }
    }
}
