//! Conversions between the protocol's signed numbers and ours, saturating where the other side cannot hold the value.

/// A length as the protocol's `int32`.
pub(crate) fn i32_of(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

/// An index or a count as the protocol's `int32`.
pub(crate) fn i32_of_u32(n: u32) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

/// An offset as the protocol's `int64`.
pub(crate) fn i64_of(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// A limit of the protocol's as ours: negative is none at all.
pub(crate) fn usize_of(n: i32) -> usize {
    usize::try_from(n).unwrap_or(0)
}
