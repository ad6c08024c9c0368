//! What every [`Disk`] must do, as checks that panic. Start at [`disk_contract!`](crate::disk_contract),
//! which makes a test of each. What a power cut leaves is not in here: only a simulated disk can show it.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "these are tests")]

use std::io::{ErrorKind, IoSlice};
use std::sync::Arc;

use crate::{ALIGN, AlignedBuf, Disk, File, OpenMode};

/// Makes one `#[test]` of each check of the contract, in a module of the name given, for the disks that an
/// expression of type `Fn() -> (D, impl Any)` makes: a new empty disk (`impl Deref<Target = impl Disk>`) and
/// what must outlive it.
#[macro_export]
macro_rules! disk_contract {
    ($name:ident, $make:expr) => {
        mod $name {
            #[allow(unused_imports)]
            use super::*;
            $crate::disk_contract!(@each $make;
                bytes_read_are_bytes_written
                slices_are_written_one_after_another
                more_slices_than_one_system_call_takes_are_written
                a_read_past_the_end_is_short
                a_cached_read_gives_a_front_of_what_a_read_gives
                a_gap_reads_as_zeros
                absent_files_and_directories_are_not_found
                a_new_file_must_not_exist
                a_file_needs_its_directory
                a_file_opened_for_reading_is_not_written
                listing_gives_the_files_of_one_directory_sorted
                a_removed_file_stays_readable_while_open
                renaming_replaces
                allocating_sets_the_length_and_keeps_the_bytes
                shortening_gives_back_the_end_and_what_grows_again_reads_as_zeros
                direct_and_buffered_handles_see_the_same_bytes
                a_direct_read_ends_at_the_end_of_the_file
                a_lock_is_held_by_one_until_it_is_dropped
                syncs_of_files_and_directories_succeed
                paths_that_leave_the_root_are_refused
                space_is_told
                handles_work_from_many_threads
            );
        }
    };
    (@each $make:expr; $($check:ident)*) => {
        $(
            #[test]
            fn $check() {
                let (disk, _keep) = $make();
                $crate::contract::$check(&*disk);
            }
        )*
    };
}

fn create(disk: &dyn Disk, path: &str, bytes: &[u8]) -> Arc<dyn File> {
    let file = disk.open(path, OpenMode::CreateNew).unwrap();
    file.write_at(0, &[IoSlice::new(bytes)]).unwrap();
    file
}

fn all(file: &dyn File) -> Vec<u8> {
    let mut out = vec![0xee; usize::try_from(file.len().unwrap()).unwrap() + 10];
    let n = file.read_at(0, &mut out).unwrap();
    out.truncate(n);
    out
}

fn kind<T>(result: std::io::Result<T>) -> ErrorKind {
    result.err().expect("an error").kind()
}

/// See the name.
pub fn bytes_read_are_bytes_written(disk: &dyn Disk) {
    let file = create(disk, "f", b"hello world");
    assert_eq!(all(&*file), b"hello world");
    file.write_at(6, &[IoSlice::new(b"there")]).unwrap();
    let mut out = [0; 5];
    assert_eq!(file.read_at(6, &mut out).unwrap(), 5);
    assert_eq!(&out, b"there");
    assert_eq!(all(&*disk.open("f", OpenMode::Read).unwrap()), b"hello there");
}

/// See the name.
pub fn slices_are_written_one_after_another(disk: &dyn Disk) {
    let file = create(disk, "f", b"0123456789");
    file.write_at(2, &[IoSlice::new(b"ab"), IoSlice::new(b""), IoSlice::new(b"cde")]).unwrap();
    file.write_at(0, &[]).unwrap();
    assert_eq!(all(&*file), b"01abcde789");
}

/// See the name.
pub fn more_slices_than_one_system_call_takes_are_written(disk: &dyn Disk) {
    let bytes: Vec<u8> = (0..=255).cycle().take(3000).collect();
    let slices: Vec<IoSlice<'_>> = bytes.chunks(1).map(IoSlice::new).collect();
    let file = disk.open("f", OpenMode::CreateNew).unwrap();
    file.write_at(0, &slices).unwrap();
    assert_eq!(all(&*file), bytes);
}

/// See the name.
pub fn a_read_past_the_end_is_short(disk: &dyn Disk) {
    let file = create(disk, "f", b"abc");
    let mut out = [9; 4];
    assert_eq!(file.read_at(1, &mut out).unwrap(), 2);
    assert_eq!(&out, b"bc\x09\x09");
    assert_eq!(file.read_at(3, &mut out).unwrap(), 0);
    assert_eq!(file.read_at(1 << 30, &mut out).unwrap(), 0);
}

/// See the name.
pub fn a_cached_read_gives_a_front_of_what_a_read_gives(disk: &dyn Disk) {
    let file = create(disk, "f", &[7; 10_000]);
    file.will_need(5_000, 100_000);
    for mode in [OpenMode::Read, OpenMode::Direct] {
        let file = disk.open("f", mode).unwrap();
        let mut out = AlignedBuf::with_capacity(4 * ALIGN);
        out.resize_zeroed(4 * ALIGN);
        let n = file.read_cached_at(ALIGN as u64, &mut out).unwrap();
        assert!(n <= 10_000 - ALIGN && out.iter().take(n).all(|b| *b == 7), "{n} bytes");
    }
}

/// See the name.
pub fn a_gap_reads_as_zeros(disk: &dyn Disk) {
    let file = create(disk, "f", b"a");
    assert!(!file.is_empty().unwrap());
    file.write_at(10_000, &[IoSlice::new(b"z")]).unwrap();
    assert_eq!(file.len().unwrap(), 10_001);
    let bytes = all(&*file);
    assert!(bytes.iter().skip(1).take(9_999).all(|b| *b == 0));
    assert_eq!((bytes.first(), bytes.last()), (Some(&b'a'), Some(&b'z')));
}

/// See the name.
pub fn absent_files_and_directories_are_not_found(disk: &dyn Disk) {
    for mode in [OpenMode::Read, OpenMode::Write, OpenMode::Direct] {
        assert_eq!(kind(disk.open("absent", mode)), ErrorKind::NotFound);
    }
    assert_eq!(kind(disk.list("absent")), ErrorKind::NotFound);
    assert_eq!(kind(disk.remove("absent")), ErrorKind::NotFound);
    assert_eq!(kind(disk.rename("absent", "other")), ErrorKind::NotFound);
    assert_eq!(kind(disk.sync_dir("absent")), ErrorKind::NotFound);
}

/// See the name.
pub fn a_new_file_must_not_exist(disk: &dyn Disk) {
    create(disk, "f", b"abc");
    assert_eq!(kind(disk.open("f", OpenMode::CreateNew)), ErrorKind::AlreadyExists);
    assert_eq!(all(&*disk.open("f", OpenMode::Write).unwrap()), b"abc");
}

/// See the name.
pub fn a_file_needs_its_directory(disk: &dyn Disk) {
    assert_eq!(kind(disk.open("a/b/f", OpenMode::CreateNew)), ErrorKind::NotFound);
    disk.create_dir_all("a/b").unwrap();
    disk.create_dir_all("a/b").unwrap();
    create(disk, "a/b/f", b"x");
    assert!(disk.create_dir_all("a/b/f/c").is_err());
}

/// See the name.
pub fn a_file_opened_for_reading_is_not_written(disk: &dyn Disk) {
    create(disk, "f", b"abc");
    let file = disk.open("f", OpenMode::Read).unwrap();
    assert!(file.write_at(0, &[IoSlice::new(b"x")]).is_err());
    assert!(file.allocate(100).is_err());
    assert_eq!(all(&*file), b"abc");
}

/// See the name.
pub fn listing_gives_the_files_of_one_directory_sorted(disk: &dyn Disk) {
    disk.create_dir_all("d/sub").unwrap();
    for path in ["d/b", "d/a", "d/sub/x", "top"] {
        create(disk, path, b"");
    }
    assert_eq!(disk.list("d").unwrap(), ["a", "b"]);
    assert_eq!(disk.list("d/sub/").unwrap(), ["x"]);
    assert_eq!(disk.list("").unwrap(), ["top"]);
    assert!(disk.list("top").is_err());
}

/// See the name.
pub fn a_removed_file_stays_readable_while_open(disk: &dyn Disk) {
    let old = create(disk, "f", b"old");
    disk.remove("f").unwrap();
    assert_eq!(kind(disk.open("f", OpenMode::Read)), ErrorKind::NotFound);
    create(disk, "f", b"new");
    disk.sync_dir("").unwrap();
    assert_eq!(all(&*old), b"old");
    old.write_at(0, &[IoSlice::new(b"O")]).unwrap();
    old.sync_data().unwrap();
    assert_eq!(all(&*old), b"Old");
    assert_eq!(all(&*disk.open("f", OpenMode::Read).unwrap()), b"new");
}

/// See the name.
pub fn renaming_replaces(disk: &dyn Disk) {
    disk.create_dir_all("d").unwrap();
    create(disk, "a", b"from a");
    create(disk, "d/b", b"from b");
    disk.rename("a", "d/b").unwrap();
    disk.rename("d/b", "d/b").unwrap();
    assert_eq!(disk.list("").unwrap(), Vec::<String>::new());
    assert_eq!(disk.list("d").unwrap(), ["b"]);
    assert_eq!(all(&*disk.open("d/b", OpenMode::Read).unwrap()), b"from a");
    assert_eq!(kind(disk.rename("d/b", "absent/b")), ErrorKind::NotFound);
}

/// See the name.
pub fn allocating_sets_the_length_and_keeps_the_bytes(disk: &dyn Disk) {
    let file = create(disk, "f", b"abc");
    file.allocate(1 << 20).unwrap();
    assert_eq!(file.len().unwrap(), 1 << 20);
    file.allocate(10).unwrap();
    file.allocate(0).unwrap();
    let bytes = all(&*file);
    assert_eq!(bytes.len(), 1 << 20);
    assert_eq!(bytes.get(..3), Some(b"abc".as_slice()));
    assert!(bytes.iter().skip(3).all(|b| *b == 0));
}

/// See the name.
pub fn shortening_gives_back_the_end_and_what_grows_again_reads_as_zeros(disk: &dyn Disk) {
    let file = create(disk, "f", &[7; 3 * 4096]);
    file.shorten(4096).unwrap();
    file.shorten(8192).unwrap();
    file.sync_data().unwrap();
    assert_eq!((file.len().unwrap(), all(&*file)), (4096, vec![7; 4096]));
    file.allocate(8192).unwrap();
    assert_eq!(all(&*file), [[7; 4096], [0; 4096]].concat());
}

/// See the name.
pub fn direct_and_buffered_handles_see_the_same_bytes(disk: &dyn Disk) {
    let buffered = disk.open("f", OpenMode::CreateNew).unwrap();
    assert!(!buffered.is_direct());
    buffered.allocate(4 * 4096).unwrap();
    let direct = disk.open("f", OpenMode::Direct).unwrap();
    let mut page = AlignedBuf::with_capacity(ALIGN);
    page.resize_zeroed(ALIGN);
    page.fill(7);
    let mut two = AlignedBuf::with_capacity(2 * ALIGN);
    two.resize_zeroed(2 * ALIGN);
    two.fill(8);
    direct.write_at(4096, &[IoSlice::new(&page), IoSlice::new(&two)]).unwrap();
    direct.sync_data().unwrap();
    let expected = [[0; 4096], [7; 4096], [8; 4096], [8; 4096]].concat();
    assert_eq!(all(&*buffered), expected);
    buffered.write_at(5, &[IoSlice::new(b"five")]).unwrap();
    assert_eq!(direct.read_at(0, &mut page).unwrap(), 4096);
    assert_eq!(page.get(..10), Some(b"\0\0\0\0\0five\0".as_slice()));
    assert!(!disk.open("f", OpenMode::Read).unwrap().is_direct());
}

/// See the name.
pub fn a_direct_read_ends_at_the_end_of_the_file(disk: &dyn Disk) {
    create(disk, "f", &[3; 5000]).sync_data().unwrap();
    let file = disk.open("f", OpenMode::Direct).unwrap();
    let mut buf = AlignedBuf::with_capacity(3 * ALIGN);
    buf.resize_zeroed(3 * ALIGN);
    assert_eq!(file.read_at(0, &mut buf).unwrap(), 5000);
    assert!(buf.iter().take(5000).all(|b| *b == 3));
    assert_eq!(file.read_at(8192, &mut buf).unwrap(), 0);
    file.allocate(8192).unwrap();
    assert_eq!(file.len().unwrap(), 8192);
}

/// See the name.
pub fn a_lock_is_held_by_one_until_it_is_dropped(disk: &dyn Disk) {
    let held = disk.lock("lock").unwrap();
    assert_eq!(kind(disk.lock("lock")), ErrorKind::WouldBlock);
    let other = disk.lock("other").unwrap();
    drop(held);
    drop(disk.lock("lock").unwrap());
    drop(other);
    assert_eq!(disk.list("").unwrap(), ["lock", "other"]);
    assert_eq!(kind(disk.lock("absent/lock")), ErrorKind::NotFound);
}

/// See the name.
pub fn syncs_of_files_and_directories_succeed(disk: &dyn Disk) {
    disk.create_dir_all("d").unwrap();
    let file = create(disk, "d/f", b"abc");
    file.sync_data().unwrap();
    file.sync_all().unwrap();
    file.random_access();
    file.drop_cache();
    disk.sync_dir("d").unwrap();
    disk.sync_dir("").unwrap();
    assert_eq!(all(&*file), b"abc");
}

/// See the name.
pub fn paths_that_leave_the_root_are_refused(disk: &dyn Disk) {
    for path in ["/f", "../f", "d/../../f"] {
        assert_eq!(kind(disk.open(path, OpenMode::CreateNew)), ErrorKind::InvalidInput);
        assert_eq!(kind(disk.create_dir_all(path)), ErrorKind::InvalidInput);
        assert_eq!(kind(disk.lock(path)), ErrorKind::InvalidInput);
    }
}

/// See the name.
pub fn space_is_told(disk: &dyn Disk) {
    let space = disk.space().unwrap();
    assert!(space.total_bytes > 0 && space.free_bytes <= space.total_bytes);
}

/// See the name.
pub fn handles_work_from_many_threads(disk: &dyn Disk) {
    let file = disk.open("f", OpenMode::CreateNew).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8_u8 {
            let file = &file;
            scope.spawn(move || {
                for round in 0..50_u64 {
                    let at = (round * 8 + u64::from(thread)) * 10;
                    file.write_at(at, &[IoSlice::new(&[thread; 10])]).unwrap();
                    if round % 10 == 0 {
                        file.sync_data().unwrap();
                    }
                }
            });
        }
    });
    let bytes = all(&*file);
    assert_eq!(bytes.len(), 4000);
    for (at, chunk) in bytes.chunks(10).enumerate() {
        assert!(chunk.iter().all(|b| usize::from(*b) == at % 8));
    }
}
