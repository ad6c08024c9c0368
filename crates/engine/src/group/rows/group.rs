//! Consumer groups, family [`GROUP`](crate::rows::family::GROUP).
//!
//! Key: `namespace u32 · name`. Value, version 1: `version u8 · object u64 · generation i32 · phase u8 (0 empty, 1 completing,
//! 2 stable) · since_ms u64 · protocol type · protocol · leader`, each of the three texts behind its length (u32), empty = none.
//! Effect, version 1: `version u8 · what u8`, then for 1 (put) a value, for 0 (gone) `object u64`: with the group, all MEMBER and OFFSET
//! rows of that object are gone.

use millstream_types::ObjectId;

use crate::codec::{Dec, DecodeError, Enc};
use crate::effect::RowEffect;
use crate::rows::name::Name;
use crate::rows::{RowKey, RowValue, family};

const VERSION: u8 = 1;
const EFFECT_VERSION: u8 = 1;
const GONE: u8 = 0;
const PUT: u8 = 1;

/// Names a group; the name has at most `NAME_BYTES_MAX` bytes.
pub type GroupKey = Name<{ family::GROUP }>;

/// How far the last generation came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// No members.
    Empty = 0,
    /// Members are known, the leader's assignment is not.
    Completing = 1,
    /// At work.
    Stable = 2,
}

/// A group as of its last generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupRow {
    /// What MEMBER and OFFSET keys call it.
    pub object: ObjectId,
    /// The last generation; 0 = there was none.
    pub generation: i32,
    /// How far it came.
    pub phase: Phase,
    /// When it became empty, milliseconds since the epoch; else when the generation began.
    pub since_ms: u64,
    /// Protocol type of its members, kept while it is empty; empty text = it never had members.
    pub protocol_type: String,
    /// Protocol chosen; empty text = none.
    pub protocol: String,
    /// The leader's member id; empty text = none.
    pub leader: String,
}

impl RowValue for GroupRow {
    fn put(&self, out: &mut Vec<u8>) {
        out.u8(VERSION);
        out.u64(self.object.0);
        out.i32(self.generation);
        out.u8(self.phase as u8);
        out.u64(self.since_ms);
        for text in [&self.protocol_type, &self.protocol, &self.leader] {
            out.blob(text.as_bytes());
        }
    }

    fn take(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut d = Dec::new(bytes);
        d.version(VERSION)?;
        let row = Self {
            object: ObjectId(d.u64()?),
            generation: d.i32()?,
            phase: match d.u8()? {
                0 => Phase::Empty,
                1 => Phase::Completing,
                2 => Phase::Stable,
                _ => return Err(DecodeError::Value { what: "group phase" }),
            },
            since_ms: d.u64()?,
            protocol_type: d.text()?.to_owned(),
            protocol: d.text()?.to_owned(),
            leader: d.text()?.to_owned(),
        };
        d.end()?;
        Ok(row)
    }
}

/// What happens to a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupEffect {
    /// The row is this now.
    Put(GroupRow),
    /// The group is gone, and all rows beneath it.
    Gone {
        /// Its object.
        object: ObjectId,
    },
}

impl GroupEffect {
    /// On its way into a record.
    #[must_use]
    pub fn on(&self, key: &GroupKey) -> RowEffect {
        let mut bytes = vec![EFFECT_VERSION];
        match self {
            Self::Put(row) => {
                bytes.u8(PUT);
                row.put(&mut bytes);
            }
            Self::Gone { object } => {
                bytes.u8(GONE);
                bytes.u64(object.0);
            }
        }
        RowEffect::new(key.encode(), bytes)
    }

    /// Reads it, all of it.
    ///
    /// # Errors
    /// If it is not what [`GroupEffect::on`] writes, or from a later version.
    pub fn take(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut d = Dec::new(bytes);
        d.version(EFFECT_VERSION)?;
        match d.u8()? {
            PUT => Ok(Self::Put(GroupRow::take(d.rest())?)),
            GONE => {
                let object = ObjectId(d.u64()?);
                d.end()?;
                Ok(Self::Gone { object })
            }
            _ => Err(DecodeError::Value { what: "group effect" }),
        }
    }
}
