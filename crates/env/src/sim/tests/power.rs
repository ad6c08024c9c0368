//! What power cuts and kills leave.

use super::*;

/// What many cuts at this moment would leave of a disk, as seen by `look`. The disk goes on.
fn outcomes<T: Ord>(disk: &SimDisk, look: impl Fn(&SimDisk) -> T) -> BTreeSet<T> {
    (0..300).map(|_| look(&disk.snapshot().crash())).collect()
}

#[test]
fn synced_bytes_and_names_survive() {
    let (disk, _file) = with_file(1, b"abc");
    assert_eq!(outcomes(&disk, |d| d.contents("f").unwrap()), BTreeSet::from([b"abc".to_vec()]));
}

#[test]
fn unsynced_writes_survive_wholly_or_not_at_all_or_in_part() {
    let (disk, file) = with_file(1, &[block(1), block(1), block(1)].concat());
    write(&*file, 0, &[block(2), block(2), block(2)].concat());
    let left = outcomes(&disk, |d| {
        let bytes = d.contents("f").unwrap();
        for sector in bytes.chunks(4096) {
            assert!(sector.iter().all(|b| *b == sector[0]), "a sector is old or new");
        }
        [bytes[0], bytes[4096], bytes[8192]]
    });
    assert_eq!(left.len(), 8, "every subset of the sectors occurs: {left:?}");
}

#[test]
fn small_sectors_tear_within_a_page() {
    let disk = SimDisk::with_small_sectors(1);
    let file = disk.open("f", OpenMode::CreateNew).unwrap();
    write(&*file, 0, &block(1));
    file.sync_data().unwrap();
    disk.sync_dir("").unwrap();
    write(&*file, 0, &block(2));
    let left = outcomes(&disk, |d| {
        let bytes = d.contents("f").unwrap();
        bytes.chunks(512).map(|sector| sector.iter().map(|b| usize::from(*b)).sum()).collect::<Vec<usize>>()
    });
    assert!(left.len() > 50);
    assert!(left.iter().flatten().all(|sum| *sum == 512 || *sum == 1024));
}

#[test]
fn later_writes_may_survive_earlier_ones() {
    let (disk, file) = with_file(1, &[block(1), block(1)].concat());
    write(&*file, 0, &block(2));
    write(&*file, 4096, &block(2));
    let left = outcomes(&disk, |d| {
        let bytes = d.contents("f").unwrap();
        (bytes[0], bytes[4096])
    });
    assert_eq!(left, BTreeSet::from([(1, 1), (1, 2), (2, 1), (2, 2)]));
}

#[test]
fn a_sector_that_survives_holds_what_the_cache_held() {
    let (disk, file) = with_file(1, &block(0));
    write(&*file, 0, b"a");
    write(&*file, 1, b"b");
    let left = outcomes(&disk, |d| d.contents("f").unwrap()[..2].to_vec());
    assert_eq!(left, BTreeSet::from([b"\0\0".to_vec(), b"a\0".to_vec(), b"ab".to_vec()]));
}

#[test]
fn a_write_after_a_sync_can_be_lost_back_to_the_synced_bytes_only() {
    let (disk, file) = with_file(1, &block(1));
    write(&*file, 0, &block(2));
    file.sync_data().unwrap();
    write(&*file, 0, &block(3));
    assert_eq!(outcomes(&disk, |d| d.contents("f").unwrap()[0]), BTreeSet::from([2, 3]));
    assert_eq!(disk.durable_contents("f").unwrap(), block(2));
}

#[test]
fn an_unsynced_length_may_be_lost_and_grown_files_hold_zeros_or_data() {
    let (disk, file) = with_file(1, b"abc");
    file.allocate(8192).unwrap();
    let lens = outcomes(&disk, |d| d.contents("f").unwrap().len());
    assert_eq!(lens, BTreeSet::from([3, 8192]));

    write(&*file, 8192, &[block(9), block(9)].concat());
    let left = outcomes(&disk, |d| {
        let bytes = d.contents("f").unwrap();
        assert!(bytes.iter().all(|b| [0, 9].contains(b) || b"abc".contains(b)));
        bytes.len()
    });
    assert_eq!(left, BTreeSet::from([3, 8192, 12_288, 16_384]));

    file.sync_all().unwrap();
    assert_eq!(outcomes(&disk, |d| d.contents("f").unwrap().len()), BTreeSet::from([16_384]));
}

#[test]
fn names_are_lost_unless_their_directory_is_synced() {
    let (disk, _file) = with_file(1, b"abc");
    let new = disk.open("new", OpenMode::CreateNew).unwrap();
    new.sync_all().unwrap();
    disk.rename("f", "g").unwrap();
    let left = outcomes(&disk, |d| d.list("").unwrap());
    let lists = [vec!["f"], vec!["g"], vec!["f", "new"], vec!["g", "new"]];
    assert_eq!(left, lists.map(|l| l.into_iter().map(str::to_owned).collect()).into());

    disk.sync_dir("").unwrap();
    assert_eq!(outcomes(&disk, |d| d.list("").unwrap()), BTreeSet::from([vec!["g".into(), "new".into()]]));
}

#[test]
fn a_removed_file_may_come_back_with_its_bytes() {
    let (disk, file) = with_file(1, b"abc");
    drop(file);
    disk.remove("f").unwrap();
    let left = outcomes(&disk, |d| d.contents("f").ok());
    assert_eq!(left, BTreeSet::from([None, Some(b"abc".to_vec())]));
}

#[test]
fn a_replaced_file_is_the_old_or_the_new_one() {
    let (disk, _file) = with_file(1, b"old");
    let tmp = disk.open("tmp", OpenMode::CreateNew).unwrap();
    write(&*tmp, 0, b"new");
    tmp.sync_data().unwrap();
    disk.rename("tmp", "f").unwrap();
    let left = outcomes(&disk, |d| d.contents("f").unwrap());
    assert_eq!(left, BTreeSet::from([b"old".to_vec(), b"new".to_vec()]));
}

#[test]
fn a_directory_that_is_lost_takes_its_files_along() {
    let disk = SimDisk::new(1);
    disk.create_dir_all("a/b").unwrap();
    disk.open("a/b/f", OpenMode::CreateNew).unwrap();
    disk.sync_dir("a/b").unwrap();
    disk.sync_dir("a").unwrap();
    let left = outcomes(&disk, |d| d.list("a/b").ok());
    assert_eq!(left, BTreeSet::from([None, Some(vec!["f".to_owned()])]));
    disk.sync_dir("").unwrap();
    assert_eq!(outcomes(&disk, |d| d.list("a/b").ok()), BTreeSet::from([Some(vec!["f".to_owned()])]));
}

#[test]
fn a_file_moved_between_directories_is_never_in_both() {
    let (disk, _file) = with_file(1, b"abc");
    disk.create_dir_all("d").unwrap();
    disk.sync_dir("").unwrap();
    disk.rename("f", "d/f").unwrap();
    let left = outcomes(&disk, |d| (d.list("").unwrap().len(), d.list("d").unwrap().len()));
    assert_eq!(left, BTreeSet::from([(0, 1), (1, 0)]));
    disk.sync_dir("d").unwrap();
    assert_eq!(
        outcomes(&disk, |d| (d.list("").unwrap().len(), d.list("d").unwrap().len())),
        BTreeSet::from([(0, 1)])
    );
}

#[test]
fn a_kill_keeps_what_was_written_and_a_later_cut_may_still_take_it() {
    let (disk, file) = with_file(1, &block(1));
    write(&*file, 0, &block(2));
    let killed = disk.kill();
    assert_eq!(killed.contents("f").unwrap(), block(2));
    assert_eq!(killed.durable_contents("f").unwrap(), block(1));
    assert_eq!(outcomes(&killed, |d| d.contents("f").unwrap()[0]), BTreeSet::from([1, 2]));
}

#[test]
fn after_a_cut_all_that_is_left_is_durable() {
    let (disk, file) = with_file(1, &block(1));
    write(&*file, 0, &[block(2), block(3)].concat());
    disk.open("g", OpenMode::CreateNew).unwrap();
    for _ in 0..20 {
        let once = disk.crash();
        let twice = once.crash();
        assert_eq!(once.snapshot().list("").unwrap(), twice.list("").unwrap());
        assert_eq!(once.contents("f").unwrap(), twice.contents("f").unwrap());
    }
}

#[test]
fn the_process_that_was_cut_or_killed_can_do_no_more() {
    for end in [SimDisk::crash, SimDisk::kill] {
        let (disk, file) = with_file(1, b"abc");
        let lock = disk.lock("lock").unwrap();
        let next = end(&disk);
        assert!(disk.is_off() && !next.is_off());
        assert!(file.read_at(0, &mut [0; 3]).is_err());
        assert!(file.write_at(0, &[IoSlice::new(b"x")]).is_err());
        assert!(file.sync_data().is_err());
        assert!(disk.list("").is_err() && disk.space().is_err() && disk.lock("other").is_err());
        assert_eq!(next.contents("f").unwrap(), b"abc");
        next.lock("lock").unwrap();
        drop(lock);
    }
}

#[test]
fn a_test_can_pick_the_sectors_that_survive() {
    let (disk, file) = with_file(1, &[block(0), block(0), block(0)].concat());
    write(&*file, 0, &[block(b'A'), block(b'B'), block(b'C')].concat());
    write(&*file, 0, &block(b'D'));
    file.allocate(20_000).unwrap();
    let left = disk.crash_with(|w| w.path == "f" && w.write == 0 && w.offset != 4096);
    let bytes = left.contents("f").unwrap();
    assert_eq!((bytes[0], bytes[4096], bytes[8192], bytes.len()), (b'A', 0, b'C', 20_000));
}

#[test]
fn a_workload_can_be_cut_at_every_call() {
    // Replace a file by way of a temporary one, cut at every call: it is the old or the new one, whole.
    fn replace(disk: &SimDisk) -> std::io::Result<()> {
        let tmp = match disk.open("tmp", OpenMode::CreateNew) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                disk.remove("tmp")?;
                disk.open("tmp", OpenMode::CreateNew)?
            }
            other => other?,
        };
        tmp.write_at(0, &[IoSlice::new(&[2; 10_000])])?;
        tmp.sync_data()?;
        disk.rename("tmp", "f")?;
        disk.sync_dir("")
    }
    let mut cuts = 0;
    for n in 0.. {
        let (disk, _file) = with_file(n, &[1; 10_000]);
        disk.fail_after(n);
        let done = replace(&disk);
        assert_eq!(done.is_err(), disk.is_off());
        for _ in 0..20 {
            let left = disk.crash();
            let bytes = left.contents("f").unwrap();
            let acknowledged = done.is_ok();
            assert!(bytes == [2; 10_000] || (!acknowledged && bytes == [1; 10_000]));
            replace(&left).unwrap();
        }
        if done.is_ok() {
            break;
        }
        cuts += 1;
    }
    assert_eq!(cuts, 5);
}
