//! Committed offsets: who may commit, what is kept, when it expires.

use millstream_log::Permit;
use millstream_types::{LogId, ObjectId};

use super::config::{
    EMPTY_GROUP_KEPT_MS, EXPIRED_PER_RECORD_MAX, EXPIRY_CHECK_MS_MAX, EXPIRY_CHECK_MS_MIN, RETRY_MS,
};
use super::live::{Caller, Group};
use super::rows::group::{GroupEffect, GroupKey, GroupRow, Phase};
use super::rows::offset::{OffsetEffect, OffsetKey, OffsetRow};
use super::turn::{Flow, NoRecord, Turn};
use super::{
    Commit, CommittedOffset, GroupError, GroupReply, GroupState, OFFSET_METADATA_BYTES_MAX, Who,
    sync::check_who,
};
use crate::effect::RowEffect;
use crate::op::Now;

/// Whether an offset commit is allowed. `None`: there is no such group.
///
/// # Errors
/// What the commit as a whole gets.
pub(super) fn check_commit(g: Option<&Group>, who: &Who) -> Result<(), GroupError> {
    let Some(g) = g else {
        // A consumer that assigns itself its partitions, or an operator.
        return if who.generation < 0 { Ok(()) } else { Err(GroupError::NotFound) };
    };
    if who.generation < 0 && g.state == GroupState::Empty {
        return Ok(());
    }
    if who.generation < 0 && who.member.is_empty() && who.instance.is_none() {
        return Err(GroupError::UnknownMember);
    }
    check_who(g, who)?;
    match g.state {
        // It learnt the generation from its join, and is about to learn its assignment: what it has is not its own any more.
        GroupState::CompletingRebalance => Err(GroupError::Rebalancing),
        GroupState::PreparingRebalance | GroupState::Stable => Ok(()),
        GroupState::Empty | GroupState::Dead => Err(GroupError::UnknownMember),
    }
}

/// One result per offset, and the effects of those that are accepted.
pub(super) fn commit_effects(
    now: Now,
    object: ObjectId,
    offsets: &[(LogId, CommittedOffset)],
    exists: &dyn Fn(LogId) -> bool,
) -> (Vec<Result<(), GroupError>>, Vec<RowEffect>) {
    let mut effects = Vec::with_capacity(offsets.len());
    let results = offsets.iter().map(|(log, committed)| {
        if committed.metadata.len() > OFFSET_METADATA_BYTES_MAX {
            return Err(GroupError::MetadataTooLong);
        }
        if !exists(*log) {
            return Err(GroupError::NoPartition);
        }
        let row = OffsetRow { committed: committed.clone(), commit_ms: now.wall_ms };
        effects.push(OffsetEffect::Set(row).on(&OffsetKey { group: object, log: *log }));
        Ok(())
    });
    (results.collect(), effects)
}

/// The row of a group that was never more than offsets.
pub(super) fn first_row(now: Now, g: &Group, object: ObjectId) -> GroupRow {
    GroupRow { leader: String::new(), since_ms: now.wall_ms, ..g.row(object, Phase::Empty) }
}

/// What the offset commits of a transaction come to: the effects of their record, and the groups that begin with it.
#[derive(Debug, Default)]
pub struct CommitPlan {
    pub(crate) effects: Vec<RowEffect>,
    pub(super) begun: Vec<(GroupKey, ObjectId)>,
}

impl CommitPlan {
    /// The object of a group that begins with this plan.
    pub(super) fn object(&self, key: &GroupKey) -> Option<ObjectId> {
        self.begun.iter().find(|(k, _)| k == key).map(|(_, object)| *object)
    }
}

impl Turn<'_, '_> {
    /// A transaction committed offsets of this group.
    pub fn committed(&mut self, g: &mut Group, c: &Commit, plan: &CommitPlan) {
        g.object = g.object.or_else(|| plan.object(&g.key));
        if g.state == GroupState::Empty {
            self.schedule_expiry(g);
        } else {
            self.touch(g, &c.who.member);
        }
    }

    /// Decides a commit, of a group that exists (maybe only since this commit).
    pub fn commit(&mut self, g: &mut Group, from: Caller, permit: Option<Permit>, c: &Commit) -> Flow {
        match self.try_commit(g, from, permit, c) {
            Ok(None) => Flow::Rest,
            Ok(Some(results)) => {
                self.answer(from, GroupReply::Commit(Ok(results)));
                Flow::Done
            }
            Err(e) => {
                self.answer(from, GroupReply::Commit(Err(e)));
                Flow::Done
            }
        }
    }

    fn try_commit(
        &mut self,
        g: &mut Group,
        from: Caller,
        permit: Option<Permit>,
        c: &Commit,
    ) -> Result<Option<Vec<Result<(), GroupError>>>, GroupError> {
        check_commit(Some(g), &c.who)?;
        let mut effects = Vec::new();
        let object = self.object(g, &mut effects);
        let (results, offsets) = commit_effects(self.now, object, &c.offsets, &|log| self.ctx.exists(log));
        if !offsets.is_empty() {
            if g.object.is_none() {
                effects.push(GroupEffect::Put(first_row(self.now, g, object)).on(&g.key));
            }
            effects.extend(offsets);
            if !self.recorded(permit, &effects, Some(from))? {
                return Ok(None);
            }
            g.object = Some(object);
        }
        if g.state == GroupState::Empty {
            self.schedule_expiry(g);
        } else {
            self.touch(g, &c.who.member);
        }
        Ok(Some(results))
    }

    /// What was committed for these partitions, or for all.
    pub fn fetch(
        &self,
        g: Option<&Group>,
        parts: Option<Vec<LogId>>,
    ) -> Vec<(LogId, Option<CommittedOffset>)> {
        let object = g.and_then(|g| g.object);
        let offsets = &self.core.rows.offsets;
        let one = |log: LogId| {
            object.and_then(|group| offsets.get(&OffsetKey { group, log })).map(|r| r.committed.clone())
        };
        match (parts, object) {
            (Some(parts), _) => parts.into_iter().map(|log| (log, one(log))).collect(),
            (None, Some(object)) => {
                let all = self.core.rows.offsets_of(object);
                all.map(|(k, r)| (k.log, Some(r.committed.clone()))).collect()
            }
            (None, None) => Vec::new(),
        }
    }

    /// Removes offsets. While the group has members nobody knows here what they are subscribed to, so it is all of them.
    pub fn delete_offsets(
        &mut self,
        g: &mut Group,
        from: Caller,
        permit: Option<Permit>,
        parts: &[LogId],
    ) -> Flow {
        let empty = g.state == GroupState::Empty;
        let result = |log: &LogId| match (self.ctx.exists(*log), empty) {
            (false, _) => Err(GroupError::NoPartition),
            (true, false) => Err(GroupError::Subscribed),
            (true, true) => Ok(()),
        };
        let results: Vec<_> = parts.iter().map(result).collect();
        let mut effects = Vec::new();
        if let (Some(group), true) = (g.object, empty) {
            let keys = parts.iter().map(|log| OffsetKey { group, log: *log });
            let there = keys.filter(|key| self.core.rows.offsets.get(key).is_some());
            effects.extend(there.map(|key| OffsetEffect::Gone.on(&key)));
        }
        let written = if effects.is_empty() { Ok(true) } else { self.recorded(permit, &effects, Some(from)) };
        let answer = match written {
            Ok(false) => return Flow::Rest,
            Ok(true) => Ok(results),
            Err(e) => Err(e),
        };
        self.answer(from, GroupReply::DeleteOffsets(answer));
        Flow::Done
    }

    /// As [`Turn::record`]; false: no room now.
    pub fn recorded(
        &mut self,
        permit: Option<Permit>,
        effects: &[RowEffect],
        to: Option<Caller>,
    ) -> Result<bool, GroupError> {
        match self.record(permit, effects, to) {
            Ok(()) => Ok(true),
            Err(NoRecord::Later) => Ok(false),
            Err(NoRecord::TooLarge) => Err(GroupError::Full),
        }
    }

    /// An empty group is looked at again when its first offset can have expired, or for its own sake if it has none.
    pub fn schedule_expiry(&mut self, g: &mut Group) {
        let due_ms = g.object.map(|object| {
            let first = self.core.rows.offsets_of(object).map(|(_, r)| self.expires_ms(g, r)).min();
            let end = first.unwrap_or_else(|| g.since_ms.saturating_add(EMPTY_GROUP_KEPT_MS));
            let left = end.saturating_sub(self.now.wall_ms);
            self.after(left.clamp(EXPIRY_CHECK_MS_MIN, EXPIRY_CHECK_MS_MAX))
        });
        if g.expiry_due.is_none() || due_ms < g.expiry_due {
            self.expiry_at(g, due_ms);
        }
    }

    /// When an offset of an empty group expires, wall clock: counted from when the group became empty or, if later or if it never
    /// had members, from the commit.
    fn expires_ms(&self, g: &Group, row: &OffsetRow) -> u64 {
        let simple = g.protocol_type.is_empty();
        let from_ms = if simple { row.commit_ms } else { row.commit_ms.max(g.since_ms) };
        from_ms.saturating_add(self.core.config.offsets_retention_ms)
    }

    /// Removes expired offsets of an empty group, then the group itself if nothing is left of it.
    pub fn expiry_due(&mut self, g: &mut Group) {
        let (Some(object), GroupState::Empty) = (g.object, g.state) else { return };
        let offsets = self.core.rows.offsets_of(object);
        let now_ms = self.now.wall_ms;
        let (mut expired, mut kept) = (Vec::new(), 0_usize);
        for (key, row) in offsets {
            if self.expires_ms(g, row) <= now_ms && expired.len() < EXPIRED_PER_RECORD_MAX {
                expired.push(OffsetEffect::Gone.on(key));
            } else {
                kept += 1;
            }
        }
        let old = !expired.is_empty() || g.since_ms.saturating_add(EMPTY_GROUP_KEPT_MS) <= now_ms;
        let dead = kept == 0 && old && g.pending.is_empty();
        let effects = if dead { vec![GroupEffect::Gone { object }.on(&g.key)] } else { expired };
        if !effects.is_empty() {
            match self.record(None, &effects, None) {
                Ok(()) if dead => {
                    g.object = None;
                    return;
                }
                Ok(()) => {}
                Err(_) => {
                    let due_ms = self.after(RETRY_MS);
                    self.expiry_at(g, Some(due_ms));
                    return;
                }
            }
        }
        self.schedule_expiry(g);
    }
}
