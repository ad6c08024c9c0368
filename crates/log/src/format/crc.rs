//! CRC-32C (Castagnoli), the checksum of everything on disk: one place to replace the library.

use crc_fast::{CrcAlgorithm, Digest, checksum};

/// Up to so many bytes tables are faster than the library, which is made for long stretches.
const SHORT_BYTES_MAX: usize = 64;

/// The checksum of `bytes`.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    if bytes.len() <= SHORT_BYTES_MAX {
        return short(0, bytes);
    }
    low(checksum(CrcAlgorithm::Crc32Iscsi, bytes))
}

/// As [`crc32c_append`], eight bytes at a time.
fn short(crc: u32, bytes: &[u8]) -> u32 {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut r = !crc;
    for word in words {
        let word = u64::from_le_bytes(*word) ^ u64::from(r);
        r = pushed_out(word.to_le_bytes());
    }
    for byte in rest {
        let [lowest, ..] = r.to_le_bytes();
        r = (r >> 8) ^ pushed_out([byte ^ lowest]);
    }
    !r
}

/// What is left of a register of these bytes, lowest first, once as many zero bytes have pushed them out.
fn pushed_out<const N: usize>(bytes: [u8; N]) -> u32 {
    let tables = ZEROS.iter().take(N).rev();
    let each = bytes.iter().zip(tables).map(|(byte, table)| table.get(usize::from(*byte)));
    each.fold(0, |sum, zeros| sum ^ zeros.copied().unwrap_or_default())
}

/// The checksum of what `crc` is the checksum of, followed by `bytes`.
pub(crate) fn crc32c_append(crc: u32, bytes: &[u8]) -> u32 {
    if bytes.len() <= SHORT_BYTES_MAX {
        return short(crc, bytes);
    }
    let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc32Iscsi, u64::from(!crc));
    digest.update(bytes);
    low(digest.finalize())
}

/// The checksum of what `crc` is the checksum of, followed by `len` bytes whose checksum is `next`. It looks at no byte, so a long
/// stretch that has a checksum of its own need not be read again. The library has this too (`checksum_combine`), but takes 10 to
/// 70 µs for it, where reading 64 KiB again takes 1; here it is 20 to 130 ns.
pub(crate) fn crc32c_joined(crc: u32, next: u32, len: usize) -> u32 {
    times(crc, power(len)) ^ next
}

/// The polynomial, the coefficient of x^0 in the highest bit, as everywhere here.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// What so many zero bytes make of a register of which the lowest byte alone is not zero: one, two, and so on.
static ZEROS: [[u32; 256]; 8] = zeros();

/// x^8 to the index, to 2^8 times it, to 2^16 times it: modulo the polynomial.
static POWERS: ([u32; 256], [u32; 256], [u32; 512]) = powers();

#[expect(clippy::indexing_slicing, clippy::cast_possible_truncation, reason = "computed by the compiler")]
const fn zeros() -> [[u32; 256]; 8] {
    let mut t = [[0; 256]; 8];
    let mut n = 0;
    while n < 256 {
        let (mut r, mut bit) = (n as u32, 0);
        while bit < 8 {
            r = (r >> 1) ^ (if r & 1 == 1 { POLYNOMIAL } else { 0 });
            bit += 1;
        }
        t[0][n] = r;
        n += 1;
    }
    let mut k = 1;
    while k < 8 {
        let mut n = 0;
        while n < 256 {
            let r = t[k - 1][n];
            t[k][n] = (r >> 8) ^ t[0][(r & 0xff) as usize];
            n += 1;
        }
        k += 1;
    }
    t
}

#[expect(clippy::indexing_slicing, reason = "computed by the compiler")]
const fn powers() -> ([u32; 256], [u32; 256], [u32; 512]) {
    let (mut ones, mut middle, mut high) = ([1 << 31; 256], [1 << 31; 256], [1 << 31; 512]);
    let mut n = 1;
    while n < 256 {
        let r = ones[n - 1];
        ones[n] = (r >> 8) ^ ZEROS[0][(r & 0xff) as usize];
        n += 1;
    }
    let step = (ones[255] >> 8) ^ ZEROS[0][(ones[255] & 0xff) as usize];
    let mut n = 1;
    while n < 256 {
        middle[n] = slow_times(middle[n - 1], step);
        n += 1;
    }
    let step = slow_times(middle[255], step);
    let mut n = 1;
    while n < 512 {
        high[n] = slow_times(high[n - 1], step);
        n += 1;
    }
    (ones, middle, high)
}

/// A product modulo the polynomial, bit by bit.
const fn slow_times(a: u32, mut b: u32) -> u32 {
    let (mut product, mut bit) = (0, 32);
    while bit > 0 {
        bit -= 1;
        if a >> bit & 1 == 1 {
            product ^= b;
        }
        b = (b >> 1) ^ (if b & 1 == 1 { POLYNOMIAL } else { 0 });
    }
    product
}

/// x^8 to the power of `n` modulo the polynomial.
fn power(n: usize) -> u32 {
    let (ones, middle, high) = (&POWERS.0, &POWERS.1, &POWERS.2);
    let of = |table: &[u32], at: usize| table.get(at).copied();
    let (low, mid, top) = (of(ones, n & 0xff), of(middle, n >> 8 & 0xff), of(high, n >> 16));
    let (Some(low), Some(mid), Some(top)) = (low, mid, top) else {
        // Far above the largest operation: half of it twice, and what is left.
        let half = power(n / 2);
        return times(times(half, half), power(n % 2));
    };
    let product = times(low, mid);
    if n >> 16 == 0 { product } else { times(product, top) }
}

/// A product modulo the polynomial. Multiplying numbers of which three bits in four are nothing carries into those only.
fn times(a: u32, b: u32) -> u32 {
    const EVERY_FOURTH: u64 = 0x1111_1111_1111_1111;
    let of = |n: u32, i: u32| u64::from(n) & (EVERY_FOURTH << i);
    let [a0, a1, a2, a3] = [of(a, 0), of(a, 1), of(a, 2), of(a, 3)];
    let [b0, b1, b2, b3] = [of(b, 0), of(b, 1), of(b, 2), of(b, 3)];
    let products = [
        (a0 * b0) ^ (a1 * b3) ^ (a2 * b2) ^ (a3 * b1),
        (a0 * b1) ^ (a1 * b0) ^ (a2 * b3) ^ (a3 * b2),
        (a0 * b2) ^ (a1 * b1) ^ (a2 * b0) ^ (a3 * b3),
        (a0 * b3) ^ (a1 * b2) ^ (a2 * b1) ^ (a3 * b0),
    ];
    let [p0, p1, p2, p3] = products;
    let all = (p0 & EVERY_FOURTH)
        | (p1 & (EVERY_FOURTH << 1))
        | (p2 & (EVERY_FOURTH << 2))
        | (p3 & (EVERY_FOURTH << 3));
    // 63 bits, the coefficient of x^0 in the highest: those of x^32 and up are reduced.
    let all = all << 1;
    low(all >> 32) ^ pushed_out(low(all).to_le_bytes())
}

#[expect(clippy::cast_possible_truncation, reason = "the lower half is what is wanted")]
fn low(crc: u64) -> u32 {
    crc as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_one_of_rfc_3720() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
    }

    #[test]
    fn appending_is_the_same_as_the_whole() {
        let bytes: Vec<u8> = (0..5_000u32).map(|i| (i * 7 % 251).to_le_bytes()[0]).collect();
        for cut in (0..130).chain([300, 4_096, 4_930, 4_999, 5_000]) {
            assert_eq!(crc32c_append(crc32c(&bytes[..cut]), &bytes[cut..]), crc32c(&bytes), "{cut}");
            let whole = low(checksum(CrcAlgorithm::Crc32Iscsi, &bytes[..cut]));
            assert_eq!(crc32c(&bytes[..cut]), whole, "{cut}");
        }
    }

    #[test]
    fn joining_is_the_same_as_appending() {
        let bytes: Vec<u8> = (0..300_000u32).map(|i| (i * 7 % 251).to_le_bytes()[0]).collect();
        for cut in [0, 1, 63, 64, 300, 4_096, 5_000] {
            for len in [0, 1, 7, 8, 255, 256, 257, 1_056, 65_535, 65_536, 65_537, 200_000] {
                let (a, b) = (&bytes[..cut], &bytes[cut..cut + len]);
                assert_eq!(
                    crc32c_joined(crc32c(a), crc32c(b), len),
                    crc32c(&bytes[..cut + len]),
                    "{cut} {len}"
                );
            }
        }
    }

    #[test]
    fn any_length_can_be_joined() {
        // Appending zeros in two steps is appending them in one.
        for (a, b) in [(17 << 20, (15 << 20) - 1), (17 << 20, (20 << 20) + 1)] {
            assert_eq!(times(power(a), power(b)), power(a + b));
        }
        assert_eq!(times(0x1234_5678, power(0)), 0x1234_5678);
    }
}
