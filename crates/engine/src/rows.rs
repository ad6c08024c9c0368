//! Rows of engine state: how their keys and values are written.
//!
//! A key is its [family](family) byte and then fixed-width **big-endian** numbers, parents first, so that a scan of a parent's
//! key as prefix gives its children; text of varying length comes last (or behind its length where something follows). The order of
//! the encoded bytes is the order of the key type ([`RowKey`]: `Ord`). A value begins with a version byte and is **little-endian**
//! ([`crate::codec`]). An effect's object is the row's key, its bytes begin with a version byte of their own.
//!
//! Start at [`RowKey`] and [`RowValue`]; [`crate::table::Table`] keeps the rows of one family.

pub mod bind;
pub mod cat;
pub mod exchange;
pub mod id;
pub mod name;
pub mod part;
pub mod prod;
pub mod task;
pub(crate) mod whole;

use std::fmt::Debug;

use crate::codec::DecodeError;

/// First byte of a row's key.
pub mod family {
    /// Counters that give ids. See [`super::id`].
    pub const ID: u8 = 0x01;
    /// Topics (later queues and exchanges). See [`super::cat`].
    pub const CAT: u8 = 0x02;
    /// Exchanges. See [`super::exchange`].
    pub const EXCHANGE: u8 = 0x03;
    /// Bindings. See [`super::bind`].
    pub const BIND: u8 = 0x04;
    /// Definitions of queues. See [`crate::queue::rows::def`].
    pub const QUEUE: u8 = 0x05;
    /// Partitions. See [`super::part`].
    pub const PART: u8 = 0x10;
    /// Producers of a partition. See [`super::prod`].
    pub const PROD: u8 = 0x11;
    /// Consumer groups.
    pub const GROUP: u8 = 0x20;
    /// Members of a group.
    pub const MEMBER: u8 = 0x21;
    /// Offsets committed for a group.
    pub const OFFSET: u8 = 0x22;
    /// Heads of queues. See [`crate::queue::rows::head`].
    pub const HEAD: u8 = 0x30;
    /// Chunks of queues. See [`crate::queue::rows::chunk`].
    pub const CHUNK: u8 = 0x31;
    /// Delays of queues. See [`crate::queue::rows::due`].
    pub const DUE: u8 = 0x32;
    /// Ids of messages published lately. See [`crate::queue::rows::ids`].
    pub const IDS: u8 = 0x33;
    /// Tasks. See [`super::task`].
    pub const TASK: u8 = 0x40;
}

/// Key of a row.
pub trait RowKey: Clone + Ord + Debug {
    /// The family's byte, first of the encoded key.
    const FAMILY: u8;
    /// Writes what follows the family byte. Ordered as the type is.
    fn put(&self, out: &mut Vec<u8>);
    /// Reads what follows the family byte, all of it.
    ///
    /// # Errors
    /// If it is not what `put` writes.
    fn take(bytes: &[u8]) -> Result<Self, DecodeError>;
    /// Whether it names a transient queue: only memory has the row.
    fn is_transient(&self) -> bool {
        false
    }

    /// The whole key.
    fn encode(&self) -> Vec<u8> {
        let mut out = vec![Self::FAMILY];
        self.put(&mut out);
        out
    }

    /// From the whole key.
    ///
    /// # Errors
    /// If the family is another one, or as [`RowKey::take`].
    fn decode(key: &[u8]) -> Result<Self, DecodeError> {
        match key.split_first() {
            Some((f, rest)) if *f == Self::FAMILY => Self::take(rest),
            _ => Err(DecodeError::Value { what: "row family" }),
        }
    }
}

/// Value of a row.
pub trait RowValue: Debug {
    /// Writes it, version byte first.
    fn put(&self, out: &mut Vec<u8>);
    /// Reads it, all of it.
    ///
    /// # Errors
    /// If it is not what `put` writes, or from a later version.
    fn take(bytes: &[u8]) -> Result<Self, DecodeError>
    where
        Self: Sized;
}

/// Big-endian numbers of a key, off the front.
#[derive(Debug)]
pub struct KeyDec<'a>(pub &'a [u8]);

impl<'a> KeyDec<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, tail) = self.0.split_first_chunk::<N>().ok_or(DecodeError::Short)?;
        self.0 = tail;
        Ok(*head)
    }

    /// One byte.
    ///
    /// # Errors
    /// [`DecodeError::Short`].
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    /// 2 bytes.
    ///
    /// # Errors
    /// [`DecodeError::Short`].
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    /// 4 bytes.
    ///
    /// # Errors
    /// [`DecodeError::Short`].
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    /// 8 bytes.
    ///
    /// # Errors
    /// [`DecodeError::Short`].
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// The rest, as text.
    ///
    /// # Errors
    /// [`DecodeError::Value`] if it is not UTF-8.
    pub fn text(self) -> Result<&'a str, DecodeError> {
        std::str::from_utf8(self.0).map_err(|_| DecodeError::Value { what: "text" })
    }

    /// Nothing may be left.
    ///
    /// # Errors
    /// [`DecodeError::Long`].
    pub fn end(self) -> Result<(), DecodeError> {
        if self.0.is_empty() { Ok(()) } else { Err(DecodeError::Long { left: self.0.len() }) }
    }
}
