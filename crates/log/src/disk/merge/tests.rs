#![allow(clippy::pedantic, clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]
//! The pack, version 1, byte for byte. If this fails, the format changed: it needs a new version, its drawing in `docs/format.md`, a
//! golden file of its own, and a reader for the old one.

use std::io::IoSlice;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use millstream_env::sim::SimDisk;
use millstream_env::{Disk, OpenMode};
use millstream_types::LogId;

use super::copy::write;
use super::plan::{Item, Plan, Shared};
use super::worker::Pace;
use crate::api::Op;
use crate::disk::events::FileId;
use crate::disk::file::{SegFile, path};
use crate::disk::tail::IndexEntry;
use crate::format::footer::Footer;
use crate::format::ids::StoreId;
use crate::format::op::{encode, encoded_len, entry, entry_is_sound};
use crate::format::rows::FileRow;

const PACK: &[u8] = include_bytes!("../tests/golden/v1.pack");
const NUMBER: u64 = 5;

fn store() -> StoreId {
    StoreId::new([7; 16])
}

/// A file of operations, and where each lies.
fn source(disk: &Arc<dyn Disk>, ops: &[Op<'_>]) -> (SegFile, Vec<(u32, u32)>) {
    let mut bytes = BytesMut::zeroed(4096);
    bytes.reserve(1 << 16);
    let mut lie = Vec::new();
    for op in ops {
        lie.push((bytes.len() as u32, encoded_len(op) as u32));
        encode(op, &mut bytes);
    }
    disk.create_dir_all("seg").unwrap();
    let file = disk.open(&path(FileId(0)), OpenMode::CreateNew).unwrap();
    file.write_at(0, &[IoSlice::new(&bytes)]).unwrap();
    let file = SegFile::open(disk, FileId(0), 1, 1 << 20).unwrap();
    file.set_sealed();
    (file, lie)
}

/// Two entries of log 3, one of log 300, and a body in logs 3, 7 and 300 of which log 7 needs it no more.
fn pack(disk: &Arc<SimDisk>) -> FileRow {
    let disk: Arc<dyn Disk> = Arc::<SimDisk>::clone(disk);
    let body = [Bytes::from_static(b"hello "), Bytes::from_static(b"world")];
    let to = [(LogId(3), 8), (LogId(7), 1), (LogId(300), 0)];
    let append = |log, pos, count, max_ts_ms| Op::Append {
        log: LogId(log),
        pos,
        count,
        max_ts_ms,
        attrs: b"attrs",
        body: &body,
    };
    let fan_out = Op::FanOut { to: &to, max_ts_ms: 1_700_000_000_000, attrs: b"", body: &body[..1] };
    let ops = [append(3, 5, 3, -1), fan_out, append(3, 9, 1, 77), append(300, 1, 1, 5)];
    let (file, lie) = source(&disk, &ops);
    let item = |i: usize, pos, count| Item { source: 0, e: IndexEntry::new(pos, count, -1, lie[i]) };
    let plan = Plan {
        sources: vec![Arc::new(file)],
        own: vec![(LogId(3), vec![item(0, 5, 3), item(2, 9, 1)]), (LogId(300), vec![item(3, 1, 1)])],
        shared: vec![Shared { source: 0, offset: lie[1].0, len: lie[1].1, to: vec![to[0], to[2]] }],
        ..Plan::default()
    };
    let pace = Pace::new(Arc::default(), millstream_env::Env::sim(1).0.clock, 0);
    let written = write(&disk, &store(), FileId::pack(NUMBER), &plan, &pace).unwrap();
    FileRow { footer_off: written.footer_off, footer_len: written.footer_len, ..FileRow::default() }
}

#[test]
fn a_file_that_dies_more_slowly_than_it_did_slows_down_and_one_that_is_drained_evenly_does_not() {
    use super::Past;
    // First looked at at 100 with 1,000 alive, and again at 150, when the present time began.
    let slows = |then: u64, live: u64, now: u64| {
        Past { live: then, first: (1000, 100) }.slows_down(live, now, now - 150)
    };
    assert!(!slows(900, 880, 160) && !slows(900, 800, 200) && !slows(1000, 900, 160));
    assert!(slows(600, 540, 160) && slows(600, 360, 200) && slows(600, 600, 160));
    // Of one that is looked at for the first time nothing can be told.
    assert!(!Past::new(1000, 150).slows_down(1000, 160, 60));
}

#[test]
fn a_pack_of_version_1_is_written_as_it_always_was() {
    let disk = SimDisk::new(1);
    pack(&disk);
    let bytes = disk.contents(&path(FileId::pack(NUMBER))).unwrap();
    assert_eq!(bytes, disk.durable_contents(&path(FileId::pack(NUMBER))).unwrap());
    if std::env::var_os("MILLSTREAM_GOLDEN").is_some() {
        let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/disk/tests/golden");
        std::fs::write(dir.join("v1.pack"), bytes).unwrap();
        return;
    }
    assert!(bytes == PACK);
}

#[test]
fn a_pack_of_version_1_is_read() {
    let disk = SimDisk::new(2);
    let row = pack(&disk);
    let disk = SimDisk::new(3);
    disk.create_dir_all("pack").unwrap();
    let id = FileId::pack(NUMBER);
    disk.open(&path(id), OpenMode::CreateNew).unwrap().write_at(0, &[IoSlice::new(PACK)]).unwrap();
    let disk: Arc<dyn Disk> = disk;
    let file = SegFile::open_pack(&disk, &store(), id, &row).unwrap();
    assert!(SegFile::open_pack(&disk, &StoreId::new([8; 16]), id, &row).is_err());
    let footer = Footer::parse(&file.read(row.footer_off, row.footer_len as usize).unwrap());
    let mut found = Vec::new();
    for l in footer.logs().unwrap() {
        let all = |e: IndexEntry| {
            let bytes = file.read(u64::from(e.offset), e.len as usize).unwrap();
            let view = entry(&bytes).unwrap();
            assert!(entry_is_sound(&bytes) && view.to.holds(l.log, e.pos));
            found.push((l.log.0, e.pos, e.count, view.max_ts_ms, view.attrs.len(), view.body.len()));
            true
        };
        footer.entries(&l, 0, all).unwrap();
    }
    let shared = 1_700_000_000_000;
    assert_eq!(
        found,
        [
            (3, 5, 3, -1, 5, 11),
            (3, 8, 1, shared, 0, 6),
            (3, 9, 1, 77, 5, 11),
            (300, 0, 1, shared, 0, 6),
            (300, 1, 1, 5, 5, 11),
        ]
    );
}
