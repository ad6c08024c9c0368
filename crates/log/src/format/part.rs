//! Record parts: the stretch of a commit record that lies in one frame. Its last part commits it.

use bytes::BytesMut;

use super::bytes::{align8, array_at, put, size, take, u16_at, u32_at, u64_at};

/// Bytes of a part header.
pub(crate) const PART_HEADER_BYTES: usize = 24;
/// Version written.
pub(crate) const PART_VERSION: u8 = 1;

/// Which stretch of its record a part is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PartKind {
    /// All of it.
    Whole,
    /// The first; more follow in later frames.
    First,
    /// Neither first nor last.
    Middle,
    /// The last.
    Last,
}

impl PartKind {
    /// From whether it begins and ends its record.
    pub(crate) fn new(begins: bool, ends: bool) -> Self {
        match (begins, ends) {
            (true, true) => Self::Whole,
            (true, false) => Self::First,
            (false, false) => Self::Middle,
            (false, true) => Self::Last,
        }
    }

    /// Whether a record begins with it.
    pub(crate) fn begins(self) -> bool {
        matches!(self, Self::Whole | Self::First)
    }

    /// Whether a record ends with it.
    pub(crate) fn ends(self) -> bool {
        matches!(self, Self::Whole | Self::Last)
    }

    fn code(self) -> u8 {
        match self {
            Self::Whole => 1,
            Self::First => 2,
            Self::Middle => 3,
            Self::Last => 4,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Whole,
            2 => Self::First,
            3 => Self::Middle,
            4 => Self::Last,
            _ => return None,
        })
    }
}

/// Header of a part: `len u32, kind u8, version u8, flags u16, lsn u64, total_len u32, n_ops u32`, at a multiple of 8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PartHeader {
    /// Bytes of operations that follow, a multiple of 8.
    pub len: u32,
    /// Which stretch.
    pub kind: PartKind,
    /// Of what record.
    pub lsn: u64,
    /// Bytes of operations of the whole record.
    pub total_len: u32,
    /// Operations in this part.
    pub n_ops: u32,
}

impl PartHeader {
    /// Appends the header.
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        let mut b = [0; PART_HEADER_BYTES];
        put(&mut b, 0, &self.len.to_le_bytes());
        put(&mut b, 4, &[self.kind.code(), PART_VERSION]);
        put(&mut b, 8, &self.lsn.to_le_bytes());
        put(&mut b, 16, &self.total_len.to_le_bytes());
        put(&mut b, 20, &self.n_ops.to_le_bytes());
        out.extend_from_slice(&b);
    }

    /// Takes a part off the front of a payload: its header and its operations.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(crate) fn take<'a>(payload: &mut &'a [u8]) -> Result<(Self, &'a [u8]), &'static str> {
        let b = take(payload, PART_HEADER_BYTES).ok_or("a record part is cut short")?;
        let read = || {
            let [kind, version] = array_at(b, 4)?;
            let known = version == PART_VERSION && u16_at(b, 6)? == 0;
            known.then_some(())?;
            Some(Self {
                len: u32_at(b, 0)?,
                kind: PartKind::from_code(kind)?,
                lsn: u64_at(b, 8)?,
                total_len: u32_at(b, 16)?,
                n_ops: u32_at(b, 20)?,
            })
        };
        let header = read().ok_or("a record part is of an unknown kind or version")?;
        let len = size(u64::from(header.len));
        if len != align8(len) {
            return Err("a record part is not aligned");
        }
        let ops = take(payload, len).ok_or("a record part is longer than its frame")?;
        Ok((header, ops))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_round_trip_and_bad_ones_are_errors() {
        for kind in [PartKind::Whole, PartKind::First, PartKind::Middle, PartKind::Last] {
            assert_eq!(PartKind::new(kind.begins(), kind.ends()), kind);
            let header = PartHeader { len: 8, kind, lsn: 5, total_len: 16, n_ops: 1 };
            let mut buf = BytesMut::with_capacity(4096);
            header.encode(&mut buf);
            buf.extend_from_slice(b"12345678");
            let mut rest = &buf[..];
            assert_eq!(PartHeader::take(&mut rest), Ok((header, b"12345678".as_slice())));
            assert!(rest.is_empty());
            assert!(PartHeader::take(&mut &buf[..31]).is_err());
            assert!(PartHeader::take(&mut &buf[..20]).is_err());
            buf[4] = 9;
            assert!(PartHeader::take(&mut &buf[..]).is_err());
        }
    }
}
