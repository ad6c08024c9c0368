//! Small values at some of many places, such as positions: each takes its own bytes and little more, whether places are neighbours or not.
//!
//! Start at [`Blocks`]. Places are taken 64 by 64. A block knows by a bit each which of its places are taken, and has the values of these
//! one behind the other: so neighbours share all that finds them, nothing is allocated for a value alone, and what goes in the middle
//! moves 63 others at most. [`ChunkBlocks`] is the same for the places of one chunk.

use std::collections::BTreeMap;

/// Places of a block.
pub(crate) const BLOCK: u64 = 64;
/// Room for so many values beyond those that are there is given back.
const ROOM_MAX: usize = 16;
/// Room for so many values is kept.
const ROOM_MIN: usize = 4;

/// The block that a place is in, and which of its places it is.
pub(crate) fn split(at: u64) -> (u64, u8) {
    (at / BLOCK, u8::try_from(at % BLOCK).unwrap_or(0))
}

/// Bits `first..=last`, both below 64.
fn bits(first: u8, last: u8) -> u64 {
    (u64::MAX << (first & 63)) & (u64::MAX >> (63 - (last & 63)))
}

/// The lowest bit set of a word that is not 0.
fn lowest(word: u64) -> u8 {
    u8::try_from(word.trailing_zeros()).unwrap_or(63)
}

/// Values at some of 64 places, by numbers below 64.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Block<T> {
    taken: u64,
    /// Of the places that are taken, ascending.
    values: Vec<T>,
}

impl<T: Copy> Block<T> {
    fn in_room(values: Vec<T>) -> Self {
        Self { taken: 0, values }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.taken == 0
    }

    fn has(&self, at: u8) -> bool {
        self.taken & bits(at, at) != 0
    }

    /// How many places before this one are taken.
    fn rank(&self, at: u8) -> usize {
        (self.taken & !(u64::MAX << (at & 63))).count_ones() as usize
    }

    pub(crate) fn get(&self, at: u8) -> Option<&T> {
        if self.has(at) { self.values.get(self.rank(at)) } else { None }
    }

    fn get_mut(&mut self, at: u8) -> Option<&mut T> {
        if !self.has(at) {
            return None;
        }
        let rank = self.rank(at);
        self.values.get_mut(rank)
    }

    /// The value that was there before.
    pub(crate) fn insert(&mut self, at: u8, value: T) -> Option<T> {
        let rank = self.rank(at);
        if self.has(at) {
            return self.values.get_mut(rank).map(|v| std::mem::replace(v, value));
        }
        self.taken |= bits(at, at);
        self.values.insert(rank, value);
        None
    }

    pub(crate) fn remove(&mut self, at: u8) -> Option<T> {
        if !self.has(at) {
            return None;
        }
        let rank = self.rank(at);
        self.taken &= !bits(at, at);
        let value = self.values.remove(rank);
        self.give_room_back();
        Some(value)
    }

    /// Everything at `first..=last` goes; how many that were.
    fn remove_run(&mut self, first: u8, last: u8) -> usize {
        let gone = self.taken & bits(first, last);
        let n = gone.count_ones() as usize;
        if n > 0 {
            let rank = self.rank(first);
            self.taken &= !gone;
            self.values.drain(rank..rank + n);
            self.give_room_back();
        }
        n
    }

    /// An allocator does not make a block of memory a little smaller where it is: what stays is moved.
    fn give_room_back(&mut self) {
        let (len, room) = (self.values.len(), self.values.capacity());
        if len > 0 && room > ROOM_MIN && (room - len >= ROOM_MAX || len * 2 <= room) {
            let mut values = Vec::with_capacity(len.max(ROOM_MIN));
            values.extend_from_slice(&self.values);
            self.values = values;
        }
    }

    fn first(&self) -> Option<(u8, &T)> {
        let at = (self.taken != 0).then(|| lowest(self.taken))?;
        self.values.first().map(|v| (at, v))
    }

    fn last(&self) -> Option<(u8, &T)> {
        let at = 63_u8.checked_sub(u8::try_from(self.taken.leading_zeros()).unwrap_or(64))?;
        self.values.last().map(|v| (at, v))
    }

    /// Places that are taken, with their values, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u8, &T)> {
        self.from(0)
    }

    /// The same from a place on.
    fn from(&self, at: u8) -> impl Iterator<Item = (u8, &T)> {
        let mut left = self.taken & bits(at, 63);
        let values = self.values.get(self.rank(at)..).unwrap_or_default();
        values.iter().map_while(move |value| {
            let at = (left != 0).then(|| lowest(left))?;
            left &= left - 1;
            Some((at, value))
        })
    }
}

/// Values at some of many places.
#[derive(Debug)]
pub(crate) struct Blocks<T> {
    all: BTreeMap<u64, Block<T>>,
    /// Room for the next block's values: where few are there at a time, blocks come and go.
    room: Vec<T>,
}

impl<T> Default for Blocks<T> {
    fn default() -> Self {
        Self { all: BTreeMap::new(), room: Vec::new() }
    }
}

impl<T: Copy> Blocks<T> {
    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(crate) fn has(&self, at: u64) -> bool {
        let (block, at) = split(at);
        self.all.get(&block).is_some_and(|b| b.has(at))
    }

    pub(crate) fn get(&self, at: u64) -> Option<&T> {
        let (block, at) = split(at);
        self.all.get(&block)?.get(at)
    }

    pub(crate) fn get_mut(&mut self, at: u64) -> Option<&mut T> {
        let (block, at) = split(at);
        self.all.get_mut(&block)?.get_mut(at)
    }

    /// The value that was there before.
    pub(crate) fn insert(&mut self, at: u64, value: T) -> Option<T> {
        let (block, at) = split(at);
        let room = &mut self.room;
        let block = self.all.entry(block).or_insert_with(|| Block::in_room(std::mem::take(room)));
        block.insert(at, value)
    }

    pub(crate) fn remove(&mut self, at: u64) -> Option<T> {
        let (number, at) = split(at);
        let block = self.all.get_mut(&number)?;
        let value = block.remove(at)?;
        if block.is_empty()
            && let Some(block) = self.all.remove(&number)
        {
            self.room = block.values;
        }
        Some(value)
    }

    /// The lowest place that is taken.
    pub(crate) fn first(&self) -> Option<(u64, &T)> {
        let (number, block) = self.all.first_key_value()?;
        block.first().map(|(at, value)| (number * BLOCK + u64::from(at), value))
    }

    /// The highest place that is taken.
    pub(crate) fn last(&self) -> Option<(u64, &T)> {
        let (number, block) = self.all.last_key_value()?;
        block.last().map(|(at, value)| (number * BLOCK + u64::from(at), value))
    }

    /// Places that are taken, with their values, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        self.from(0)
    }

    /// The same from a place on.
    pub(crate) fn from(&self, at: u64) -> impl Iterator<Item = (u64, &T)> {
        let (first, at) = split(at);
        self.all.range(first..).flat_map(move |(number, block)| {
            let at = if *number == first { at } else { 0 };
            block.from(at).map(move |(at, value)| (number * BLOCK + u64::from(at), value))
        })
    }
}

/// Values at some of the places of a chunk, by their offsets in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChunkBlocks<T> {
    /// Ascending by their numbers; none is empty.
    all: Vec<(u16, Block<T>)>,
}

impl<T> Default for ChunkBlocks<T> {
    fn default() -> Self {
        Self { all: Vec::new() }
    }
}

/// The block of a chunk that a place is in, and which of its places it is.
fn split_in_chunk(at: u16) -> (u16, u8) {
    (at / 64, u8::try_from(at % 64).unwrap_or(0))
}

impl<T: Copy> ChunkBlocks<T> {
    fn find(&self, number: u16) -> Result<usize, usize> {
        match self.all.last() {
            Some((last, _)) if *last < number => Err(self.all.len()),
            Some((last, _)) if *last == number => Ok(self.all.len() - 1),
            _ => self.all.binary_search_by_key(&number, |b| b.0),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.all.iter().map(|b| b.1.values.len()).sum()
    }

    pub(crate) fn get(&self, at: u16) -> Option<&T> {
        let (number, at) = split_in_chunk(at);
        self.all.get(self.find(number).ok()?)?.1.get(at)
    }

    /// The value that was there before.
    pub(crate) fn insert(&mut self, at: u16, value: T) -> Option<T> {
        let (number, at) = split_in_chunk(at);
        let i = self.find(number).unwrap_or_else(|i| {
            self.all.insert(i, (number, Block::in_room(Vec::new())));
            i
        });
        self.all.get_mut(i)?.1.insert(at, value)
    }

    pub(crate) fn remove(&mut self, at: u16) -> Option<T> {
        let (number, at) = split_in_chunk(at);
        let i = self.find(number).ok()?;
        let value = self.all.get_mut(i)?.1.remove(at);
        self.forget_if_empty(i);
        value
    }

    /// Everything at `first..=last` goes.
    pub(crate) fn remove_run(&mut self, first: u16, last: u16) {
        let ((first, from), (last, to)) = (split_in_chunk(first), split_in_chunk(last));
        let mut i = self.find(first).unwrap_or_else(|i| i);
        while let Some((number, block)) = self.all.get_mut(i).filter(|b| b.0 <= last) {
            let from = if *number == first { from } else { 0 };
            let to = if *number == last { to } else { 63 };
            block.remove_run(from, to);
            if !self.forget_if_empty(i) {
                i += 1;
            }
        }
    }

    fn forget_if_empty(&mut self, i: usize) -> bool {
        let empty = self.all.get(i).is_some_and(|b| b.1.is_empty());
        if empty {
            self.all.remove(i);
        }
        empty
    }

    /// The highest place that is taken.
    pub(crate) fn last(&self) -> Option<u16> {
        let (number, block) = self.all.last()?;
        block.last().map(|(at, _)| number * 64 + u16::from(at))
    }

    /// Places that are taken, with their values, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u16, &T)> {
        self.all.iter().flat_map(|(number, block)| {
            block.iter().map(move |(at, value)| (number * 64 + u16::from(at), value))
        })
    }
}

/// A number below 2^48, in 6 bytes: what is larger becomes the largest. As milliseconds since the epoch it lasts for 8,900 years.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct U48([u8; 6]);

/// The largest [`U48`].
pub(crate) const U48_MAX: u64 = (1 << 48) - 1;

impl U48 {
    pub(crate) fn of(n: u64) -> Self {
        let [low @ .., _, _] = n.min(U48_MAX).to_le_bytes();
        Self(low)
    }
    pub(crate) fn get(self) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|i| self.0.get(i).copied().unwrap_or(0)))
    }
    /// The largest stands for the largest of all.
    pub(crate) fn get_or_max(self) -> u64 {
        Some(self.get()).filter(|n| *n < U48_MAX).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests;
