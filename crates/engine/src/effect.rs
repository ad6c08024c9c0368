//! An effect on its way into a record.

use millstream_log::Op;

/// What happens to one row: the row's key and the effect's bytes, as the row's family reads them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowEffect {
    /// Key of the row, family byte first.
    pub key: Vec<u8>,
    /// The effect, version byte first.
    pub bytes: Vec<u8>,
}

impl RowEffect {
    /// As an operation of a record.
    #[must_use]
    pub fn op(&self) -> Op<'_> {
        Op::Effect { object: &self.key, bytes: &self.bytes }
    }
    /// An upper bound of its bytes in a record.
    #[must_use]
    pub fn bytes_bound(&self) -> usize {
        self.key.len() + self.bytes.len() + OP_OVERHEAD_BYTES
    }
}

/// More than the log adds to any operation (kind, lengths, positions).
pub const OP_OVERHEAD_BYTES: usize = 64;
/// More than the log adds to a record.
pub const RECORD_OVERHEAD_BYTES: usize = 64;
