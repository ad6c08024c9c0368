//! Big-endian values off the front of bytes, sharing them.

use bytes::{Buf, Bytes};

use crate::error::CodecError;

/// Reads one part; errors name it.
#[derive(Clone, Debug)]
pub(crate) struct Cursor {
    left: Bytes,
    what: &'static str,
}

impl Cursor {
    pub(crate) fn new(bytes: Bytes, what: &'static str) -> Self {
        Self { left: bytes, what }
    }
    fn short(&self) -> CodecError {
        CodecError::Short { what: self.what }
    }
    pub(crate) fn left(&self) -> usize {
        self.left.len()
    }
    pub(crate) fn rest(self) -> Bytes {
        self.left
    }
    pub(crate) fn bytes(&mut self, n: usize) -> Result<Bytes, CodecError> {
        if n > self.left.len() { Err(self.short()) } else { Ok(self.left.split_to(n)) }
    }
    pub(crate) fn u8(&mut self) -> Result<u8, CodecError> {
        self.left.try_get_u8().map_err(|_| self.short())
    }
    pub(crate) fn u16(&mut self) -> Result<u16, CodecError> {
        self.left.try_get_u16().map_err(|_| self.short())
    }
    pub(crate) fn u32(&mut self) -> Result<u32, CodecError> {
        self.left.try_get_u32().map_err(|_| self.short())
    }
    pub(crate) fn u64(&mut self) -> Result<u64, CodecError> {
        self.left.try_get_u64().map_err(|_| self.short())
    }
    /// Bytes behind their length in one octet.
    pub(crate) fn short_bytes(&mut self) -> Result<Bytes, CodecError> {
        let n = usize::from(self.u8()?);
        self.bytes(n)
    }
    /// Bytes behind their length in four octets.
    pub(crate) fn long_bytes(&mut self) -> Result<Bytes, CodecError> {
        let n = usize::try_from(self.u32()?).map_err(|_| self.short())?;
        self.bytes(n)
    }
    /// Nothing may be left.
    pub(crate) fn end(self) -> Result<(), CodecError> {
        match self.left.len() {
            0 => Ok(()),
            bytes => Err(CodecError::Long { what: self.what, bytes }),
        }
    }
}
