//! One call into the coordinator: what decisions may use and do. Here are the things that all of them do: answer, write a
//! record, keep timers, let members go.
//!
//! Start at [`Turn`].

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_log::Permit;
use millstream_types::limits::RECORD_BYTES_MAX;
use millstream_types::{ConnId, ObjectId, ObjectKind};

use super::config::GroupConfig;
use super::live::{Caller, Group};
use super::member_id::MemberIds;
use super::rows::Rows;
use super::timers::{Due, Timers};
use super::{GroupError, GroupReply, GroupState, Joined};
use crate::ctx::Ctx;
use crate::effect::{RECORD_OVERHEAD_BYTES, RowEffect};
use crate::op::{Now, Reply, Ticket};
use crate::rows::family;
use crate::rows::id::{Counter, Ids};

/// What all groups share.
#[derive(Debug, Default)]
pub(super) struct Core {
    pub config: GroupConfig,
    pub rows: Rows,
    pub timers: Timers,
    pub ids: MemberIds,
    /// Waiting joins and syncs: the group's number and the member.
    pub waits: BTreeMap<(ConnId, Ticket), (u64, Arc<str>)>,
}

/// How an operation went.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// It is answered, or the member waits.
    Done,
    /// There was no room for its record: nothing has changed, decide it again later.
    Rest,
}

/// Why there is no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoRecord {
    /// No room now.
    Later,
    /// It would be too large for a record.
    TooLarge,
}

/// One call.
pub(super) struct Turn<'a, 'c> {
    pub core: &'a mut Core,
    pub now: Now,
    pub ctx: &'a mut Ctx<'c>,
}

impl Turn<'_, '_> {
    /// Answers, once all that was sequenced so far is durable.
    pub fn answer(&mut self, to: Caller, reply: GroupReply) {
        let wait = self.ctx.last_lsn();
        self.ctx.answer(to.session, to.ticket, wait, Reply::Group(reply));
    }

    /// Answers a join that waited, if any did.
    pub fn answer_join(&mut self, to: Option<Caller>, result: Result<Joined, GroupError>) {
        if let Some(to) = to {
            self.core.waits.remove(&(to.session, to.ticket));
            self.answer(to, GroupReply::Join(result));
        }
    }

    /// Answers a sync that waited, if any did.
    pub fn answer_sync(&mut self, to: Option<Caller>, result: Result<super::Synced, GroupError>) {
        if let Some(to) = to {
            self.core.waits.remove(&(to.session, to.ticket));
            self.answer(to, GroupReply::Sync(result));
        }
    }

    /// Puts one record in order and applies it. `permit`: room that came with the operation, used if it suffices.
    pub fn record(
        &mut self,
        permit: Option<Permit>,
        effects: &[RowEffect],
        to: Option<Caller>,
    ) -> Result<(), NoRecord> {
        let bytes = RECORD_OVERHEAD_BYTES + effects.iter().map(RowEffect::bytes_bound).sum::<usize>();
        if bytes > RECORD_BYTES_MAX {
            return Err(NoRecord::TooLarge);
        }
        let permit = match permit.filter(|p| p.bytes >= bytes) {
            Some(permit) => permit,
            None => self.ctx.spare(bytes).ok_or(NoRecord::Later)?,
        };
        let lsn = self.ctx.commit(permit, effects, to.map(|c| c.session));
        for e in effects.iter().filter(|e| e.key.first() != Some(&family::ID)) {
            self.core
                .rows
                .apply_effect(lsn, &e.key, &e.bytes)
                .expect("an effect that was just written can be read");
        }
        self.core.rows.record_end(lsn);
        Ok(())
    }

    /// The group's object; a group without one gets it by the record that `effects` become.
    pub fn object(&self, g: &Group, effects: &mut Vec<RowEffect>) -> ObjectId {
        g.object.unwrap_or_else(|| {
            let next = self.ctx.ids().next(Counter::Objects);
            effects.push(Ids::effect(Counter::Objects, next + 1));
            ObjectId::new(ObjectKind::Group, next)
        })
    }

    /// When a timeout that begins now ends.
    pub fn after(&self, ms: u64) -> u64 {
        self.now.mono_ms.saturating_add(ms)
    }

    /// Moves the group's rebalance timer.
    pub fn rebalance_at(&mut self, g: &mut Group, due_ms: Option<u64>) {
        self.core.timers.renew(&mut g.rebalance_due, due_ms, g.no, &Due::Rebalance);
    }

    /// Moves the group's timer for synchronising.
    pub fn sync_at(&mut self, g: &mut Group, due_ms: Option<u64>) {
        self.core.timers.renew(&mut g.sync_due, due_ms, g.no, &Due::Sync);
    }

    /// Moves the group's timer for expiry.
    pub fn expiry_at(&mut self, g: &mut Group, due_ms: Option<u64>) {
        self.core.timers.renew(&mut g.expiry_due, due_ms, g.no, &Due::Expiry);
    }

    /// The member is there: its session begins anew.
    pub fn touch(&mut self, g: &mut Group, id: &str) {
        if let Some(ms) = g.get(id).map(|m| u64::from(m.meta.session_timeout_ms)) {
            let deadline_ms = self.after(ms);
            self.deadline(g, id, deadline_ms);
        }
    }

    /// The member is evicted when silent until then. A timer that stands earlier is left: it looks again when it is due.
    pub fn deadline(&mut self, g: &mut Group, id: &str, deadline_ms: u64) {
        let no = g.no;
        if let Some(m) = g.get_mut(id) {
            m.deadline_ms = deadline_ms;
            if m.timer.is_none_or(|t| t > deadline_ms) {
                self.core.timers.renew(&mut m.timer, Some(deadline_ms), no, &Due::Member(id.into()));
            }
        }
    }

    /// A member goes: what it waits for is answered with `why`, then the others are asked to join again.
    pub fn let_go(&mut self, g: &mut Group, id: &str, why: &GroupError) {
        self.take_out(g, id, why);
        match g.state {
            GroupState::Stable | GroupState::CompletingRebalance => self.prepare(g),
            GroupState::PreparingRebalance => self.proceed(g),
            GroupState::Empty | GroupState::Dead => {}
        }
    }

    /// Takes a member out, and no more.
    pub fn take_out(&mut self, g: &mut Group, id: &str, why: &GroupError) {
        if let Some(mut m) = g.remove(id) {
            self.core.timers.renew(&mut m.timer, None, g.no, &Due::Member(id.into()));
            self.answer_join(m.join.take(), Err(why.clone()));
            self.answer_sync(m.sync.take(), Err(why.clone()));
        }
    }

    /// A member id that was given is void, or has been used.
    pub fn forget_pending(&mut self, g: &mut Group, id: &str) {
        if let Some(due_ms) = g.pending.remove(id) {
            self.core.timers.cancel(due_ms, g.no, Due::Pending(id.into()));
        }
    }
}

/// Whether the member is who it says it is: 25 or 82 if not.
pub(super) fn check_member(g: &Group, member: &str, instance: Option<&str>) -> Result<(), GroupError> {
    match instance {
        Some(instance) => match g.instance(instance) {
            None => Err(GroupError::UnknownMember),
            Some(id) if **id == *member => Ok(()),
            Some(_) => Err(GroupError::FencedInstance),
        },
        None if g.get(member).is_some() => Ok(()),
        None => Err(GroupError::UnknownMember),
    }
}
