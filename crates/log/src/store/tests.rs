#![allow(clippy::pedantic, clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::path::Path;

use super::fjall::{FjallStore, Shape};
use super::*;

const MIB: u64 = 1 << 20;
const RESERVE_BYTES: u64 = 24 * MIB;

fn put(key: &str, value: &str) -> Change {
    (key.as_bytes().to_vec(), Some(value.as_bytes().to_vec()))
}

fn keys(pairs: &[Pair]) -> Vec<&str> {
    pairs.iter().map(|(k, _)| std::str::from_utf8(k).unwrap()).collect()
}

fn check(open: impl Fn() -> Arc<dyn StateStore>) {
    let s = open();
    assert_eq!(s.get(b"a").unwrap(), None);
    s.write(vec![put("a", "1"), put("b/1", "2"), put("b/3", "3"), put("b/5", ""), put("c", "5")]).unwrap();
    s.write(vec![put("a", "6"), (b"b/3".to_vec(), None), put("b/4", "7")]).unwrap();
    drop(s);
    let s = open();
    assert_eq!(s.get(b"a").unwrap().unwrap(), b"6");
    assert_eq!(s.get(b"b/3").unwrap(), None);
    assert_eq!(s.get(b"b/5").unwrap().unwrap(), b"");
    assert_eq!(keys(&s.scan(b"b/", b"", 9).unwrap()), ["b/1", "b/4", "b/5"]);
    assert_eq!(keys(&s.scan(b"b/", b"b/2", 1).unwrap()), ["b/4"]);
    assert_eq!(keys(&s.scan(b"", b"b/5", 9).unwrap()), ["b/5", "c"]);
    assert!(s.scan(b"d", b"", 9).unwrap().is_empty());
    assert_eq!(s.at_or_below(b"b/", b"b/3").unwrap().unwrap().0, b"b/1");
    assert_eq!(s.at_or_below(b"b/", b"b/4").unwrap().unwrap().0, b"b/4");
    assert_eq!(s.at_or_below(b"b/", b"b/0").unwrap(), None);
    assert_eq!(s.at_or_below(b"b/", b"a").unwrap(), None);
    assert_eq!(keys(&s.around(b"b/", b"b/3", 9).unwrap()), ["b/1", "b/4", "b/5"]);
    assert_eq!(keys(&s.around(b"b/", b"b/4", 1).unwrap()), ["b/4", "b/5"]);
    assert_eq!(keys(&s.around(b"b/", b"b/0", 1).unwrap()), ["b/1"]);
    assert_eq!(keys(&s.around(b"b/", b"b/9", 9).unwrap()), ["b/5"]);
    assert!(s.around(b"d", b"d", 9).unwrap().is_empty());
    // Questions from behind the prefix, and under one that ends in the largest byte.
    assert!(s.scan(b"b/", b"c", 9).unwrap().is_empty());
    s.write(vec![
        (vec![255, 255], Some(vec![1])),
        (vec![7, 255, 1], Some(vec![2])),
        (vec![8], Some(vec![3])),
    ])
    .unwrap();
    assert_eq!(s.scan(&[255], b"", 9).unwrap().len(), 1);
    assert_eq!(s.scan(&[7, 255], b"", 9).unwrap(), [(vec![7, 255, 1], vec![2])]);
}

#[test]
fn rows_are_found_in_order_and_after_reopening_in_memory() {
    let store = SimStore::new();
    check(|| {
        StoreKind::Sim(store.clone()).open(&*millstream_env::sim::SimDisk::new(1), RESERVE_BYTES).unwrap()
    });
}

#[test]
fn rows_are_found_in_order_and_after_reopening_in_fjall() {
    let dir = tempfile::tempdir().unwrap();
    let disk = millstream_env::os::OsDisk::new(dir.path().to_path_buf());
    check(|| StoreKind::Fjall.open(&disk, RESERVE_BYTES).unwrap());
}

#[test]
fn fjall_needs_a_real_directory() {
    assert!(StoreKind::Fjall.open(&*millstream_env::sim::SimDisk::new(1), RESERVE_BYTES).is_err());
}

#[test]
fn a_power_cut_keeps_what_was_written_and_leaves_the_last_batch_in_doubt() {
    for keep in [false, true] {
        let s = SimStore::new();
        s.fail_after(1);
        s.write(vec![put("a", "1")]).unwrap();
        assert!(s.write(vec![put("a", "2"), put("b", "2")]).is_err());
        assert!(s.get(b"a").is_err() && s.is_off());
        let next = s.crash(keep);
        let a: &[u8] = if keep { b"2" } else { b"1" };
        assert_eq!(next.get(b"a").unwrap().unwrap(), a);
        assert_eq!(next.get(b"b").unwrap().is_some(), keep);
        assert!(s.write(Vec::new()).is_err());
    }
}

/// Bytes of the store's files, without the journals.
fn table_bytes(dir: &Path) -> u64 {
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let meta = entry.metadata().unwrap();
        if meta.is_dir() {
            bytes += table_bytes(&entry.path());
        } else if entry.path().extension().is_none_or(|e| e != "jnl") {
            bytes += meta.len();
        }
    }
    bytes
}

const ROWS: u64 = 1_500;

/// 4 KiB each, 6 MB in all; the same keys in each round.
fn some_rows(rows: std::ops::Range<u64>, round: u64) -> Vec<Change> {
    let row = |n: u64| (format!("row {n:06}").into_bytes(), Some([round.to_le_bytes(); 512].concat()));
    rows.map(row).collect()
}

fn check_rows(s: &dyn StateStore, round: u64) {
    let found = s.scan(b"row ", b"", usize::MAX).unwrap();
    assert_eq!(found.len(), ROWS as usize);
    assert!(found.iter().all(|(_, value)| value[..8] == round.to_le_bytes()));
}

/// On a disk of 256 MiB six fresh tables held the same rows again and again, 5.8 MB were free, no batch was let in, and what
/// was held in vain stayed for ever.
#[test]
fn a_store_full_of_rows_written_again_and_again_makes_room_within_what_is_free() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(STATE_DIR);
    {
        let db = ::fjall::Database::builder(&path).open().unwrap();
        let levels = ::fjall::compaction::Leveled::default().with_l0_threshold(8);
        let options = || {
            let options = ::fjall::KeyspaceCreateOptions::default().max_memtable_size(64 * MIB);
            options.compaction_strategy(Arc::new(levels.clone()))
        };
        let rows = db.keyspace("rows", options).unwrap();
        for round in 0..6 {
            for (key, value) in some_rows(0..ROWS, round) {
                rows.insert(key, value.unwrap()).unwrap();
            }
            rows.rotate_memtable_and_wait().unwrap();
        }
    }
    let disk = millstream_env::os::OsDisk::new(dir.path().to_path_buf());
    let s = FjallStore::open(&disk, RESERVE_BYTES).unwrap();
    assert!(table_bytes(&path) > 36 * MIB, "{}", table_bytes(&path));
    assert!(s.merge_bytes() > 30 * MIB, "{}", s.merge_bytes());
    assert!(!s.make_room(5 * MIB).unwrap(), "what lives does not fit");
    s.write(vec![put("more", "1")]).unwrap();
    assert!(!s.make_room(5 * MIB).unwrap(), "nothing new is in a table");
    assert!(s.make_room(7 * MIB).unwrap());
    assert!(table_bytes(&path) < 7 * MIB, "{}", table_bytes(&path));
    check_rows(&s, 5);
    assert_eq!(s.get(b"more").unwrap().unwrap(), b"1");
    assert!(!s.make_room(7 * MIB).unwrap(), "it is as small as it gets");
}

#[test]
fn what_a_merge_replaced_is_given_back_though_no_more_rows_come() {
    let dir = tempfile::tempdir().unwrap();
    let disk = millstream_env::os::OsDisk::new(dir.path().to_path_buf());
    let s = FjallStore::open(&disk, RESERVE_BYTES).unwrap();
    for round in 0..10 {
        for from in (0..ROWS).step_by(150) {
            s.write(some_rows(from..from + 150, round)).unwrap();
        }
    }
    while s.is_behind() {
        std::thread::yield_now();
    }
    // Merges of its own may still go on.
    while s.make_room(RESERVE_BYTES / 2).unwrap() {}
    let held = table_bytes(&dir.path().join(STATE_DIR));
    assert!(held < 8 * MIB, "{held} bytes for 6 MB of rows");
    check_rows(&s, 9);
}

#[test]
fn the_reserve_covers_the_largest_merge_and_the_batch_that_comes_to_it() {
    for reserve in [4, 8, 24, 128, 256, 511, 512].map(|mib| mib * MIB) {
        let shape = Shape::of(reserve);
        let tables = 3 * u64::from(shape.fresh_tables) + 2;
        assert!(shape.table_bytes * tables <= reserve / 2, "{reserve}: {shape:?}");
    }
}
