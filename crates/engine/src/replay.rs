//! The log's past becomes state. Each call goes to the function that service uses too; see [`crate::state`].

use std::sync::Arc;

use millstream_log::{EntryHead, Replay, StateReader};
use millstream_types::{Epoch, LogId, Lsn};

use crate::engine::Engine;
use crate::error::LoadError;

/// Leader epochs go to clients as positive 31-bit numbers.
const LEADER_EPOCH_MAX: u32 = i32::MAX.unsigned_abs();

impl Engine {
    fn note(&mut self, result: Result<(), LoadError>) {
        if let Err(e) = result {
            self.failed.get_or_insert(e);
        }
    }
}

/// What cannot be read is reported by [`Engine::serve`].
impl Replay for Engine {
    fn begin(&mut self, rows: Arc<dyn StateReader>, epoch: Epoch) {
        self.live.leader_epoch = u32::try_from(epoch.0).unwrap_or(LEADER_EPOCH_MAX).min(LEADER_EPOCH_MAX);
        let loaded = self.state.load(&rows);
        self.note(loaded);
    }
    fn effect(&mut self, lsn: Lsn, object: &[u8], bytes: &[u8]) {
        let applied = self.state.effect(lsn, object, bytes);
        self.note(applied);
    }
    fn append(&mut self, lsn: Lsn, entry: EntryHead<'_>) {
        let applied = self.state.append(lsn, &entry);
        self.note(applied);
    }
    fn trim(&mut self, lsn: Lsn, log: LogId, before: u64) {
        self.state.trim(lsn, log, before);
    }
    fn delete(&mut self, lsn: Lsn, log: LogId) {
        self.state.delete(lsn, log);
    }
    fn record_end(&mut self, lsn: Lsn) {
        self.state.record_end(lsn);
        self.last_lsn = lsn;
    }
}
