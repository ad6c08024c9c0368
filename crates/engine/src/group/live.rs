//! A group as it is being coordinated: what its rows say, and on top of it who waits for what, who came since, when it is due.
//!
//! Start at [`Group`]. It changes no row and sends no answer; it only keeps its parts consistent: counts, votes and bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use millstream_types::{ConnId, ObjectId};

use super::GroupState;
use super::rows::group::{GroupKey, GroupRow, Phase};
use super::rows::member::MemberMeta;
use crate::op::Ticket;

/// Who is to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Caller {
    pub session: ConnId,
    pub ticket: Ticket,
}

/// A member.
#[derive(Debug)]
pub(super) struct Member {
    /// What it last said of itself; becomes durable with the next generation.
    pub meta: Arc<MemberMeta>,
    /// In force while the group is stable.
    pub assignment: Bytes,
    /// It has joined the rebalance that is going on.
    pub joined: bool,
    /// Its join, if it waits for one.
    pub join: Option<Caller>,
    /// Its sync, if it waits for one.
    pub sync: Option<Caller>,
    /// It has not been through a generation yet.
    pub is_new: bool,
    /// Its id was told to the client.
    pub told: bool,
    /// Evicted when silent until then.
    pub deadline_ms: u64,
    /// When its timer stands, at or before the deadline.
    pub timer: Option<u64>,
    /// Order of joining.
    pub order: u64,
}

impl Member {
    /// What it takes of the group's bytes.
    fn bytes(&self) -> usize {
        self.meta.bytes() + self.assignment.len()
    }
}

/// A rebalance that waits for members.
#[derive(Clone, Copy, Debug)]
pub(super) struct Initial {
    /// How much longer it may be put off.
    pub remaining_ms: u64,
    /// Somebody came since it was last put off.
    pub newcomer: bool,
}

/// A group.
#[derive(Debug)]
pub(super) struct Group {
    /// Number of this process for it.
    pub no: u64,
    pub key: GroupKey,
    /// `None` = there is no row yet.
    pub object: Option<ObjectId>,
    pub state: GroupState,
    /// The last that was given; 0 = none.
    pub generation: i32,
    /// Empty text = it never had members.
    pub protocol_type: String,
    /// Empty text = none.
    pub protocol: String,
    pub leader: Option<Arc<str>>,
    /// When it became empty, wall clock.
    pub since_ms: u64,
    members: BTreeMap<Arc<str>, Member>,
    statics: BTreeMap<String, Arc<str>>,
    /// Ids given to clients that have not come back with them, and when they are void.
    pub pending: BTreeMap<Arc<str>, u64>,
    /// Members of this generation that have not synchronised.
    pub unsynced: BTreeSet<Arc<str>>,
    /// While the first members of an empty group are waited for.
    pub initial: Option<Initial>,
    pub rebalance_due: Option<u64>,
    pub sync_due: Option<u64>,
    pub expiry_due: Option<u64>,
    /// Members that have joined the rebalance.
    joined: usize,
    /// How many members can do a protocol.
    supported: BTreeMap<String, usize>,
    /// Subscriptions and assignments.
    bytes: usize,
    order: u64,
}

impl Group {
    /// A group that nothing is known of.
    pub fn new(no: u64, key: GroupKey) -> Self {
        Self {
            no,
            key,
            object: None,
            state: GroupState::Empty,
            generation: 0,
            protocol_type: String::new(),
            protocol: String::new(),
            leader: None,
            since_ms: 0,
            members: BTreeMap::new(),
            statics: BTreeMap::new(),
            pending: BTreeMap::new(),
            unsynced: BTreeSet::new(),
            initial: None,
            rebalance_due: None,
            sync_due: None,
            expiry_due: None,
            joined: 0,
            supported: BTreeMap::new(),
            bytes: 0,
            order: 0,
        }
    }

    /// As its row says.
    pub fn of_row(no: u64, key: GroupKey, row: &GroupRow) -> Self {
        Self {
            object: Some(row.object),
            generation: row.generation,
            protocol_type: row.protocol_type.clone(),
            protocol: row.protocol.clone(),
            leader: (!row.leader.is_empty()).then(|| row.leader.as_str().into()),
            since_ms: row.since_ms,
            state: match row.phase {
                Phase::Empty => GroupState::Empty,
                Phase::Completing => GroupState::CompletingRebalance,
                Phase::Stable => GroupState::Stable,
            },
            ..Self::new(no, key)
        }
    }

    pub fn members(&self) -> &BTreeMap<Arc<str>, Member> {
        &self.members
    }

    pub fn get(&self, id: &str) -> Option<&Member> {
        self.members.get(id)
    }

    /// What a member waits for and when it is due. What it said of itself and its assignment change by `update` and `assign`.
    pub fn get_mut(&mut self, id: &str) -> Option<&mut Member> {
        self.members.get_mut(id)
    }

    pub fn ids(&self) -> Vec<Arc<str>> {
        self.members.keys().cloned().collect()
    }

    /// Who uses an instance id.
    pub fn instance(&self, instance: &str) -> Option<&Arc<str>> {
        self.statics.get(instance)
    }

    pub fn is_leader(&self, id: &str) -> bool {
        self.leader.as_deref() == Some(id)
    }

    pub fn joined(&self) -> usize {
        self.joined
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// All members are there and nobody has an id without having come back with it.
    pub fn all_joined(&self) -> bool {
        self.joined == self.members.len() && self.pending.is_empty()
    }

    /// How long a rebalance waits.
    pub fn rebalance_timeout_ms(&self) -> u64 {
        self.members.values().map(|m| u64::from(m.meta.rebalance_timeout_ms)).max().unwrap_or(0)
    }

    /// Adds a member that has not joined yet.
    pub fn add(&mut self, id: Arc<str>, meta: Arc<MemberMeta>, assignment: Bytes, is_new: bool) {
        let order = self.order;
        self.order += 1;
        self.insert(
            id,
            Member {
                meta,
                assignment,
                joined: false,
                join: None,
                sync: None,
                is_new,
                told: !is_new,
                deadline_ms: 0,
                timer: None,
                order,
            },
        );
    }

    fn insert(&mut self, id: Arc<str>, member: Member) {
        if let Some(instance) = &member.meta.instance {
            self.statics.insert(instance.clone(), id.clone());
        }
        self.count(&member, true);
        self.joined += usize::from(member.joined);
        self.members.insert(id, member);
    }

    /// Takes a member out. Its timer and its waiting requests are the caller's to see to.
    pub fn remove(&mut self, id: &str) -> Option<Member> {
        let member = self.members.remove(id)?;
        self.count(&member, false);
        self.joined -= usize::from(member.joined);
        if let Some(instance) = &member.meta.instance
            && self.statics.get(instance).is_some_and(|m| **m == *id)
        {
            self.statics.remove(instance);
        }
        if self.is_leader(id) {
            self.leader = None;
        }
        self.unsynced.remove(id);
        Some(member)
    }

    /// The member goes on under another id, and stays what it was: leader, joined, unsynchronised.
    pub fn rename(&mut self, old: &str, new: &Arc<str>) {
        let (leader, unsynced) = (self.is_leader(old), self.unsynced.contains(old));
        if let Some(member) = self.remove(old) {
            self.insert(new.clone(), member);
            if leader {
                self.leader = Some(new.clone());
            }
            if unsynced {
                self.unsynced.insert(new.clone());
            }
        }
    }

    /// What a member says of itself now.
    pub fn update(&mut self, id: &str, meta: Arc<MemberMeta>) {
        if let Some(mut member) = self.members.remove(id) {
            self.count(&member, false);
            member.meta = meta;
            self.count(&member, true);
            self.members.insert(id.into(), member);
        }
    }

    /// What a member is assigned now.
    pub fn assign(&mut self, id: &str, assignment: Bytes) {
        if let Some(member) = self.members.get_mut(id) {
            self.bytes = self.bytes - member.assignment.len() + assignment.len();
            member.assignment = assignment;
        }
    }

    /// Whether a member has joined the rebalance.
    pub fn set_joined(&mut self, id: &str, joined: bool) {
        if let Some(member) = self.members.get_mut(id) {
            self.joined = self.joined - usize::from(member.joined) + usize::from(joined);
            member.joined = joined;
        }
    }

    fn count(&mut self, member: &Member, add: bool) {
        self.bytes = if add { self.bytes + member.bytes() } else { self.bytes - member.bytes() };
        for (name, _) in &member.meta.protocols {
            let n = self.supported.entry(name.clone()).or_default();
            *n = if add { *n + 1 } else { *n - 1 };
            if *n == 0 {
                self.supported.remove(name);
            }
        }
    }

    /// Whether somebody with these protocols fits in: one of them is known to all members, and the type is theirs.
    pub fn supports(&self, protocol_type: &str, protocols: &[(String, Bytes)]) -> bool {
        if protocol_type.is_empty() || protocols.is_empty() {
            return false;
        }
        if self.members.is_empty() {
            return self.state == GroupState::Empty || self.protocol_type == protocol_type;
        }
        let all = self.members.len();
        self.protocol_type == protocol_type
            && protocols.iter().any(|(name, _)| self.supported.get(name).is_some_and(|n| *n == all))
    }

    /// The protocol for the next generation, were `with` what that member says: each member votes for the first of its
    /// protocols that all can do. Of those with as many votes the leader's favourite wins.
    pub fn vote(&self, with: Option<(&str, &MemberMeta)>) -> Option<String> {
        let of = |id: &str, m: &Member| match with {
            Some((other, meta)) if other == id => meta.protocols.clone(),
            _ => m.meta.protocols.clone(),
        };
        let mut can: BTreeMap<String, usize> = BTreeMap::new();
        for (id, m) in &self.members {
            for (name, _) in of(id, m) {
                *can.entry(name).or_default() += 1;
            }
        }
        can.retain(|_, n| *n == self.members.len());
        let mut votes: BTreeMap<String, usize> = BTreeMap::new();
        let mut favour: Vec<String> = Vec::new();
        for (id, m) in &self.members {
            let list = of(id, m);
            if let Some((name, _)) = list.iter().find(|(name, _)| can.contains_key(name)) {
                *votes.entry(name.clone()).or_default() += 1;
            }
            if self.is_leader(id) {
                favour = list.into_iter().map(|(name, _)| name).collect();
            }
        }
        let rank = |name: &String| favour.iter().position(|f| f == name).unwrap_or(usize::MAX);
        votes.into_iter().min_by_key(|(name, n)| (usize::MAX - n, rank(name))).map(|(name, _)| name)
    }

    /// The leader stays if it joined, else it is the first who joined. False if nobody did.
    pub fn elect(&mut self) -> bool {
        let stays = self.leader.as_deref().and_then(|l| self.get(l)).is_some_and(|m| m.joined);
        if !stays {
            let first = self.members.iter().filter(|(_, m)| m.joined).min_by_key(|(_, m)| m.order);
            match first {
                Some((id, _)) => self.leader = Some(id.clone()),
                None => return false,
            }
        }
        true
    }

    /// Nothing is left that anybody could ask for.
    pub fn is_nothing(&self) -> bool {
        self.object.is_none()
            && self.members.is_empty()
            && self.pending.is_empty()
            && self.state == GroupState::Empty
    }

    /// The row it has or would have: `object` if it has none yet.
    pub fn row(&self, object: ObjectId, phase: Phase) -> GroupRow {
        GroupRow {
            object: self.object.unwrap_or(object),
            generation: self.generation,
            phase,
            since_ms: self.since_ms,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.as_deref().unwrap_or_default().to_owned(),
        }
    }
}
