//! The durable state of all queues: definitions, heads, chunks, delays, ids, changed only by records. It decides nothing and knows no time.
//!
//! Start at [`QueueRows`]. One file per family: [`def`], [`head`], [`chunk`], [`due`], [`ids`].

pub mod chunk;
pub mod def;
pub mod due;
pub mod exceptions;
pub mod head;
pub mod ids;
pub mod set;

use std::sync::Arc;

use millstream_log::{EntryHead, StateReader};
use millstream_types::{LogId, Lsn, ObjectId};

use self::chunk::{Chunk, ChunkKey, offset};
use self::def::{DefRow, QueueName, Shared};
use self::due::{Due, DueKey};
use self::head::{Head, HeadKey};
use self::ids::{IdsKey, IdsRow};
use super::api::DELAY_LANE;
use crate::attrs::SingleAttrs;
use crate::codec::DecodeError;
use crate::error::LoadError;
use crate::rows::family;
use crate::table::{Dirty, Table};

/// Definitions, heads, chunks and delays.
#[derive(Debug, Default)]
pub struct QueueRows {
    /// Definitions by name.
    pub defs: Table<QueueName, DefRow>,
    /// Heads by queue.
    pub heads: Table<HeadKey, Head>,
    /// Chunks by queue, lane and number.
    pub chunks: Table<ChunkKey, Chunk>,
    /// Messages that wait for their time, by queue, minute, lane and chunk.
    pub due: Table<DueKey, Due>,
    /// Ids of messages published lately, by queue and minute.
    pub ids: Table<IdsKey, IdsRow>,
    shared: Shared,
}

impl QueueRows {
    /// Loads all rows.
    ///
    /// # Errors
    /// If the store fails or holds what cannot be read.
    pub fn load(rows: &Arc<dyn StateReader>) -> Result<Self, LoadError> {
        let mut shared = Shared::default();
        let defs = Table::load_with(rows, |row| shared.share(row))?;
        let heads = Table::load(rows)?;
        let (chunks, due, ids) = (Table::load(rows)?, Table::load(rows)?, Table::load(rows)?);
        Ok(Self { defs, heads, chunks, due, ids, shared })
    }

    /// Applies one effect of record `lsn` to the row it names.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn apply_effect(&mut self, lsn: Lsn, key: &[u8], bytes: &[u8]) -> Result<(), DecodeError> {
        match key.first() {
            Some(&family::QUEUE) => self.defs.apply_effect(lsn, key, bytes, &mut self.shared),
            Some(&family::HEAD) => self.heads.apply_effect(lsn, key, bytes),
            Some(&family::CHUNK) => self.chunks.apply_effect(lsn, key, bytes),
            Some(&family::DUE) => self.due.apply_effect(lsn, key, bytes),
            Some(&family::IDS) => self.ids.apply_effect(lsn, key, bytes),
            _ => Err(DecodeError::Value { what: "row family" }),
        }
    }

    /// Applies an append to a queue's log.
    pub fn append(&mut self, lsn: Lsn, e: &EntryHead<'_>, attrs: &SingleAttrs) {
        self.heads.apply_append(lsn, e, attrs);
        if let Some(due_ms) = attrs.due_ms.filter(|_| e.log.lane() >= DELAY_LANE) {
            self.due.apply_append(lsn, e, attrs, due_ms);
        }
    }

    /// Applies the deletion of a queue's log: the head and all beneath go.
    pub fn delete(&mut self, lsn: Lsn, log: LogId) {
        let queue = log.object();
        self.heads.apply(lsn, &HeadKey(queue), |row| *row = None);
        let from = ChunkKey { queue, lane: 0, chunk: 0 };
        let to = ChunkKey { queue, lane: u16::MAX, chunk: u64::MAX };
        let chunks: Vec<ChunkKey> = self.chunks.range(from..=to).map(|(k, _)| *k).collect();
        for key in chunks {
            self.chunks.apply(lsn, &key, |row| *row = None);
        }
        let due: Vec<DueKey> = self.due_of(queue, 0).map(|(k, _)| *k).collect();
        for key in due {
            self.due.apply(lsn, &key, |row| *row = None);
        }
        let ids: Vec<IdsKey> = self.ids.of(queue).map(|(k, _)| *k).collect();
        for key in ids {
            self.ids.apply(lsn, &key, |row| *row = None);
        }
    }

    /// Record `lsn` is complete.
    pub fn record_end(&mut self, lsn: Lsn) {
        self.defs.record_end(lsn);
        self.heads.record_end(lsn);
        self.chunks.record_end(lsn);
        self.due.record_end(lsn);
        self.ids.record_end(lsn);
    }

    /// The tables, for the flusher.
    pub fn tables(&mut self) -> [&mut dyn Dirty; 5] {
        [&mut self.defs, &mut self.heads, &mut self.chunks, &mut self.due, &mut self.ids]
    }

    /// The chunk that a position is in, if it has seen purge `purge_no`: else nothing in it counts.
    #[must_use]
    pub fn chunk(&self, queue: ObjectId, lane: u16, pos: u64, purge_no: u32) -> Option<&Chunk> {
        self.chunks.get(&ChunkKey::of(queue, lane, pos)).filter(|c| c.purge_no == purge_no)
    }

    /// A queue's delays from a minute on.
    pub fn due_of(&self, queue: ObjectId, minute: u64) -> impl Iterator<Item = (&DueKey, &Due)> {
        let from = DueKey { queue, minute, lane: 0, chunk: 0 };
        let to = DueKey { queue, minute: u64::MAX, lane: u16::MAX, chunk: u64::MAX };
        self.due.range(from..=to)
    }

    /// Last delivery number given in a chunk.
    #[must_use]
    pub fn lease_no(&self, key: &ChunkKey) -> u32 {
        self.chunks.get(key).map_or(0, |c| c.lease_no)
    }

    /// What is recorded of a message.
    #[must_use]
    pub fn exception(&self, queue: ObjectId, lane: u16, pos: u64, purge_no: u32) -> Option<chunk::Exception> {
        self.chunk(queue, lane, pos, purge_no)?.exception(offset(pos))
    }
}
