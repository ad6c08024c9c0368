//! A member of a consumer group inside the broker's own process: it joins, assigns and commits like any consumer, so that the
//! command line can share a group with programs that use Kafka's clients.
//!
//! Start at [`GroupMember::join`]. It speaks the protocol type `consumer` (subscription and assignment, version 0) with the `range`
//! assignor, which every client knows.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use millstream_broker::group::{Commit, CommittedOffset, GroupError, GroupOp, GroupReply, Join, Sync, Who};
use millstream_broker::{CallError, Session};
use millstream_types::LogId;
use thiserror::Error;

/// The member must show itself so often, milliseconds.
pub const SESSION_TIMEOUT_MS: u32 = 45_000;
const ASSIGNOR: &str = "range";
const PROTOCOL_TYPE: &str = "consumer";
/// Most joins in a row before giving up: each but the last is answered with "join again".
const JOINS_MAX: usize = 16;

/// Why a member could not do what was asked.
#[derive(Debug, Error)]
pub enum MemberError {
    /// The group refused.
    #[error(transparent)]
    Group(#[from] GroupError),
    /// The broker gave no answer.
    #[error(transparent)]
    Call(#[from] CallError),
    /// Another member sent what cannot be understood.
    #[error("a subscription or assignment of the group is damaged")]
    Damaged,
}

/// A member with its assignment.
#[derive(Debug)]
pub struct GroupMember {
    session: Session,
    topic: String,
    who: Who,
    assigned: Vec<u32>,
}

impl GroupMember {
    /// Joins `group` for one topic, and waits for the assignment.
    ///
    /// # Errors
    /// See [`MemberError`].
    pub async fn join(session: Session, group: String, topic: String) -> Result<Self, MemberError> {
        let who =
            Who { ns: session.namespace(), group, generation: -1, member: String::new(), instance: None };
        let mut member = Self { session, topic, who, assigned: Vec::new() };
        member.rejoin().await?;
        Ok(member)
    }

    /// The partitions assigned.
    #[must_use]
    pub fn assigned(&self) -> &[u32] {
        &self.assigned
    }

    /// The session the member speaks through.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Joins again after a rebalance began; the assignment may have changed.
    ///
    /// # Errors
    /// See [`MemberError`].
    pub async fn rejoin(&mut self) -> Result<(), MemberError> {
        let mut last = GroupError::Rebalancing;
        for _ in 0..JOINS_MAX {
            match self.try_join().await {
                Err(MemberError::Group(e)) => last = e,
                result => return result,
            }
            match &last {
                GroupError::MemberIdRequired { member } => self.who.member.clone_from(member),
                GroupError::UnknownMember => self.who.member.clear(),
                GroupError::Rebalancing | GroupError::IllegalGeneration => {}
                _ => break,
            }
        }
        Err(last.into())
    }

    async fn try_join(&mut self) -> Result<(), MemberError> {
        let join = Join {
            ns: self.who.ns,
            group: self.who.group.clone(),
            member: self.who.member.clone(),
            instance: None,
            client_id: self.session.options().client_id.clone(),
            client_host: self.session.options().host.clone(),
            session_timeout_ms: SESSION_TIMEOUT_MS,
            rebalance_timeout_ms: SESSION_TIMEOUT_MS,
            protocol_type: PROTOCOL_TYPE.to_owned(),
            protocols: vec![(ASSIGNOR.to_owned(), subscription(&self.topic))],
            require_known_member: true,
            can_skip_assignment: false,
        };
        let GroupReply::Join(joined) = self.session.group(GroupOp::Join(join)).await? else {
            return Err(CallError::FateUnknown.into());
        };
        let joined = joined?;
        self.who.member.clone_from(&joined.member);
        self.who.generation = joined.generation;
        let assignments =
            if joined.leader == joined.member { self.assign(&joined.members)? } else { Vec::new() };
        let sync = Sync { who: self.who.clone(), protocol_type: None, protocol: None, assignments };
        let GroupReply::Sync(synced) = self.session.group(GroupOp::Sync(sync)).await? else {
            return Err(CallError::FateUnknown.into());
        };
        let mut all = decode_assignment(synced?.assignment).ok_or(MemberError::Damaged)?;
        self.assigned = all.remove(&self.topic).unwrap_or_default();
        Ok(())
    }

    /// As the leader: each topic's partitions in consecutive ranges over its members, in the order of their ids.
    fn assign(
        &self,
        members: &[(String, Option<String>, Bytes)],
    ) -> Result<Vec<(String, Bytes)>, MemberError> {
        let mut by_topic: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (member, _, metadata) in members {
            for topic in decode_subscription(metadata.clone()).ok_or(MemberError::Damaged)? {
                by_topic.entry(topic).or_default().push(member.clone());
            }
        }
        let catalogue = self.session.broker().catalogue();
        let mut shares: BTreeMap<String, BTreeMap<String, Vec<u32>>> =
            members.iter().map(|(m, ..)| (m.clone(), BTreeMap::new())).collect();
        for (topic, mut members) in by_topic {
            let Some(found) = catalogue.by_name.get(&(self.who.ns, topic.clone())) else { continue };
            members.sort();
            for (member, range) in members.iter().zip(ranges(found.partitions.len(), members.len())) {
                if let Some(share) = shares.get_mut(member) {
                    share.insert(topic.clone(), range);
                }
            }
        }
        Ok(shares.into_iter().map(|(member, share)| (member, assignment(&share))).collect())
    }

    /// Shows that the member is there. True: a rebalance began, [`GroupMember::rejoin`].
    ///
    /// # Errors
    /// See [`MemberError`].
    pub async fn heartbeat(&mut self) -> Result<bool, MemberError> {
        match self.session.group(GroupOp::Heartbeat { who: self.who.clone() }).await? {
            GroupReply::Heartbeat(Ok(())) => Ok(false),
            GroupReply::Heartbeat(Err(
                GroupError::Rebalancing | GroupError::UnknownMember | GroupError::IllegalGeneration,
            )) => Ok(true),
            GroupReply::Heartbeat(Err(e)) => Err(e.into()),
            _ => Err(CallError::FateUnknown.into()),
        }
    }

    /// The group's committed offsets on these partitions.
    ///
    /// # Errors
    /// See [`MemberError`].
    pub async fn committed(&self, parts: Vec<LogId>) -> Result<Vec<(LogId, Option<u64>)>, MemberError> {
        let op = GroupOp::FetchOffsets { ns: self.who.ns, group: self.who.group.clone(), parts: Some(parts) };
        match self.session.group(op).await? {
            GroupReply::Offsets(found) => {
                Ok(found.into_iter().map(|(l, o)| (l, o.map(|o| o.offset))).collect())
            }
            _ => Err(CallError::FateUnknown.into()),
        }
    }

    /// Commits offsets (the next ones to read).
    ///
    /// # Durability
    /// Returns when they survive a crash.
    ///
    /// # Errors
    /// See [`MemberError`].
    pub async fn commit(&self, offsets: Vec<(LogId, u64)>) -> Result<(), MemberError> {
        let held = |offset| CommittedOffset { offset, leader_epoch: -1, metadata: String::new() };
        let offsets = offsets.into_iter().map(|(log, offset)| (log, held(offset))).collect();
        match self.session.group(GroupOp::Commit(Commit { who: self.who.clone(), offsets })).await? {
            GroupReply::Commit(results) => {
                results?.into_iter().collect::<Result<Vec<()>, _>>()?;
                Ok(())
            }
            _ => Err(CallError::FateUnknown.into()),
        }
    }

    /// Leaves the group at once, so that the others need not wait for its session to end.
    ///
    /// # Errors
    /// See [`MemberError`].
    pub async fn leave(self) -> Result<(), MemberError> {
        let Who { ns, group, member, .. } = self.who;
        match self.session.group(GroupOp::Leave { ns, group, members: vec![(member, None)] }).await? {
            GroupReply::Leave(results) => {
                results.into_iter().collect::<Result<Vec<()>, _>>()?;
                Ok(())
            }
            _ => Err(CallError::FateUnknown.into()),
        }
    }
}

/// `members` consecutive ranges over `partitions`, the first ones larger by one where it does not divide.
fn ranges(partitions: usize, members: usize) -> Vec<Vec<u32>> {
    let members = members.max(1);
    let (each, more) = (partitions / members, partitions % members);
    let mut next = 0u32;
    (0..members)
        .map(|i| {
            let many = each + usize::from(i < more);
            let range: Vec<u32> = (next..).take(many).collect();
            next = next.saturating_add(u32::try_from(many).unwrap_or(u32::MAX));
            range
        })
        .collect()
}

fn put_text(out: &mut BytesMut, text: &str) {
    out.put_i16(i16::try_from(text.len()).unwrap_or(i16::MAX));
    out.put_slice(text.as_bytes());
}

fn put_count(out: &mut BytesMut, count: usize) {
    out.put_i32(i32::try_from(count).unwrap_or(i32::MAX));
}

/// `ConsumerProtocolSubscription`, version 0.
fn subscription(topic: &str) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(0);
    put_count(&mut out, 1);
    put_text(&mut out, topic);
    out.put_i32(-1);
    out.freeze()
}

/// `ConsumerProtocolAssignment`, version 0.
fn assignment(share: &BTreeMap<String, Vec<u32>>) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(0);
    put_count(&mut out, share.len());
    for (topic, partitions) in share {
        put_text(&mut out, topic);
        put_count(&mut out, partitions.len());
        for p in partitions {
            out.put_u32(*p);
        }
    }
    out.put_i32(-1);
    out.freeze()
}

fn take_text(b: &mut Bytes) -> Option<String> {
    let len = usize::try_from(b.try_get_i16().ok()?).ok()?;
    if b.len() < len {
        return None;
    }
    String::from_utf8(b.split_to(len).to_vec()).ok()
}

/// A count that the bytes that are left could hold, at `each` bytes or more apiece.
fn take_count(b: &mut Bytes, each: usize) -> Option<usize> {
    let count = usize::try_from(b.try_get_i32().ok()?).ok()?;
    (count.checked_mul(each)? <= b.len()).then_some(count)
}

/// The topics of any version: later ones only add fields behind them.
fn decode_subscription(mut b: Bytes) -> Option<Vec<String>> {
    b.try_get_i16().ok()?;
    let count = take_count(&mut b, 2)?;
    (0..count).map(|_| take_text(&mut b)).collect()
}

/// Partitions by topic; empty bytes are an empty assignment.
fn decode_assignment(mut b: Bytes) -> Option<BTreeMap<String, Vec<u32>>> {
    if b.is_empty() {
        return Some(BTreeMap::new());
    }
    b.try_get_i16().ok()?;
    let count = take_count(&mut b, 6)?;
    let mut all = BTreeMap::new();
    for _ in 0..count {
        let topic = take_text(&mut b)?;
        let partitions = take_count(&mut b, 4)?;
        let list = (0..partitions).map(|_| b.try_get_u32().ok()).collect::<Option<_>>()?;
        all.insert(topic, list);
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_cover_every_partition_once_and_differ_by_at_most_one() {
        assert_eq!(ranges(7, 3), vec![vec![0, 1, 2], vec![3, 4], vec![5, 6]]);
        assert_eq!(ranges(1, 2), vec![vec![0], vec![]]);
    }

    #[test]
    fn subscriptions_and_assignments_come_back_whole() {
        assert_eq!(decode_subscription(subscription("orders")), Some(vec!["orders".to_owned()]));
        let share = BTreeMap::from([("a".to_owned(), vec![0, 2]), ("b".to_owned(), vec![])]);
        assert_eq!(decode_assignment(assignment(&share)), Some(share));
    }

    #[test]
    fn a_count_that_cannot_be_true_is_refused_before_memory_is_taken() {
        assert_eq!(decode_subscription(Bytes::from_static(&[0, 0, 0x7f, 0xff, 0xff, 0xff])), None);
        assert_eq!(decode_assignment(Bytes::from_static(&[0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0])), None);
    }
}
