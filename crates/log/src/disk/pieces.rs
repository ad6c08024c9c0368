//! Reads pieces of segment files, many at once. What the page cache holds is taken first; the disk is told of all the rest before
//! any of it is waited for. Where pieces lie close together, as those of partitions written side by side do, what lies between and
//! behind them is fetched in large requests too: their neighbours' readers, or the next read, find it. Start at [`read`].

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::chunks::{CHUNK_BYTES_MAX, Chunks};
use super::file::{SegFile, path};
use crate::api::ReadError;
use crate::format::bytes::len64;

/// Pieces are dense where they are at least one part in so many of what they span.
const DENSE_PARTS: u64 = 16;
/// So many times what dense pieces span is fetched from their start on ...
const AHEAD_TIMES: u64 = 4;
/// ... but no more than this beyond what they span.
const AHEAD_BYTES_MAX: u64 = 8 << 20;

/// When so many pieces, one after another, were not in the page cache at all, the others are not looked for there.
const MISSES_MAX: u32 = 4;

/// Bytes of a file.
pub(crate) struct Piece {
    pub file: Arc<SegFile>,
    pub offset: u64,
    pub len: usize,
}

impl Piece {
    fn end(&self) -> u64 {
        self.offset + len64(self.len)
    }
}

/// The bytes of each piece, in their order.
///
/// # Errors
/// When the disk fails, or a file is shorter.
pub(crate) fn read(chunks: &Arc<Chunks>, pieces: &[Piece]) -> Result<Vec<Bytes>, ReadError> {
    let mut all = Vec::with_capacity(pieces.len());
    let mut rest = pieces;
    while let Some(first) = rest.first() {
        if !first.file.is_sealed() {
            all.push(first.file.read(first.offset, first.len).map_err(|e| failed(first, &e))?);
            rest = rest.get(1..).unwrap_or_default();
            continue;
        }
        let (mut bytes, mut n) = (0, 0);
        for piece in rest {
            if n > 0 && (bytes + piece.len > CHUNK_BYTES_MAX || !piece.file.is_sealed()) {
                break;
            }
            (bytes, n) = (bytes + piece.len, n + 1);
        }
        let (now, later) = rest.split_at(n);
        let mut chunk = chunks.take(bytes);
        fill(now, chunk.bytes_mut())?;
        let mut filled = Bytes::from_owner(chunk);
        all.extend(now.iter().map(|piece| filled.split_to(piece.len)));
        rest = later;
    }
    Ok(all)
}

fn failed(piece: &Piece, e: &io::Error) -> ReadError {
    ReadError::Io { file: path(piece.file.id), error: e.to_string() }
}

/// Fills memory with pieces of sealed files, one behind another.
fn fill(pieces: &[Piece], mut out: &mut [u8]) -> Result<(), ReadError> {
    let mut later = Vec::new();
    let (mut told, mut misses) = (false, 0);
    for (i, piece) in pieces.iter().enumerate() {
        let (memory, behind) = out.split_at_mut(piece.len);
        out = behind;
        // Once the disk was told of all, it is at work on them. What is there after all is taken below.
        let n = if told || misses >= MISSES_MAX {
            0
        } else {
            piece.file.read_cached(piece.offset, memory).map_err(|e| failed(piece, &e))?
        };
        misses = if n == 0 { misses + 1 } else { 0 };
        let Some(missing) = memory.get_mut(n..).filter(|m| !m.is_empty()) else { continue };
        if !told {
            match window(pieces.get(i..).unwrap_or_default()) {
                Some(len) => {
                    piece.file.will_need(piece.offset, len);
                    told = true;
                }
                None => piece.file.will_need(piece.offset + len64(n), len64(missing.len())),
            }
        }
        later.push((piece, n, missing));
    }
    for (piece, n, missing) in later {
        piece.file.read_sealed(piece.offset + len64(n), missing).map_err(|e| failed(piece, &e))?;
    }
    Ok(())
}

/// How much to fetch from the start of the first piece on, if all of them are of its file and dense.
fn window(pieces: &[Piece]) -> Option<u64> {
    let (first, last) = (pieces.first()?, pieces.last()?);
    let same = pieces.iter().all(|p| p.file.id == first.file.id && p.offset >= first.offset);
    let span = last.end().checked_sub(first.offset).filter(|_| same)?;
    let wanted: u64 = pieces.iter().map(|p| len64(p.len)).sum();
    let more = (span.saturating_mul(AHEAD_TIMES - 1)).min(AHEAD_BYTES_MAX);
    let left = first.file.bytes.saturating_sub(first.offset);
    (span <= wanted.saturating_mul(DENSE_PARTS)).then(|| (span + more).min(left))
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;

    use millstream_env::{Disk, Env, OpenMode};

    use super::*;
    use crate::disk::events::FileId;
    use crate::disk::file::SEG_DIR;

    const FILE_BYTES: u64 = 16 << 20;

    fn byte(file: u64, at: u64) -> u8 {
        (file * 31 + at / 1000 + at).to_le_bytes()[0]
    }

    fn file(disk: &Arc<dyn Disk>, n: u64, sealed: bool) -> Arc<SegFile> {
        let name = path(FileId(n));
        let new = disk.open(&name, OpenMode::CreateNew).unwrap();
        let bytes: Vec<u8> = (0..FILE_BYTES).map(|at| byte(n, at)).collect();
        new.write_at(0, &[IoSlice::new(&bytes)]).unwrap();
        new.sync_all().unwrap();
        new.drop_cache();
        let file = SegFile::open(disk, FileId(n), 1, FILE_BYTES).unwrap();
        if sealed {
            file.set_sealed();
        }
        Arc::new(file)
    }

    fn every(file: &Arc<SegFile>, step: u64, len: usize, n: u64) -> Vec<Piece> {
        (0..n).map(|i| Piece { file: Arc::clone(file), offset: 100 + i * step, len }).collect()
    }

    #[test]
    fn pieces_come_in_their_order_from_memory_or_disk_dense_or_sparse_sealed_or_not() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Env::os(dir.path()).disk;
        disk.create_dir_all(SEG_DIR).unwrap();
        let (one, two, active) = (file(&disk, 1, true), file(&disk, 2, true), file(&disk, 3, false));
        let chunks = Arc::new(Chunks::default());
        for _ in 0..2 {
            let mut pieces = every(&one, 60_000, 20_000, 100);
            pieces.extend(every(&two, 1 << 20, 1_000, 15));
            pieces.extend(every(&active, 9_999, 5_000, 3));
            pieces.extend(every(&two, 0, 3 << 20, 1));
            let read = read(&chunks, &pieces).unwrap();
            assert_eq!(read.len(), pieces.len());
            for (piece, bytes) in pieces.iter().zip(read) {
                assert_eq!(bytes.len(), piece.len);
                let right = |(i, b): (usize, &u8)| *b == byte(piece.file.id.0, piece.offset + len64(i));
                assert!(bytes.iter().enumerate().all(right), "at {}", piece.offset);
            }
        }
        let past = [Piece { file: one, offset: FILE_BYTES - 10, len: 20 }];
        assert!(matches!(read(&chunks, &past), Err(ReadError::Io { .. })));
    }

    #[test]
    fn what_lies_around_is_fetched_where_pieces_are_dense_and_never_past_the_end() {
        let disk = Env::sim(1).0.disk;
        disk.create_dir_all(SEG_DIR).unwrap();
        let (one, two) = (file(&disk, 1, true), file(&disk, 2, true));
        let small = every(&one, 0, 1_000, 1);
        assert_eq!(window(&small), Some(4_000));
        let dense = every(&one, 100_000, 16_000, 11);
        assert_eq!(window(&dense), Some(4 * 1_016_000));
        let long = every(&one, 0, 4 << 20, 1);
        assert_eq!(window(&long), Some((4 << 20) + AHEAD_BYTES_MAX));
        assert_eq!(window(&every(&one, 1 << 20, 16_000, 11)), None);
        let end = [Piece { file: Arc::clone(&one), offset: FILE_BYTES - 5_000, len: 4_000 }];
        assert_eq!(window(&end), Some(5_000));
        let mut both = dense;
        both.extend(every(&two, 0, 16_000, 1));
        assert_eq!(window(&both), None);
    }
}
