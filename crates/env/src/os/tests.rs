//! Tests of the operating system's disk beyond the contract.

#![allow(clippy::pedantic, clippy::unwrap_used, clippy::indexing_slicing)]

use std::io::IoSlice;
use std::path::PathBuf;

use super::*;
use crate::{ALIGN, Disk, Env, OpenMode};

fn temp() -> (Box<OsDisk>, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    (Box::new(OsDisk::new(dir.path().to_owned())), dir)
}

crate::disk_contract!(contract, temp);

#[test]
fn the_root_is_made_on_request_and_told() {
    let (_, dir) = temp();
    let root = dir.path().join("a/b");
    let env = Env::os(&root);
    assert!(env.disk.list("").is_err());
    env.disk.create_dir_all("").unwrap();
    env.disk.create_dir_all("seg").unwrap();
    assert_eq!(env.disk.list("").unwrap(), Vec::<String>::new());
    assert_eq!(env.disk.real_root(), Some(root));
}

#[test]
fn where_direct_io_is_refused_the_file_is_buffered() {
    // Not every machine has such a file system; the kernel's own proc refuses direct I/O everywhere.
    let disk = OsDisk::new(PathBuf::from("/proc/self"));
    let file = disk.open("oom_score_adj", OpenMode::Direct).unwrap();
    assert!(!file.is_direct());
    let mut out = [0; 8];
    assert!(file.read_at(0, &mut out).unwrap() > 0);
}

#[test]
fn zero_filling_stands_in_for_allocating() {
    let (disk, dir) = temp();
    drop(disk.open("f", OpenMode::CreateNew).unwrap());
    for (flags, len) in [(rustix::fs::OFlags::empty(), 1_500_000_u64), (rustix::fs::OFlags::DIRECT, 3 << 20)]
    {
        let flags = rustix::fs::OFlags::RDWR | flags;
        let Ok(fd) = rustix::fs::open(dir.path().join("f"), flags, rustix::fs::Mode::empty()) else {
            continue;
        };
        let direct = flags.contains(rustix::fs::OFlags::DIRECT);
        let file = file::OsFile::new(fd, direct);
        if direct && !file.direct_works() {
            continue;
        }
        file.zero_fill(len).unwrap();
        assert_eq!(crate::File::len(&file).unwrap(), len);
        file.zero_fill(u64::try_from(ALIGN).unwrap()).unwrap();
        assert_eq!(crate::File::len(&file).unwrap(), len);
    }
    assert!(std::fs::read(dir.path().join("f")).unwrap().iter().all(|b| *b == 0));
}

#[test]
fn a_write_on_a_full_disk_fails() {
    // `/dev/full` answers every write with ENOSPC.
    let disk = OsDisk::new(PathBuf::from("/dev"));
    let file = disk.open("full", OpenMode::Write).unwrap();
    let error = file.write_at(0, &[IoSlice::new(b"x")]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
}

#[test]
fn locks_are_refused_across_handles_of_one_process() {
    let (disk, dir) = temp();
    let _held = disk.lock("lock").unwrap();
    let other = OsDisk::new(dir.path().to_owned());
    assert_eq!(other.lock("lock").err().unwrap().kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn random_bytes_differ_and_monotonic_time_does_not_go_back() {
    let mut a = [0; 100];
    let mut b = [0; 100];
    OsRng.fill(&mut a);
    OsRng.fill(&mut b);
    assert_ne!(a, b);
    OsRng.fill(&mut []);
    let clock = OsClock::new();
    let first = clock.mono_ns();
    assert!(clock.mono_ns() >= first);
    assert!(clock.wall_ms() > 1_600_000_000_000);
}
