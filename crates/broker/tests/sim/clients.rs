//! Simulated clients: producers with and without sequence numbers, transactions, offset commits, topics that come and go. Each
//! submits and goes on; answers are taken later, some never.

use std::collections::{BTreeMap, HashMap, VecDeque};

use millstream_broker::group::{Commit, CommittedOffset, GroupError, GroupOp, GroupReply, Who};
use millstream_broker::{
    AppendError, BatchMeta, Class, NewTopic, Op, Pending, Reply, Session, Transact, TransactError,
};
use millstream_testkit::seeds::Dice;
use millstream_types::{LogId, Namespace};

use crate::book::{Committed, Fate, Id, Part, Sent, Violation};
use crate::must;

/// Batches that one producer may have on their way to one partition: as many as the broker remembers.
const CHAIN_INFLIGHT_MAX: usize = 5;

/// A producer's way to one partition.
#[derive(Debug, Default)]
pub struct Chain {
    next_seq: i32,
    /// On their way, oldest first.
    inflight: VecDeque<Id>,
    /// Unanswered when the broker went: to be sent again, oldest first, before anything new.
    again: VecDeque<Id>,
    /// The last one acknowledged.
    last: Option<Id>,
}

/// What an answer is awaited for.
pub enum Asked {
    /// Appends: (partition, id, whether its repetition is known to be there).
    Appends(Vec<(LogId, Id, bool)>),
    /// A transaction: its appends, and the (group, partition, offset) it commits.
    Transaction(Vec<(LogId, Id)>, (String, LogId, u64)),
    /// A commit of one offset.
    Offset(String, LogId, u64),
    /// A trim.
    Trim(LogId, u64),
}

/// A transaction's parts, to be there all or none.
pub struct Whole {
    pub appends: Vec<(LogId, Id)>,
    pub offset: (String, LogId, u64),
    pub fate: Option<bool>,
}

/// All clients together, and what they know.
#[derive(Default)]
pub struct Clients {
    pub parts: BTreeMap<LogId, Part>,
    pub offsets: BTreeMap<(String, LogId), Committed>,
    pub transactions: Vec<Whole>,
    pub producers: Vec<(i64, i16)>,
    chains: HashMap<(i64, LogId), Chain>,
    pub asked: VecDeque<(Asked, Pending)>,
    next_id: Id,
    next_offset: u64,
    pub acknowledged: u64,
    pub duplicates: u64,
    pub unknown: u64,
    pub transacted: u64,
}

impl Clients {
    fn new_id(&mut self, part: LogId, sent: Sent) -> Id {
        self.next_id += 1;
        self.parts.entry(part).or_default().sent.insert(self.next_id, sent);
        self.next_id
    }

    fn send(&mut self, session: &Session, items: Vec<(LogId, Id, bool)>, permit: millstream_broker::Permit) {
        let appends = items.iter().map(|(part, id, _)| self.parts[part].sent[id].item(*part, *id)).collect();
        let pending = session.submit(Some(permit), Op::Append(appends));
        self.asked.push_back((Asked::Appends(items), pending));
    }

    fn single(&mut self, dice: &mut Dice, part: LogId, transaction: Option<u64>) -> Id {
        let ts_ms = dice.below(1_000) as i64;
        // A batch of a producer without deduplication, or a message: both are sent once.
        self.new_id(part, Sent { count: 1, meta: None, ts_ms, fate: Fate::Unknown, transaction })
    }

    /// Messages to some partitions, one record.
    pub async fn produce_singles(&mut self, dice: &mut Dice, session: &Session, parts: &[LogId]) {
        let Ok(permit) = session.admit(Class::Publish, 40_000).await else { return };
        let n = if dice.once_in(3) { 1 + dice.below(4) } else { 1 };
        let items = (0..n).map(|_| {
            let part = *dice.of(parts);
            (part, self.single(dice, part, None), false)
        });
        let items = items.collect();
        self.send(session, items, permit);
    }

    /// The next batch of a producer: one that must be sent again, else a new one, or the last one once more.
    pub async fn produce_batch(
        &mut self,
        dice: &mut Dice,
        session: &Session,
        parts: &[LogId],
    ) -> Result<(), Violation> {
        if self.producers.is_empty() || (self.producers.len() < 4 && dice.once_in(20)) {
            if let Ok(id) = session.init_producer().await {
                must!(self.producers.iter().all(|p| p.0 != id.0), "producer id {} was given twice", id.0);
                self.producers.push(id);
            }
            return Ok(());
        }
        let Ok(permit) = session.admit(Class::Publish, 10_000).await else { return Ok(()) };
        let (part, (producer, epoch)) = (*dice.of(parts), *dice.of(&self.producers));
        let chain = self.chains.entry((producer, part)).or_default();
        if chain.inflight.len() >= CHAIN_INFLIGHT_MAX {
            return Ok(());
        }
        if let (true, true, Some(last)) = (chain.inflight.is_empty(), dice.once_in(6), chain.last)
            && chain.again.is_empty()
        {
            // The client never saw the answer, and sends it once more.
            self.send(session, vec![(part, last, true)], permit);
            return Ok(());
        }
        let id = match chain.again.pop_front() {
            Some(id) => id,
            None => {
                let records = 1 + dice.below(6) as u32;
                let meta = BatchMeta { producer, epoch, first_seq: chain.next_seq, records, flags: 0 };
                chain.next_seq += records as i32;
                let ts_ms = dice.below(1_000) as i64;
                let sent =
                    Sent { count: records, meta: Some(meta), ts_ms, fate: Fate::Unknown, transaction: None };
                self.new_id(part, sent)
            }
        };
        self.chains.entry((producer, part)).or_default().inflight.push_back(id);
        self.send(session, vec![(part, id, false)], permit);
        Ok(())
    }

    fn commit_of(&mut self, group: &str, part: LogId) -> (Commit, u64) {
        self.next_offset += 1;
        let offset = self.next_offset;
        self.offsets.entry((group.to_owned(), part)).or_default().sent = offset;
        let who = Who {
            ns: Namespace::DEFAULT,
            group: group.to_owned(),
            generation: -1,
            member: String::new(),
            instance: None,
        };
        let committed = CommittedOffset { offset, leader_epoch: -1, metadata: format!("m{offset}") };
        (Commit { who, offsets: vec![(part, committed)] }, offset)
    }

    /// Commits an offset from outside of the group. All of one group go through one session, so they stay in order.
    pub async fn commit_offset(&mut self, session: &Session, group: &str, part: LogId) {
        let Ok(permit) = session.admit(Class::Settle, 1_000).await else { return };
        let (commit, offset) = self.commit_of(group, part);
        let pending = session.submit(Some(permit), Op::Group(GroupOp::Commit(commit)));
        self.asked.push_back((Asked::Offset(group.to_owned(), part, offset), pending));
    }

    /// Appends to two partitions and commits an offset, all or nothing.
    pub async fn transact(&mut self, dice: &mut Dice, session: &Session, group: &str, parts: &[LogId]) {
        let Ok(permit) = session.admit(Class::Publish, 40_000).await else { return };
        let number = self.transactions.len() as u64;
        let appends: Vec<(LogId, Id)> = (0..2)
            .map(|_| {
                let part = *dice.of(parts);
                (part, self.single(dice, part, Some(number)))
            })
            .collect();
        let part = *dice.of(parts);
        let (commit, offset) = self.commit_of(group, part);
        let items = appends.iter().map(|(part, id)| self.parts[part].sent[id].item(*part, *id)).collect();
        let tx = Transact { appends: items, commits: vec![commit], ..Transact::default() };
        let pending = session.submit(Some(permit), Op::Transact(Box::new(tx)));
        let offset = (group.to_owned(), part, offset);
        self.transactions.push(Whole { appends: appends.clone(), offset: offset.clone(), fate: None });
        self.asked.push_back((Asked::Transaction(appends, offset), pending));
    }

    /// Trims somewhere below the visible end.
    pub async fn trim(&mut self, session: &Session, part: LogId, before: u64) {
        let Ok(permit) = session.admit(Class::Reclaim, 1_000).await else { return };
        let known = self.parts.entry(part).or_default();
        known.trimmed.1 = known.trimmed.1.max(before);
        let pending = session.submit(Some(permit), Op::Trim { part, before });
        self.asked.push_back((Asked::Trim(part, before), pending));
    }

    /// Takes the oldest answers, `n` of them; waits for them.
    pub async fn answers(&mut self, n: usize) -> Result<(), Violation> {
        for _ in 0..n {
            let Some((asked, pending)) = self.asked.pop_front() else { return Ok(()) };
            let reply = pending.await;
            self.answer(asked, reply)?;
        }
        Ok(())
    }

    fn answer(&mut self, asked: Asked, reply: Reply) -> Result<(), Violation> {
        if matches!(reply, Reply::FateUnknown) {
            self.unknown += 1;
            if let Asked::Appends(items) = asked {
                for (part, id, sure) in items {
                    self.unanswered(part, id, sure);
                }
            }
            return Ok(());
        }
        self.acknowledged += 1;
        match (asked, reply) {
            (Asked::Appends(items), Reply::Append(results)) => {
                must!(items.len() == results.len(), "{} answers to {} appends", results.len(), items.len());
                for ((part, id, sure), result) in items.into_iter().zip(results) {
                    self.appended(part, id, sure, result)?;
                }
            }
            (Asked::Transaction(appends, (group, part, offset)), Reply::Transact(result)) => {
                let number = self.parts[&appends[0].0].sent[&appends[0].1].transaction.unwrap() as usize;
                self.transactions[number].fate = Some(result.is_ok());
                match result {
                    Ok(at) => {
                        let at = at.appended.into_iter().map(|a| a.expect("all of it"));
                        for ((part, id), at) in appends.into_iter().zip(at) {
                            must!(!at.duplicate, "a new message is called a duplicate");
                            self.parts.entry(part).or_default().acknowledge(id, at.base)?;
                        }
                        self.transacted += 1;
                        self.committed(&group, part, offset);
                    }
                    Err(e) => {
                        // Topics go while a transaction is on its way.
                        let gone = matches!(
                            e,
                            TransactError::Append { error: AppendError::Gone, .. }
                                | TransactError::Commit { error: GroupError::NoPartition, .. }
                        );
                        must!(gone, "a transaction: {e}");
                        for (part, id) in appends {
                            self.refuse(part, id);
                        }
                    }
                }
            }
            (Asked::Offset(group, part, offset), Reply::Group(GroupReply::Commit(result))) => {
                match result.as_deref() {
                    Ok([Ok(())]) => self.committed(&group, part, offset),
                    Ok([Err(GroupError::NoPartition)]) => {}
                    other => return Err(format!("offset {offset} of group {group}: {other:?}")),
                }
            }
            (Asked::Trim(part, before), Reply::Trim(result)) => {
                let known = self.parts.entry(part).or_default();
                match result {
                    Ok(start) => {
                        must!(start >= before, "trimmed to {start} where {before} was asked for");
                        known.trimmed.0 = known.trimmed.0.max(before);
                    }
                    Err(AppendError::Gone) => {}
                    Err(e) => return Err(format!("a trim below the visible end: {e}")),
                }
            }
            (_, reply) => return Err(format!("an answer of another kind: {reply:?}")),
        }
        Ok(())
    }

    fn committed(&mut self, group: &str, part: LogId, offset: u64) {
        let known = self.offsets.entry((group.to_owned(), part)).or_default();
        known.sure = known.sure.max(offset);
    }

    fn refuse(&mut self, part: LogId, id: Id) {
        if let Some(sent) = self.parts.get_mut(&part).and_then(|p| p.sent.get_mut(&id))
            && sent.fate == Fate::Unknown
        {
            sent.fate = Fate::Refused;
        }
    }

    fn chain_of(&mut self, part: LogId, id: Id) -> Option<&mut Chain> {
        let producer = self.parts[&part].sent[&id].meta?.producer;
        self.chains.get_mut(&(producer, part))
    }

    fn appended(
        &mut self,
        part: LogId,
        id: Id,
        sure: bool,
        result: Result<millstream_broker::Appended, AppendError>,
    ) -> Result<(), Violation> {
        if !sure && let Some(chain) = self.chain_of(part, id) {
            must!(chain.inflight.pop_front() == Some(id), "answers of one session come out of order");
        }
        match result {
            Ok(at) => {
                let before = self.parts[&part].sent[&id].clone();
                if at.duplicate {
                    self.duplicates += 1;
                    must!(before.meta.is_some(), "message {id} is called a duplicate");
                } else {
                    must!(
                        before.fate == Fate::Unknown,
                        "append {id} was taken twice, see {:?} and {at:?}",
                        before.fate
                    );
                }
                if let Some(chain) = self.chain_of(part, id) {
                    chain.last = Some(id);
                }
                self.parts.entry(part).or_default().acknowledge(id, at.base)
            }
            Err(AppendError::Gone) => {
                // The partition is gone; nobody looks at it again.
                self.refuse(part, id);
                Ok(())
            }
            Err(e) => Err(format!("append {id} {:?}: {e}", self.parts[&part].sent[&id])),
        }
    }

    fn unanswered(&mut self, part: LogId, id: Id, sure: bool) {
        if !sure && let Some(chain) = self.chain_of(part, id) {
            chain.inflight.pop_front();
            chain.again.push_back(id);
        }
    }

    /// After all answers of an opening were taken: what is to be sent again goes in the order it was first sent.
    pub fn broker_went(&mut self) {
        assert!(self.asked.is_empty());
        for chain in self.chains.values_mut() {
            assert!(chain.inflight.is_empty());
            chain.again.make_contiguous().sort_unstable();
        }
    }
}

/// A topic's name and the number of its partitions.
pub fn new_topic(dice: &mut Dice, name: &str) -> NewTopic {
    NewTopic { name: name.to_owned(), partitions: Some(1 + dice.below(3) as u32), ..NewTopic::default() }
}
