//! Messages of transient queues: in memory only, under the names that they would have in the log.
//!
//! Start at [`TransientLogs::keep`], the sequencer's side. Readers find here what [`ObjectId::is_transient`](millstream_types::ObjectId) says is
//! not in the log. What was settled is gone at once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use foldhash::HashMap;
use millstream_log::{Entry, Head, Limits, Op};
use millstream_types::LogId;

/// What a message takes besides its bytes: its place in the map, its lease, and what the allocator adds.
const OVERHEAD_BYTES: u64 = 256;

/// Messages by log and position.
#[derive(Debug)]
pub(crate) struct TransientLogs {
    /// By log; only ever looked up.
    logs: Mutex<HashMap<LogId, BTreeMap<u64, Entry>>>,
    bytes: AtomicU64,
    bytes_max: u64,
}

impl TransientLogs {
    /// With so many bytes of messages nothing more is published to transient queues.
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self { logs: Mutex::default(), bytes: AtomicU64::new(0), bytes_max }
    }

    /// Bytes that the messages take.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether nothing more is published. What is on its way then still comes.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes() >= self.bytes_max
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<LogId, BTreeMap<u64, Entry>>> {
        self.logs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From the sequencer: messages that came, and those that nobody will read again.
    pub(crate) fn keep(&self, ops: &[Op<'_>]) {
        let mut logs = self.lock();
        // One thread changes it.
        let mut bytes = self.bytes();
        for op in ops {
            match *op {
                Op::Append { log, pos, count, max_ts_ms, attrs, body } => {
                    let entry = entry(pos, count, max_ts_ms, attrs, body);
                    bytes += size(&entry);
                    logs.entry(log).or_default().insert(pos, entry);
                }
                Op::FanOut { to, max_ts_ms, attrs, body } => {
                    let shared = entry(0, 1, max_ts_ms, attrs, body);
                    for (log, pos) in to {
                        // Each counts as if it were alone.
                        bytes += size(&shared);
                        logs.entry(*log).or_default().insert(*pos, Entry { pos: *pos, ..shared.clone() });
                    }
                }
                Op::Retire { log, runs } => {
                    let Some(all) = logs.get_mut(&log) else { continue };
                    for pos in runs.iter().flat_map(|(pos, n)| *pos..pos.saturating_add(u64::from(*n))) {
                        bytes -= all.remove(&pos).as_ref().map_or(0, size);
                    }
                }
                Op::Trim { log, before } => {
                    let Some(all) = logs.get_mut(&log) else { continue };
                    while let Some(first) = all.first_entry().filter(|e| *e.key() < before) {
                        bytes -= size(&first.remove());
                    }
                }
                Op::Delete { log } => {
                    let gone = logs.remove(&log).unwrap_or_default();
                    bytes -= gone.values().map(size).sum::<u64>();
                }
                Op::Effect { .. } => {}
            }
        }
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    /// Those of these positions that are there.
    pub(crate) fn get(&self, log: LogId, positions: &[u64]) -> Vec<Entry> {
        let logs = self.lock();
        let Some(all) = logs.get(&log) else { return Vec::new() };
        positions.iter().filter_map(|pos| all.get(pos)).cloned().collect()
    }

    /// Heads from a position on, as far as the limits go.
    pub(crate) fn heads(&self, log: LogId, from: u64, limits: Limits) -> Vec<Head> {
        let logs = self.lock();
        let all = logs.get(&log).into_iter().flat_map(|all| all.range(from..limits.end_pos.max(from)));
        all.take(limits.max_entries).map(|(_, e)| head(e)).collect()
    }
}

/// One message, in one piece of memory of its own.
fn entry(pos: u64, count: u32, max_ts_ms: i64, attrs: &[u8], body: &[Bytes]) -> Entry {
    let len = attrs.len() + body.iter().map(Bytes::len).sum::<usize>();
    let mut all = BytesMut::with_capacity(len);
    all.extend_from_slice(attrs);
    for part in body {
        all.extend_from_slice(part);
    }
    let mut all = all.freeze();
    let body = all.split_off(attrs.len());
    Entry { pos, count, max_ts_ms, attrs: all, body }
}

fn size(e: &Entry) -> u64 {
    (e.attrs.len() + e.body.len()) as u64 + OVERHEAD_BYTES
}

fn head(e: &Entry) -> Head {
    let body_len = u32::try_from(e.body.len()).unwrap_or(u32::MAX);
    // A copy: it is kept for longer than the message may be.
    let attrs = Bytes::copy_from_slice(&e.attrs);
    Head { pos: e.pos, count: e.count, max_ts_ms: e.max_ts_ms, attrs, body_len }
}

#[cfg(test)]
mod tests {
    use millstream_types::{ObjectId, ObjectKind};

    use super::*;

    const LOG: LogId = LogId::new(ObjectId::new(ObjectKind::Transient, 7), 0);

    fn append(logs: &TransientLogs, pos: u64) {
        let body = [Bytes::from_static(b"en"), Bytes::from_static(b"velope")];
        logs.keep(&[Op::Append { log: LOG, pos, count: 1, max_ts_ms: -1, attrs: b"attrs", body: &body }]);
    }

    #[test]
    fn what_is_settled_gives_its_bytes_back_whatever_the_order() {
        let logs = TransientLogs::new(4 * (OVERHEAD_BYTES + 13));
        (0..4).for_each(|pos| append(&logs, pos));
        assert!(logs.is_full());
        logs.keep(&[Op::Retire { log: LOG, runs: &[(1, 2), (1, 1), (9, 1)] }]);
        assert_eq!((logs.is_full(), logs.bytes()), (false, 2 * (OVERHEAD_BYTES + 13)));
        assert_eq!(logs.get(LOG, &[0, 1, 2, 3, 4]).iter().map(|e| e.pos).collect::<Vec<_>>(), [0, 3]);
        logs.keep(&[Op::Trim { log: LOG, before: 3 }]);
        assert_eq!(logs.bytes(), OVERHEAD_BYTES + 13);
        logs.keep(&[Op::Delete { log: LOG }]);
        assert_eq!((logs.bytes(), logs.get(LOG, &[3]).len()), (0, 0));
    }

    #[test]
    fn a_body_that_several_queues_have_is_there_until_the_last_lets_go() {
        let logs = TransientLogs::new(u64::MAX);
        let other = LogId::new(ObjectId::new(ObjectKind::Transient, 8), 3);
        let body = [Bytes::from_static(b"body")];
        logs.keep(&[Op::FanOut { to: &[(LOG, 5), (other, 2)], max_ts_ms: 4, attrs: b"a", body: &body }]);
        logs.keep(&[Op::Retire { log: LOG, runs: &[(5, 1)] }]);
        let left = logs.get(other, &[2]);
        assert_eq!((&left[0].body[..], left[0].max_ts_ms, left.len()), (&b"body"[..], 4, 1));
    }

    #[test]
    fn heads_go_as_far_as_they_may() {
        let logs = TransientLogs::new(u64::MAX);
        (0..9).for_each(|pos| append(&logs, pos));
        let limits = Limits { max_bytes: 1, max_entries: 3, end_pos: 7 };
        let positions = |from| logs.heads(LOG, from, limits).iter().map(|h| h.pos).collect::<Vec<_>>();
        assert_eq!((positions(2), positions(6), positions(8)), (vec![2, 3, 4], vec![6], vec![]));
        assert_eq!(logs.heads(LOG, 0, limits)[0].body_len, 8);
    }
}
