//! What the engine keeps in memory besides rows, all of it built from rows when the log is opened: the catalogue that sessions see, and
//! what is to be shown once it is durable.
//!
//! Start at [`Live`].

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use millstream_types::{LogId, Lsn};

use crate::catalogue::{Snapshot, Topic, TopicDef};
use crate::partition::PartitionView;
use crate::routes::Index;
use crate::rows::cat::{CatKey, TopicRow};
use crate::rows::part::{PartRow, trim_epochs};
use crate::state::State;

/// Memory besides rows.
#[derive(Debug, Default)]
pub(crate) struct Live {
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) leader_epoch: u32,
    pub(crate) routes: Index,
    waiting: VecDeque<(Lsn, Move)>,
}

/// What becomes visible once its record is durable.
#[derive(Debug)]
enum Move {
    End(Arc<PartitionView>, u64),
    Start(Arc<PartitionView>, u64),
}

impl Live {
    /// Everything in the rows is durable and shown.
    pub(crate) fn of(state: &State, leader_epoch: u32) -> Self {
        let mut snapshot = Snapshot { version: 1, ..Snapshot::default() };
        for (key, row) in state.cat.iter() {
            put(&mut snapshot, state, leader_epoch, None, row.def(key));
        }
        Self {
            snapshot: Arc::new(snapshot),
            leader_epoch,
            routes: Index::of(state),
            waiting: VecDeque::new(),
        }
    }

    /// The catalogue's rows have changed: the snapshot follows. Topics that did not change are shared with the one before.
    pub(crate) fn changed(&mut self, state: &State, changed: &BTreeMap<CatKey, Option<TopicRow>>) {
        // Copied only if somebody else holds the last one.
        let snapshot = Arc::make_mut(&mut self.snapshot);
        snapshot.version += 1;
        let mut to_wake = Vec::new();
        for (key, row) in changed {
            let old = snapshot.by_name.remove(&(key.ns, key.name.clone()));
            if let Some(old) = &old {
                snapshot.by_uuid.remove(&old.def.uuid);
                for view in &old.partitions {
                    snapshot.by_log.remove(&view.log);
                }
            }
            if let Some(row) = row {
                put(snapshot, state, self.leader_epoch, old.as_deref(), row.def(key));
            }
            for view in old.iter().flat_map(|t| &t.partitions) {
                if !snapshot.by_log.contains_key(&view.log) {
                    view.set_gone(&mut to_wake);
                }
            }
        }
        for waiter in to_wake {
            waiter.wake();
        }
    }

    /// Record `lsn` wrote up to `end`.
    pub(crate) fn appended(&mut self, lsn: Lsn, view: Arc<PartitionView>, row: Option<&PartRow>, end: u64) {
        // The first append of an epoch begins it.
        if let Some(&(epoch, first)) = row.and_then(|r| r.epochs.last())
            && first >= view.visible_end()
        {
            view.with_epochs(|known| {
                if known.last().is_none_or(|last| last.0 < epoch) {
                    known.push((epoch, first));
                }
            });
        }
        self.waiting.push_back((lsn, Move::End(view, end)));
    }

    /// Record `lsn` trimmed up to `start`.
    pub(crate) fn trimmed(&mut self, lsn: Lsn, view: Arc<PartitionView>, start: u64) {
        self.waiting.push_back((lsn, Move::Start(view, start)));
    }

    /// Shows what has become durable, then wakes who waits for it: a reader finds all of it in one go.
    pub(crate) fn durable(&mut self, lsn: Lsn) {
        let mut to_wake = Vec::new();
        while let Some((_, shown)) = self.waiting.pop_front_if(|w| w.0 <= lsn) {
            match shown {
                Move::End(view, end) => view.set_visible_end(end, &mut to_wake),
                Move::Start(view, start) => {
                    view.set_start(start);
                    view.with_epochs(|epochs| trim_epochs(epochs, start));
                }
            }
        }
        for waiter in to_wake {
            waiter.wake();
        }
    }

    /// What is not durable yet will not be shown.
    pub(crate) fn lost(&mut self) {
        self.waiting.clear();
    }
}

fn put(snapshot: &mut Snapshot, state: &State, leader_epoch: u32, old: Option<&Topic>, def: TopicDef) {
    let partitions = def
        .partitions
        .iter()
        .map(|object| {
            let log = LogId::new(*object, 0);
            let known = old.and_then(|t| t.partitions.iter().find(|v| v.log == log));
            known.map_or_else(|| new_view(state, leader_epoch, log), Arc::clone)
        })
        .collect();
    let topic = Arc::new(Topic { def, partitions });
    snapshot.by_name.insert((topic.def.ns, topic.def.name.clone()), Arc::clone(&topic));
    snapshot.by_uuid.insert(topic.def.uuid, Arc::clone(&topic));
    for (index, view) in (0..).zip(&topic.partitions) {
        snapshot.by_log.insert(view.log, (Arc::clone(&topic), index));
    }
}

fn new_view(state: &State, leader_epoch: u32, log: LogId) -> Arc<PartitionView> {
    let view = match state.part.get(&log) {
        None => PartitionView::new(log, 0, 0, leader_epoch),
        Some(row) => {
            let view = PartitionView::new(log, row.start, row.next, leader_epoch);
            view.with_epochs(|epochs| epochs.clone_from(&row.epochs));
            view
        }
    };
    Arc::new(view)
}
