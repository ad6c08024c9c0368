#![allow(clippy::pedantic, clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]

use super::*;

const RESERVE_BYTES: u64 = 24 << 20;

fn put(key: &str, value: &str) -> Change {
    (key.as_bytes().to_vec(), Some(value.as_bytes().to_vec()))
}

fn keys(pairs: &[Pair]) -> Vec<&str> {
    pairs.iter().map(|(k, _)| std::str::from_utf8(k).unwrap()).collect()
}

fn check(open: impl Fn() -> Arc<dyn StateStore>) {
    let s = open();
    assert_eq!(s.get(b"a").unwrap(), None);
    s.write(&[put("a", "1"), put("b/1", "2"), put("b/3", "3"), put("b/5", ""), put("c", "5")]).unwrap();
    s.write(&[put("a", "6"), (b"b/3".to_vec(), None), put("b/4", "7")]).unwrap();
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
    s.write(&[(vec![255, 255], Some(vec![1])), (vec![7, 255, 1], Some(vec![2])), (vec![8], Some(vec![3]))])
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
        s.write(&[put("a", "1")]).unwrap();
        assert!(s.write(&[put("a", "2"), put("b", "2")]).is_err());
        assert!(s.get(b"a").is_err() && s.is_off());
        let next = s.crash(keep);
        let a: &[u8] = if keep { b"2" } else { b"1" };
        assert_eq!(next.get(b"a").unwrap().unwrap(), a);
        assert_eq!(next.get(b"b").unwrap().is_some(), keep);
        assert!(s.write(&[]).is_err());
    }
}
