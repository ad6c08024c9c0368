//! [`Entries`]: where the entries of one log lie in one file, in memory. It grows by pieces: what is there is not copied again, and
//! little stands empty.

use super::tail::IndexEntry;

/// Entries of a piece. Only the last has fewer.
const PIECE_ENTRIES: usize = 1024;
/// A first piece that is full grows by one part in so many: most logs of many have a few entries.
const GROWTH_PARTS: usize = 4;

/// Ascending by position.
#[derive(Debug, Default)]
pub(crate) struct Entries {
    full: Vec<Vec<IndexEntry>>,
    last: Vec<IndexEntry>,
}

impl Entries {
    pub(crate) fn push(&mut self, e: IndexEntry) {
        if self.last.len() == PIECE_ENTRIES {
            self.full.push(std::mem::take(&mut self.last));
        }
        if self.last.len() == self.last.capacity() {
            let few = self.full.is_empty();
            let more = if few { (self.last.len() / GROWTH_PARTS).max(1) } else { PIECE_ENTRIES };
            self.last.reserve_exact(more.min(PIECE_ENTRIES - self.last.len()));
        }
        self.last.push(e);
    }

    pub(crate) fn first(&self) -> Option<&IndexEntry> {
        self.full.first().unwrap_or(&self.last).first()
    }

    pub(crate) fn last(&self) -> Option<&IndexEntry> {
        self.last.last()
    }

    /// How many end at or before `pos`.
    pub(crate) fn seek(&self, pos: u64) -> usize {
        let before = |e: &IndexEntry| e.end() <= pos;
        let piece = self.full.partition_point(|piece| piece.last().is_some_and(before));
        let within = self.full.get(piece).unwrap_or(&self.last).partition_point(before);
        piece * PIECE_ENTRIES + within
    }

    /// Those from the `n`-th on.
    pub(crate) fn iter_from(&self, n: usize) -> impl Iterator<Item = &IndexEntry> {
        let piece = (n / PIECE_ENTRIES).min(self.full.len());
        let skipped = n - piece * PIECE_ENTRIES;
        let pieces = self.full.get(piece..).unwrap_or_default().iter().chain([&self.last]);
        pieces.enumerate().flat_map(move |(i, piece)| {
            let from = if i == 0 { skipped } else { 0 };
            piece.get(from..).unwrap_or_default()
        })
    }

    pub(crate) fn to_vec(&self) -> Vec<IndexEntry> {
        let pieces: Vec<&[IndexEntry]> = self.full.iter().chain([&self.last]).map(Vec::as_slice).collect();
        pieces.concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_found_and_gone_through_as_one_row() {
        for n in [0, 1, 2, 1023, 1024, 1025, 2048, 5000] {
            // Positions 3, 8, 13, ... of two each: between them nothing is.
            let all: Vec<IndexEntry> = (0..n).map(|i| IndexEntry::new(i * 5 + 3, 2, -1, (0, 40))).collect();
            let mut entries = Entries::default();
            for e in &all {
                entries.push(*e);
            }
            assert_eq!((entries.first(), entries.last()), (all.first(), all.last()));
            assert_eq!(entries.to_vec(), all);
            for i in [0, 1, 1023, 1024, 1025, 2047, 2048, 4999, 5000, 6000] {
                let rest: Vec<IndexEntry> = entries.iter_from(i).copied().collect();
                assert_eq!(rest, all.get(i..).unwrap_or_default());
                for pos in [i * 5, i * 5 + 3, i * 5 + 4, i * 5 + 5].map(|pos| pos as u64) {
                    assert_eq!(entries.seek(pos), all.partition_point(|e| e.end() <= pos));
                }
            }
        }
    }
}
