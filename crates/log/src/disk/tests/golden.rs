//! The format byte for byte: directories written once and kept. If this fails, the format changed: it needs a new version, its
//! drawing in `docs/format.md`, a golden file of its own, and a reader for the old one.

use std::io::IoSlice;

use bytes::Bytes;
use millstream_env::sim::SimDisk;
use millstream_env::{Disk, OpenMode};
use millstream_types::LogId;

use super::support::*;
use crate::api::*;

const META: &[u8] = include_bytes!("golden/v2.meta");
/// Without a reserve.
const META_1: &[u8] = include_bytes!("golden/v1.meta");
/// `seg/0000000000000000` up to its last frame.
const SEGMENT: &[u8] = include_bytes!("golden/v1.segment");
const SEGMENT_BYTES: u64 = 1 << 20;

fn write(disk: &std::sync::Arc<SimDisk>) {
    let mut log = open(disk);
    let bodies = [Bytes::from_static(b"hello "), Bytes::from_static(b"world")];
    let to = [(LogId(7), 3), (LogId(300), 0)];
    let records: [&[Op<'_>]; 5] = [
        &[Op::Append {
            log: LogId(7),
            pos: 0,
            count: 3,
            max_ts_ms: 1_700_000_000_000,
            attrs: b"attrs",
            body: &bodies,
        }],
        &[
            Op::FanOut { to: &to, max_ts_ms: -1, attrs: b"", body: &bodies[..1] },
            Op::Effect { object: b"key", bytes: b"what happened" },
        ],
        &[Op::Retire { log: LogId(7), runs: &[(0, 3)] }],
        &[Op::Trim { log: LogId(7), before: 3 }],
        &[Op::Delete { log: LogId(300) }],
    ];
    for record in records {
        let lsn = log.put(record);
        log.wait(lsn).unwrap();
    }
}

fn check(log: &Log) {
    assert_eq!(log.seen.ends, [1, 2, 3, 4, 5]);
    assert_eq!(log.read(7), [(3, b"hello ".to_vec())]);
    assert_eq!(log.seen.effects, [(2, b"key".to_vec(), b"what happened".to_vec())]);
    assert_eq!(log.seen.trims, [(4, LogId(7), 3), (5, LogId(300), u64::MAX)]);
    assert!(!log.o.report.unclean);
}

fn segment(disk: &SimDisk) -> Vec<u8> {
    let mut bytes = disk.contents("seg/0000000000000000").unwrap();
    let used = bytes.iter().rposition(|b| *b != 0).map_or(0, |last| (last + 1).next_multiple_of(4096));
    bytes.truncate(used);
    bytes
}

#[test]
fn what_is_written_has_the_bytes_of_its_version() {
    let disk = SimDisk::new(1);
    write(&disk);
    if std::env::var_os("MILLSTREAM_GOLDEN").is_some() {
        let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/disk/tests/golden");
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("v2.meta"), disk.contents("meta").unwrap()).unwrap();
        std::fs::write(dir.join("v1.segment"), segment(&disk)).unwrap();
        return;
    }
    assert!(disk.contents("meta").unwrap() == META);
    assert!(segment(&disk) == SEGMENT);
}

#[test]
fn every_version_is_read() {
    for meta in [META_1, META] {
        let disk = SimDisk::new(2);
        disk.create_dir_all("seg").unwrap();
        for (path, bytes) in [("meta", meta), ("seg/0000000000000000", SEGMENT)] {
            let file = disk.open(path, OpenMode::CreateNew).unwrap();
            file.write_at(0, &[IoSlice::new(bytes)]).unwrap();
            if path != "meta" {
                file.allocate(SEGMENT_BYTES).unwrap();
            }
        }
        check(&open(&disk));
        // What had no reserve has one from now on.
        assert!(disk.contents("meta").unwrap() == META);
    }
}
