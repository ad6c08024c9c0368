//! Making, altering and deleting queues: all changes of an operation or none, one record.
//!
//! Start at [`Queues::change`]. Each change sees those before it.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_log::Permit;
use millstream_types::limits::NAME_BYTES_MAX;
use millstream_types::{LogId, Lsn, Namespace, ObjectId, ObjectKind};

use super::api::{QUEUES_MAX, QueueChange, QueueDef, QueueError, QueueReply, ReceiveError, Terms};
use super::policy::{Backoff, DELAY_MS_MAX, ID_WINDOW_MS_MAX, LEASE_MS_MAX, Ordering, Overflow, QueuePolicy};
use super::queues::{Cx, Queues};
use super::rows::def::{self, DefRow, QueueName};
use super::rows::head::{self, HeadKey};
use super::source::{SUBSCRIBED_PARTITIONS_MAX, SUBSCRIPTIONS_MAX, Source, Start};
use crate::catalogue::Kind;
use crate::ctx::Asker;
use crate::decide::routing;
use crate::exchange::{Target, TargetKind};
use crate::op::Ended;
use crate::rows::cat::CatKey;
use crate::rows::id::{Counter, Ids};
use crate::state::State;

/// More than a change adds to a record besides bindings: definition and logs.
const CHANGE_BYTES: usize = 8 << 10;

/// What becomes of the changes of one operation.
struct Plan<'a> {
    state: &'a State,
    queues: &'a Queues,
    now_ms: u64,
    changed: BTreeMap<QueueName, Option<DefRow>>,
    /// Queues made, altered or removed by this operation.
    by_id: BTreeMap<ObjectId, Option<QueueDef>>,
    next_object: u64,
    /// How many ids of transient queues were taken.
    transient_ids: u64,
    total: usize,
    /// Where subscriptions that are made begin: of each partition the first offset.
    opened: Vec<(ObjectId, Vec<u64>)>,
    /// Bindings to queues that are removed go with them.
    routing: routing::Draft<'a>,
}

impl Queues {
    pub(super) fn change(
        &mut self,
        cx: &mut Cx<'_>,
        asker: Asker,
        changes: &[QueueChange],
        permit: Option<Permit>,
    ) {
        let first_object = cx.state.ids.next(Counter::Objects);
        // What a deletion looks at has to be in memory.
        for change in changes {
            if let QueueChange::Delete { id, .. } = change {
                self.load(&cx.state.queues, *id);
            }
        }
        let mut plan = Plan {
            state: cx.state,
            queues: self,
            now_ms: cx.now.wall_ms,
            changed: BTreeMap::new(),
            by_id: BTreeMap::new(),
            next_object: first_object,
            transient_ids: 0,
            total: self.directory.len(),
            opened: Vec::new(),
            routing: routing::Draft::new(cx.state, cx.routes, cx.now.wall_ms),
        };
        let mut defs: Result<Vec<QueueDef>, QueueError> = changes.iter().map(|c| plan.one(c)).collect();
        let Plan { changed, by_id, next_object, transient_ids, routing, opened, .. } = plan;
        let unbinds = routing.bytes();
        let routing = routing.into_plan();
        let mut wait = None;
        let bytes = unbinds + changes.len() * CHANGE_BYTES;
        if unbinds > 0 && permit.as_ref().is_some_and(|p| bytes > p.bytes) {
            defs = Err(QueueError::Room { bytes });
        }
        if defs.is_ok() && !changes.is_empty() {
            for (key, row) in &changed {
                let is_transient = |r: &DefRow| r.id.is_transient();
                let before = cx.state.queues.defs.get(key).map(is_transient);
                let after = row.as_ref().map(is_transient);
                if before == Some(false) && after == Some(true) {
                    self.record.made(&def::effect(key, None));
                }
                let transient = after.or(before).unwrap_or(false);
                self.record.made(&def::effect(key, row.as_ref()).in_memory(transient));
            }
            if next_object > first_object {
                self.record.made(&Ids::effect(Counter::Objects, next_object));
            }
            self.transient_ids.given(transient_ids);
            for effect in &routing.effects {
                self.record.made(effect);
            }
            for (id, firsts) in &opened {
                self.record.head(*id, |out| {
                    for (lane, first) in (0..).zip(firsts).filter(|f| *f.1 > 0) {
                        head::put_purged(out, 0, lane, *first, *first, 0);
                    }
                });
            }
            for (id, after) in &by_id {
                if after.is_none() && self.directory.by_id(*id).is_some() {
                    self.ids.forget_queue(&cx.state.queues, *id);
                    self.delete_logs(&cx.state.queues, *id);
                }
            }
            let permit = crate::engine::writing(permit);
            let lsn = self.commit(cx, permit, Some(asker.session), |_| &[]);
            wait = lsn.filter(|lsn| *lsn == Lsn::UNRECORDED);
            for (id, after) in by_id {
                self.follow(cx, id, after);
            }
            for step in &routing.steps {
                cx.routes.changed(step);
                cx.out.routes.push(step.event());
            }
        }
        cx.answer(asker, wait.unwrap_or(*cx.last_lsn), QueueReply::Changed(defs));
    }

    /// The logs of all lanes go, and with them head and chunks. Lane 0 is named even if nothing was ever in it.
    fn delete_logs(&mut self, rows: &super::rows::QueueRows, id: ObjectId) {
        let is_subscription = self.directory.by_id(id).is_some_and(|d| d.source.is_some());
        // The logs of a subscription's lanes are its topic's.
        let head = rows.heads.get(&HeadKey(id)).filter(|_| !is_subscription);
        let lanes = head.map(|h| h.lanes.keys().copied().collect::<Vec<_>>());
        let mut lanes = lanes.unwrap_or_default();
        if lanes.first() != Some(&0) {
            lanes.insert(0, 0);
        }
        for lane in lanes {
            self.record.delete(LogId::new(id, lane));
        }
    }

    /// Memory follows a change.
    pub(crate) fn follow(&mut self, cx: &mut Cx<'_>, id: ObjectId, after: Option<QueueDef>) {
        let before = self.directory.by_id(id);
        match (before, after) {
            (None, None) => {}
            (_, Some(mut def)) => {
                let key = QueueName { ns: def.ns, name: def.name.clone() };
                if let Some(row) = cx.state.queues.defs.get(&key).filter(|r| r.id == id) {
                    // As its row has it: shared with queues that are alike.
                    def.terms = Arc::clone(&row.terms);
                }
                if self.rests.kept(id).is_some() {
                    self.load(&cx.state.queues, id);
                }
                let def = self.directory.put(def);
                if let Some(queue) = self.live.get_mut(id) {
                    if queue.policy().expires_ms != def.policy.expires_ms {
                        // It is not unused for longer than it is asked whether it is.
                        queue.used_ms = cx.now.wall_ms;
                    }
                    queue.define(def);
                    let single = queue.policy().single_active;
                    queue.consumers.policy(single);
                    for lane in queue.lanes.values_mut() {
                        lane.head_timer_ms = None;
                    }
                    queue.idle_timer = false;
                    queue.watch_idle(&mut self.timers);
                    self.mark_runnable(id);
                } else if def.source.is_some() {
                    self.topics.subscribed(cx.state, &def, Some(*cx.last_lsn));
                    self.load(&cx.state.queues, id);
                    self.mark_runnable(id);
                } else if def.policy.expires_ms.is_some() {
                    self.load(&cx.state.queues, id);
                }
            }
            (Some(def), None) => {
                self.directory.remove(&def);
                self.topics.unsubscribed(&def);
                self.forget(cx, id);
            }
        }
    }

    /// A queue is gone: who waits at it is answered, and nobody has anything of it.
    fn forget(&mut self, cx: &mut Cx<'_>, id: ObjectId) {
        self.rests.take(id);
        let Some(queue) = self.live.remove(id) else { return };
        for (session, ticket) in queue.consumers.all_waiters() {
            if let Some(s) = self.sessions.get_mut(&session) {
                s.waits.remove(&ticket);
            }
            let asker = Asker { session, ticket };
            cx.answer(asker, *cx.last_lsn, QueueReply::Received(Err(ReceiveError::NotFound)));
        }
        for (session, consumer) in queue.consumers.all() {
            if let Some(s) = self.sessions.get_mut(&session) {
                s.consumers.remove(&consumer);
            }
            cx.out.ended.push(Ended { session, consumer, wait: *cx.last_lsn });
        }
        for (number, lane) in queue.lanes.iter() {
            for lease in lane.leases.iter() {
                let Some((session, consumer)) = lease.holder else { continue };
                let Some(s) = self.sessions.get_mut(&session) else { continue };
                s.leases.remove(id, *number, lease.slot.pos);
                if consumer != super::api::ConsumerId(0) {
                    s.pool_used = s.pool_used.saturating_sub(1);
                    self.freed.push(session);
                }
            }
        }
    }
}

/// Whether a policy can be that of a subscription: nothing in it may ask for another order than the topic's, or bound what the topic holds.
fn check_subscription(p: &QueuePolicy) -> Result<(), QueueError> {
    let not = [
        (p.ordering != Ordering::None, "ordering"),
        (p.priority_max > 0, "priority_max"),
        (p.messages_max.is_some(), "messages_max"),
        (p.bytes_max.is_some(), "bytes_max"),
        (p.overflow != Overflow::DropHead, "overflow"),
        (p.delay_ms > 0, "delay_ms"),
        (p.id_window_ms.is_some(), "id_window_ms"),
    ];
    match not.into_iter().find(|n| n.0) {
        Some((_, what)) => Err(QueueError::Policy { what }),
        None => Ok(()),
    }
}

/// Whether a policy can be.
fn check_policy(p: &QueuePolicy) -> Result<(), QueueError> {
    let bad = |what| Err(QueueError::Policy { what });
    if p.lease_ms == 0 || p.lease_ms > LEASE_MS_MAX {
        return bad("lease_ms");
    }
    if p.attempts_max == Some(0) || p.attempts_max.is_some_and(|n| n > u32::from(u16::MAX)) {
        return bad("attempts_max");
    }
    if p.delay_ms > DELAY_MS_MAX {
        return bad("delay_ms");
    }
    if p.expires_ms == Some(0) {
        return bad("expires_ms");
    }
    if p.id_window_ms.is_some_and(|ms| ms == 0 || ms > ID_WINDOW_MS_MAX) {
        return bad("id_window_ms");
    }
    match p.backoff {
        Backoff::Exponential { jitter_percent, .. } if jitter_percent > 100 => bad("backoff"),
        Backoff::Fixed { ms } if ms > LEASE_MS_MAX => bad("backoff"),
        _ => Ok(()),
    }
}

impl Plan<'_> {
    fn one(&mut self, change: &QueueChange) -> Result<QueueDef, QueueError> {
        match change {
            QueueChange::Create { ns, name, policy, settings, source, transient } => {
                self.create(*ns, name, (policy, settings), source.as_ref(), *transient)
            }
            QueueChange::Alter { id, expect, policy, settings } => {
                let mut def = self.find(*id)?;
                if def.version != *expect {
                    return Err(QueueError::Version { current: def.version });
                }
                check_policy(policy)?;
                if def.source.is_some() {
                    check_subscription(policy)?;
                }
                if def.policy.ordering != policy.ordering {
                    return Err(QueueError::Policy { what: "ordering" });
                }
                def.version = def.version.saturating_add(1);
                let source = def.source.clone();
                def.terms = Arc::new(Terms { policy: policy.clone(), settings: settings.clone(), source });
                Ok(self.put(def))
            }
            QueueChange::Delete { id, if_unused, if_empty, if_idle } => {
                let def = self.find(*id)?;
                if let Some(queue) = self.queues.live.get(*id) {
                    if *if_unused && queue.consumers.count() > 0 || *if_idle && !queue.is_idle(self.now_ms) {
                        return Err(QueueError::InUse);
                    }
                    if *if_empty && queue.messages() > queue.leased.n {
                        return Err(QueueError::NotEmpty);
                    }
                }
                self.total = self.total.saturating_sub(1);
                self.by_id.insert(*id, None);
                let target = Target { kind: TargetKind::Queue, name: def.name.clone() };
                self.routing.target_gone(def.ns, &target);
                self.changed.insert(QueueName { ns: def.ns, name: def.name.clone() }, None);
                Ok(def)
            }
        }
    }

    fn find(&self, id: ObjectId) -> Result<QueueDef, QueueError> {
        let def = match self.by_id.get(&id) {
            Some(def) => def.clone(),
            None => self.queues.directory.by_id(id).map(|d| (*d).clone()),
        };
        def.ok_or(QueueError::NotFound)
    }

    fn named(&self, key: &QueueName) -> Option<ObjectId> {
        match self.changed.get(key) {
            Some(row) => row.as_ref().map(|r| r.id),
            None => self.state.queues.defs.get(key).map(|r| r.id),
        }
    }

    fn put(&mut self, def: QueueDef) -> QueueDef {
        let row = DefRow {
            id: def.id,
            created_ms: def.created_ms,
            version: def.version,
            terms: Arc::clone(&def.terms),
        };
        self.changed.insert(QueueName { ns: def.ns, name: def.name.clone() }, Some(row));
        self.by_id.insert(def.id, Some(def.clone()));
        def
    }

    fn create(
        &mut self,
        ns: Namespace,
        name: &str,
        (policy, settings): (&QueuePolicy, &BTreeMap<String, String>),
        source: Option<&(Source, Start)>,
        transient: bool,
    ) -> Result<QueueDef, QueueError> {
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            return Err(QueueError::InvalidName);
        }
        check_policy(policy)?;
        let key = QueueName { ns, name: name.to_owned() };
        if let Some(id) = self.named(&key) {
            return Err(QueueError::Exists { name: key.name, id });
        }
        if self.state.cat.get(&CatKey { ns, kind: Kind::Topic, name: key.name.clone() }).is_some() {
            return Err(QueueError::WrongKind { name: key.name });
        }
        self.total += 1;
        if self.total > QUEUES_MAX {
            return Err(QueueError::TooMany { max: QUEUES_MAX });
        }
        let firsts = source.map(|(source, start)| self.firsts(ns, policy, source, start)).transpose()?;
        let id = if transient {
            self.transient_ids += 1;
            self.queues.transient_ids.peek(self.transient_ids - 1)
        } else {
            self.next_object += 1;
            ObjectId::new(ObjectKind::Queue, self.next_object - 1)
        };
        self.opened.extend(firsts.filter(|f| f.iter().any(|first| *first > 0)).map(|f| (id, f)));
        let (policy, settings) = (policy.clone(), settings.clone());
        let terms = Arc::new(Terms { policy, settings, source: source.map(|s| s.0.clone()) });
        let (created_ms, version) = (self.now_ms, 1);
        Ok(self.put(QueueDef { ns, name: key.name, id, created_ms, version, terms }))
    }

    /// Where a subscription begins, by partition.
    fn firsts(
        &self,
        ns: Namespace,
        policy: &QueuePolicy,
        source: &Source,
        start: &Start,
    ) -> Result<Vec<u64>, QueueError> {
        check_subscription(policy)?;
        let row = self.state.cat.get(&CatKey::topic(ns, &source.topic)).filter(|r| r.uuid == source.uuid);
        let row = row.ok_or(QueueError::NoTopic)?;
        if row.partitions.len() > SUBSCRIBED_PARTITIONS_MAX {
            return Err(QueueError::Partitions);
        }
        let made = self.by_id.values().flatten().filter(|d| d.source.as_ref() == Some(source)).count();
        if self.queues.topics.queues(&source.uuid).count() + made >= SUBSCRIPTIONS_MAX {
            return Err(QueueError::Subscriptions);
        }
        let first = |(index, object): (usize, &ObjectId)| {
            let row = self.state.part.get(&LogId::new(*object, 0));
            let (from, next) = row.map_or((0, 0), |r| (r.start, r.next));
            start.first(index, from, next)
        };
        Ok(row.partitions.iter().enumerate().map(first).collect())
    }
}
