//! Injected errors, rot, room and slow syncs.

use super::*;

#[test]
fn a_fault_hits_the_calls_it_names_and_no_others() {
    let (disk, file) = with_file(1, b"abc");
    let other = disk.open("other", OpenMode::CreateNew).unwrap();
    disk.inject(Fault::new(Call::Read).on_path(|p| p == "f").in_range(1..2).after(1).times(2));
    let mut byte = [0];
    let mut read = |file: &Arc<dyn File>, at| file.read_at(at, &mut byte).is_ok();
    assert!(read(&other, 1) && read(&file, 0) && read(&file, 2));
    assert!(read(&file, 1), "one passes first");
    assert!(!read(&file, 1) && !read(&file, 1), "two fail");
    assert!(read(&file, 1), "and no more");

    disk.inject(Fault::new(Call::Open).always().no_space());
    for _ in 0..3 {
        let error = disk.open("f", OpenMode::Read).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
    }
    disk.clear_faults();
    disk.open("f", OpenMode::Read).unwrap();
}

#[test]
fn every_kind_of_call_can_fail_and_then_works() {
    let calls = [
        Call::CreateDir,
        Call::List,
        Call::Open,
        Call::Create,
        Call::Remove,
        Call::Rename,
        Call::SyncDir,
        Call::Read,
        Call::Write,
        Call::Sync,
        Call::Allocate,
    ];
    for call in calls {
        let (disk, file) = with_file(1, b"abc");
        let run = || match call {
            Call::CreateDir => disk.create_dir_all("d"),
            Call::List => disk.list("").map(drop),
            Call::Open => disk.open("f", OpenMode::Read).map(drop),
            Call::Create => disk.open("g", OpenMode::CreateNew).map(drop),
            Call::Remove => disk.remove("f"),
            Call::Rename => disk.rename("f", "h"),
            Call::SyncDir => disk.sync_dir(""),
            Call::Read => file.read_at(0, &mut [0]).map(drop),
            Call::Write => file.write_at(0, &[IoSlice::new(b"x")]),
            Call::Sync => file.sync_data(),
            Call::Allocate => file.allocate(100),
        };
        disk.inject(Fault::new(call));
        assert_eq!(run().unwrap_err().raw_os_error(), Some(5), "{call:?}");
        run().unwrap();
    }
}

#[test]
fn a_failed_write_leaves_some_of_its_first_sectors() {
    let mut left = BTreeSet::new();
    for seed in 0..50 {
        let (disk, file) = with_file(seed, &[block(1), block(1)].concat());
        disk.inject(Fault::new(Call::Write));
        file.write_at(0, &[IoSlice::new(&block(2)), IoSlice::new(&block(2))]).unwrap_err();
        let bytes = disk.contents("f").unwrap();
        left.insert((bytes[0], bytes[4096]));
    }
    assert_eq!(left, BTreeSet::from([(1, 1), (2, 1), (2, 2)]));
}

#[test]
fn after_a_failed_sync_bytes_are_readable_and_only_writing_again_makes_them_durable() {
    let (disk, file) = with_file(1, &block(1));
    write(&*file, 0, &block(2));
    disk.inject(Fault::new(Call::Sync));
    file.sync_data().unwrap_err();
    file.sync_data().unwrap();
    assert_eq!(disk.contents("f").unwrap(), block(2));
    let left: BTreeSet<u8> = (0..100).map(|_| disk.snapshot().crash().contents("f").unwrap()[0]).collect();
    assert_eq!(left, BTreeSet::from([1, 2]));

    // The same holds for the next process, until it writes the bytes again.
    let next = disk.kill();
    let file = next.open("f", OpenMode::Write).unwrap();
    file.sync_all().unwrap();
    assert_eq!(next.durable_contents("f").unwrap(), block(1));
    write(&*file, 0, &block(2));
    file.sync_data().unwrap();
    for _ in 0..100 {
        assert_eq!(next.crash().contents("f").unwrap(), block(2));
    }
}

#[test]
fn what_a_failed_sync_gave_up_never_lands_on_newer_durable_bytes() {
    let (disk, file) = with_file(1, &[block(1), block(1)].concat());
    write(&*file, 0, &[block(2), block(2)].concat());
    disk.inject(Fault::new(Call::Sync));
    file.sync_data().unwrap_err();
    write(&*file, 0, &block(3));
    file.sync_data().unwrap();
    let left: BTreeSet<(u8, u8)> =
        (0..100).map(|_| disk.crash().contents("f").unwrap()).map(|bytes| (bytes[0], bytes[4096])).collect();
    assert_eq!(left, BTreeSet::from([(3, 1), (3, 2)]));
}

#[test]
fn a_sync_that_lies_makes_nothing_durable() {
    let (disk, file) = with_file(1, &block(1));
    disk.inject(Fault::new(Call::Sync).lie());
    write(&*file, 0, &block(2));
    file.sync_data().unwrap();
    assert_eq!(disk.durable_contents("f").unwrap(), block(1));
    file.sync_data().unwrap();
    assert_eq!(disk.durable_contents("f").unwrap(), block(2));
}

#[test]
fn a_full_disk_refuses_growth_and_gives_room_back() {
    let disk = SimDisk::new(1);
    disk.set_capacity_bytes(3 * 4096);
    let file = disk.open("a", OpenMode::CreateNew).unwrap();
    file.allocate(2 * 4096).unwrap();
    let space = disk.space().unwrap();
    assert_eq!((space.free_bytes, space.total_bytes), (4096, 3 * 4096));
    let other = disk.open("b", OpenMode::CreateNew).unwrap();
    assert_eq!(other.allocate(4097).unwrap_err().kind(), ErrorKind::StorageFull);
    write(&*other, 0, &block(1));
    let full = other.write_at(4000, &[IoSlice::new(&[1; 100])]).unwrap_err();
    assert_eq!(full.kind(), ErrorKind::StorageFull);
    assert_eq!(other.len().unwrap(), 4096);
    write(&*file, 0, &block(2));
    disk.remove("a").unwrap();
    assert_eq!(disk.space().unwrap().free_bytes, 0, "open files keep their room");
    drop(file);
    assert_eq!(disk.space().unwrap().free_bytes, 2 * 4096);
    other.allocate(3 * 4096).unwrap();
}

#[test]
fn rot_is_read_and_survives_a_cut() {
    let (disk, file) = with_file(1, &block(1));
    disk.corrupt("f", 5, 0x80).unwrap();
    let mut byte = [0];
    file.read_at(5, &mut byte).unwrap();
    assert_eq!(byte, [0x81]);
    assert_eq!(disk.crash().contents("f").unwrap()[5], 0x81);
    assert_eq!(disk.corrupt("f", 4096, 1).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(disk.corrupt("absent", 0, 1).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn a_sync_covers_only_what_was_written_before_it_began() {
    let (disk, file) = with_file(1, &[block(1), block(1)].concat());
    let calls = Arc::new(AtomicU64::new(0));
    let late = Arc::clone(&file);
    let counted = Arc::clone(&calls);
    disk.on_sync(move |path| {
        assert_eq!(path, "f");
        counted.fetch_add(1, Ordering::SeqCst);
        write(&*late, 0, &block(3));
    });
    write(&*file, 0, &[block(2), block(2)].concat());
    file.sync_data().unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    assert_eq!(disk.contents("f").unwrap()[..4096], block(3));
    assert_eq!(disk.durable_contents("f").unwrap(), [block(2), block(2)].concat());
}

#[test]
fn mutating_calls_are_counted() {
    let (disk, file) = with_file(1, b"abc");
    assert_eq!(disk.op_count(), 4);
    file.read_at(0, &mut [0]).unwrap();
    disk.list("").unwrap();
    assert_eq!(disk.op_count(), 4);
    disk.lock("lock").unwrap();
    disk.lock("lock").unwrap();
    assert_eq!(disk.op_count(), 5);
}

#[test]
fn a_snapshot_goes_its_own_way() {
    let (disk, file) = with_file(1, b"abc");
    let copy = disk.snapshot();
    write(&*file, 0, b"xyz");
    copy.remove("f").unwrap();
    assert_eq!(disk.contents("f").unwrap(), b"xyz");
    assert!(copy.contents("f").is_err());
}

#[test]
#[should_panic(expected = "at offset 512")]
fn direct_io_at_an_odd_offset_panics() {
    let (disk, _file) = with_file(1, &block(1));
    let page = AlignedBuf::with_capacity(4096);
    let direct = disk.open("f", OpenMode::Direct).unwrap();
    let _ = direct.write_at(512, &[IoSlice::new(&page)]);
}

#[test]
#[should_panic(expected = "of 512 bytes")]
fn direct_io_of_an_odd_length_panics() {
    let (disk, _file) = with_file(1, &block(1));
    let mut page = AlignedBuf::with_capacity(4096);
    page.resize_zeroed(512);
    let _ = disk.open("f", OpenMode::Direct).unwrap().read_at(0, &mut page);
}

#[test]
#[should_panic(expected = "memory that is not aligned")]
fn direct_io_with_odd_memory_panics() {
    let (disk, _file) = with_file(1, &block(1));
    let mut pages = AlignedBuf::with_capacity(8192);
    pages.resize_zeroed(8192);
    let _ = disk.open("f", OpenMode::Direct).unwrap().read_at(0, &mut pages[8..4104]);
}
