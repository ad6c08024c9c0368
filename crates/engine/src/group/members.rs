//! Leaving, and members that go without a word.

use std::sync::Arc;

use super::live::Group;
use super::turn::{Turn, check_member};
use super::{GroupError, GroupState};

impl Turn<'_, '_> {
    /// Members leave. Without a member id it is an operator who removes a static member by its instance id (KIP-345).
    pub fn leave(
        &mut self,
        g: &mut Group,
        members: &[(String, Option<String>)],
    ) -> Vec<Result<(), GroupError>> {
        members.iter().map(|(member, instance)| self.leave_one(g, member, instance.as_deref())).collect()
    }

    fn leave_one(&mut self, g: &mut Group, member: &str, instance: Option<&str>) -> Result<(), GroupError> {
        if member.is_empty() {
            let id = instance.and_then(|i| g.instance(i)).cloned().ok_or(GroupError::UnknownMember)?;
            self.let_go(g, &id, &GroupError::UnknownMember);
        } else if g.pending.contains_key(member) {
            self.pending_due(g, member);
        } else {
            check_member(g, member, instance)?;
            self.let_go(g, member, &GroupError::UnknownMember);
        }
        Ok(())
    }

    /// A member id that was given is void.
    pub fn pending_due(&mut self, g: &mut Group, id: &str) {
        self.forget_pending(g, id);
        self.proceed(g);
    }

    /// A member's timer stood until now: it is evicted if it was silent since its deadline began.
    pub fn member_due(&mut self, g: &mut Group, id: &Arc<str>) {
        let Some(m) = g.get_mut(id) else { return };
        m.timer = None;
        // Who waits for the others to join or for the leader's assignment cannot send heartbeats. A newcomer that waits has
        // no member id yet: if its client gave up it comes back as another one, so it may not wait for ever.
        let waits = (m.joined && !m.is_new) || m.sync.is_some();
        let deadline_ms = m.deadline_ms;
        if deadline_ms > self.now.mono_ms {
            self.deadline(g, id, deadline_ms);
        } else if !waits {
            self.let_go(g, id, &GroupError::UnknownMember);
        }
    }

    /// Nobody waits any more for what a member waits for.
    pub fn caller_gone(&mut self, g: &mut Group, id: &Arc<str>) {
        let Some(m) = g.get_mut(id) else { return };
        (m.join, m.sync) = (None, None);
        if !m.joined {
            self.touch(g, id);
        } else if !m.told && m.meta.instance.is_none() {
            // Nobody can ever come back as this member.
            self.let_go(g, id, &GroupError::UnknownMember);
        }
    }

    /// What a member of a group that stands as its rows say is waited for after a restart.
    pub fn resume(&mut self, g: &mut Group) {
        for id in g.ids() {
            self.touch(g, &id);
        }
        match g.state {
            GroupState::CompletingRebalance => {
                g.unsynced = g.ids().into_iter().collect();
                let due_ms = self.after(g.rebalance_timeout_ms());
                self.sync_at(g, Some(due_ms));
            }
            GroupState::Empty => self.schedule_expiry(g),
            _ => {}
        }
    }
}
