//! The coordinator of consumer groups.
//!
//! Start at [`Groups`]. As long as no group can be made here, each operation is answered as for a group that does not exist.

use millstream_log::{Permit, StateReader};
use millstream_types::{ConnId, LogId, Lsn};
use std::sync::Arc;

use super::{Commit, GroupConfig, GroupError, GroupOp, GroupReply};
use crate::codec::DecodeError;
use crate::ctx::Ctx;
use crate::effect::RowEffect;
use crate::error::LoadError;
use crate::op::{Effects, Now, Reply, Ticket};
use crate::table::Dirty;

/// All consumer groups.
#[derive(Debug, Default)]
pub struct Groups {}

impl Groups {
    /// No groups yet.
    #[must_use]
    pub fn new(_cfg: GroupConfig) -> Self {
        Self::default()
    }

    /// Loads all rows. First call.
    ///
    /// # Errors
    /// If the store fails or holds what cannot be read.
    pub fn load(&mut self, _rows: &Arc<dyn StateReader>) -> Result<(), LoadError> {
        Ok(())
    }

    /// Applies one effect of record `lsn`.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn apply_effect(&mut self, _lsn: Lsn, _key: &[u8], _bytes: &[u8]) -> Result<(), DecodeError> {
        Err(DecodeError::Value { what: "row family" })
    }

    /// Record `lsn` deleted a partition: the offsets committed for it go.
    pub fn partition_deleted(&mut self, _lsn: Lsn, _log: LogId) {}

    /// Record `lsn` is complete.
    pub fn record_end(&mut self, lsn: Lsn) {
        for t in self.tables() {
            t.record_end(lsn);
        }
    }

    /// Everything was replayed: timers begin.
    pub fn serve(&mut self, _now: Now) {}

    /// Decides one operation.
    pub fn op(
        &mut self,
        _now: Now,
        session: ConnId,
        ticket: Ticket,
        _permit: Option<Permit>,
        op: GroupOp,
        ctx: &mut Ctx<'_>,
    ) {
        let unknown = GroupError::UnknownMember;
        let reply = match op {
            GroupOp::Join(_) => GroupReply::Join(Err(GroupError::Full)),
            GroupOp::Sync(_) => GroupReply::Sync(Err(unknown)),
            GroupOp::Heartbeat { .. } => GroupReply::Heartbeat(Err(unknown)),
            GroupOp::Leave { members, .. } => {
                GroupReply::Leave(members.iter().map(|_| Err(unknown.clone())).collect())
            }
            GroupOp::Commit(_) => GroupReply::Commit(Err(unknown)),
            GroupOp::FetchOffsets { parts, .. } => {
                GroupReply::Offsets(parts.unwrap_or_default().into_iter().map(|p| (p, None)).collect())
            }
            GroupOp::DeleteOffsets { .. } => GroupReply::DeleteOffsets(Err(GroupError::NotFound)),
            GroupOp::Delete { groups, .. } => {
                GroupReply::Delete(groups.iter().map(|_| Err(GroupError::NotFound)).collect())
            }
            GroupOp::Describe { groups, .. } => GroupReply::Describe(groups.iter().map(|_| None).collect()),
            GroupOp::List { .. } => GroupReply::List(Vec::new()),
        };
        let wait = ctx.last_lsn();
        ctx.answer(session, ticket, wait, Reply::Group(reply));
    }

    /// The effects of an offset commit, for a record of the engine's; applies nothing. An error concerns all; else one result per offset.
    ///
    /// # Errors
    /// If the group refuses.
    pub fn decide_commit(
        &self,
        _now: Now,
        _commit: &Commit,
        _exists: &dyn Fn(LogId) -> bool,
    ) -> Result<Vec<RowEffect>, GroupError> {
        Err(GroupError::UnknownMember)
    }

    /// Does what is due, a bounded part per call.
    pub fn tick(&mut self, _now: Now, _ctx: &mut Ctx<'_>) {}

    /// When the earliest timer is due, monotonic milliseconds.
    #[must_use]
    pub fn next_timer(&self) -> Option<u64> {
        None
    }

    /// The session is gone: its waiting joins and syncs get no answer.
    pub fn session_gone(&mut self, _now: Now, _session: ConnId, _ctx: &mut Ctx<'_>) {}

    /// The log is lost: all that wait are answered [`Reply::FateUnknown`].
    pub fn lost(&mut self, _out: &mut Effects) {}

    /// The tables, for the flusher.
    pub fn tables(&mut self) -> Vec<&mut dyn Dirty> {
        Vec::new()
    }
}
