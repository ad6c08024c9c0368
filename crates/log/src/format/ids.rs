//! [`StoreId`]: the random number that ties files and frames to one data directory. It is never shown, so the bytes of a
//! message cannot be made to look like a frame.

/// A store's uuid with the checksum seed made of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct StoreId {
    uuid: [u8; 16],
    seed: u32,
}

impl StoreId {
    /// From the 16 random bytes in `meta`.
    pub(crate) fn new(uuid: [u8; 16]) -> Self {
        Self { uuid, seed: crate::format::crc::crc32c(&uuid) }
    }

    /// The bytes.
    pub(crate) fn uuid(&self) -> &[u8; 16] {
        &self.uuid
    }

    /// Checksum of bytes of this store.
    pub(crate) fn crc(&self, bytes: &[u8]) -> u32 {
        crate::format::crc::crc32c_append(self.seed, bytes)
    }

    /// Checksum of bytes of one lap of this store.
    pub(crate) fn crc_in_lap(&self, lap: u64, bytes: &[u8]) -> u32 {
        crate::format::crc::crc32c_append(self.lap_seed(lap), bytes)
    }

    /// Checksum of no bytes of one lap of this store.
    pub(crate) fn lap_seed(&self, lap: u64) -> u32 {
        crate::format::crc::crc32c_append(self.seed, &lap.to_le_bytes())
    }
}

impl std::fmt::Debug for StoreId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StoreId(..)")
    }
}
