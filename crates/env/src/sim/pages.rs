//! [`Pages`]: a file's bytes in sectors that copies share until they are written. It knows nothing of
//! durability.

use std::collections::BTreeMap;
use std::sync::Arc;

/// The content of one sector.
pub(super) type Sector = Arc<[u8]>;

/// A file's bytes. Sectors that are absent hold zeros.
#[derive(Clone, Debug)]
pub(super) struct Pages {
    sector_bytes: usize,
    len: u64,
    map: BTreeMap<u64, Sector>,
}

/// A piece of a range that lies in one sector.
struct Piece {
    sector: u64,
    /// Range within the sector.
    from: usize,
    to: usize,
}

impl Pages {
    pub(super) fn new(sector_bytes: usize) -> Self {
        Self { sector_bytes, len: 0, map: BTreeMap::new() }
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn grow(&mut self, len: u64) {
        self.len = self.len.max(len);
    }

    /// Forgets what lies behind `len`, a multiple of the sectors' size.
    pub(super) fn shorten(&mut self, len: u64) {
        if len < self.len {
            self.len = len;
            self.map.split_off(&len.div_ceil(wide(self.sector_bytes)));
        }
    }

    /// Offset of the end of a sector.
    pub(super) fn sector_end(&self, sector: u64) -> u64 {
        (sector + 1) * wide(self.sector_bytes)
    }

    fn pieces(&self, offset: u64, len: usize) -> impl Iterator<Item = Piece> + use<> {
        let size = wide(self.sector_bytes);
        let end = offset + wide(len);
        let mut at = offset;
        std::iter::from_fn(move || {
            if at >= end {
                return None;
            }
            let sector = at / size;
            let next = end.min((sector + 1) * size);
            let piece = Piece { sector, from: narrow(at - sector * size), to: narrow(next - sector * size) };
            at = next;
            Some(piece)
        })
    }

    /// Reads up to the end of the file and gives the number of bytes read.
    pub(super) fn read(&self, offset: u64, out: &mut [u8]) -> usize {
        let n = self.len.saturating_sub(offset).min(wide(out.len()));
        let (mut rest, _) = out.split_at_mut(narrow(n));
        for piece in self.pieces(offset, rest.len()) {
            let (to, tail) = rest.split_at_mut(piece.to - piece.from);
            match self.map.get(&piece.sector).and_then(|sector| sector.get(piece.from..piece.to)) {
                Some(from) => to.copy_from_slice(from),
                None => to.fill(0),
            }
            rest = tail;
        }
        narrow(n)
    }

    /// Writes, growing the file when needed, and gives the sectors it touched as they are now.
    pub(super) fn write(&mut self, offset: u64, data: &[u8]) -> Vec<(u64, Sector)> {
        let mut touched = Vec::new();
        let mut rest = data;
        for piece in self.pieces(offset, data.len()) {
            let (from, tail) = rest.split_at(piece.to - piece.from);
            let sector = self.sector_mut(piece.sector);
            if let Some(to) = Arc::make_mut(sector).get_mut(piece.from..piece.to) {
                to.copy_from_slice(from);
            }
            touched.push((piece.sector, Arc::clone(sector)));
            rest = tail;
        }
        if !data.is_empty() {
            self.grow(offset + wide(data.len()));
        }
        touched
    }

    fn sector_mut(&mut self, sector: u64) -> &mut Sector {
        let size = self.sector_bytes;
        self.map.entry(sector).or_insert_with(|| vec![0; size].into())
    }

    /// Replaces a whole sector; the length stays.
    pub(super) fn put(&mut self, sector: u64, content: Sector) {
        self.map.insert(sector, content);
    }

    /// Sector that holds an offset.
    pub(super) fn sector_of(&self, offset: u64) -> u64 {
        offset / wide(self.sector_bytes)
    }

    /// Flips bits of one byte; the length stays.
    pub(super) fn flip(&mut self, offset: u64, xor: u8) {
        let sector = self.sector_of(offset);
        let within = narrow(offset % wide(self.sector_bytes));
        flip_in(self.sector_mut(sector), within, xor);
    }

    /// All bytes.
    pub(super) fn to_vec(&self) -> Vec<u8> {
        let mut out = vec![0; narrow(self.len)];
        self.read(0, &mut out);
        out
    }
}

/// Flips bits of one byte of a sector.
pub(super) fn flip_in(sector: &mut Sector, within: usize, xor: u8) {
    if let Some(byte) = Arc::make_mut(sector).get_mut(within) {
        *byte ^= xor;
    }
}

/// A memory length as a file length.
pub(super) fn wide(n: usize) -> u64 {
    u64::try_from(n).expect("memory lengths fit 64 bits")
}

/// A file length as a memory length.
pub(super) fn narrow(n: u64) -> usize {
    usize::try_from(n).expect("simulated files fit memory")
}
