//! What a log shows against what the model says it may.

use millstream_log::{Entry, Head, Level, Limits, Opened, ReadBatch, ReadError};
use millstream_types::{LogId, Lsn};

use super::history::Tally;
use super::past::{Held, Kept, Model, fold};
use crate::log_contract::kit::finish;
use crate::seen::{Event, Seen};

/// What an opening found against the model; cuts the model where the log was cut.
pub(super) fn compare(model: &mut Model, durable: Lsn, opened: &Opened, seen: &Seen, tally: &mut Tally) {
    let marks = opened.marks.get();
    let found = marks.durable;
    assert!(found >= durable, "records {}..={durable} were durable and are gone", found.next());
    assert!(found <= model.last(), "{found} was never sequenced");
    assert_eq!((marks.sequenced, marks.written), (found, found));
    tally.taken += model.last().0 - found.0;
    model.cut(found);
    let floor = seen.events.first().map_or(found.next(), Event::lsn);
    let expected = model.events_from(floor);
    if let Some((is, should)) = seen.events.iter().zip(&expected).find(|(a, b)| a != b) {
        panic!("replayed {is:?} where {should:?} was due");
    }
    assert_eq!(seen.events.len(), expected.len(), "replayed from {floor}; the log ends at {found}");
    tally.replayed += found.next().0 - floor.0;
    let rows = opened.rows.scan(b"", b"", usize::MAX).unwrap();
    tally.rows += rows.len() as u64;
    for row in &rows {
        let value = row.value.clone().expect("a row that is there has a value");
        let state = u64::from_le_bytes(value.try_into().unwrap());
        let should = model.object_at(&row.key, row.row_lsn);
        assert_eq!(should, Some((row.row_lsn, state)), "row {:?}; the log ends at {found}", row.key);
    }
    for (key, (lsn, state)) in &model.objects {
        let row = opened.rows.get(key).unwrap().map(|(l, v)| (l, u64::from_le_bytes(v.try_into().unwrap())));
        let mut now = row;
        for event in &seen.events {
            if let Event::Effect(at, object, bytes) = event
                && object == key
                && row.is_none_or(|(row_lsn, _)| *at > row_lsn)
            {
                now = Some((*at, fold(now.map(|(_, s)| s), bytes)));
            }
        }
        assert_eq!(now, Some((*lsn, *state)), "object {key:?} from its row and replay since {floor}");
    }
    for log in model.logs.keys() {
        tally.checked += compare_log(model, *log, opened);
    }
}

/// Gives how many entries were compared.
fn compare_log(model: &Model, log: LogId, opened: &Opened) -> u64 {
    let one = &model.logs[&log];
    let lim = Limits { max_bytes: 50_000, max_entries: 50, end_pos: u64::MAX };
    let last = model.last();
    if one.deleted {
        let read = finish(opened.reader.read(log, 0, lim, Level::Durable));
        assert!(read.map_or(true, |b| b.entries.is_empty()), "a deleted log gives entries");
        return 0;
    }
    let bounds = opened.reader.bounds(log);
    assert_eq!(bounds.start, one.start, "start of {log:?}");
    if one.start > 0 {
        let read = finish(opened.reader.read(log, one.start - 1, lim, Level::Durable));
        assert_eq!(read.map(|b| b.next).unwrap_err(), ReadError::Trimmed { start: one.start });
    }
    let (mut from, mut checked) = (one.start, 0);
    loop {
        let batch = finish(opened.reader.read(log, from, lim, Level::Durable)).unwrap();
        check_read(model, &Read { log, from, lim, shown: (last, last), durable: (last, last) }, &batch);
        if batch.entries.is_empty() {
            return checked;
        }
        checked += batch.entries.len() as u64;
        from = batch.next;
    }
}

/// A read that was answered.
pub(super) struct Read {
    pub(super) log: LogId,
    pub(super) from: u64,
    pub(super) lim: Limits,
    /// What its level had reached before the read and after it.
    pub(super) shown: (Lsn, Lsn),
    /// What was durable before the read and after it: trims show then.
    pub(super) durable: (Lsn, Lsn),
}

impl Read {
    /// Entries that may show, and whether each may also be missing.
    fn due<'m>(&self, model: &'m Model) -> Vec<(&'m Held, bool)> {
        let Self { log, from, lim, shown, durable } = *self;
        let may_show = |h: &&Held| {
            h.entry.pos + u64::from(h.entry.count) > from
                && h.entry.pos < lim.end_pos
                && h.lsn <= shown.1
                && h.gone.is_none_or(|at| at > durable.0)
        };
        let may_miss = |h: &Held| h.retired || h.lsn > shown.0 || h.gone.is_some_and(|at| at <= durable.1);
        model.logs[&log].entries.values().filter(may_show).map(|h| (h, may_miss(h))).collect()
    }
}

fn check_head(log: LogId, e: (u64, u32, i64, &[u8]), k: &Kept) {
    assert_eq!(e, (k.pos, k.count, k.max_ts_ms, &k.attrs[..]), "{log:?}");
}

fn check_entry(log: LogId, e: &Entry, k: &Kept) {
    check_head(log, (e.pos, e.count, e.max_ts_ms, &e.attrs), k);
    assert!(e.body == k.body.concat(), "{log:?}: the body at {} differs", e.pos);
}

/// Finds what was given among what is due, in order; nothing that must show may be left out in between, or before the end if the
/// answer is to be whole. Gives what is left.
fn match_up<'m, T>(
    log: LogId,
    due: Vec<(&'m Held, bool)>,
    given: &[T],
    pos: impl Fn(&T) -> u64,
    same: impl Fn(&T, &Kept),
) -> Vec<(&'m Held, bool)> {
    let mut due = due.into_iter();
    for g in given {
        let at = pos(g);
        let held = loop {
            let (held, may_miss) = due.next().unwrap_or_else(|| panic!("{log:?}: {at} should not show"));
            if held.entry.pos == at {
                break held;
            }
            let missed = held.entry.pos;
            assert!(may_miss && missed < at, "{log:?}: {missed} is missing before {at}");
        };
        same(g, &held.entry);
    }
    due.collect()
}

/// Whether a read is what it may be.
pub(super) fn check_read(model: &Model, read: &Read, batch: &ReadBatch) {
    let Read { log, from, lim, .. } = *read;
    let ReadBatch { entries, next } = batch;
    let left = match_up(log, read.due(model), entries, |e| e.pos, |e, k| check_entry(log, e, k));
    let bytes: usize = entries.iter().map(|e| e.attrs.len() + e.body.len()).sum();
    assert!(entries.len() <= lim.max_entries, "too many entries");
    assert!(entries.len() <= 1 || bytes <= lim.max_bytes, "too many bytes");
    let end = entries.last().map_or(from, |e| e.pos + u64::from(e.count));
    assert_eq!(*next, end.max(from), "{log:?}: where to go on");
    // A read may stop where it would begin to wait for the disk, but not before its first entry.
    if let Some((h, _)) = left.iter().find(|(_, may_miss)| !may_miss) {
        let pos = h.entry.pos;
        assert!(!entries.is_empty(), "{log:?}: {pos} should show from {from} on within {lim:?}");
    }
}

/// Whether heads are what they may be.
pub(super) fn check_heads(model: &Model, read: &Read, heads: &[Head]) {
    let Read { log, lim, .. } = *read;
    let same = |h: &Head, k: &Kept| {
        check_head(log, (h.pos, h.count, h.max_ts_ms, &h.attrs), k);
        assert_eq!(h.body_len as usize, k.body.concat().len(), "{log:?} at {}", h.pos);
    };
    let left = match_up(log, read.due(model), heads, |h| h.pos, same);
    assert!(heads.len() <= lim.max_entries, "too many heads");
    assert!(!heads.is_empty() || left.iter().all(|(_, may_miss)| *may_miss), "{log:?}: no heads");
}

/// Whether the entries that cover these positions (ascending) are what they may be.
pub(super) fn check_get<'m>(model: &'m Model, read: &Read, positions: &[u64], entries: &[Entry]) {
    let start = model.logs[&read.log].start;
    let covered = |(h, may_miss): (&'m Held, bool)| {
        let end = h.entry.pos + u64::from(h.entry.count);
        let mut of_it = positions.iter().filter(|p| (h.entry.pos..end).contains(p));
        // A position below the start does not exist once the trim is durable.
        of_it.next_back().map(|last| (h, may_miss || *last < start))
    };
    let due = read.due(model).into_iter().filter_map(covered).collect();
    let log = read.log;
    let left = match_up(log, due, entries, |e| e.pos, |e, k| check_entry(log, e, k));
    if let Some((h, _)) = left.iter().find(|(_, may_miss)| !may_miss) {
        panic!("{log:?}: {} is missing of {positions:?}", h.entry.pos);
    }
}

/// Whether the first entry at or past a time is what it may be.
pub(super) fn check_by_time(model: &Model, read: &Read, ts_ms: i64, found: Option<&Head>) {
    let due = read.due(model).into_iter().filter(|(h, _)| h.entry.max_ts_ms >= ts_ms).collect();
    let log = read.log;
    let same = |h: &&Head, k: &Kept| check_head(log, (h.pos, h.count, h.max_ts_ms, &h.attrs), k);
    let left = match_up(log, due, found.as_slice(), |h| h.pos, same);
    if found.is_none()
        && let Some((h, _)) = left.iter().find(|(_, may_miss)| !may_miss)
    {
        panic!("{log:?}: {} has time {}, nothing was found for {ts_ms}", h.entry.pos, h.entry.max_ts_ms);
    }
}
