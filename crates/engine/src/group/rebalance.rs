//! From one generation to the next: members are asked to join again, those that came make the new generation, and it is written
//! before anybody is told.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::config::RETRY_MS;
use super::join::joined;
use super::live::{Group, Initial};
use super::rows::group::{GroupEffect, Phase};
use super::rows::member::{MemberEffect, MemberMeta};
use super::turn::{NoRecord, Turn};
use super::{GroupError, GroupState};
use crate::effect::RowEffect;

impl Turn<'_, '_> {
    /// Asks the members to join again, unless they are asked already.
    pub fn prepare(&mut self, g: &mut Group) {
        let wait_ms = match g.state {
            GroupState::PreparingRebalance | GroupState::Dead => return,
            GroupState::Empty => {
                let delay_ms = u64::from(self.core.config.initial_rebalance_delay_ms);
                let remaining_ms = g.rebalance_timeout_ms().saturating_sub(delay_ms);
                g.initial = Some(Initial { remaining_ms, newcomer: false });
                delay_ms
            }
            GroupState::CompletingRebalance | GroupState::Stable => g.rebalance_timeout_ms(),
        };
        for id in g.ids() {
            let sync = g.get_mut(&id).and_then(|m| m.sync.take());
            if sync.is_some() {
                self.touch(g, &id);
                self.answer_sync(sync, Err(GroupError::Rebalancing));
            }
        }
        g.unsynced.clear();
        self.sync_at(g, None);
        self.expiry_at(g, None);
        g.state = GroupState::PreparingRebalance;
        let due_ms = self.after(wait_ms);
        self.rebalance_at(g, Some(due_ms));
        self.proceed(g);
    }

    /// Completes a rebalance for which nobody need be waited for any more.
    pub fn proceed(&mut self, g: &mut Group) {
        if g.state != GroupState::PreparingRebalance {
            return;
        }
        let due = g.rebalance_due.is_none_or(|due| due <= self.now.mono_ms);
        if due || (g.initial.is_none() && g.all_joined()) {
            self.rebalance_due(g);
        }
    }

    /// The rebalance waited long enough.
    pub fn rebalance_due(&mut self, g: &mut Group) {
        if g.state != GroupState::PreparingRebalance {
            return;
        }
        match g.initial {
            Some(Initial { remaining_ms, newcomer: true })
                if remaining_ms > 0 && self.core.config.initial_rebalance_delay_ms > 0 =>
            {
                let delay_ms = u64::from(self.core.config.initial_rebalance_delay_ms).min(remaining_ms);
                g.initial = Some(Initial { remaining_ms: remaining_ms - delay_ms, newcomer: false });
                let due_ms = self.after(delay_ms);
                self.rebalance_at(g, Some(due_ms));
            }
            _ => {
                g.initial = None;
                self.complete(g);
            }
        }
    }

    /// Those who did not come are gone, static members excepted; those who did are the new generation.
    fn complete(&mut self, g: &mut Group) {
        let absent = g.members().iter().filter(|(_, m)| !m.joined && m.meta.instance.is_none());
        let absent: Vec<Arc<str>> = absent.map(|(id, _)| id.clone()).collect();
        for id in absent {
            self.take_out(g, &id, &GroupError::UnknownMember);
        }
        if !g.members().is_empty() && !g.elect() {
            // Only static members that have not come: their session timeouts decide.
            let due_ms = self.after(g.rebalance_timeout_ms());
            self.rebalance_at(g, Some(due_ms));
            return;
        }
        let written = if g.members().is_empty() { self.become_empty(g) } else { self.next_generation(g) };
        match written {
            Ok(()) => {}
            Err(NoRecord::Later) => {
                let due_ms = self.after(RETRY_MS);
                self.rebalance_at(g, Some(due_ms));
            }
            Err(NoRecord::TooLarge) => unreachable!("a group's bytes are bounded far below a record's"),
        }
    }

    fn become_empty(&mut self, g: &mut Group) -> Result<(), NoRecord> {
        let since_ms = self.now.wall_ms;
        if let Some(object) = g.object {
            let mut row = g.row(object, Phase::Empty);
            (row.generation, row.since_ms) = (following(g.generation), since_ms);
            row.protocol.clear();
            row.leader.clear();
            let mut effects = self.member_effects(g);
            effects.push(GroupEffect::Put(row).on(&g.key));
            self.record(None, &effects, None)?;
            g.generation = following(g.generation);
        }
        g.state = GroupState::Empty;
        g.since_ms = since_ms;
        g.protocol.clear();
        g.leader = None;
        self.rebalance_at(g, None);
        self.schedule_expiry(g);
        Ok(())
    }

    fn next_generation(&mut self, g: &mut Group) -> Result<(), NoRecord> {
        let protocol = g.vote(None).expect("every member was let in with a protocol that all can do");
        let mut effects = Vec::new();
        let object = self.object(g, &mut effects);
        let mut row = g.row(object, Phase::Completing);
        (row.generation, row.since_ms) = (following(g.generation), self.now.wall_ms);
        row.protocol.clone_from(&protocol);
        effects.push(GroupEffect::Put(row).on(&g.key));
        effects.extend(self.member_effects_on(g, object));
        self.record(None, &effects, None)?;
        g.object = Some(object);
        g.generation = following(g.generation);
        g.since_ms = self.now.wall_ms;
        g.protocol = protocol;
        g.state = GroupState::CompletingRebalance;
        self.rebalance_at(g, None);
        self.share_rows(g);
        let due_ms = self.after(g.rebalance_timeout_ms());
        self.sync_at(g, Some(due_ms));
        for id in g.ids() {
            g.set_joined(&id, false);
            g.unsynced.insert(id.clone());
            let Some(m) = g.get_mut(&id) else { continue };
            (m.is_new, m.told) = (false, true);
            let join = m.join.take();
            self.touch(g, &id);
            if join.is_some() {
                let answer = joined(g, &id);
                self.answer_join(join, Ok(answer));
            }
        }
        Ok(())
    }

    fn member_effects(&self, g: &Group) -> Vec<RowEffect> {
        g.object.map(|object| self.member_effects_on(g, object)).unwrap_or_default()
    }

    /// What makes the MEMBER rows say who is in the group now.
    fn member_effects_on(&self, g: &Group, object: millstream_types::ObjectId) -> Vec<RowEffect> {
        let rows: BTreeMap<&str, &Arc<MemberMeta>> =
            self.core.rows.members_of(object).map(|(k, r)| (k.member.as_str(), &r.meta)).collect();
        let gone = rows.keys().filter(|id| g.get(id).is_none());
        let mut effects: Vec<RowEffect> = gone.map(|id| MemberEffect::Gone.on(object, id)).collect();
        for (id, m) in g.members() {
            if rows.get(id.as_ref()).is_none_or(|meta| **meta != m.meta) {
                effects.push(MemberEffect::Joined(Arc::clone(&m.meta)).on(object, id));
            }
        }
        effects
    }

    /// Has the members hold what their rows hold, so that it is in memory once.
    pub fn share_rows(&self, g: &mut Group) {
        let Some(object) = g.object else { return };
        for (key, row) in self.core.rows.members_of(object) {
            if let Some(m) = g.get_mut(&key.member) {
                debug_assert_eq!(m.meta, row.meta, "the row says what the member said");
                m.meta = Arc::clone(&row.meta);
                if m.assignment == row.assignment {
                    m.assignment = row.assignment.clone();
                }
            }
        }
    }
}

/// The generation after this one. 0 is never given: it means that there was none.
fn following(generation: i32) -> i32 {
    generation.checked_add(1).unwrap_or(1)
}
