//! Committed offsets, family [`OFFSET`](crate::rows::family::OFFSET).
//!
//! Key: `group object u64 · log u64`. Value, version 1: `version u8 · offset u64 · leader_epoch i32 · commit_ms u64 · metadata`, the text
//! behind its length (u32). Effect, version 1: `version u8 · what u8`, then for 1 (set) a value; 0: gone. When the log is deleted the
//! row goes with it, without an effect.

use millstream_types::{LogId, ObjectId};

use crate::codec::{Dec, DecodeError, Enc};
use crate::effect::RowEffect;
use crate::group::CommittedOffset;
use crate::rows::{KeyDec, RowKey, RowValue, family};

const VERSION: u8 = 1;
const EFFECT_VERSION: u8 = 1;
const GONE: u8 = 0;
const SET: u8 = 1;

/// Names an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OffsetKey {
    /// The group's object.
    pub group: ObjectId,
    /// The partition's log.
    pub log: LogId,
}

impl RowKey for OffsetKey {
    const FAMILY: u8 = family::OFFSET;
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.group.0.to_be_bytes());
        out.extend_from_slice(&self.log.0.to_be_bytes());
    }
    fn take(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut d = KeyDec(bytes);
        let key = Self { group: ObjectId(d.u64()?), log: LogId(d.u64()?) };
        d.end()?;
        Ok(key)
    }
}

/// A committed offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetRow {
    /// What was committed.
    pub committed: CommittedOffset,
    /// When, milliseconds since the epoch.
    pub commit_ms: u64,
}

impl RowValue for OffsetRow {
    fn put(&self, out: &mut Vec<u8>) {
        out.u8(VERSION);
        out.u64(self.committed.offset);
        out.i32(self.committed.leader_epoch);
        out.u64(self.commit_ms);
        out.blob(self.committed.metadata.as_bytes());
    }

    fn take(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut d = Dec::new(bytes);
        d.version(VERSION)?;
        let (offset, leader_epoch, commit_ms) = (d.u64()?, d.i32()?, d.u64()?);
        let metadata = d.text()?.to_owned();
        d.end()?;
        Ok(Self { committed: CommittedOffset { offset, leader_epoch, metadata }, commit_ms })
    }
}

/// What happens to an offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OffsetEffect {
    /// It is this now.
    Set(OffsetRow),
    /// It is gone.
    Gone,
}

impl OffsetEffect {
    /// On its way into a record.
    #[must_use]
    pub fn on(&self, key: &OffsetKey) -> RowEffect {
        let mut bytes = vec![EFFECT_VERSION];
        match self {
            Self::Set(row) => {
                bytes.u8(SET);
                row.put(&mut bytes);
            }
            Self::Gone => bytes.u8(GONE),
        }
        RowEffect::new(key.encode(), bytes)
    }

    /// Reads it, all of it.
    ///
    /// # Errors
    /// If it is not what [`OffsetEffect::on`] writes, or from a later version.
    pub fn take(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut d = Dec::new(bytes);
        d.version(EFFECT_VERSION)?;
        match d.u8()? {
            SET => Ok(Self::Set(OffsetRow::take(d.rest())?)),
            GONE => {
                d.end()?;
                Ok(Self::Gone)
            }
            _ => Err(DecodeError::Value { what: "offset effect" }),
        }
    }
}
