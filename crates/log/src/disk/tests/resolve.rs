//! A position lies in the index in memory, or in rows, and a reader finds it wherever it lies at that moment.

use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};

use millstream_env::sim::SimDisk;
use millstream_types::LogId;

use super::kept::open_kept;
use super::support::*;
use crate::api::*;
use crate::format::rows::extent_key;
use crate::store::{SimStore, StateStore};

fn positions(outcome: ReadOutcome) -> Vec<u64> {
    let batch = match outcome {
        ReadOutcome::Ready(batch) => batch,
        ReadOutcome::Cold(batch) => block_on(batch),
    };
    batch.unwrap().entries.iter().map(|e| e.pos).collect()
}

fn wait_until(done: impl Fn() -> bool) {
    while !done() {
        std::thread::sleep(std::time::Duration::from_millis(1)); // tidy: pacing
    }
}

/// The trim made the log known in memory, with the position it trims to as its end: what followed in files was hidden.
#[test]
fn a_trim_of_a_log_that_was_not_written_since_the_opening_hides_nothing_of_it() {
    let (disk, store) = (SimDisk::new(1), SimStore::new());
    let mut l = open_kept(&disk, &store);
    for pos in 0..20 {
        l.append(1, pos, b"idle");
    }
    for pos in 0..80 {
        l.append(2, pos, &[7; 100_000]);
    }
    wait_until(|| !store.scan(b"X", b"X", 1).unwrap().is_empty());
    l.flush();
    drop(l);
    let mut l = open_kept(&disk, &store);
    let lsn = l.put(&[Op::Trim { log: LogId(1), before: 5 }]);
    l.wait(lsn).unwrap();
    assert_eq!(l.read(1).iter().map(|(pos, _)| *pos).collect::<Vec<_>>(), (5..20).collect::<Vec<_>>());
    assert_eq!(positions(l.o.reader.get(LogId(1), &[4, 5, 19, 20])), [5, 19]);
    assert_eq!(block_on(l.o.reader.by_time(LogId(1), 0, 9, Level::Durable)).unwrap().unwrap().pos, 9);
    assert_eq!(block_on(l.o.reader.extents(LogId(1), 0, 9)).unwrap().last().unwrap().end, 20);
}

const ALL: Limits = Limits { max_bytes: 1 << 30, max_entries: 9, end_pos: u64::MAX };

/// Log 1 has positions 0 to 9 in an adopted file and 20 in memory. A reader asks, finds no more rows, and is held there until the
/// file of 20 has left the memory.
fn while_its_file_leaves<T: Send + 'static>(ask: impl FnOnce(&dyn Reader) -> T + Send + 'static) -> T {
    let (disk, store) = (SimDisk::new(1), SimStore::new());
    let mut l = open_kept(&disk, &store);
    let rows = |from: u64| store.scan(b"X", &extent_key(LogId(1), from), 9).unwrap();
    let leaves = |l: &mut Log, pos: u64| {
        let mut at = l.o.reader.bounds(LogId(2)).next;
        while !rows(pos).iter().any(|(key, _)| *key == extent_key(LogId(1), pos)) {
            l.append(2, at, &[7; 100_000]);
            at += 1;
        }
        // What was adopted has left once the keeper's next batch is written.
        l.flush();
    };
    for pos in 0..10 {
        l.append(1, pos, b"x");
    }
    leaves(&mut l, 0);
    l.append(1, 20, b"y");

    let ((held, is_held), (let_go, go)) = (sync_channel(1), sync_channel(1));
    let once = Mutex::new(Some((held, go)));
    store.after_looks(move |key| {
        let past_the_rows = [10, 20].iter().any(|pos| key == extent_key(LogId(1), *pos));
        if past_the_rows && let Some((held, go)) = once.lock().unwrap().take() {
            held.send(()).unwrap();
            let () = go.recv().unwrap();
        }
    });
    let reader = Arc::clone(&l.o.reader);
    let asking = std::thread::spawn(move || ask(&*reader));
    is_held.recv().unwrap();
    leaves(&mut l, 20);
    let_go.send(()).unwrap();
    asking.join().unwrap()
}

#[test]
fn a_position_whose_file_leaves_the_memory_is_got() {
    let got = while_its_file_leaves(|reader| positions(reader.get(LogId(1), &[3, 20, 21])));
    assert_eq!(got, [3, 20]);
}

#[test]
fn a_read_whose_first_entry_leaves_the_memory_finds_it() {
    let got = while_its_file_leaves(|reader| positions(reader.read(LogId(1), 10, ALL, Level::Durable)));
    assert_eq!(got, [20]);
}

#[test]
fn a_search_by_time_finds_what_leaves_the_memory() {
    let got = while_its_file_leaves(|reader| block_on(reader.by_time(LogId(1), 0, 20, Level::Durable)));
    assert_eq!(got.unwrap().unwrap().pos, 20);
}

/// A trim that becomes durable between two of its looks made `get` fail as a read from below the start does.
#[test]
fn a_get_beside_a_trim_gives_what_is_left() {
    let (disk, store) = (SimDisk::new(1), SimStore::new());
    let mut l = open_kept(&disk, &store);
    for pos in 0..30 {
        l.append(1, pos, b"x");
    }
    let mut at = 0;
    while store.scan(b"X", &extent_key(LogId(1), 0), 1).unwrap().is_empty() {
        l.append(2, at, &[7; 100_000]);
        at += 1;
    }
    l.flush();
    let ((held, is_held), (let_go, go)) = (sync_channel(1), sync_channel(1));
    let once = Mutex::new(Some((held, go)));
    store.after_looks(move |_| {
        if let Some((held, go)) = once.lock().unwrap().take() {
            held.send(()).unwrap();
            let () = go.recv().unwrap();
        }
    });
    let reader = Arc::clone(&l.o.reader);
    // So far apart that each is looked for on its own.
    let asking = std::thread::spawn(move || positions(reader.get(LogId(1), &[2, 14, 28])));
    is_held.recv().unwrap();
    let lsn = l.put(&[Op::Trim { log: LogId(1), before: 20 }]);
    l.wait(lsn).unwrap();
    let_go.send(()).unwrap();
    let got = asking.join().unwrap();
    assert!(got == [28] || got == [2, 28], "{got:?}");
}
