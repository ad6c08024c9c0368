//! An effect on its way into a record.

use millstream_log::Op;

/// What happens to one row: the row's key and the effect's bytes, as the row's family reads them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowEffect {
    /// Key of the row, family byte first.
    pub key: Vec<u8>,
    /// The effect, version byte first.
    pub bytes: Vec<u8>,
    /// Only memory has it: the row is of a transient queue, and goes with the process.
    pub transient: bool,
}

impl RowEffect {
    /// On a row that the state store has too.
    #[must_use]
    pub fn new(key: Vec<u8>, bytes: Vec<u8>) -> Self {
        Self { key, bytes, transient: false }
    }
    /// The same, on a row that only memory has if `transient` says so.
    #[must_use]
    pub fn in_memory(self, transient: bool) -> Self {
        Self { transient, ..self }
    }
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
