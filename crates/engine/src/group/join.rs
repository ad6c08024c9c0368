//! Joining: who is let in, who gets the current generation at once, who waits for the next.
//!
//! The rules are those of Apache Kafka's coordinator for the classic protocol (KIP-62, KIP-345 static members, KIP-394 member ids
//! before joining, KIP-814 skipped assignments). Completing a rebalance is in [`super::rebalance`].

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::config::NEW_MEMBER_JOIN_TIMEOUT_MS;
use super::live::{Caller, Group};
use super::rows::group::{GroupEffect, Phase};
use super::rows::member::{MemberEffect, MemberMeta};
use super::turn::{Flow, Turn, check_member};
use super::{GROUP_BYTES_MAX, GroupError, GroupReply, GroupState, Join, Joined, MEMBERS_MAX};

impl Turn<'_, '_> {
    /// Decides a join of a group that exists (maybe only since this join).
    pub fn join(&mut self, g: &mut Group, from: Caller, j: &Join) -> Flow {
        let flow = self.admit(g, from, j);
        match flow {
            Ok(flow) => {
                self.proceed(g);
                flow
            }
            Err(e) => {
                self.answer(from, GroupReply::Join(Err(e)));
                Flow::Done
            }
        }
    }

    fn admit(&mut self, g: &mut Group, from: Caller, j: &Join) -> Result<Flow, GroupError> {
        let protocols = distinct(&j.protocols);
        if !has_room(g, j) {
            self.forget_pending(g, &j.member);
            return Err(GroupError::Full);
        }
        if !g.supports(&j.protocol_type, &protocols) {
            return Err(GroupError::InconsistentProtocol);
        }
        let meta = Arc::new(MemberMeta {
            instance: j.instance.clone(),
            client_id: j.client_id.clone(),
            client_host: j.client_host.clone(),
            session_timeout_ms: j.session_timeout_ms,
            rebalance_timeout_ms: j.rebalance_timeout_ms,
            protocols,
        });
        let known = j.instance.as_deref().and_then(|i| g.instance(i)).cloned();
        let replaced = if j.member.is_empty() { known.as_deref() } else { Some(j.member.as_str()) };
        let old_bytes = replaced.and_then(|id| g.get(id)).map_or(0, |m| m.meta.bytes());
        let fits = meta.bytes() <= self.ctx.effect_bytes_max();
        if !fits || g.bytes() - old_bytes + meta.bytes() > GROUP_BYTES_MAX {
            return Err(GroupError::Full);
        }
        if !j.member.is_empty() {
            return self.join_again(g, from, j, meta);
        }
        let id = self.new_id(g, from, j);
        if let Some(old) = known {
            return self.replace_static(g, from, j, &old, &id, &meta);
        }
        if j.require_known_member && j.instance.is_none() {
            if g.pending.len() >= MEMBERS_MAX {
                return Err(GroupError::Full);
            }
            let due_ms = self.after(u64::from(j.session_timeout_ms));
            self.core.timers.set(due_ms, g.no, super::timers::Due::Pending(id.clone()));
            g.pending.insert(id.clone(), due_ms);
            return Err(GroupError::MemberIdRequired { member: id.as_ref().to_owned() });
        }
        self.add_member(g, from, &id, meta, &j.protocol_type);
        Ok(Flow::Done)
    }

    fn new_id(&self, g: &Group, from: Caller, j: &Join) -> Arc<str> {
        let prefix = j.instance.as_deref().unwrap_or(&j.client_id);
        let taken = |id: &str| g.get(id).is_some() || g.pending.contains_key(id);
        let mut ids = (0..).map(|turn| self.core.ids.make(prefix, from.session, from.ticket, turn));
        ids.find(|id| !taken(id)).expect("endless").into()
    }

    fn join_again(
        &mut self,
        g: &mut Group,
        from: Caller,
        j: &Join,
        meta: Arc<MemberMeta>,
    ) -> Result<Flow, GroupError> {
        if g.pending.contains_key(j.member.as_str()) {
            if j.instance.is_some() {
                return Err(GroupError::UnknownMember);
            }
            self.forget_pending(g, &j.member);
            let id: Arc<str> = j.member.as_str().into();
            self.add_member(g, from, &id, meta, &j.protocol_type);
            if let Some(m) = g.get_mut(&id) {
                m.told = true;
            }
            return Ok(Flow::Done);
        }
        check_member(g, &j.member, j.instance.as_deref())?;
        let member = g.get(&j.member).ok_or(GroupError::UnknownMember)?;
        let same = member.meta.protocols == meta.protocols;
        let current = match g.state {
            // It may have missed the answer to its join.
            GroupState::CompletingRebalance => same,
            // A leader that joins again wants a new assignment, say because the topics have changed.
            GroupState::Stable => same && !g.is_leader(&j.member),
            GroupState::PreparingRebalance => false,
            GroupState::Empty | GroupState::Dead => return Err(GroupError::UnknownMember),
        };
        if current {
            self.touch(g, &j.member);
            let joined = joined(g, &j.member);
            self.answer(from, GroupReply::Join(Ok(joined)));
        } else {
            let meta = MemberMeta { instance: member.meta.instance.clone(), ..meta.as_ref().clone() };
            let id: Arc<str> = j.member.as_str().into();
            self.update_member(g, from, &id, Arc::new(meta), &GroupError::Rebalancing);
            if let Some(m) = g.get_mut(&id) {
                m.told = true;
            }
            self.prepare(g);
        }
        Ok(Flow::Done)
    }

    fn add_member(
        &mut self,
        g: &mut Group,
        from: Caller,
        id: &Arc<str>,
        meta: Arc<MemberMeta>,
        protocol_type: &str,
    ) {
        match (&mut g.initial, g.state, g.generation) {
            (Some(initial), GroupState::PreparingRebalance, 0) => initial.newcomer = true,
            (_, GroupState::Empty, _) => protocol_type.clone_into(&mut g.protocol_type),
            _ => {}
        }
        g.add(id.clone(), meta, Bytes::new(), true);
        self.await_join(g, from, id);
        let deadline_ms = self.after(NEW_MEMBER_JOIN_TIMEOUT_MS);
        self.deadline(g, id, deadline_ms);
        self.prepare(g);
    }

    /// The member joins the rebalance with what it says now. A join or sync of it that still waits is answered with `old`.
    fn update_member(
        &mut self,
        g: &mut Group,
        from: Caller,
        id: &Arc<str>,
        meta: Arc<MemberMeta>,
        old: &GroupError,
    ) {
        g.update(id, meta);
        let waiting = g.get_mut(id).map(|m| (m.join.take(), m.sync.take()));
        if let Some((join, sync)) = waiting {
            self.answer_join(join, Err(old.clone()));
            self.answer_sync(sync, Err(old.clone()));
        }
        self.await_join(g, from, id);
    }

    fn await_join(&mut self, g: &mut Group, from: Caller, id: &Arc<str>) {
        g.set_joined(id, true);
        if let Some(m) = g.get_mut(id) {
            m.join = Some(from);
            self.core.waits.insert((from.session, from.ticket), (g.no, id.clone()));
        }
    }

    /// A static member comes back with no memory of its member id: it gets a new one, and the old one is fenced (KIP-345). In a stable
    /// group that is all, unless the vote for a protocol would go another way.
    fn replace_static(
        &mut self,
        g: &mut Group,
        from: Caller,
        j: &Join,
        old: &Arc<str>,
        id: &Arc<str>,
        meta: &Arc<MemberMeta>,
    ) -> Result<Flow, GroupError> {
        let stays =
            g.state == GroupState::Stable && g.vote(Some((old, meta))).as_deref() == Some(&g.protocol);
        let leader = g.leader.clone();
        if stays && !self.persist_replaced(g, from, old, id, meta)? {
            return Ok(Flow::Rest);
        }
        self.rename(g, old, id);
        if !stays {
            self.update_member(g, from, id, Arc::clone(meta), &GroupError::FencedInstance);
            if let Some(m) = g.get_mut(id) {
                m.told = false;
            }
            self.touch(g, id);
            self.prepare(g);
            return Ok(Flow::Done);
        }
        let waiting = g.get_mut(id).map(|m| (m.join.take(), m.sync.take()));
        if let Some((join, sync)) = waiting {
            self.answer_join(join, Err(GroupError::FencedInstance));
            self.answer_sync(sync, Err(GroupError::FencedInstance));
        }
        g.update(id, Arc::clone(meta));
        self.touch(g, id);
        let mut answer = joined(g, id);
        if g.is_leader(id) {
            if j.can_skip_assignment {
                answer.skip_assignment = true;
            } else {
                // It would compute an assignment that nobody waits for: it is told that the leader is somebody else (its old self).
                answer.members.clear();
                leader.as_deref().unwrap_or_default().clone_into(&mut answer.leader);
            }
        }
        self.answer(from, GroupReply::Join(Ok(answer)));
        Ok(Flow::Done)
    }

    /// Writes that a static member has another member id. False: no room now.
    fn persist_replaced(
        &mut self,
        g: &Group,
        from: Caller,
        old: &str,
        id: &Arc<str>,
        meta: &Arc<MemberMeta>,
    ) -> Result<bool, GroupError> {
        let (Some(object), Some(member)) = (g.object, g.get(old)) else {
            return Err(GroupError::UnknownMember);
        };
        let mut effects = vec![
            MemberEffect::Gone.on(object, old),
            MemberEffect::Joined(Arc::clone(meta)).on(object, id),
            MemberEffect::Assigned(member.assignment.clone()).on(object, id),
        ];
        if g.is_leader(old) {
            let mut row = g.row(object, Phase::Stable);
            id.as_ref().clone_into(&mut row.leader);
            effects.push(GroupEffect::Put(row).on(&g.key));
        }
        self.recorded(None, &effects, Some(from))
    }

    fn rename(&mut self, g: &mut Group, old: &Arc<str>, id: &Arc<str>) {
        let no = g.no;
        if let Some(m) = g.get_mut(old) {
            self.core.timers.renew(&mut m.timer, None, no, &super::timers::Due::Member(old.clone()));
        }
        g.rename(old, id);
    }
}

/// The current generation as this member is to see it.
pub(super) fn joined(g: &Group, id: &str) -> Joined {
    let members = if g.is_leader(id) {
        let all = g.members().iter();
        all.map(|(id, m)| (id.as_ref().to_owned(), m.meta.instance.clone(), m.meta.metadata(&g.protocol)))
            .collect()
    } else {
        Vec::new()
    };
    Joined {
        generation: g.generation,
        protocol_type: g.protocol_type.clone(),
        protocol: g.protocol.clone(),
        leader: g.leader.as_deref().unwrap_or_default().to_owned(),
        member: id.to_owned(),
        members,
        skip_assignment: false,
    }
}

/// A member that is there stays; others come in up to the limit.
fn has_room(g: &Group, j: &Join) -> bool {
    let replaces = j.member.is_empty() && j.instance.as_deref().is_some_and(|i| g.instance(i).is_some());
    let member = g.get(&j.member);
    match g.state {
        GroupState::Empty | GroupState::Dead => true,
        GroupState::PreparingRebalance => member.is_some_and(|m| m.joined) || g.joined() < MEMBERS_MAX,
        GroupState::CompletingRebalance | GroupState::Stable => {
            member.is_some() || replaces || g.members().len() < MEMBERS_MAX
        }
    }
}

/// The first of each name.
fn distinct(protocols: &[(String, Bytes)]) -> Vec<(String, Bytes)> {
    let mut seen = BTreeSet::new();
    protocols.iter().filter(|(name, _)| seen.insert(name.as_str())).cloned().collect()
}
