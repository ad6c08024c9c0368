//! [`Frames`]: recent frames kept in memory, as many as readers were lately seen to reach back for.
//!
//! Most readers follow the end closely, so a few MiB serve them; and one that passes through what is older gains nothing from frames
//! that are kept behind it. How far back reads go is noted, hit or miss, for each stretch of the log that is written meanwhile. What
//! was reached for in two of the last stretches is kept, and a little more, up to the setting. It does no I/O and reads no clock.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use crate::format::bytes::{len64, size};

/// Kept whatever readers do.
const KEPT_BYTES_MIN: usize = 8 << 20;
/// A stretch.
const STRETCH_BYTES: u64 = 8 << 20;
/// Stretches that are looked back on.
const STRETCHES: usize = 6;

struct Held {
    use_no: u64,
    offset: u64,
    /// Bytes of frames added before it.
    before: u64,
    data: Bytes,
}

/// Where an entry lies, as readers ask for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spot {
    /// The file's place in the order of use.
    pub use_no: u64,
    /// Size of the file.
    pub file_bytes: u64,
    /// Offset in it.
    pub offset: u32,
    /// Bytes.
    pub len: u32,
}

/// The frames. Start at [`Frames::find`].
#[derive(Default)]
pub(crate) struct Frames {
    held: VecDeque<Held>,
    held_bytes: usize,
    /// Bytes of all frames ever added.
    added: u64,
    /// Where the last one ends: file and offset.
    end: (u64, u64),
    /// Most bytes from the end that a read reached back in this stretch.
    reach: AtomicU64,
    /// The same in those before, in no order.
    reaches: [u64; STRETCHES],
    /// Stretches so far.
    stretches: usize,
    /// `added` when this one began.
    since: u64,
    /// The setting, as last heard.
    bytes_max: u64,
}

impl Frames {
    /// Adds the next frame in the order of the log.
    pub(crate) fn add(&mut self, use_no: u64, offset: u64, data: Bytes) {
        let before = self.added;
        self.held_bytes += data.len();
        self.added += len64(data.len());
        self.end = (use_no, offset + len64(data.len()));
        self.held.push_back(Held { use_no, offset, before, data });
    }

    /// Lets go of the oldest frames: what readers need stays, but at most `bytes_max`. All must be durable.
    pub(crate) fn evict(&mut self, bytes_max: usize) {
        self.bytes_max = len64(bytes_max);
        if self.added - self.since >= STRETCH_BYTES {
            let reach = std::mem::take(self.reach.get_mut());
            if let Some(oldest) = self.reaches.get_mut(self.stretches % STRETCHES) {
                *oldest = reach;
            }
            self.stretches += 1;
            self.since = self.added;
        }
        // A reader that keeps its distance does not keep it exactly.
        let reach = self.reached_twice();
        self.keep(size(reach + reach / 4).max(KEPT_BYTES_MIN).min(bytes_max));
    }

    /// How far back reads went in at least two of the last stretches.
    fn reached_twice(&self) -> u64 {
        let (mut most, mut second) = (self.reach.load(Ordering::Relaxed), 0);
        for reach in self.reaches {
            second = second.max(reach.min(most));
            most = most.max(reach);
        }
        second
    }

    /// Lets go of the oldest frames until at most `bytes_max` are held, whatever readers need. All must be durable.
    pub(crate) fn keep(&mut self, bytes_max: usize) {
        while self.held_bytes > bytes_max
            && let Some(f) = self.held.pop_front()
        {
            self.held_bytes -= f.data.len();
        }
    }

    /// The bytes of an entry, if its frame is here.
    pub(crate) fn find(&self, at: Spot) -> Option<Bytes> {
        let offset = u64::from(at.offset);
        let last = self.held.partition_point(|f| (f.use_no, f.offset) <= (at.use_no, offset)).checked_sub(1);
        let held = last.and_then(|i| self.held.get(i)).filter(|f| f.use_no == at.use_no);
        let Some(f) = held else {
            self.note(self.distance(at));
            return None;
        };
        self.note(self.added - f.before);
        let from = size(offset.checked_sub(f.offset)?);
        let to = from + size(u64::from(at.len));
        (to <= f.data.len()).then(|| f.data.slice(from..to))
    }

    /// Bytes from the end back to an entry whose frame left, roughly; the largest number if it is farther than one file.
    fn distance(&self, at: Spot) -> u64 {
        let (use_no, end) = self.end;
        let back = match use_no.checked_sub(at.use_no) {
            Some(0) => end.checked_sub(u64::from(at.offset)),
            Some(1) => end.checked_add(at.file_bytes.saturating_sub(u64::from(at.offset))),
            _ => None,
        };
        back.unwrap_or(u64::MAX)
    }

    fn note(&self, back: u64) {
        // What could not be kept is not reached for.
        if back <= self.bytes_max && back > self.reach.load(Ordering::Relaxed) {
            self.reach.fetch_max(back, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME_BYTES: usize = 1 << 20;
    const FILE_FRAMES: u64 = 64;
    const BYTES_MAX: usize = 48 << 20;

    fn spot(frame: u64) -> Spot {
        let offset = u32::try_from(frame % FILE_FRAMES * FRAME_BYTES as u64).unwrap();
        Spot {
            use_no: frame / FILE_FRAMES,
            file_bytes: FILE_FRAMES * FRAME_BYTES as u64,
            offset: offset + 64,
            len: 100,
        }
    }

    /// Frames `[from, to)`, with a reader that stays `behind` frames back, if at all.
    fn write(frames: &mut Frames, from: u64, to: u64, behind: Option<u64>) -> u64 {
        let mut hits = 0;
        for n in from..to {
            frames.add(n / FILE_FRAMES, n % FILE_FRAMES * FRAME_BYTES as u64, vec![1; FRAME_BYTES].into());
            frames.evict(BYTES_MAX);
            let at = behind.and_then(|behind| n.checked_sub(behind));
            hits += u64::from(at.is_some_and(|at| frames.find(spot(at)).is_some()));
        }
        hits
    }

    #[test]
    fn without_readers_little_is_kept() {
        let mut frames = Frames::default();
        write(&mut frames, 0, 100, None);
        assert_eq!(frames.held_bytes, KEPT_BYTES_MIN);
        assert!(frames.find(spot(99)).is_some() && frames.find(spot(80)).is_none());
    }

    #[test]
    fn a_reader_that_keeps_its_distance_is_soon_served_from_memory_and_forgotten_when_it_left() {
        let mut frames = Frames::default();
        write(&mut frames, 0, 100, None);
        // Some misses, until so much was written.
        let hits = write(&mut frames, 100, 200, Some(20));
        assert!((70..90).contains(&hits), "{hits}");
        assert!(frames.held_bytes <= 28 << 20, "{}", frames.held_bytes);
        assert_eq!(write(&mut frames, 200, 300, Some(20)), 100);
        write(&mut frames, 300, 400, None);
        assert_eq!(frames.held_bytes, KEPT_BYTES_MIN);
    }

    #[test]
    fn no_more_is_kept_than_the_setting_and_nothing_for_what_is_farther_away() {
        let mut frames = Frames::default();
        assert!(write(&mut frames, 0, 200, Some(46)) > 50);
        assert_eq!(frames.held_bytes, BYTES_MAX);
        frames.keep(0);
        assert!(frames.held.is_empty() && frames.find(spot(199)).is_none());
        for far in [60, 150] {
            let mut frames = Frames::default();
            assert_eq!(write(&mut frames, 0, 300, Some(far)), 0);
            assert_eq!(frames.held_bytes, KEPT_BYTES_MIN);
        }
    }

    #[test]
    fn a_reader_that_passes_through_what_is_old_leaves_nothing_behind() {
        let mut frames = Frames::default();
        write(&mut frames, 0, 100, None);
        for at in 40..100 {
            frames.find(spot(at));
        }
        write(&mut frames, 100, 104, None);
        assert!(frames.held_bytes <= KEPT_BYTES_MIN);
    }
}
