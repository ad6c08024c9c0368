//! The engine as naively as it can be said: plain lists, no rows, no replay.

use std::collections::BTreeMap;

use millstream_engine::catalogue::{CatalogueError, Change, TopicDef};
use millstream_engine::op::{AppendError, AppendItem, AppendKind, Appended, ProducerInfo};
use millstream_types::{LogId, ObjectId, ObjectKind};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Producer {
    pub epoch: i16,
    /// (first, last, base) of each batch of the epoch.
    pub batches: Vec<(i32, i32, u64)>,
    pub last_ms: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    pub next: u64,
    pub start: u64,
    pub producers: BTreeMap<i64, Producer>,
    /// Leader epoch of each offset ever given.
    pub epochs: Vec<u32>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Model {
    pub topics: Vec<TopicDef>,
    pub parts: BTreeMap<LogId, Part>,
    pub objects: u64,
    pub producers: i64,
    pub leader_epoch: u32,
}

fn last(first: i32, records: u32) -> i32 {
    let mut seq = first;
    for _ in 1..records {
        seq = after(seq);
    }
    seq
}

pub fn after(seq: i32) -> i32 {
    if seq == i32::MAX { 0 } else { seq + 1 }
}

impl Model {
    pub fn expected(&self, log: LogId, producer: i64) -> i32 {
        let p = self.parts.get(&log).and_then(|p| p.producers.get(&producer));
        p.and_then(|p| p.batches.last()).map_or(0, |b| after(b.1))
    }

    pub fn append(&mut self, item: &AppendItem, now_ms: u64, start: u64) -> Result<Appended, AppendError> {
        let part = self.parts.get_mut(&item.part).ok_or(AppendError::Gone)?;
        if let AppendKind::Batch(m) = item.kind
            && m.producer >= 0
        {
            let last = last(m.first_seq, m.records);
            if let Some(p) = part.producers.get_mut(&m.producer) {
                if m.epoch < p.epoch {
                    return Err(AppendError::Fenced { current: p.epoch, got: m.epoch });
                }
                if m.epoch > p.epoch {
                    if m.first_seq != 0 {
                        return Err(AppendError::OutOfSequence { expected: 0, got: m.first_seq });
                    }
                    p.batches.clear();
                } else {
                    let old = p.batches.iter().rev().take(5).find(|b| (b.0, b.1) == (m.first_seq, last));
                    if let Some(old) = old {
                        return Ok(Appended { base: old.2, start, duplicate: true });
                    }
                    let expected = after(p.batches.last().unwrap().1);
                    if m.first_seq != expected {
                        return Err(AppendError::OutOfSequence { expected, got: m.first_seq });
                    }
                }
            }
            let p = part.producers.entry(m.producer).or_default();
            p.epoch = m.epoch;
            p.last_ms = now_ms;
            p.batches.push((m.first_seq, last, part.next));
        }
        let base = part.next;
        part.next += u64::from(item.count);
        part.epochs.resize(part.next as usize, self.leader_epoch);
        Ok(Appended { base, start, duplicate: false })
    }

    pub fn change(&mut self, changes: &[Change], now_ms: u64) -> Result<Vec<TopicDef>, CatalogueError> {
        let mut after = self.clone();
        let defs = changes.iter().map(|c| after.change_one(c, now_ms)).collect::<Result<_, _>>()?;
        *self = after;
        Ok(defs)
    }

    fn partitions(&mut self, n: u32) -> Vec<ObjectId> {
        (0..n)
            .map(|_| {
                self.objects += 1;
                let object = ObjectId::new(ObjectKind::Partition, self.objects);
                self.parts.insert(LogId::new(object, 0), Part::default());
                object
            })
            .collect()
    }

    fn change_one(&mut self, change: &Change, now_ms: u64) -> Result<TopicDef, CatalogueError> {
        let by_uuid = |m: &Self, uuid: &[u8; 16]| m.topics.iter().position(|t| t.uuid == *uuid);
        match change {
            Change::CreateTopic { ns, name, uuid, partitions, settings } => {
                if self.topics.iter().any(|t| t.name == *name || t.uuid == *uuid) {
                    return Err(CatalogueError::Exists { name: name.clone() });
                }
                let def = TopicDef {
                    ns: *ns,
                    name: name.clone(),
                    uuid: *uuid,
                    partitions: self.partitions(*partitions),
                    settings: settings.clone(),
                    created_ms: now_ms,
                    version: 1,
                };
                self.topics.push(def.clone());
                Ok(def)
            }
            Change::DeleteTopic { uuid } => {
                let i = by_uuid(self, uuid).ok_or(CatalogueError::NotFound)?;
                let def = self.topics.remove(i);
                for p in &def.partitions {
                    self.parts.remove(&LogId::new(*p, 0));
                }
                Ok(def)
            }
            Change::AddPartitions { uuid, total } => {
                let i = by_uuid(self, uuid).ok_or(CatalogueError::NotFound)?;
                let current = self.topics[i].partitions.len() as u32;
                if *total <= current {
                    return Err(CatalogueError::NotMore { current });
                }
                let more = self.partitions(total - current);
                self.topics[i].partitions.extend(more);
                self.topics[i].version += 1;
                Ok(self.topics[i].clone())
            }
            Change::AlterTopic { uuid, expect, settings } => {
                let i = by_uuid(self, uuid).ok_or(CatalogueError::NotFound)?;
                if self.topics[i].version != *expect {
                    return Err(CatalogueError::Version { current: self.topics[i].version });
                }
                self.topics[i].settings = settings.clone();
                self.topics[i].version += 1;
                Ok(self.topics[i].clone())
            }
            other => panic!("not expected: {other:?}"),
        }
    }

    /// Whether somebody was forgotten.
    pub fn forget(&mut self, now_ms: u64, idle_ms: u64) -> bool {
        let count = |m: &Self| m.parts.values().map(|p| p.producers.len()).sum::<usize>();
        let before = count(self);
        for p in self.parts.values_mut() {
            p.producers.retain(|_, p| p.last_ms + idle_ms > now_ms);
        }
        count(self) < before
    }

    pub fn describe(&self, log: LogId) -> Result<Vec<ProducerInfo>, AppendError> {
        let part = self.parts.get(&log).ok_or(AppendError::Gone)?;
        let info = |(id, p): (&i64, &Producer)| ProducerInfo {
            id: *id,
            epoch: p.epoch,
            last_seq: p.batches.last().unwrap().1,
            last_ms: p.last_ms,
        };
        Ok(part.producers.iter().map(info).collect())
    }
}
