//! What a log shows against what the model says it may.

use millstream_log::{Level, Limits, Opened, ReadBatch, ReadError};
use millstream_types::{LogId, Lsn};

use super::history::Tally;
use super::past::{Held, Model, fold};
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
        compare_log(model, *log, opened);
    }
}

fn compare_log(model: &Model, log: LogId, opened: &Opened) {
    let one = &model.logs[&log];
    let lim = Limits { max_bytes: 50_000, max_entries: 50, end_pos: u64::MAX };
    let last = model.last();
    if one.deleted {
        let read = finish(opened.reader.read(log, 0, lim, Level::Durable));
        assert!(read.map_or(true, |b| b.entries.is_empty()), "a deleted log gives entries");
        return;
    }
    let bounds = opened.reader.bounds(log);
    assert_eq!(bounds.start, one.start, "start of {log:?}");
    if one.start > 0 {
        let read = finish(opened.reader.read(log, one.start - 1, lim, Level::Durable));
        assert_eq!(read.map(|b| b.next).unwrap_err(), ReadError::Trimmed { start: one.start });
    }
    let mut from = one.start;
    loop {
        let batch = finish(opened.reader.read(log, from, lim, Level::Durable)).unwrap();
        check_read(model, &Read { log, from, lim, shown: (last, last), durable: (last, last) }, &batch);
        if batch.entries.is_empty() {
            break;
        }
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

/// Whether a read is what it may be.
pub(super) fn check_read(model: &Model, read: &Read, batch: &ReadBatch) {
    let Read { log, from, lim, shown, durable } = *read;
    let ReadBatch { entries, next } = batch;
    let one = &model.logs[&log];
    let mut due: Vec<&Held> = one
        .entries
        .values()
        .filter(|h| h.entry.pos + u64::from(h.entry.count) > from && h.entry.pos < lim.end_pos)
        .filter(|h| h.lsn <= shown.1 && h.gone.is_none_or(|at| at > durable.0))
        .collect();
    let may_miss = |h: &Held| h.retired || h.gone.is_some_and(|at| at <= durable.1);
    due.reverse();
    let mut taken_bytes = 0;
    for e in entries {
        let held = loop {
            let held = due.pop().unwrap_or_else(|| panic!("{log:?}: {} should not show", e.pos));
            if held.entry.pos == e.pos {
                break held;
            }
            assert!(
                may_miss(held) && held.entry.pos < e.pos,
                "{log:?}: {} is missing before {}",
                held.entry.pos,
                e.pos
            );
        };
        let k = &held.entry;
        assert_eq!(
            (e.count, e.max_ts_ms, &e.attrs[..]),
            (k.count, k.max_ts_ms, &k.attrs[..]),
            "at {}",
            e.pos
        );
        assert!(e.body == k.body.concat(), "{log:?}: the body at {} differs", e.pos);
        taken_bytes += e.attrs.len() + e.body.len();
    }
    assert!(entries.len() <= lim.max_entries, "too many entries");
    assert!(entries.len() <= 1 || taken_bytes <= lim.max_bytes, "too many bytes");
    let end = entries.last().map_or(from, |e| e.pos + u64::from(e.count));
    assert_eq!(*next, end.max(from), "{log:?}: where to go on");
    // A read may stop where it would begin to wait for the disk, but not before its first entry.
    let missing = due.iter().find(|h| !may_miss(h) && h.lsn <= shown.0);
    if let Some(h) = missing {
        let (pos, lsn) = (h.entry.pos, h.lsn);
        assert!(
            !entries.is_empty(),
            "{log:?}: {pos} of record {lsn} should show from {from} on within {lim:?}"
        );
    }
}
