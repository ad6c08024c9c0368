//! Settings of a log, each with its unit and key.

/// Settings. `Default` is what `millstream serve` uses.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// `log.segment_bytes`: size of a segment file (multiple of 4 KiB, 1 MiB to 1 GiB); 0 = by the size of the file system: 64 MiB,
    /// below 16 GiB 8 MiB. Fixed when the log is made.
    pub segment_bytes: u64,
    /// `log.reserve_bytes`: publishing stops when less is free (at least 4 MiB); 0 = by the size of the file system: 1/32 of it,
    /// within 24 and 512 MiB. Fixed when the log is made.
    pub reserve_bytes: u64,
    /// `log.inflight_bytes`: bytes sequenced and not yet durable, class Publish.
    pub inflight_bytes: usize,
    /// `log.tail_bytes`: recent frames kept in memory at most; as many as readers were lately seen to reach back for, and 8 MiB.
    pub tail_bytes: usize,
    /// `log.replay_bytes`: the log past the floor is kept below this (restart time).
    pub replay_bytes: u64,
    /// `log.replay_records`: likewise in records.
    pub replay_records: u64,
    /// `log.flush_interval_ms`: rows are flushed this often; up to six times less often where the rows would be more than an eighth of
    /// what was appended meanwhile.
    pub flush_interval_ms: u64,
    /// `log.ready_files`: segment files prepared ahead; at least 3 are, of which two are kept for settling.
    pub ready_files: usize,
    /// `log.merge_budget_percent`: bytes that merges may write for each 100 appended, as long as there is room.
    pub merge_budget_percent: u32,
    /// Bytes that merges read and write in a second, unless the disk is full; 0 = no limit.
    pub merge_bytes_per_s: u64,
    /// Bytes that a merge frees at least, unless the disk is full: so packs become large.
    pub merge_gain_bytes_min: u64,
    /// A file that would be dead by itself within this time, at its pace, is not merged before that time is over.
    pub merge_spare_ms: u64,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            segment_bytes: 0,
            reserve_bytes: 0,
            inflight_bytes: 16 << 20,
            tail_bytes: 48 << 20,
            replay_bytes: 512 << 20,
            replay_records: 2_000_000,
            flush_interval_ms: 10_000,
            ready_files: 4,
            merge_budget_percent: 35,
            merge_bytes_per_s: 128 << 20,
            merge_gain_bytes_min: 48 << 20,
            merge_spare_ms: 60_000,
        }
    }
}
