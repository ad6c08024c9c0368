//! CRC-32C (Castagnoli), the checksum of everything on disk: one place to replace the library.

use crc_fast::{CrcAlgorithm, Digest, checksum};

/// The checksum of `bytes`.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    low(checksum(CrcAlgorithm::Crc32Iscsi, bytes))
}

/// The checksum of what `crc` is the checksum of, followed by `bytes`.
pub(crate) fn crc32c_append(crc: u32, bytes: &[u8]) -> u32 {
    let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc32Iscsi, u64::from(!crc));
    digest.update(bytes);
    low(digest.finalize())
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the library gives every width as 64 bits; this one has 32"
)]
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
        for cut in [0, 1, 63, 64, 300, 4_096, 5_000] {
            assert_eq!(crc32c_append(crc32c(&bytes[..cut]), &bytes[cut..]), crc32c(&bytes));
        }
    }
}
