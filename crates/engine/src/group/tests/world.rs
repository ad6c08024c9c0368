//! A coordinator with its surroundings.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use millstream_log::{Class, Gate, Op as LogOp, Permit, Row, StateReader, StoreError};
use millstream_types::{ConnId, LogId, Lsn, Namespace, ObjectId, ObjectKind};

use crate::ctx::Ctx;
use crate::group::*;
use crate::op::{Commits, Effects, Now, Reply, Ticket};
use crate::rows::family;
use crate::rows::id::Ids;

pub const NS: Namespace = Namespace::DEFAULT;
pub const SESSION_MS: u64 = 10_000;
pub const REBALANCE_MS: u64 = 60_000;
pub const HOUR_MS: u64 = 3_600_000;

/// Effects of a record: (key, bytes).
pub type Record = Vec<(Vec<u8>, Vec<u8>)>;

pub struct Log {
    pub gate: Gate,
    pub records: Vec<Record>,
    pub room: bool,
}

impl Commits for Log {
    fn commit(&mut self, _permit: Permit, ops: &[LogOp<'_>], _waiter: Option<ConnId>) -> Lsn {
        let record = ops.iter().map(|op| match op {
            LogOp::Effect { object, bytes } => (object.to_vec(), bytes.to_vec()),
            other => panic!("{other:?}"),
        });
        self.records.push(record.collect());
        Lsn(self.records.len() as u64)
    }
    fn keep(&mut self, ops: &[LogOp<'_>]) {
        panic!("{ops:?}")
    }
    fn spare(&mut self, bytes: usize) -> Option<Permit> {
        if self.room { self.gate.try_admit(Class::Settle, bytes).ok() } else { None }
    }
    fn op_bytes_max(&self) -> usize {
        self.gate.op_bytes_max()
    }
}

pub struct World {
    pub config: GroupConfig,
    pub groups: Groups,
    pub ids: Ids,
    pub log: Log,
    pub last_lsn: Lsn,
    pub now: Now,
    pub parts: BTreeSet<LogId>,
    pub answers: BTreeMap<u64, (GroupReply, Lsn)>,
    pub next_ticket: u64,
}

pub fn part(n: u64) -> LogId {
    LogId::new(ObjectId::new(ObjectKind::Partition, n), 0)
}

impl World {
    pub fn new() -> Self {
        Self::with(GroupConfig { initial_rebalance_delay_ms: 0, ..GroupConfig::default() })
    }

    pub fn with(config: GroupConfig) -> Self {
        let log = Log { gate: Gate::new(1 << 20), records: Vec::new(), room: true };
        let mut world = Self {
            config,
            groups: Groups::new(config),
            ids: Ids::default(),
            log,
            last_lsn: Lsn(0),
            now: Now { wall_ms: 1_700_000_000_000, mono_ms: 1_000 },
            parts: (1..=9).map(part).collect(),
            answers: BTreeMap::new(),
            next_ticket: 0,
        };
        world.groups.serve(world.now);
        world
    }

    pub fn run(&mut self, f: impl FnOnce(&mut Groups, Now, &mut Ctx<'_>)) {
        let mut out = Effects::default();
        let before = self.last_lsn;
        let parts = self.parts.clone();
        let exists = |log: LogId| parts.contains(&log);
        let mut ctx = Ctx::new(&mut self.log, &mut out, &mut self.last_lsn, &mut self.ids, &exists);
        f(&mut self.groups, self.now, &mut ctx);
        for a in out.answers {
            let Reply::Group(reply) = a.reply else { panic!("{:?}", a.reply) };
            let last = Lsn(self.log.records.len() as u64);
            assert!((before..=last).contains(&a.wait), "an answer waits for what it shows, and no longer");
            let twice = self.answers.insert(a.ticket.0, (reply, a.wait));
            assert!(twice.is_none(), "ticket {} was answered before: {twice:?}", a.ticket.0);
        }
    }

    /// Submits an operation for session `session`; its ticket.
    pub fn submit(&mut self, session: u64, op: GroupOp) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.run(|g, now, ctx| g.op(now, ConnId(session), Ticket(ticket), None, op, ctx));
        ticket
    }

    /// Lets time pass, timer by timer.
    pub fn pass(&mut self, ms: u64) {
        let end = self.now.mono_ms + ms;
        for _ in 0..100_000 {
            let due = self.groups.next_timer().filter(|due| *due <= end);
            let at = due.unwrap_or(end).max(self.now.mono_ms);
            self.now.wall_ms += at - self.now.mono_ms;
            self.now.mono_ms = at;
            self.run(|g, now, ctx| g.tick(now, ctx));
            if due.is_none() {
                return;
            }
        }
        panic!("timers without end");
    }

    /// The process ends; another one replays all records.
    pub fn restart(&mut self) {
        self.groups = Groups::new(self.config);
        self.ids = Ids::default();
        for (i, record) in self.log.records.iter().enumerate() {
            replay(&mut self.groups, &mut self.ids, Lsn(i as u64 + 1), record);
        }
        self.now.mono_ms = 5;
        self.now.wall_ms += 1_000;
        self.groups.serve(self.now);
        self.answers.clear();
    }

    pub fn reply(&mut self, ticket: u64) -> GroupReply {
        self.answers.remove(&ticket).unwrap_or_else(|| panic!("ticket {ticket} has no answer")).0
    }

    pub fn waits(&self, ticket: u64) -> bool {
        !self.answers.contains_key(&ticket)
    }

    pub fn join_reply(&mut self, ticket: u64) -> Result<Joined, GroupError> {
        match self.reply(ticket) {
            GroupReply::Join(r) => r,
            other => panic!("{other:?}"),
        }
    }

    pub fn sync_reply(&mut self, ticket: u64) -> Result<Synced, GroupError> {
        match self.reply(ticket) {
            GroupReply::Sync(r) => r,
            other => panic!("{other:?}"),
        }
    }

    /// A new dynamic member that was given its id before (join again with it).
    pub fn join_new(&mut self, session: u64) -> u64 {
        let first = Join { require_known_member: true, ..join("") };
        let ticket = self.submit(session, GroupOp::Join(first.clone()));
        let member = match self.join_reply(ticket) {
            Err(GroupError::MemberIdRequired { member }) => member,
            other => panic!("{other:?}"),
        };
        self.submit(session, GroupOp::Join(Join { member, ..first }))
    }

    pub fn join(&mut self, session: u64, j: Join) -> u64 {
        self.submit(session, GroupOp::Join(j))
    }

    pub fn sync(&mut self, session: u64, who: &Joined, assignments: &[(&str, &str)]) -> u64 {
        let assignments =
            assignments.iter().map(|(m, a)| (m.to_string(), Bytes::copy_from_slice(a.as_bytes()))).collect();
        self.submit(
            session,
            GroupOp::Sync(Sync { who: who_of(who), protocol_type: None, protocol: None, assignments }),
        )
    }

    pub fn heartbeat(&mut self, who: Who) -> Result<(), GroupError> {
        let ticket = self.submit(99, GroupOp::Heartbeat { who });
        match self.reply(ticket) {
            GroupReply::Heartbeat(r) => r,
            other => panic!("{other:?}"),
        }
    }

    pub fn leave(&mut self, member: &str, instance: Option<&str>) -> Result<(), GroupError> {
        let members = vec![(member.to_string(), instance.map(str::to_string))];
        let ticket = self.submit(99, GroupOp::Leave { ns: NS, group: "g".into(), members });
        match self.reply(ticket) {
            GroupReply::Leave(mut r) => r.remove(0),
            other => panic!("{other:?}"),
        }
    }

    pub fn commit_as(
        &mut self,
        who: Who,
        offsets: &[(u64, u64)],
    ) -> Result<Vec<Result<(), GroupError>>, GroupError> {
        let offsets = offsets.iter().map(|(p, o)| (part(*p), committed(*o))).collect();
        let ticket = self.submit(99, GroupOp::Commit(Commit { who, offsets }));
        match self.reply(ticket) {
            GroupReply::Commit(r) => r,
            other => panic!("{other:?}"),
        }
    }

    pub fn fetch(&mut self, group: &str) -> Vec<(LogId, Option<CommittedOffset>)> {
        let ticket = self.submit(99, GroupOp::FetchOffsets { ns: NS, group: group.into(), parts: None });
        match self.reply(ticket) {
            GroupReply::Offsets(o) => o,
            other => panic!("{other:?}"),
        }
    }

    pub fn describe(&mut self) -> Option<GroupInfo> {
        let ticket = self.submit(99, GroupOp::Describe { ns: NS, groups: vec!["g".into()] });
        match self.reply(ticket) {
            GroupReply::Describe(mut d) => d.remove(0),
            other => panic!("{other:?}"),
        }
    }

    pub fn state(&mut self) -> GroupState {
        self.describe().map_or(GroupState::Dead, |d| d.summary.state)
    }

    /// A stable group of `n` dynamic members: sessions 1 to n; each as it joined, the leader first.
    pub fn stable(&mut self, n: u64) -> Vec<Joined> {
        let mut tickets = vec![self.join_new(1)];
        if n > 1 {
            let leader = self.join_reply(tickets[0]).unwrap();
            tickets = (2..=n).map(|s| self.join_new(s)).collect();
            tickets.insert(0, self.join(1, join(&leader.member)));
        }
        self.finish(&tickets)
    }

    /// All joined by these tickets of sessions 1, 2, ...; they synchronise, the leader last.
    pub fn finish(&mut self, tickets: &[u64]) -> Vec<Joined> {
        let joined: Vec<Joined> = tickets.iter().map(|t| self.join_reply(*t).unwrap()).collect();
        let given: Vec<(String, String)> =
            joined.iter().map(|j| (j.member.clone(), format!("for {}", j.member))).collect();
        let given: Vec<(&str, &str)> = given.iter().map(|(m, a)| (m.as_str(), a.as_str())).collect();
        let mut order: Vec<usize> = (0..joined.len()).collect();
        order.sort_by_key(|i| joined[*i].member == joined[*i].leader);
        let tickets: Vec<u64> = order
            .iter()
            .map(|i| {
                let j = &joined[*i];
                let given = if j.member == j.leader { given.as_slice() } else { &[] };
                self.sync(*i as u64 + 1, j, given)
            })
            .collect();
        for t in tickets {
            self.sync_reply(t).unwrap();
        }
        joined
    }
}

pub fn replay(groups: &mut Groups, ids: &mut Ids, lsn: Lsn, record: &Record) {
    for (key, bytes) in record {
        if key.first() == Some(&family::ID) {
            ids.apply_effect(lsn, key, bytes).unwrap();
        } else {
            groups.apply_effect(lsn, key, bytes).unwrap();
        }
    }
    crate::table::Dirty::record_end(ids, lsn);
    groups.record_end(lsn);
}

pub fn committed(offset: u64) -> CommittedOffset {
    CommittedOffset { offset, leader_epoch: 0, metadata: "note".into() }
}

pub fn join(member: &str) -> Join {
    Join {
        ns: NS,
        group: "g".into(),
        member: member.into(),
        instance: None,
        client_id: "app".into(),
        client_host: "/127.0.0.1".into(),
        session_timeout_ms: SESSION_MS as u32,
        rebalance_timeout_ms: REBALANCE_MS as u32,
        protocol_type: "consumer".into(),
        protocols: protocols(&["range"]),
        require_known_member: false,
        can_skip_assignment: false,
    }
}

pub fn static_join(member: &str, instance: &str) -> Join {
    Join { instance: Some(instance.into()), ..join(member) }
}

pub fn protocols(names: &[&str]) -> Vec<(String, Bytes)> {
    names.iter().map(|n| (n.to_string(), Bytes::from(format!("meta of {n}")))).collect()
}

pub fn who(member: &str, generation: i32) -> Who {
    Who { ns: NS, group: "g".into(), generation, member: member.into(), instance: None }
}

pub fn who_of(j: &Joined) -> Who {
    who(&j.member, j.generation)
}

pub fn nobody() -> Who {
    who("", -1)
}

/// A state store in memory.
#[derive(Default)]
pub struct Store(pub BTreeMap<Vec<u8>, (Lsn, Vec<u8>)>);

impl StateReader for Store {
    fn get(&self, key: &[u8]) -> Result<Option<(Lsn, Vec<u8>)>, StoreError> {
        Ok(self.0.get(key).cloned())
    }
    fn scan(&self, prefix: &[u8], from: &[u8], max: usize) -> Result<Vec<Row>, StoreError> {
        let rows = self.0.range(from.to_vec()..).take_while(|(k, _)| k.starts_with(prefix)).take(max);
        Ok(rows
            .map(|(k, (row_lsn, v))| Row { key: k.clone(), row_lsn: *row_lsn, value: Some(v.clone()) })
            .collect())
    }
}

/// All rows as text: equal if and only if the durable states are.
pub fn durable_state(groups: &Groups) -> String {
    let rows = groups.rows();
    let mut text = String::new();
    use std::fmt::Write;
    rows.groups.iter().for_each(|(k, r)| writeln!(text, "{k:?} {r:?}").unwrap());
    rows.members.iter().for_each(|(k, r)| writeln!(text, "{k:?} {r:?}").unwrap());
    rows.offsets.iter().for_each(|(k, r)| writeln!(text, "{k:?} {r:?}").unwrap());
    text
}

pub fn reader(store: Store) -> Arc<dyn StateReader> {
    Arc::new(store)
}
