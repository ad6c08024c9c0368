//! Synchronising and heartbeats: the leader brings the assignment, the others fetch theirs and say that they are still there.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::live::{Caller, Group};
use super::rows::group::{GroupEffect, Phase};
use super::rows::member::MemberEffect;
use super::turn::{Flow, Turn, check_member};
use super::{GROUP_BYTES_MAX, GroupError, GroupReply, GroupState, Sync, Synced, Who};

impl Turn<'_, '_> {
    /// Decides a sync of a group that exists.
    pub fn sync(&mut self, g: &mut Group, from: Caller, s: &Sync) -> Flow {
        match self.try_sync(g, from, s) {
            Ok(flow) => flow,
            Err(e) => {
                self.answer(from, GroupReply::Sync(Err(e)));
                Flow::Done
            }
        }
    }

    fn try_sync(&mut self, g: &mut Group, from: Caller, s: &Sync) -> Result<Flow, GroupError> {
        check_who(g, &s.who)?;
        let differs = |said: Option<&String>, is: &String| said.is_some_and(|said| said != is);
        if differs(s.protocol_type.as_ref(), &g.protocol_type) || differs(s.protocol.as_ref(), &g.protocol) {
            return Err(GroupError::InconsistentProtocol);
        }
        let id: Arc<str> = s.who.member.as_str().into();
        match g.state {
            GroupState::Empty | GroupState::Dead => Err(GroupError::UnknownMember),
            GroupState::PreparingRebalance => Err(GroupError::Rebalancing),
            GroupState::CompletingRebalance if g.is_leader(&id) => self.assign(g, from, &id, &s.assignments),
            GroupState::CompletingRebalance => {
                g.unsynced.remove(&id);
                if let Some(m) = g.get_mut(&id) {
                    let old = m.sync.replace(from);
                    self.answer_sync(old, Err(GroupError::Rebalancing));
                    self.core.waits.insert((from.session, from.ticket), (g.no, id));
                }
                Ok(Flow::Done)
            }
            GroupState::Stable => {
                self.synced(g, Some(from), &id);
                Ok(Flow::Done)
            }
        }
    }

    /// The leader's assignment is written, then everybody who waits gets its own. A member it leaves out gets an empty one.
    fn assign(
        &mut self,
        g: &mut Group,
        from: Caller,
        leader: &Arc<str>,
        assignments: &[(String, Bytes)],
    ) -> Result<Flow, GroupError> {
        let given: BTreeMap<&str, &Bytes> = assignments.iter().map(|(id, a)| (id.as_str(), a)).collect();
        let of = |id: &str| given.get(id).map(|a| (*a).clone()).unwrap_or_default();
        let added: usize = g.members().keys().map(|id| of(id).len()).sum();
        let dropped: usize = g.members().values().map(|m| m.assignment.len()).sum();
        let fits = g.members().keys().all(|id| of(id).len() <= self.ctx.effect_bytes_max());
        if !fits || g.bytes() - dropped + added > GROUP_BYTES_MAX {
            return Err(GroupError::Full);
        }
        let object = g.object.ok_or(GroupError::UnknownMember)?;
        let rows = self.core.rows.members_of(object);
        let held: BTreeMap<&str, &Bytes> = rows.map(|(k, r)| (k.member.as_str(), &r.assignment)).collect();
        let mut effects = vec![GroupEffect::Put(g.row(object, Phase::Stable)).on(&g.key)];
        for id in g.members().keys() {
            let assignment = of(id);
            if held.get(id.as_ref()) != Some(&&assignment) {
                effects.push(MemberEffect::Assigned(assignment).on(object, id));
            }
        }
        if !self.recorded(None, &effects, Some(from))? {
            return Ok(Flow::Rest);
        }
        g.state = GroupState::Stable;
        for id in g.ids() {
            g.assign(&id, of(&id));
        }
        self.share_rows(g);
        for id in g.ids() {
            let sync = g.get_mut(&id).and_then(|m| m.sync.take());
            if id == *leader {
                self.answer_sync(sync, Err(GroupError::Rebalancing));
                self.synced(g, Some(from), &id);
            } else if sync.is_some() {
                self.synced(g, sync, &id);
            }
        }
        Ok(Flow::Done)
    }

    fn synced(&mut self, g: &mut Group, to: Option<Caller>, id: &Arc<str>) {
        g.unsynced.remove(id);
        if g.unsynced.is_empty() {
            self.sync_at(g, None);
        }
        self.touch(g, id);
        let assignment = g.get(id).map(|m| m.assignment.clone()).unwrap_or_default();
        let answer =
            Synced { protocol_type: g.protocol_type.clone(), protocol: g.protocol.clone(), assignment };
        self.answer_sync(to, Ok(answer));
    }

    /// Members that joined but have not synchronised for a whole rebalance timeout are gone.
    pub fn sync_due(&mut self, g: &mut Group) {
        let late = std::mem::take(&mut g.unsynced);
        if late.is_empty() || !matches!(g.state, GroupState::CompletingRebalance | GroupState::Stable) {
            return;
        }
        for id in late {
            self.take_out(g, &id, &GroupError::UnknownMember);
        }
        self.prepare(g);
    }

    /// Decides a heartbeat.
    pub fn heartbeat(&mut self, g: &mut Group, who: &Who) -> Result<(), GroupError> {
        check_who(g, who)?;
        self.touch(g, &who.member);
        match g.state {
            GroupState::Empty | GroupState::Dead => Err(GroupError::UnknownMember),
            GroupState::PreparingRebalance => Err(GroupError::Rebalancing),
            GroupState::CompletingRebalance | GroupState::Stable => Ok(()),
        }
    }
}

/// The member is who it says, and knows the current generation.
pub(super) fn check_who(g: &Group, who: &Who) -> Result<(), GroupError> {
    check_member(g, &who.member, who.instance.as_deref())?;
    if who.generation == g.generation { Ok(()) } else { Err(GroupError::IllegalGeneration) }
}
