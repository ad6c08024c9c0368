//! What an operator may choose about groups.

/// Settings of the coordinator. Start from [`GroupConfig::default`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupConfig {
    /// How long the first rebalance of an empty group waits for more members, milliseconds; 0 = not at all. Each newcomer of a new
    /// group prolongs the wait by as much, up to the members' rebalance timeout.
    pub initial_rebalance_delay_ms: u32,
    /// Committed offsets expire so long after their group became empty, or, in a group that never had members, after the commit.
    pub offsets_retention_ms: u64,
}

impl Default for GroupConfig {
    fn default() -> Self {
        Self { initial_rebalance_delay_ms: 3_000, offsets_retention_ms: 7 * 24 * 3_600 * 1_000 }
    }
}

/// How long a new member that waits for its first generation is kept, milliseconds: it cannot send heartbeats yet.
pub(super) const NEW_MEMBER_JOIN_TIMEOUT_MS: u64 = 5 * 60 * 1_000;
/// Most groups that are known at once, in all namespaces.
pub const GROUPS_MAX: usize = 1_000_000;
/// Longest prefix (client id or instance id) of a member id that is made here, bytes.
pub(super) const MEMBER_ID_PREFIX_BYTES_MAX: usize = 255;
/// Timers that one tick serves at most.
pub(super) const TIMERS_PER_TICK: usize = 1_024;
/// An empty group without offsets is removed after so long, milliseconds.
pub(super) const EMPTY_GROUP_KEPT_MS: u64 = 10 * 60 * 1_000;
/// A group's offsets are looked at for expiry at least this often while it is empty, milliseconds.
pub(super) const EXPIRY_CHECK_MS_MAX: u64 = 3_600 * 1_000;
/// And at most this often.
pub(super) const EXPIRY_CHECK_MS_MIN: u64 = 1_000;
/// A record that found no room is tried again after so long, milliseconds.
pub(super) const RETRY_MS: u64 = 1;
/// Offsets that one record expires at most.
pub(super) const EXPIRED_PER_RECORD_MAX: usize = 10_000;
