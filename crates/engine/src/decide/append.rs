//! Decides appends: offsets, and whether a producer's batch is new, was there already, or is refused.
//!
//! Start at [`decide`]. Several appends of one record may go to one partition or come from one producer: each sees those before it.

use std::collections::BTreeMap;
use std::ops::Range;

use millstream_log::Op;
use millstream_types::LogId;

use crate::attrs::{Attrs, ENVELOPE_VERSION, SingleAttrs, seq_after};
use crate::catalogue::Snapshot;
use crate::effect::RowEffect;
use crate::op::{AppendError, AppendItem, AppendKind, Appended, BatchMeta};
use crate::partition::PartitionView;
use crate::rows::part::{PartRow, epoch_effect};
use crate::rows::prod::{ProdKey, ProdRow};
use crate::state::State;

/// What becomes of the appends of one operation.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Per item.
    pub(crate) results: Vec<Result<Appended, AppendError>>,
    /// Effects that go before the appends.
    effects: Vec<RowEffect>,
    accepted: Vec<Accepted>,
    attrs: Vec<u8>,
    next: BTreeMap<LogId, u64>,
    producers: BTreeMap<ProdKey, ProdRow>,
    /// Producers that were not known before.
    pub(crate) new_producers: Vec<ProdKey>,
}

#[derive(Debug)]
struct Accepted {
    item: usize,
    pos: u64,
    attrs: Range<usize>,
}

impl Plan {
    /// Whether something is to be written.
    pub(crate) fn writes(&self) -> bool {
        !self.accepted.is_empty()
    }

    /// The operations of the record.
    pub(crate) fn ops<'a>(&'a self, items: &'a [AppendItem], out: &mut Vec<Op<'a>>) {
        out.extend(self.effects.iter().map(RowEffect::op));
        for a in &self.accepted {
            let (Some(item), Some(attrs)) = (items.get(a.item), self.attrs.get(a.attrs.clone())) else {
                continue;
            };
            out.push(Op::Append {
                log: item.part,
                pos: a.pos,
                count: item.count,
                max_ts_ms: item.max_ts_ms,
                attrs,
                body: &item.body,
            });
        }
    }

    /// One past the last offset of each partition that is written.
    pub(crate) fn ends(&self) -> impl Iterator<Item = (LogId, u64)> {
        self.next.iter().map(|(log, end)| (*log, *end))
    }
}

/// What decisions about appends look at.
#[derive(Clone, Copy)]
pub(crate) struct Facts<'a> {
    pub(crate) state: &'a State,
    pub(crate) catalogue: &'a Snapshot,
    pub(crate) leader_epoch: u32,
    pub(crate) wall_ms: u64,
}

/// The view of a partition that exists.
pub(crate) fn view(catalogue: &Snapshot, log: LogId) -> Option<&std::sync::Arc<PartitionView>> {
    let (topic, index) = catalogue.by_log.get(&log)?;
    topic.partitions.get(*index as usize)
}

/// Decides each append on its own, in order.
pub(crate) fn decide(facts: Facts<'_>, items: &[AppendItem]) -> Plan {
    let mut plan = Plan::default();
    for (index, item) in items.iter().enumerate() {
        let result = one(facts, &mut plan, index, item);
        plan.results.push(result);
    }
    plan
}

fn one(facts: Facts<'_>, plan: &mut Plan, index: usize, item: &AppendItem) -> Result<Appended, AppendError> {
    let log = item.part;
    let view = view(facts.catalogue, log).ok_or(AppendError::Gone)?;
    let start = view.start();
    let row = facts.state.part.get(&log);
    let pos = plan.next.get(&log).copied().unwrap_or_else(|| row.map_or(0, |r| r.next));
    let attrs = match item.kind {
        AppendKind::Single { envelope_len } => Attrs::Single(SingleAttrs {
            envelope_version: ENVELOPE_VERSION,
            envelope_len,
            enqueued_ms: facts.wall_ms,
            ..SingleAttrs::default()
        }),
        AppendKind::Batch(meta) => {
            if let Some(base) = check_producer(facts, plan, log, &meta)? {
                return Ok(Appended { base, start, duplicate: true });
            }
            note_producer(facts, plan, log, pos, &meta);
            Attrs::Batch { meta, leader_epoch: facts.leader_epoch, append_ms: facts.wall_ms }
        }
    };
    if !plan.next.contains_key(&log)
        && row.and_then(PartRow::last_epoch).is_none_or(|e| e < facts.leader_epoch)
    {
        plan.effects.push(epoch_effect(log, facts.leader_epoch, pos));
    }
    let from = plan.attrs.len();
    attrs.put(&mut plan.attrs);
    plan.accepted.push(Accepted { item: index, pos, attrs: from..plan.attrs.len() });
    plan.next.insert(log, pos.saturating_add(u64::from(item.count)));
    Ok(Appended { base: pos, start, duplicate: false })
}

fn key(log: LogId, m: &BatchMeta) -> Option<ProdKey> {
    u64::try_from(m.producer).ok().map(|producer| ProdKey { log, producer })
}

/// `Some(base)`: it was appended before, there. `None`: it is new.
fn check_producer(
    facts: Facts<'_>,
    plan: &Plan,
    log: LogId,
    m: &BatchMeta,
) -> Result<Option<u64>, AppendError> {
    let Some(key) = key(log, m) else { return Ok(None) };
    let Some(row) = plan.producers.get(&key).or_else(|| facts.state.prod.get(&key)) else {
        return Ok(None);
    };
    if m.epoch < row.epoch {
        return Err(AppendError::Fenced { current: row.epoch, got: m.epoch });
    }
    let expected = if m.epoch > row.epoch {
        0
    } else {
        let last_seq = m.last_seq();
        let same = |b: &&crate::rows::prod::Seen| b.first_seq == m.first_seq && b.last_seq == last_seq;
        if let Some(seen) = row.batches().iter().rev().find(same) {
            return Ok(Some(seen.base));
        }
        match row.last() {
            Some(last) => seq_after(last.last_seq, 1),
            None => return Ok(None),
        }
    };
    if m.first_seq == expected {
        Ok(None)
    } else {
        Err(AppendError::OutOfSequence { expected, got: m.first_seq })
    }
}

/// Later appends of the same record see this one.
fn note_producer(facts: Facts<'_>, plan: &mut Plan, log: LogId, pos: u64, m: &BatchMeta) {
    let Some(key) = key(log, m) else { return };
    let known = facts.state.prod.get(&key);
    if known.is_none() && !plan.producers.contains_key(&key) {
        plan.new_producers.push(key);
    }
    let row = plan.producers.entry(key).or_insert_with(|| known.cloned().unwrap_or_default());
    row.appended(pos, m, facts.wall_ms);
}
