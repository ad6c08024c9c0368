//! A log in a check's hands: short names for what checks do.

use bytes::Bytes;
use millstream_log::{
    BatchId, Class, Entry, Level, Limits, Op, OpenError, Opened, ReadBatch, ReadError, ReadOutcome, Row,
    RowBatch,
};
use millstream_types::{ConnId, LogId, Lsn};

use crate::block_on::{block_on, until};
use crate::seen::Seen;
use crate::under::LogUnderTest;

/// No bounds.
pub const ALL: Limits = Limits { max_bytes: usize::MAX, max_entries: usize::MAX, end_pos: u64::MAX };

/// Two logs of two objects.
pub const A: LogId = LogId(0x1000_0000_0001_0000);
/// See [`A`].
pub const B: LogId = LogId(0x1000_0000_0002_0000);
/// See [`A`].
pub const C: LogId = LogId(0x2000_0000_0001_0005);

/// An open log.
pub struct Log<'a> {
    under: &'a dyn LogUnderTest,
    /// Its handles.
    pub opened: Opened,
    /// What opening replayed.
    pub seen: Seen,
}

/// Opens, or says why not.
pub fn try_open(under: &dyn LogUnderTest) -> Result<Log<'_>, OpenError> {
    let mut seen = Seen::default();
    let opened = under.store().open(&under.config(), &mut seen)?;
    let begun = seen.begun.as_ref().expect("an opening calls begin");
    assert_eq!(begun.0, opened.epoch, "begin is told the epoch of the opening");
    Ok(Log { under, opened, seen })
}

/// Opens.
pub fn open(under: &dyn LogUnderTest) -> Log<'_> {
    try_open(under).unwrap()
}

/// One entry of one position, its body made from the position.
pub fn one(log: LogId, pos: u64, body: &[Bytes]) -> Op<'_> {
    Op::Append { log, pos, count: 1, max_ts_ms: 1_000 + i64::try_from(pos).unwrap(), attrs: b"at", body }
}

/// A body that tells its log and position.
pub fn body(log: LogId, pos: u64) -> [Bytes; 1] {
    [Bytes::from(format!("body of {:x} at {pos}", log.0))]
}

/// The positions of entries.
pub fn positions(entries: &[Entry]) -> Vec<u64> {
    entries.iter().map(|e| e.pos).collect()
}

/// An entry's parts, to compare.
pub fn parts(e: &Entry) -> (u64, u32, i64, &[u8], &[u8]) {
    (e.pos, e.count, e.max_ts_ms, &e.attrs, &e.body)
}

impl<'a> Log<'a> {
    /// Puts a record in order; the turn goes on.
    pub fn put(&mut self, class: Class, record: &[Op<'_>], waiter: Option<ConnId>) -> Lsn {
        let permit = block_on(self.opened.gate.admit(class, bytes(record))).unwrap();
        self.opened.sequencer.sequence(permit, record, waiter)
    }

    /// Puts a record in order and ends the turn.
    pub fn turn(&mut self, record: &[Op<'_>]) -> Lsn {
        let lsn = self.put(Class::Publish, record, None);
        self.opened.sequencer.end_turn();
        lsn
    }

    /// Puts a record in order and waits until it is durable.
    pub fn commit(&mut self, record: &[Op<'_>]) -> Lsn {
        let lsn = self.turn(record);
        self.durable(lsn);
        lsn
    }

    /// Waits until `lsn` is durable.
    pub fn durable(&self, lsn: Lsn) {
        self.under.commit();
        block_on(self.opened.marks.reached(lsn)).unwrap();
    }

    /// Appends one entry each at these positions, one record for each, and waits.
    pub fn append(&mut self, log: LogId, at: impl IntoIterator<Item = u64>) -> Lsn {
        let mut last = Lsn(0);
        for pos in at {
            last = self.turn(&[one(log, pos, &body(log, pos))]);
        }
        self.durable(last);
        last
    }

    /// Reads, with I/O if it must be.
    pub fn read(&self, log: LogId, from: u64, lim: Limits, level: Level) -> Result<ReadBatch, ReadError> {
        finish(self.opened.reader.read(log, from, lim, level))
    }

    /// Everything durable at and past `from`, in as many reads as it takes.
    pub fn all(&self, log: LogId, from: u64) -> Result<Vec<Entry>, ReadError> {
        let (mut out, mut from) = (Vec::new(), from);
        loop {
            let batch = self.read(log, from, Limits { max_entries: 1_000, ..ALL }, Level::Durable)?;
            if batch.entries.is_empty() {
                return Ok(out);
            }
            assert!(batch.next > from, "a read that gives entries moves on");
            from = batch.next;
            out.extend(batch.entries);
        }
    }

    /// The positions that are durable in a log, from its start.
    pub fn positions(&self, log: LogId) -> Vec<u64> {
        positions(&self.all(log, self.opened.reader.bounds(log).start).unwrap())
    }

    /// Cuts the power where that can be done, else stops cleanly; opens again.
    #[must_use]
    pub fn crash_or_reopen(self) -> Log<'a> {
        self.crash().unwrap_or_else(|log| log.reopen())
    }

    /// Hands over rows that hold everything up to `applied`.
    pub fn offer(
        &self,
        rows: &[(&str, Lsn, Option<&str>)],
        applied: Lsn,
        oldest_dirty: Option<Lsn>,
    ) -> BatchId {
        let rows = rows.iter().map(|(key, row_lsn, value)| Row {
            key: key.as_bytes().to_vec(),
            row_lsn: *row_lsn,
            value: value.map(|v| v.as_bytes().to_vec()),
        });
        self.opened.sink.offer(RowBatch { rows: rows.collect(), oldest_dirty, applied })
    }

    /// Waits until a slice of rows is durable.
    pub fn flushed(&self, id: BatchId) {
        until("rows are flushed", || self.opened.sink.flushed() >= id);
    }

    /// A row, as text.
    pub fn row(&self, key: &str) -> Option<(Lsn, String)> {
        let row = self.opened.rows.get(key.as_bytes()).unwrap();
        row.map(|(lsn, value)| (lsn, String::from_utf8(value).unwrap()))
    }

    /// Stops cleanly and opens again.
    #[must_use]
    pub fn reopen(self) -> Log<'a> {
        let Self { under, opened, .. } = self;
        drop(opened);
        open(under)
    }

    /// Cuts the power and opens again; `Err` gives the log back where it cannot be cut.
    pub fn crash(self) -> Result<Log<'a>, Box<Log<'a>>> {
        if !self.under.crash() {
            return Err(Box::new(self));
        }
        let Self { under, opened, .. } = self;
        drop(opened);
        Ok(open(under))
    }
}

/// Waits for a read.
pub fn finish(outcome: ReadOutcome) -> Result<ReadBatch, ReadError> {
    match outcome {
        ReadOutcome::Ready(r) => r,
        ReadOutcome::Cold(f) => block_on(f),
    }
}

/// An upper bound of a record's size.
#[must_use]
pub fn bytes(record: &[Op<'_>]) -> usize {
    let size = |op: &Op<'_>| match op {
        Op::Append { attrs, body, .. } => attrs.len() + body.iter().map(Bytes::len).sum::<usize>(),
        Op::FanOut { to, attrs, body, .. } => {
            to.len() * 24 + attrs.len() + body.iter().map(Bytes::len).sum::<usize>()
        }
        Op::Retire { runs, .. } => runs.len() * 24,
        Op::Trim { .. } | Op::Delete { .. } => 0,
        Op::Effect { object, bytes } => object.len() + bytes.len(),
    };
    256 + record.iter().map(|op| size(op) + 128).sum::<usize>()
}
