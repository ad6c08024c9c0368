//! Little-endian numbers and varints in byte slices. Bytes from the disk never panic here: reading past the end is `None`.

/// Most bytes of a varint.
pub(crate) const VARINT_BYTES_MAX: usize = 10;

/// Reads a fixed array at an offset.
pub(crate) fn array_at<const N: usize>(b: &[u8], at: usize) -> Option<[u8; N]> {
    b.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// Reads a `u16`.
pub(crate) fn u16_at(b: &[u8], at: usize) -> Option<u16> {
    array_at(b, at).map(u16::from_le_bytes)
}

/// Reads a `u32`.
pub(crate) fn u32_at(b: &[u8], at: usize) -> Option<u32> {
    array_at(b, at).map(u32::from_le_bytes)
}

/// Reads a `u64`.
pub(crate) fn u64_at(b: &[u8], at: usize) -> Option<u64> {
    array_at(b, at).map(u64::from_le_bytes)
}

/// Overwrites bytes at an offset.
///
/// # Panics
/// If they do not fit: a broken invariant of the encoder.
pub(crate) fn put(b: &mut [u8], at: usize, bytes: &[u8]) {
    b.get_mut(at..at + bytes.len()).expect("the encoder made room").copy_from_slice(bytes);
}

/// Encodes a varint (LEB128) into a small array; gives it and its length.
pub(crate) fn varint(mut v: u64) -> ([u8; VARINT_BYTES_MAX], usize) {
    let mut out = [0; VARINT_BYTES_MAX];
    let mut n = 0;
    for slot in &mut out {
        let low = u8::try_from(v & 0x7f).unwrap_or(0x7f);
        v >>= 7;
        n += 1;
        *slot = if v == 0 { low } else { low | 0x80 };
        if v == 0 {
            break;
        }
    }
    (out, n)
}

/// Bytes that [`varint`] needs, 1 to [`VARINT_BYTES_MAX`].
pub(crate) fn varint_len(v: u64) -> usize {
    (70 - (v | 1).leading_zeros() as usize) / 7
}

/// Takes a varint off the front.
pub(crate) fn take_varint(b: &mut &[u8]) -> Option<u64> {
    let mut v = 0u64;
    for i in 0..VARINT_BYTES_MAX {
        let byte = *b.get(i)?;
        let low = u64::from(byte & 0x7f);
        let shift = 7 * i;
        if shift == 63 && low > 1 {
            return None;
        }
        v |= low << shift;
        if byte & 0x80 == 0 {
            *b = b.get(i + 1..)?;
            return Some(v);
        }
    }
    None
}

/// Takes `n` bytes off the front.
pub(crate) fn take<'a>(b: &mut &'a [u8], n: usize) -> Option<&'a [u8]> {
    let (head, rest) = b.split_at_checked(n)?;
    *b = rest;
    Some(head)
}

/// The next multiple of 8.
pub(crate) const fn align8(n: usize) -> usize {
    (n + 7) & !7
}

/// The next multiple of 4 KiB.
pub(crate) const fn align4k(n: usize) -> usize {
    (n + 4095) & !4095
}

/// A length as `u32`.
///
/// # Panics
/// If it does not fit: sizes here are bounded by limits far below.
pub(crate) fn len32(n: usize) -> u32 {
    u32::try_from(n).expect("lengths are bounded below 4 GiB")
}

/// A length as `u64`.
pub(crate) fn len64(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

/// A file offset or length as `usize`.
///
/// # Panics
/// On machines with less than 64 bits, if it does not fit.
pub(crate) fn size(n: u64) -> usize {
    usize::try_from(n).expect("segment files fit the address space")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_round_trip_with_the_length_foretold() {
        for shift in 0..64 {
            for v in [(1u64 << shift) - 1, 1 << shift, (1 << shift) + 1] {
                let (bytes, n) = varint(v);
                assert_eq!(n, varint_len(v), "{v}");
                let mut b = &bytes[..n];
                assert_eq!(take_varint(&mut b), Some(v));
                assert!(b.is_empty());
                assert_eq!(take_varint(&mut &bytes[..n - 1]), None);
            }
        }
        assert_eq!(varint(u64::MAX).1, VARINT_BYTES_MAX);
        assert_eq!(take_varint(&mut [0xff; 10].as_slice()), None);
    }
}
