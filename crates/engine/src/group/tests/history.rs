//! Random histories: whatever clients, time, room and crashes do, some things hold.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use millstream_types::{ConnId, Lsn};
use proptest::prelude::*;

use super::world::*;
use crate::group::rows::group::{GroupEffect, GroupKey, Phase};
use crate::group::*;
use crate::rows::{RowKey, family};
use crate::table::Dirty;

#[derive(Clone, Debug)]
enum Step {
    Join { session: u8, member: Option<u8>, instance: Option<u8>, known: bool, meta: u8, skip: bool },
    Sync { member: u8, generation: i8 },
    Heartbeat { member: u8, generation: i8 },
    Leave { member: u8, instance: Option<u8> },
    Commit { member: Option<u8>, part: u8 },
    Delete,
    Describe,
    SessionGone { session: u8 },
    PartitionDeleted { part: u8 },
    Pass { ms: u32 },
    Room { room: bool },
    Flush { rows: u8 },
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    let member = 0..24_u8;
    let instance = || prop::option::weighted(0.3, 0..3_u8);
    let generation = || prop_oneof![8 => Just(0_i8), 1 => -1..=1_i8];
    prop_oneof![
        10 => (0..6_u8, prop::option::weighted(0.7, 0..24_u8), instance(), any::<bool>(), 0..4_u8, any::<bool>())
            .prop_map(|(session, member, instance, known, meta, skip)| Step::Join { session, member, instance, known, meta, skip }),
        10 => (member.clone(), generation()).prop_map(|(member, generation)| Step::Sync { member, generation }),
        6 => (member.clone(), generation()).prop_map(|(member, generation)| Step::Heartbeat { member, generation }),
        3 => (member.clone(), instance()).prop_map(|(member, instance)| Step::Leave { member, instance }),
        3 => (prop::option::of(0..24_u8), 1..12_u8).prop_map(|(member, part)| Step::Commit { member, part }),
        1 => Just(Step::Delete),
        2 => Just(Step::Describe),
        1 => (0..6_u8).prop_map(|session| Step::SessionGone { session }),
        1 => (1..12_u8).prop_map(|part| Step::PartitionDeleted { part }),
        6 => prop_oneof![5 => 0..3_000_u32, 3 => 3_000..30_000_u32, 1 => 30_000..900_000_u32].prop_map(|ms| Step::Pass { ms }),
        2 => prop::bool::weighted(0.7).prop_map(|room| Step::Room { room }),
        2 => (0..12_u8).prop_map(|rows| Step::Flush { rows }),
        1 => Just(Step::Crash),
    ]
}

/// A history as it goes on: the coordinator, what clients know, what the state store has.
struct Run {
    w: World,
    /// Member ids that clients were told, with the generation they know, and their instance.
    members: Vec<(String, i32, Option<String>)>,
    /// Tickets without an answer yet: session, what, instance.
    open: BTreeMap<u64, (u64, Option<String>)>,
    /// Who led a generation of which object.
    led: BTreeMap<(u64, i32), String>,
    store: BTreeMap<Vec<u8>, (Lsn, Vec<u8>)>,
    floor: Lsn,
    deleted: BTreeMap<Lsn, LogId>,
}

use millstream_types::LogId;

impl Run {
    fn new() -> Self {
        let config = GroupConfig { initial_rebalance_delay_ms: 3_000, offsets_retention_ms: HOUR_MS };
        Self {
            w: World::with(config),
            members: Vec::new(),
            open: BTreeMap::new(),
            led: BTreeMap::new(),
            store: BTreeMap::new(),
            floor: Lsn(1),
            deleted: BTreeMap::new(),
        }
    }

    fn member(&self, n: u8) -> (String, i32, Option<String>) {
        let last = self.members.len().checked_sub(1 + usize::from(n) % self.members.len().max(1));
        last.map_or_else(|| ("stranger".into(), 1, None), |i| self.members[i].clone())
    }

    fn submit(&mut self, session: u64, instance: Option<String>, op: GroupOp) {
        let ticket = self.w.next_ticket;
        self.open.insert(ticket, (session, instance));
        assert_eq!(self.w.submit(session, op), ticket);
        self.listen();
    }

    /// Clients take their answers.
    fn listen(&mut self) {
        for (ticket, (reply, wait)) in std::mem::take(&mut self.w.answers) {
            let (_, instance) = self.open.remove(&ticket).expect("answered once, and only to who asked");
            match reply {
                GroupReply::Join(Ok(j)) => self.joined(&j, wait, instance),
                GroupReply::Join(Err(GroupError::MemberIdRequired { member })) => {
                    self.members.push((member, -1, None))
                }
                _ => {}
            }
        }
    }

    fn joined(&mut self, j: &Joined, wait: Lsn, instance: Option<String>) {
        self.members.retain(|m| m.0 != j.member);
        self.members.push((j.member.clone(), j.generation, instance));
        if !j.members.is_empty() {
            assert!(j.members.iter().any(|m| m.0 == j.member), "a leader is a member");
            let ids: BTreeSet<&String> = j.members.iter().map(|m| &m.0).collect();
            assert_eq!(ids.len(), j.members.len());
            let records = &self.w.log.records[..usize::try_from(wait.0).unwrap()];
            let object = records.iter().rev().flatten().find_map(|(key, bytes)| match key[0] {
                family::GROUP => match GroupEffect::take(bytes).unwrap() {
                    GroupEffect::Put(row) => Some(row.object.0),
                    GroupEffect::Gone { .. } => None,
                },
                _ => None,
            });
            let before = self.led.insert((object.unwrap(), j.generation), j.member.clone());
            assert!(
                before.is_none_or(|b| b == j.member) || j.skip_assignment,
                "generation {} has two leaders",
                j.generation
            );
        }
    }

    fn step(&mut self, step: &Step) {
        match step.clone() {
            Step::Join { session, member, instance, known, meta, skip } => {
                let (member, _, own) = member.map_or_else(Default::default, |n| self.member(n));
                let instance = if member.is_empty() { instance.map(|i| format!("i{i}")) } else { own };
                let names: &[&str] = [&["range"][..], &["range", "sticky"], &["sticky", "range"], &["range"]]
                    [usize::from(meta)];
                let mut protocols = protocols(names);
                if meta == 3 {
                    protocols[0].1 = Bytes::from_static(b"other topics");
                }
                let j = Join {
                    instance: instance.clone(),
                    protocols,
                    require_known_member: known,
                    can_skip_assignment: skip,
                    rebalance_timeout_ms: 20_000,
                    ..join(&member)
                };
                self.submit(u64::from(session), instance, GroupOp::Join(j));
            }
            Step::Sync { member, generation } => {
                let who = self.who(member, generation);
                let rows = self.w.groups.rows();
                let ids = rows.members.iter().map(|(k, _)| k.member.clone());
                let assignments =
                    ids.map(|id| (id.clone(), Bytes::from(format!("{id}@{}", who.generation)))).collect();
                let session = u64::from(member % 6);
                let sync = Sync { who, protocol_type: None, protocol: None, assignments };
                self.submit(session, None, GroupOp::Sync(sync));
            }
            Step::Heartbeat { member, generation } => {
                let who = self.who(member, generation);
                self.submit(u64::from(member % 6), None, GroupOp::Heartbeat { who });
            }
            Step::Leave { member, instance } => {
                let who = self.who(member, 0);
                let one =
                    instance.map_or((who.member, who.instance), |i| (String::new(), Some(format!("i{i}"))));
                self.submit(7, None, GroupOp::Leave { ns: NS, group: "g".into(), members: vec![one] });
            }
            Step::Commit { member, part: p } => {
                let who = member.map_or_else(nobody, |m| self.who(m, 0));
                let offset = self.w.next_ticket;
                let commit = Commit { who, offsets: vec![(part(u64::from(p)), committed(offset))] };
                self.submit(7, None, GroupOp::Commit(commit));
            }
            Step::Delete => self.submit(7, None, GroupOp::Delete { ns: NS, groups: vec!["g".into()] }),
            Step::Describe => self.submit(7, None, GroupOp::Describe { ns: NS, groups: vec!["g".into()] }),
            Step::SessionGone { session } => {
                self.w.run(|g, now, ctx| g.session_gone(now, ConnId(u64::from(session)), ctx));
                self.open.retain(|_, o| o.0 != u64::from(session));
                self.listen();
            }
            Step::PartitionDeleted { part: p } => {
                let log = part(u64::from(p));
                self.w.parts.remove(&log);
                self.w.log.records.push(Vec::new());
                let lsn = Lsn(self.w.log.records.len() as u64);
                self.w.last_lsn = lsn;
                self.deleted.insert(lsn, log);
                self.w.groups.partition_deleted(lsn, log);
                self.w.groups.record_end(lsn);
            }
            Step::Pass { ms } => {
                // Without room what is due is tried every millisecond.
                self.w.pass(if self.w.log.room { u64::from(ms) } else { u64::from(ms % 50) });
                self.listen();
            }
            Step::Room { room } => self.w.log.room = room,
            Step::Flush { rows } => self.flush(rows),
            Step::Crash => self.crash(),
        }
        self.check();
    }

    fn who(&self, member: u8, off: i8) -> Who {
        let (id, generation, instance) = self.member(member);
        Who { instance, ..who(&id, generation + i32::from(off)) }
    }

    fn flush(&mut self, rows: u8) {
        let oldest = |groups: &mut Groups| groups.tables().iter().filter_map(|t| t.oldest_dirty()).min();
        for _ in 0..rows {
            let Some(lsn) = oldest(&mut self.w.groups) else { break };
            let mut tables = self.w.groups.tables();
            let table = tables.iter_mut().find(|t| t.oldest_dirty() == Some(lsn)).unwrap();
            let row = table.pop_dirty().unwrap();
            match row.value {
                Some(value) => self.store.insert(row.key, (row.row_lsn, value)),
                None => self.store.remove(&row.key),
            };
        }
        self.floor = oldest(&mut self.w.groups).unwrap_or(self.w.last_lsn.next());
    }

    /// The process ends and another one starts from the store and the records above the floor.
    fn crash(&mut self) {
        let live = durable_state(&self.w.groups);
        let (mut fresh, mut ids) = (Groups::new(self.w.config), crate::rows::id::Ids::default());
        fresh.load(&reader(Store(self.store.clone()))).unwrap();
        for (i, record) in self.w.log.records.iter().enumerate() {
            let lsn = Lsn(i as u64 + 1);
            if lsn < self.floor {
                let only_ids = record.iter().filter(|e| e.0[0] == family::ID);
                only_ids.for_each(|(k, b)| ids.apply_effect(lsn, k, b).unwrap());
                ids.record_end(lsn);
            } else {
                if let Some(log) = self.deleted.get(&lsn) {
                    fresh.partition_deleted(lsn, *log);
                }
                replay(&mut fresh, &mut ids, lsn, record);
            }
        }
        assert_eq!(durable_state(&fresh), live, "what is replayed is what was there");
        self.w.groups = fresh;
        self.w.ids = ids;
        self.w.now.mono_ms = 1;
        self.w.now.wall_ms += 500;
        self.w.groups.serve(self.w.now);
        self.open.clear();
    }

    /// What is in memory agrees with the rows.
    fn check(&mut self) {
        let d = self.w.describe();
        let rows = self.w.groups.rows();
        let row = rows.groups.get(&GroupKey { ns: NS, name: "g".into() }).cloned();
        let live: BTreeMap<String, Bytes> =
            d.iter().flat_map(|d| &d.members).map(|m| (m.member.clone(), m.assignment.clone())).collect();
        let durable: BTreeMap<String, Bytes> =
            rows.members.iter().map(|(k, r)| (k.member.clone(), r.assignment.clone())).collect();
        assert_eq!(d.as_ref().map_or(0, |d| d.generation), row.as_ref().map_or(0, |r| r.generation));
        let phase = row.as_ref().map(|r| r.phase);
        match d.as_ref().map(|d| d.summary.state) {
            Some(GroupState::Stable) => {
                assert_eq!(
                    (live, phase),
                    (durable, Some(Phase::Stable)),
                    "members and assignments are durable"
                );
            }
            Some(GroupState::CompletingRebalance) => {
                assert!(live.keys().eq(durable.keys()) && phase == Some(Phase::Completing));
            }
            Some(GroupState::Empty) => {
                assert!(live.is_empty() && durable.is_empty() && phase.is_none_or(|p| p == Phase::Empty));
            }
            Some(GroupState::PreparingRebalance) => {}
            Some(GroupState::Dead) | None => {
                assert!(row.is_none() && durable.is_empty() && rows.offsets.iter().next().is_none())
            }
        }
        let gone: Vec<_> = self.deleted.values().collect();
        assert!(rows.offsets.iter().all(|(k, _)| !gone.contains(&&k.log)));
    }

    /// Everybody gives up; nobody is left waiting, and nothing is left at last.
    fn end(&mut self) {
        self.w.log.room = true;
        self.w.pass(2 * HOUR_MS);
        self.listen();
        assert!(self.open.is_empty(), "without an answer: {:?}", self.open);
        self.w.pass(48 * HOUR_MS);
        assert!(self.w.describe().is_none());
        assert_eq!(durable_state(&self.w.groups), "");
        assert_eq!(self.w.groups.next_timer(), None);
        let mut last: BTreeMap<u64, i32> = BTreeMap::new();
        for (key, bytes) in self.w.log.records.iter().flatten().filter(|e| e.0[0] == family::GROUP) {
            GroupKey::decode(key).unwrap();
            if let GroupEffect::Put(row) = GroupEffect::take(bytes).unwrap()
                && row.phase == Phase::Completing
            {
                let before = last.insert(row.object.0, row.generation);
                assert!(before.is_none_or(|b| b < row.generation), "a generation was given twice");
            }
        }
    }
}

fn run(steps: &[Step]) -> Vec<Record> {
    let mut run = Run::new();
    steps.iter().for_each(|s| run.step(s));
    run.end();
    run.w.log.records
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_answers_generations_and_rows_agree(steps in prop::collection::vec(step(), 1..150)) {
        run(&steps);
    }

    #[test]
    fn the_same_history_writes_the_same_bytes(steps in prop::collection::vec(step(), 1..60)) {
        prop_assert_eq!(run(&steps), run(&steps));
    }
}
