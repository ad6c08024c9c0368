//! The coordinator of consumer groups: finds the group an operation is about and has it decided there.
//!
//! Start at [`Groups`]. The seam to the engine is described at [`crate::group`]. What is decided: [`super::join`], [`super::sync`],
//! [`super::rebalance`], [`super::members`], [`super::offsets`], [`super::admin`]. What is durable: [`super::rows`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use millstream_log::{Permit, StateReader};
use millstream_types::limits::NAME_BYTES_MAX;
use millstream_types::{ConnId, LogId, Lsn, Namespace, ObjectId, ObjectKind};

use super::config::{GROUPS_MAX, GroupConfig, RETRY_MS, TIMERS_PER_TICK};
use super::live::{Caller, Group};
use super::member_id::MemberIds;
use super::offsets::{CommitPlan, check_commit, commit_effects, first_row};
use super::rows::Rows;
use super::rows::group::{GroupEffect, GroupKey};
use super::timers::Due;
use super::turn::{Core, Flow, Turn};
use super::{
    Commit, GroupError, GroupOp, GroupReply, GroupState, Join, SESSION_TIMEOUT_MAX_MS,
    SESSION_TIMEOUT_MIN_MS, Who, admin,
};
use crate::codec::DecodeError;
use crate::ctx::Ctx;
use crate::error::LoadError;
use crate::op::{Answer, Effects, Now, Reply};
use crate::rows::id::{Counter, Ids};
use crate::table::Dirty;

/// All consumer groups. What is durable is in rows, changed by effects only; the rest (who waits, timers, members that joined
/// since the last generation) is in memory and ends with the process.
#[derive(Debug, Default)]
pub struct Groups {
    core: Core,
    names: BTreeMap<GroupKey, u64>,
    by_no: BTreeMap<u64, Group>,
    next_no: u64,
    /// Operations that found no room for their record, oldest first, and when they are decided again.
    resting: VecDeque<(Caller, GroupOp)>,
    retry_at: Option<u64>,
}

impl Groups {
    /// No groups yet.
    #[must_use]
    pub fn new(config: GroupConfig) -> Self {
        Self { core: Core { config, ..Core::default() }, ..Self::default() }
    }

    /// Loads all rows. First call.
    ///
    /// # Errors
    /// If the store fails or holds what cannot be read.
    pub fn load(&mut self, rows: &Arc<dyn StateReader>) -> Result<(), LoadError> {
        self.core.rows = Rows::load(rows)?;
        Ok(())
    }

    /// Applies one effect of record `lsn`.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn apply_effect(&mut self, lsn: Lsn, key: &[u8], bytes: &[u8]) -> Result<(), DecodeError> {
        self.core.rows.apply_effect(lsn, key, bytes)
    }

    /// Record `lsn` deleted a partition: the offsets committed for it go.
    pub fn partition_deleted(&mut self, lsn: Lsn, log: LogId) {
        self.core.rows.partition_deleted(lsn, log);
    }

    /// Record `lsn` is complete.
    pub fn record_end(&mut self, lsn: Lsn) {
        self.core.rows.record_end(lsn);
    }

    /// The durable state of all groups.
    #[must_use]
    pub fn rows(&self) -> &Rows {
        &self.core.rows
    }

    /// Everything was replayed: groups stand as their rows say, sessions begin anew.
    pub fn serve(&mut self, now: Now) {
        self.core.ids = MemberIds::new(now.wall_ms, now.mono_ms);
        let mut log = NoLog;
        let (mut out, mut lsn, mut ids) = (Effects::default(), Lsn(0), Ids::default());
        let mut ctx = Ctx::new(&mut log, &mut out, &mut lsn, &mut ids, &|_| false);
        let rows: Vec<_> = self.core.rows.groups.iter().map(|(k, r)| (k.clone(), r.clone())).collect();
        for (key, row) in rows {
            let mut g = Group::of_row(self.next_no, key.clone(), &row);
            self.next_no += 1;
            for (k, m) in self.core.rows.members_of(row.object) {
                g.add(k.member.as_str().into(), Arc::clone(&m.meta), m.assignment.clone(), false);
            }
            Turn { core: &mut self.core, now, ctx: &mut ctx }.resume(&mut g);
            self.names.insert(key, g.no);
            self.by_no.insert(g.no, g);
        }
    }

    /// Decides one operation. The answer comes now, or in a later call if it has to wait for other members or for room.
    pub fn op(
        &mut self,
        now: Now,
        session: ConnId,
        ticket: crate::op::Ticket,
        permit: Option<Permit>,
        op: GroupOp,
        ctx: &mut Ctx<'_>,
    ) {
        self.decide(now, Caller { session, ticket }, permit, op, ctx);
    }

    fn decide(&mut self, now: Now, from: Caller, permit: Option<Permit>, op: GroupOp, ctx: &mut Ctx<'_>) {
        if self.route(now, from, permit, &op, ctx) == Flow::Rest {
            self.resting.push_back((from, op));
            self.retry_at = Some(now.mono_ms.saturating_add(RETRY_MS));
        }
    }

    fn route(
        &mut self,
        now: Now,
        from: Caller,
        permit: Option<Permit>,
        op: &GroupOp,
        ctx: &mut Ctx<'_>,
    ) -> Flow {
        match op {
            GroupOp::Join(j) => self.join(now, from, j, ctx),
            GroupOp::Sync(s) => {
                let mut flow = Flow::Done;
                let found = self.in_group(now, s.who.ns, &s.who.group, ctx, |t, g| flow = t.sync(g, from, s));
                if let Err(e) = found {
                    answer(ctx, from, GroupReply::Sync(Err(e)));
                }
                flow
            }
            GroupOp::Heartbeat { who } => {
                let result = self.in_group(now, who.ns, &who.group, ctx, |t, g| t.heartbeat(g, who));
                answer(ctx, from, GroupReply::Heartbeat(result.and_then(|r| r)));
                Flow::Done
            }
            GroupOp::Leave { ns, group, members } => {
                let left = self.in_group(now, *ns, group, ctx, |t, g| t.leave(g, members));
                let left = left.unwrap_or_else(|e| members.iter().map(|_| Err(e.clone())).collect());
                answer(ctx, from, GroupReply::Leave(left));
                Flow::Done
            }
            GroupOp::Commit(c) => self.commit(now, from, permit, c, ctx),
            GroupOp::FetchOffsets { ns, group, parts } => {
                let g = find(&self.names, &self.by_no, *ns, group);
                let offsets = Turn { core: &mut self.core, now, ctx }.fetch(g, parts.clone());
                answer(ctx, from, GroupReply::Offsets(offsets));
                Flow::Done
            }
            GroupOp::DeleteOffsets { ns, group, parts } => {
                let mut flow = Flow::Done;
                let delete =
                    |t: &mut Turn<'_, '_>, g: &mut Group| flow = t.delete_offsets(g, from, permit, parts);
                if self.in_any_group(now, *ns, group, ctx, delete).is_none() {
                    answer(ctx, from, GroupReply::DeleteOffsets(Err(GroupError::NotFound)));
                }
                flow
            }
            GroupOp::Delete { ns, groups } => self.delete(now, from, permit, *ns, groups, ctx),
            GroupOp::Describe { ns, groups } => {
                let found = |name: &String| find(&self.names, &self.by_no, *ns, name);
                let groups: Vec<_> = groups.iter().map(found).collect();
                let turn = Turn { core: &mut self.core, now, ctx };
                let infos = groups.into_iter().map(|g| g.map(|g| turn.describe(g))).collect();
                answer(ctx, from, GroupReply::Describe(infos));
                Flow::Done
            }
            GroupOp::List { ns } => {
                let first = GroupKey { ns: *ns, name: String::new() };
                let of_ns = self.names.range(first..).take_while(|(k, _)| k.ns == *ns);
                let list = of_ns.filter_map(|(_, no)| self.by_no.get(no)).map(admin::summary).collect();
                answer(ctx, from, GroupReply::List(list));
                Flow::Done
            }
        }
    }

    fn join(&mut self, now: Now, from: Caller, j: &Join, ctx: &mut Ctx<'_>) -> Flow {
        let refused = if j.group.is_empty() || j.group.len() > NAME_BYTES_MAX {
            Some(GroupError::InvalidGroup)
        } else if !(SESSION_TIMEOUT_MIN_MS..=SESSION_TIMEOUT_MAX_MS).contains(&j.session_timeout_ms) {
            Some(GroupError::InvalidSessionTimeout)
        } else if find(&self.names, &self.by_no, j.ns, &j.group).is_some() {
            None
        } else if !j.member.is_empty() {
            Some(GroupError::UnknownMember)
        } else {
            self.create(j.ns, &j.group).err()
        };
        if let Some(e) = refused {
            answer(ctx, from, GroupReply::Join(Err(e)));
            return Flow::Done;
        }
        let flow = self.in_any_group(now, j.ns, &j.group, ctx, |t, g| t.join(g, from, j));
        flow.unwrap_or(Flow::Done)
    }

    fn commit(
        &mut self,
        now: Now,
        from: Caller,
        permit: Option<Permit>,
        c: &Commit,
        ctx: &mut Ctx<'_>,
    ) -> Flow {
        let who = &c.who;
        let g = find(&self.names, &self.by_no, who.ns, &who.group);
        let (allowed, new) = (check_commit(g, who), g.is_none());
        let allowed = if allowed.is_ok() && new { self.create(who.ns, &who.group) } else { allowed };
        if let Err(e) = allowed {
            answer(ctx, from, GroupReply::Commit(Err(e)));
            return Flow::Done;
        }
        let flow = self.in_any_group(now, who.ns, &who.group, ctx, |t, g| t.commit(g, from, permit, c));
        flow.unwrap_or(Flow::Done)
    }

    fn delete(
        &mut self,
        now: Now,
        from: Caller,
        permit: Option<Permit>,
        ns: Namespace,
        names: &[String],
        ctx: &mut Ctx<'_>,
    ) -> Flow {
        let result = |name: &String| match find(&self.names, &self.by_no, ns, name) {
            None => Err(GroupError::NotFound),
            Some(g) if g.state == GroupState::Empty => Ok(g.no),
            Some(_) => Err(GroupError::NotEmpty),
        };
        let results: Vec<Result<u64, GroupError>> = names.iter().map(result).collect();
        let nos: BTreeSet<u64> = results.iter().filter_map(|r| r.as_ref().ok().copied()).collect();
        let mut gone: Vec<Group> = nos.iter().filter_map(|no| self.by_no.remove(no)).collect();
        let mut turn = Turn { core: &mut self.core, now, ctx };
        let written = turn.delete(&mut gone.iter_mut().collect::<Vec<_>>(), permit);
        for g in gone {
            if written == Ok(true) {
                self.names.remove(&g.key);
            } else {
                self.by_no.insert(g.no, g);
            }
        }
        let answers = match written {
            Ok(false) => return Flow::Rest,
            Ok(true) => results.into_iter().map(|r| r.map(|_| ())).collect(),
            Err(e) => results.into_iter().map(|r| r.and(Err(e.clone()))).collect(),
        };
        answer(ctx, from, GroupReply::Delete(answers));
        Flow::Done
    }

    /// What offset commits come to, for a record of the engine's; applies nothing. A group that is not there begins with its first
    /// commit, as it does without a transaction.
    ///
    /// # Errors
    /// The index of a commit that a group refuses, whole or in part, and why.
    pub fn decide_commits(
        &self,
        now: Now,
        ids: &Ids,
        commits: &[Commit],
        exists: &dyn Fn(LogId) -> bool,
    ) -> Result<CommitPlan, (usize, GroupError)> {
        let mut plan = CommitPlan::default();
        let first = ids.next(Counter::Objects);
        let mut next = first;
        for (index, commit) in commits.iter().enumerate() {
            self.decide_commit(now, commit, exists, &mut plan, &mut next).map_err(|e| (index, e))?;
        }
        if next > first {
            plan.effects.push(Ids::effect(Counter::Objects, next));
        }
        Ok(plan)
    }

    fn decide_commit(
        &self,
        now: Now,
        commit: &Commit,
        exists: &dyn Fn(LogId) -> bool,
        plan: &mut CommitPlan,
        next: &mut u64,
    ) -> Result<(), GroupError> {
        let Who { ns, group: name, .. } = &commit.who;
        let g = find(&self.names, &self.by_no, *ns, name);
        check_commit(g, &commit.who)?;
        if commit.offsets.is_empty() {
            return Ok(());
        }
        let key = GroupKey { ns: *ns, name: name.clone() };
        let known = g.and_then(|g| g.object).or_else(|| plan.object(&key));
        let object = if let Some(object) = known {
            object
        } else {
            let object = ObjectId::new(ObjectKind::Group, *next);
            let row = if let Some(g) = g {
                first_row(now, g, object)
            } else {
                self.may_create(name, plan.begun.len())?;
                first_row(now, &Group::new(0, key.clone()), object)
            };
            *next += 1;
            plan.effects.push(GroupEffect::Put(row).on(&key));
            plan.begun.push((key, object));
            object
        };
        let (results, effects) = commit_effects(now, object, &commit.offsets, exists);
        results.into_iter().collect::<Result<(), GroupError>>()?;
        plan.effects.extend(effects);
        Ok(())
    }

    /// The commits of a plan are recorded and applied: memory follows.
    pub fn committed(&mut self, now: Now, commits: &[Commit], plan: &CommitPlan, ctx: &mut Ctx<'_>) {
        for commit in commits {
            let Who { ns, group: name, .. } = &commit.who;
            let key = GroupKey { ns: *ns, name: name.clone() };
            if plan.object(&key).is_some() && !self.names.contains_key(&key) {
                self.put_new(key);
            }
            self.in_any_group(now, *ns, name, ctx, |t, g| t.committed(g, commit, plan));
        }
    }

    /// Does what is due, a bounded part per call.
    pub fn tick(&mut self, now: Now, ctx: &mut Ctx<'_>) {
        for _ in 0..TIMERS_PER_TICK {
            let Some((no, due)) = self.core.timers.pop(now.mono_ms) else { break };
            self.in_group_no(now, no, ctx, |t, g| match due {
                Due::Rebalance => {
                    g.rebalance_due = None;
                    t.rebalance_due(g);
                }
                Due::Sync => {
                    g.sync_due = None;
                    t.sync_due(g);
                }
                Due::Expiry => {
                    g.expiry_due = None;
                    t.expiry_due(g);
                }
                Due::Member(id) => t.member_due(g, &id),
                Due::Pending(id) => t.pending_due(g, &id),
            });
        }
        if self.retry_at.is_some_and(|at| at <= now.mono_ms) {
            self.retry_at = None;
            for (from, op) in std::mem::take(&mut self.resting) {
                self.decide(now, from, None, op, ctx);
            }
        }
    }

    /// When the earliest timer is due, monotonic milliseconds. It may be early, never late.
    #[must_use]
    pub fn next_timer(&self) -> Option<u64> {
        self.core.timers.next().into_iter().chain(self.retry_at).min()
    }

    /// The session is gone: its waiting joins and syncs get no answer. Its members stay until their session timeout, but for
    /// newcomers whose id nobody was told.
    pub fn session_gone(&mut self, now: Now, session: ConnId, ctx: &mut Ctx<'_>) {
        self.resting.retain(|(from, ..)| from.session != session);
        let first = (session, crate::op::Ticket(0));
        let of = self.core.waits.range(first..=(session, crate::op::Ticket(u64::MAX)));
        let waits: Vec<_> = of.map(|(k, (no, id))| (*k, *no, id.clone())).collect();
        for (at, no, id) in waits {
            self.core.waits.remove(&at);
            self.in_group_no(now, no, ctx, |t, g| t.caller_gone(g, &id));
        }
    }

    /// The log is lost: all that wait are answered [`Reply::FateUnknown`].
    pub fn lost(&mut self, out: &mut Effects) {
        let resting =
            std::mem::take(&mut self.resting).into_iter().map(|(from, ..)| (from.session, from.ticket));
        let waits = std::mem::take(&mut self.core.waits).into_keys();
        for (session, ticket) in waits.chain(resting) {
            out.answers.push(Answer { session, ticket, wait: Lsn(0), reply: Reply::FateUnknown });
        }
        self.retry_at = None;
        for g in self.by_no.values_mut() {
            for id in g.ids() {
                if let Some(m) = g.get_mut(&id) {
                    (m.join, m.sync) = (None, None);
                }
            }
        }
    }

    /// The tables, for the flusher.
    pub fn tables(&mut self) -> Vec<&mut dyn Dirty> {
        self.core.rows.tables()
    }

    /// A group of which nothing is durable yet.
    fn create(&mut self, ns: Namespace, name: &str) -> Result<(), GroupError> {
        self.may_create(name, 0)?;
        self.put_new(GroupKey { ns, name: name.to_owned() });
        Ok(())
    }

    /// Whether there may be a group more, and `others` besides.
    fn may_create(&self, name: &str, others: usize) -> Result<(), GroupError> {
        if name.len() > NAME_BYTES_MAX {
            return Err(GroupError::InvalidGroup);
        }
        if self.by_no.len() + others >= GROUPS_MAX {
            return Err(GroupError::Full);
        }
        Ok(())
    }

    fn put_new(&mut self, key: GroupKey) {
        self.names.insert(key.clone(), self.next_no);
        self.by_no.insert(self.next_no, Group::new(self.next_no, key));
        self.next_no += 1;
    }

    /// Runs `f` on a group that a member names.
    fn in_group<R>(
        &mut self,
        now: Now,
        ns: Namespace,
        name: &str,
        ctx: &mut Ctx<'_>,
        f: impl FnOnce(&mut Turn<'_, '_>, &mut Group) -> R,
    ) -> Result<R, GroupError> {
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            return Err(GroupError::InvalidGroup);
        }
        self.in_any_group(now, ns, name, ctx, f).ok_or(GroupError::UnknownMember)
    }

    fn in_any_group<R>(
        &mut self,
        now: Now,
        ns: Namespace,
        name: &str,
        ctx: &mut Ctx<'_>,
        f: impl FnOnce(&mut Turn<'_, '_>, &mut Group) -> R,
    ) -> Option<R> {
        let no = *self.names.get(&GroupKey { ns, name: name.to_owned() })?;
        self.in_group_no(now, no, ctx, f)
    }

    /// Runs `f` on a group; a group of which nothing is left is forgotten.
    fn in_group_no<R>(
        &mut self,
        now: Now,
        no: u64,
        ctx: &mut Ctx<'_>,
        f: impl FnOnce(&mut Turn<'_, '_>, &mut Group) -> R,
    ) -> Option<R> {
        let g = self.by_no.get_mut(&no)?;
        let result = f(&mut Turn { core: &mut self.core, now, ctx }, g);
        if g.is_nothing() {
            self.names.remove(&g.key);
            self.by_no.remove(&no);
        }
        Some(result)
    }
}

fn find<'a>(
    names: &BTreeMap<GroupKey, u64>,
    groups: &'a BTreeMap<u64, Group>,
    ns: Namespace,
    name: &str,
) -> Option<&'a Group> {
    names.get(&GroupKey { ns, name: name.to_owned() }).and_then(|no| groups.get(no))
}

fn answer(ctx: &mut Ctx<'_>, to: Caller, reply: GroupReply) {
    let wait = ctx.last_lsn();
    ctx.answer(to.session, to.ticket, wait, Reply::Group(reply));
}

/// Nothing is written while groups are made from their rows.
struct NoLog;

impl crate::op::Commits for NoLog {
    fn commit(&mut self, _: Permit, _: &[millstream_log::Op<'_>], _: Option<ConnId>) -> Lsn {
        unreachable!("no room is given")
    }
    fn keep(&mut self, _: &[millstream_log::Op<'_>]) {
        unreachable!("groups are recorded")
    }
    fn spare(&mut self, _: usize) -> Option<Permit> {
        None
    }
}
