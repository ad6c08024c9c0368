//! Reading and writing the little-endian bytes of rows, effects and attrs. Wrong bytes are an error, never a panic.
//!
//! Start at [`Dec`]. Writing is pushing onto a `Vec<u8>` with [`Enc`].

use thiserror::Error;

/// Bytes that are not what was expected.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DecodeError {
    /// They end too early.
    #[error("the bytes end too early")]
    Short,
    /// There are more of them.
    #[error("{left} bytes too many")]
    Long {
        /// How many.
        left: usize,
    },
    /// A later program wrote them.
    #[error("version {found} is newer than {known}")]
    Version {
        /// The version found.
        found: u8,
        /// The newest version known.
        known: u8,
    },
    /// A value that none may have.
    #[error("{what} is out of range")]
    Value {
        /// Which.
        what: &'static str,
    },
}

/// Takes values off the front of a slice.
#[derive(Clone, Debug)]
pub struct Dec<'a> {
    left: &'a [u8],
}

impl<'a> Dec<'a> {
    /// Reads from the front of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { left: bytes }
    }

    /// The next `n` bytes.
    ///
    /// # Errors
    /// [`DecodeError::Short`].
    pub fn bytes(&mut self, n: usize) -> Result<&'a [u8], DecodeError> {
        let (head, tail) = self.left.split_at_checked(n).ok_or(DecodeError::Short)?;
        self.left = tail;
        Ok(head)
    }

    /// So many bytes.
    ///
    /// # Errors
    /// If there are fewer.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, tail) = self.left.split_first_chunk::<N>().ok_or(DecodeError::Short)?;
        self.left = tail;
        Ok(*head)
    }

    /// The next byte.
    ///
    /// # Errors
    /// [`DecodeError::Short`].
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    /// The next number of 2 bytes.
    ///
    /// # Errors
    /// [`DecodeError::Short`].
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    /// The next number of 4 bytes.
    ///
    /// # Errors
    /// [`DecodeError::Short`].
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// The next number of 8 bytes.
    ///
    /// # Errors
    /// [`DecodeError::Short`].
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// The next signed number of 2 bytes.
    ///
    /// # Errors
    /// [`DecodeError::Short`].
    pub fn i16(&mut self) -> Result<i16, DecodeError> {
        Ok(i16::from_le_bytes(self.array()?))
    }

    /// The next signed number of 4 bytes.
    ///
    /// # Errors
    /// [`DecodeError::Short`].
    pub fn i32(&mut self) -> Result<i32, DecodeError> {
        Ok(i32::from_le_bytes(self.array()?))
    }

    /// The next signed number of 8 bytes.
    ///
    /// # Errors
    /// [`DecodeError::Short`].
    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    /// A number of 4 bytes that says how many items follow, each of at least `least` bytes: never more than can follow.
    ///
    /// # Errors
    /// [`DecodeError::Short`].
    pub fn len(&mut self, least: usize) -> Result<usize, DecodeError> {
        let n = usize::try_from(self.u32()?).map_err(|_| DecodeError::Short)?;
        if n > self.left.len() / least.max(1) { Err(DecodeError::Short) } else { Ok(n) }
    }

    /// Bytes behind their length (4 bytes).
    ///
    /// # Errors
    /// [`DecodeError::Short`].
    pub fn blob(&mut self) -> Result<&'a [u8], DecodeError> {
        let n = self.len(1)?;
        self.bytes(n)
    }

    /// Text behind its length (4 bytes).
    ///
    /// # Errors
    /// [`DecodeError::Short`]; [`DecodeError::Value`] if it is not UTF-8.
    pub fn text(&mut self) -> Result<&'a str, DecodeError> {
        std::str::from_utf8(self.blob()?).map_err(|_| DecodeError::Value { what: "text" })
    }

    /// A version byte, 1 to `known`.
    ///
    /// # Errors
    /// [`DecodeError::Version`], [`DecodeError::Value`] for 0, [`DecodeError::Short`].
    pub fn version(&mut self, known: u8) -> Result<u8, DecodeError> {
        match self.u8()? {
            0 => Err(DecodeError::Value { what: "version" }),
            v if v > known => Err(DecodeError::Version { found: v, known }),
            v => Ok(v),
        }
    }

    /// What is left.
    #[must_use]
    pub fn rest(self) -> &'a [u8] {
        self.left
    }

    /// Whether nothing is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    /// Nothing may be left.
    ///
    /// # Errors
    /// [`DecodeError::Long`].
    pub fn end(self) -> Result<(), DecodeError> {
        if self.left.is_empty() { Ok(()) } else { Err(DecodeError::Long { left: self.left.len() }) }
    }
}

/// Pushes values onto bytes; the counterpart of [`Dec`].
pub trait Enc {
    /// A number of one byte.
    fn u8(&mut self, v: u8);
    /// A number of 2 bytes.
    fn u16(&mut self, v: u16);
    /// A number of 4 bytes.
    fn u32(&mut self, v: u32);
    /// A number of 8 bytes.
    fn u64(&mut self, v: u64);
    /// A signed number of 2 bytes.
    fn i16(&mut self, v: i16);
    /// A signed number of 4 bytes.
    fn i32(&mut self, v: i32);
    /// A signed number of 8 bytes.
    fn i64(&mut self, v: i64);
    /// How many items follow.
    ///
    /// # Panics
    /// If there are 2^32 or more: limits of our own keep far below.
    fn len_u32(&mut self, n: usize);
    /// Bytes behind their length.
    fn blob(&mut self, v: &[u8]);
}

impl Enc for Vec<u8> {
    fn u8(&mut self, v: u8) {
        self.push(v);
    }
    fn u16(&mut self, v: u16) {
        self.extend_from_slice(&v.to_le_bytes());
    }
    fn u32(&mut self, v: u32) {
        self.extend_from_slice(&v.to_le_bytes());
    }
    fn u64(&mut self, v: u64) {
        self.extend_from_slice(&v.to_le_bytes());
    }
    fn i16(&mut self, v: i16) {
        self.extend_from_slice(&v.to_le_bytes());
    }
    fn i32(&mut self, v: i32) {
        self.extend_from_slice(&v.to_le_bytes());
    }
    fn i64(&mut self, v: i64) {
        self.extend_from_slice(&v.to_le_bytes());
    }
    fn len_u32(&mut self, n: usize) {
        self.u32(u32::try_from(n).expect("rows and effects are far below 4 GiB"));
    }
    fn blob(&mut self, v: &[u8]) {
        self.len_u32(v.len());
        self.extend_from_slice(v);
    }
}
