//! Rot: a bit of a frame that turns over on a simulated disk, in the cache and on the medium.

use std::sync::Arc;

use millstream_env::Disk;
use millstream_env::sim::SimDisk;

const DIR: &str = "seg";
/// Frames begin at multiples of this.
const BLOCK_BYTES: usize = 4096;
const HEADER_BYTES: u64 = 64;
/// Half of the rot hits one of so many newest frames: whether those can be told from a tear is the question.
const NEWEST: u64 = 4;

/// A frame on the disk; the order is that of writing.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Found {
    lap: u64,
    number: u32,
    path: String,
    offset: u64,
    /// Header and payload, without the padding.
    len: u64,
}

fn frames(disk: &SimDisk) -> Vec<Found> {
    let mut found = Vec::new();
    for name in disk.list(DIR).unwrap_or_default() {
        let path = format!("{DIR}/{name}");
        let Ok(bytes) = disk.contents(&path) else { continue };
        for (n, block) in bytes.chunks(BLOCK_BYTES).enumerate().filter(|(_, b)| b.starts_with(b"MFR1")) {
            let u32_at = |at: usize| u32::from_le_bytes(block[at..at + 4].try_into().unwrap());
            let lap = u64::from_le_bytes(block[16..24].try_into().unwrap());
            let len = HEADER_BYTES + u64::from(u32_at(8));
            let offset = n as u64 * BLOCK_BYTES as u64;
            found.push(Found { lap, number: u32_at(52), path: path.clone(), offset, len });
        }
    }
    found.sort_unstable();
    found
}

/// Flips one bit of one frame, chosen by a random number; gives what flips it back. `None`: there is no frame.
pub(crate) fn flip(disk: &Arc<SimDisk>, random: u64) -> Option<Box<dyn FnOnce()>> {
    let all = frames(disk);
    let back =
        if random.is_multiple_of(2) { random / 2 % NEWEST } else { random / 2 % all.len().max(1) as u64 };
    let frame = all.iter().rev().nth(usize::try_from(back).unwrap()).or(all.last())?;
    let offset = frame.offset + (random >> 32) % frame.len;
    let bit = 1 << (random >> 24 & 7);
    disk.corrupt(&frame.path, offset, bit).ok()?;
    let (disk, path) = (Arc::clone(disk), frame.path.clone());
    Some(Box::new(move || disk.corrupt(&path, offset, bit).unwrap()))
}
