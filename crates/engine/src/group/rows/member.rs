//! Members of groups, family [`MEMBER`](crate::rows::family::MEMBER).
//!
//! Key: `group object u64 · member id`. Value, version 1: `version u8 · meta · assignment`, the assignment behind its length (u32). Meta:
//! `has instance u8 (0 or 1) · instance · client id · client host · session_timeout_ms u32 · rebalance_timeout_ms u32 · protocols
//! u32 × (name, metadata)`, each text and blob behind its length. Effect, version 1: `version u8 · what u8`, then for 1 (joined) a
//! meta: the assignment stays; for 2 (assigned) an assignment to its end: nothing if there is no such member; 0: gone.

use std::sync::Arc;

use bytes::Bytes;
use millstream_types::ObjectId;

use crate::codec::{Dec, DecodeError, Enc};
use crate::effect::RowEffect;
use crate::rows::{KeyDec, RowKey, RowValue, family};

const VERSION: u8 = 1;
const EFFECT_VERSION: u8 = 1;
const GONE: u8 = 0;
const JOINED: u8 = 1;
const ASSIGNED: u8 = 2;
/// A protocol is at least two lengths.
const PROTOCOL_BYTES_MIN: usize = 8;

/// Names a member of a group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MemberKey {
    /// The group's object.
    pub group: ObjectId,
    /// Member id.
    pub member: String,
}

impl MemberKey {
    /// At or below the keys of all members of the group.
    #[must_use]
    pub fn first_of(group: ObjectId) -> Self {
        Self { group, member: String::new() }
    }
}

impl RowKey for MemberKey {
    const FAMILY: u8 = family::MEMBER;
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.group.0.to_be_bytes());
        out.extend_from_slice(self.member.as_bytes());
    }
    fn take(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut d = KeyDec(bytes);
        Ok(Self { group: ObjectId(d.u64()?), member: d.text()?.to_owned() })
    }
}

/// What a member said of itself when it joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberMeta {
    /// Instance id of a static member.
    pub instance: Option<String>,
    /// Client id.
    pub client_id: String,
    /// The client's address.
    pub client_host: String,
    /// Evicted when silent for so long.
    pub session_timeout_ms: u32,
    /// How long a rebalance waits for it.
    pub rebalance_timeout_ms: u32,
    /// Protocols it can do, best first, no name twice, each with its metadata.
    pub protocols: Vec<(String, Bytes)>,
}

impl MemberMeta {
    /// What it takes of the group's bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let protocols: usize = self.protocols.iter().map(|(n, m)| n.len() + m.len()).sum();
        let instance = self.instance.as_ref().map_or(0, String::len);
        instance + self.client_id.len() + self.client_host.len() + protocols
    }

    /// Its metadata for a protocol; empty if it cannot do it.
    #[must_use]
    pub fn metadata(&self, protocol: &str) -> Bytes {
        self.protocols.iter().find(|(n, _)| n == protocol).map(|(_, m)| m.clone()).unwrap_or_default()
    }

    fn put(&self, out: &mut Vec<u8>) {
        out.u8(u8::from(self.instance.is_some()));
        for text in [self.instance.as_deref().unwrap_or_default(), &self.client_id, &self.client_host] {
            out.blob(text.as_bytes());
        }
        out.u32(self.session_timeout_ms);
        out.u32(self.rebalance_timeout_ms);
        out.len_u32(self.protocols.len());
        for (name, metadata) in &self.protocols {
            out.blob(name.as_bytes());
            out.blob(metadata);
        }
    }

    fn take(d: &mut Dec<'_>) -> Result<Self, DecodeError> {
        let has_instance = match d.u8()? {
            0 => false,
            1 => true,
            _ => return Err(DecodeError::Value { what: "instance flag" }),
        };
        let instance = d.text()?;
        let mut meta = Self {
            instance: has_instance.then(|| instance.to_owned()),
            client_id: d.text()?.to_owned(),
            client_host: d.text()?.to_owned(),
            session_timeout_ms: d.u32()?,
            rebalance_timeout_ms: d.u32()?,
            protocols: Vec::new(),
        };
        for _ in 0..d.len(PROTOCOL_BYTES_MIN)? {
            meta.protocols.push((d.text()?.to_owned(), Bytes::copy_from_slice(d.blob()?)));
        }
        Ok(meta)
    }
}

/// A member as of the group's last generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberRow {
    /// What it said of itself.
    pub meta: Arc<MemberMeta>,
    /// Its last assignment; in force while the group is stable.
    pub assignment: Bytes,
}

impl RowValue for MemberRow {
    fn put(&self, out: &mut Vec<u8>) {
        out.u8(VERSION);
        self.meta.put(out);
        out.blob(&self.assignment);
    }

    fn take(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut d = Dec::new(bytes);
        d.version(VERSION)?;
        let meta = Arc::new(MemberMeta::take(&mut d)?);
        let assignment = Bytes::copy_from_slice(d.blob()?);
        d.end()?;
        Ok(Self { meta, assignment })
    }
}

/// What happens to a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberEffect {
    /// It is there, or what it says of itself changed.
    Joined(Arc<MemberMeta>),
    /// It has this assignment now.
    Assigned(Bytes),
    /// It is gone.
    Gone,
}

impl MemberEffect {
    /// On its way into a record.
    #[must_use]
    pub fn on(&self, group: ObjectId, member: &str) -> RowEffect {
        let mut bytes = vec![EFFECT_VERSION];
        match self {
            Self::Joined(meta) => {
                bytes.u8(JOINED);
                meta.put(&mut bytes);
            }
            Self::Assigned(assignment) => {
                bytes.u8(ASSIGNED);
                bytes.extend_from_slice(assignment);
            }
            Self::Gone => bytes.u8(GONE),
        }
        RowEffect::new(MemberKey { group, member: member.to_owned() }.encode(), bytes)
    }

    /// Reads it, all of it.
    ///
    /// # Errors
    /// If it is not what [`MemberEffect::on`] writes, or from a later version.
    pub fn take(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut d = Dec::new(bytes);
        d.version(EFFECT_VERSION)?;
        match d.u8()? {
            JOINED => {
                let meta = MemberMeta::take(&mut d)?;
                d.end()?;
                Ok(Self::Joined(Arc::new(meta)))
            }
            ASSIGNED => Ok(Self::Assigned(Bytes::copy_from_slice(d.rest()))),
            GONE => {
                d.end()?;
                Ok(Self::Gone)
            }
            _ => Err(DecodeError::Value { what: "member effect" }),
        }
    }

    /// Does it to the row.
    pub fn apply(self, row: &mut Option<MemberRow>) {
        match (self, row.as_mut()) {
            (Self::Joined(meta), Some(r)) => r.meta = meta,
            (Self::Joined(meta), None) => *row = Some(MemberRow { meta, assignment: Bytes::new() }),
            (Self::Assigned(assignment), Some(r)) => r.assignment = assignment,
            (Self::Assigned(_), None) => {}
            (Self::Gone, _) => *row = None,
        }
    }
}
