//! All durable state of the engine, and the one way in which it changes.
//!
//! Start at [`State`]. Its methods `effect`, `append`, `trim`, `delete` and `record_end` are what replay calls and what service
//! calls, with the same arguments. They read the row they change and nothing else: no clock, no body, no other row.

use std::sync::Arc;

use millstream_log::{EntryHead, Op, Row, StateReader};
use millstream_types::{LogId, Lsn, Namespace, ObjectKind};

use crate::attrs::{self, Attrs};
use crate::codec::DecodeError;
use crate::error::LoadError;
use crate::group::Groups;
use crate::queue::rows::QueueRows;
use crate::queue::rows::def::{DefRow, QueueName};
use crate::rows::bind::{BindKey, BindRow};
use crate::rows::cat::{CatKey, TopicRow};
use crate::rows::exchange::{ExchangeKey, ExchangeRow};
use crate::rows::family;
use crate::rows::id::Ids;
use crate::rows::part::PartRow;
use crate::rows::prod::{ProdKey, ProdRow};
use crate::rows::task::{TaskKey, TaskRow};
use crate::table::{Dirty, Table};

/// All rows.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) ids: Ids,
    pub(crate) cat: Table<CatKey, TopicRow>,
    pub(crate) part: Table<LogId, PartRow>,
    pub(crate) prod: Table<ProdKey, ProdRow>,
    pub(crate) groups: Groups,
    pub(crate) exchange: Table<ExchangeKey, ExchangeRow>,
    pub(crate) bind: Table<BindKey, BindRow>,
    pub(crate) queues: QueueRows,
    pub(crate) tasks: Table<TaskKey, TaskRow>,
}

impl State {
    /// Loads all rows.
    pub(crate) fn load(&mut self, rows: &Arc<dyn StateReader>) -> Result<(), LoadError> {
        self.groups.load(rows)?;
        self.queues = QueueRows::load(rows)?;
        self.ids = Table::load(rows)?;
        self.cat = Table::load(rows)?;
        self.part = Table::load(rows)?;
        self.prod = Table::load(rows)?;
        self.exchange = Table::load(rows)?;
        self.bind = Table::load(rows)?;
        self.tasks = Table::load(rows)?;
        Ok(())
    }

    /// Applies an effect to its row.
    pub(crate) fn effect(&mut self, lsn: Lsn, key: &[u8], bytes: &[u8]) -> Result<(), LoadError> {
        match key.first() {
            Some(&family::ID) => self.ids.apply_effect(lsn, key, bytes),
            Some(&family::CAT) => self.cat.apply_effect(lsn, key, bytes),
            Some(&family::PART) => self.part.apply_effect(lsn, key, bytes),
            Some(&family::PROD) => self.prod.apply_effect(lsn, key, bytes),
            Some(&(family::GROUP | family::MEMBER | family::OFFSET)) => {
                self.groups.apply_effect(lsn, key, bytes)
            }
            Some(&family::EXCHANGE) => self.exchange_effect(lsn, key, bytes),
            Some(&family::TASK) => self.tasks.apply_effect(lsn, key, bytes),
            Some(&family::BIND) => self.bind.apply_effect(lsn, key, bytes),
            Some(&(family::QUEUE | family::HEAD | family::CHUNK | family::DUE | family::IDS)) => {
                self.queues.apply_effect(lsn, key, bytes)
            }
            _ => return Err(LoadError::family(key)),
        }
        .map_err(|e| LoadError::row(key, e))
    }

    /// Removing an exchange voids the bindings from it.
    fn exchange_effect(&mut self, lsn: Lsn, key: &[u8], bytes: &[u8]) -> Result<(), DecodeError> {
        if let Some(removed) = self.exchange.apply_effect(lsn, key, bytes)? {
            self.bind.apply_removed(lsn, &removed);
        }
        Ok(())
    }

    /// The queue of this name.
    pub(crate) fn queue(&self, ns: Namespace, name: &str) -> Option<&DefRow> {
        self.queues.defs.get(&QueueName { ns, name: name.to_owned() })
    }

    /// Applies an append to the rows that follow from it: the partition, and the producer of a batch; or the queue's head.
    pub(crate) fn append(&mut self, lsn: Lsn, e: &EntryHead<'_>) -> Result<(), LoadError> {
        let attrs =
            attrs::decode(e.attrs).map_err(|error| LoadError::Entry { log: e.log.0, pos: e.pos, error })?;
        if is_queue(e.log) {
            match &attrs {
                Attrs::Single(single) => self.queues.append(lsn, e, single),
                Attrs::Batch { .. } => {
                    let error = DecodeError::Value { what: "entry kind in a queue" };
                    return Err(LoadError::Entry { log: e.log.0, pos: e.pos, error });
                }
            }
            return Ok(());
        }
        self.part.apply_append(lsn, e.log, e.pos, e.count);
        if let Attrs::Batch { meta, append_ms, .. } = &attrs {
            self.prod.apply_append(lsn, e.log, e.pos, meta, *append_ms);
        }
        Ok(())
    }

    /// Applies a trim. A queue's follows from its floor.
    pub(crate) fn trim(&mut self, lsn: Lsn, log: LogId, before: u64) {
        if is_queue(log) {
            return;
        }
        self.part.apply_trim(lsn, log, before);
    }

    /// Applies a deletion: everything beneath the partition or queue goes with it.
    pub(crate) fn delete(&mut self, lsn: Lsn, log: LogId) {
        if is_queue(log) {
            self.queues.delete(lsn, log);
            return;
        }
        self.part.apply_delete(lsn, log);
        self.prod.apply_delete(lsn, log);
        self.groups.partition_deleted(lsn, log);
    }

    /// Record `lsn` is complete.
    pub(crate) fn record_end(&mut self, lsn: Lsn) {
        self.ids.record_end(lsn);
        self.cat.record_end(lsn);
        self.part.record_end(lsn);
        self.prod.record_end(lsn);
        self.groups.record_end(lsn);
        self.exchange.record_end(lsn);
        self.bind.record_end(lsn);
        self.queues.record_end(lsn);
        self.tasks.record_end(lsn);
    }

    /// Applies a whole record that was just put in order, as replay would.
    ///
    /// # Panics
    /// If it holds what the engine does not make.
    pub(crate) fn record(&mut self, lsn: Lsn, ops: &[Op<'_>]) {
        for op in ops {
            self.made(lsn, op);
        }
        self.record_end(lsn);
    }

    /// Applies one operation that the engine has made: of record `lsn`, or one that is in none. Whoever calls ends the record.
    ///
    /// # Panics
    /// If it holds what the engine does not make.
    pub(crate) fn made(&mut self, lsn: Lsn, op: &Op<'_>) {
        self.op(lsn, op).expect("the engine reads what it has written");
    }

    fn op(&mut self, lsn: Lsn, op: &Op<'_>) -> Result<(), LoadError> {
        match *op {
            Op::Append { log, pos, count, max_ts_ms, attrs, body } => {
                let len: usize = body.iter().map(bytes::Bytes::len).sum();
                let body_len = u32::try_from(len).unwrap_or(u32::MAX);
                self.append(lsn, &EntryHead { log, pos, count, max_ts_ms, attrs, body_len })?;
            }
            Op::FanOut { to, max_ts_ms, attrs, body } => {
                let len: usize = body.iter().map(bytes::Bytes::len).sum();
                let body_len = u32::try_from(len).unwrap_or(u32::MAX);
                for &(log, pos) in to {
                    self.append(lsn, &EntryHead { log, pos, count: 1, max_ts_ms, attrs, body_len })?;
                }
            }
            Op::Retire { .. } => {}
            Op::Trim { log, before } => self.trim(lsn, log, before),
            Op::Delete { log } => self.delete(lsn, log),
            Op::Effect { object, bytes } => self.effect(lsn, object, bytes)?,
        }
        Ok(())
    }

    /// The table whose oldest change is the oldest of all gives its row; `None`: nothing is dirty.
    pub(crate) fn pop_dirty(&mut self) -> Option<Row> {
        let oldest = |t: &&mut dyn Dirty| t.oldest_dirty();
        self.tables().into_iter().filter(|t| oldest(t).is_some()).min_by_key(oldest)?.pop_dirty()
    }

    /// The lowest LSN of which an effect is in no row taken so far.
    pub(crate) fn oldest_dirty(&mut self) -> Option<Lsn> {
        self.tables().iter().filter_map(|t| t.oldest_dirty()).min()
    }

    fn tables(&mut self) -> Vec<&mut dyn Dirty> {
        let mut all: Vec<&mut dyn Dirty> = vec![
            &mut self.ids,
            &mut self.cat,
            &mut self.part,
            &mut self.prod,
            &mut self.exchange,
            &mut self.bind,
            &mut self.tasks,
        ];
        all.extend(self.groups.tables());
        all.extend(self.queues.tables());
        all
    }
}

fn is_queue(log: LogId) -> bool {
    matches!(log.object().kind(), Some(ObjectKind::Queue | ObjectKind::Transient))
}
