//! Consumer groups: what may be asked, and the answers. The coordinator itself is [`Groups`].
//!
//! # The seam between the engine and the coordinator
//! The engine owns one [`Groups`], makes it by [`Groups::new`] and calls it; nobody else does.
//! - **Rows.** GROUP, MEMBER and OFFSET ([`crate::rows::family`]) each have a [`crate::table::Table`]; keys and values follow
//!   [`crate::rows`], with one file per family. [`Groups::load`] loads them when the log is opened ([`crate::table::Table::load`]).
//!   MEMBER and OFFSET keys carry the group's `ObjectId` (from [`crate::ctx::Ctx::ids`]).
//! - **Applying.** Rows change only in [`Groups::apply_effect`], [`Groups::partition_deleted`] (OFFSETs of a log that was deleted; no
//!   effect is written for them: the log's Delete is the record of it), each iff the record is newer than the row
//!   ([`crate::table::Table::apply`]), and [`Groups::record_end`] closes the record. Replay calls just these. They must be total.
//! - **Deciding.** [`Groups::op`] decides one operation, puts at most one record in order by [`crate::ctx::Ctx::commit`], then calls its
//!   own `apply_effect` for each effect and `record_end`, and answers through [`crate::ctx::Ctx::answer`], now or in a later call.
//!   Every answer that shows state waits at least for [`crate::ctx::Ctx::last_lsn`]. Joins, syncs, heartbeats and leaves come without a
//!   permit: records that follow from them take one by [`crate::ctx::Ctx::spare`] when they are due, and rest (retry in
//!   [`Groups::tick`]) while there is none. Readers come without and need none.
//! - **Transactions.** [`Groups::decide_commits`] gives the effects of offset commits without writing them: the engine puts them
//!   in its own record, applies them by `apply_effect`, and has memory follow by [`Groups::committed`].
//! - **After opening** [`Groups::serve`] rebuilds timers. **Flushing** goes through [`Groups::tables`].
//! - **Lost**: [`Groups::lost`] answers all waiting joins and syncs with [`crate::op::Reply::FateUnknown`].

mod admin;
mod config;
mod coordinator;
mod join;
mod live;
mod member_id;
mod members;
mod offsets;
mod rebalance;
pub mod rows;
mod sync;
mod timers;
mod turn;

use std::collections::BTreeMap;

use bytes::Bytes;
use millstream_types::{LogId, Namespace};
use thiserror::Error;

pub use config::{GROUPS_MAX, GroupConfig};
pub use coordinator::Groups;
pub use offsets::CommitPlan;

/// Largest metadata text of a committed offset, bytes.
pub const OFFSET_METADATA_BYTES_MAX: usize = 4 << 10;
/// Most members of a group.
pub const MEMBERS_MAX: usize = 10_000;
/// Subscriptions and assignments of one group together, bytes.
pub const GROUP_BYTES_MAX: usize = 8 << 20;
/// Shortest session timeout a member may ask for, milliseconds (inclusive).
pub const SESSION_TIMEOUT_MIN_MS: u32 = 6_000;
/// Longest session timeout a member may ask for, milliseconds (inclusive).
pub const SESSION_TIMEOUT_MAX_MS: u32 = 1_800_000;

/// A group's affairs.
#[non_exhaustive]
#[derive(Debug)]
pub enum GroupOp {
    /// Joins, or joins again. Answered when the generation is complete.
    Join(Join),
    /// The leader brings the assignment, the others fetch theirs.
    Sync(Sync),
    /// Still there.
    Heartbeat {
        /// Who.
        who: Who,
    },
    /// Members leave.
    Leave {
        /// Namespace.
        ns: Namespace,
        /// Group.
        group: String,
        /// Who leaves: (member id or empty, instance).
        members: Vec<(String, Option<String>)>,
    },
    /// Commits offsets.
    Commit(Commit),
    /// Committed offsets; `parts: None` = all.
    FetchOffsets {
        /// Namespace.
        ns: Namespace,
        /// Group.
        group: String,
        /// Which.
        parts: Option<Vec<LogId>>,
    },
    /// Removes committed offsets, of partitions that no member is subscribed to.
    DeleteOffsets {
        /// Namespace.
        ns: Namespace,
        /// Group.
        group: String,
        /// Which.
        parts: Vec<LogId>,
    },
    /// Removes groups that are empty.
    Delete {
        /// Namespace.
        ns: Namespace,
        /// Groups.
        groups: Vec<String>,
    },
    /// Describes groups.
    Describe {
        /// Namespace.
        ns: Namespace,
        /// Groups.
        groups: Vec<String>,
    },
    /// Lists all groups of the namespace.
    List {
        /// Namespace.
        ns: Namespace,
    },
}

/// A member as it presents itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    /// Namespace.
    pub ns: Namespace,
    /// Group.
    pub group: String,
    /// Generation it believes in; -1 = none.
    pub generation: i32,
    /// Member id; empty = none.
    pub member: String,
    /// Instance id of a static member.
    pub instance: Option<String>,
}

/// A request to join.
#[derive(Clone, Debug)]
pub struct Join {
    /// Namespace.
    pub ns: Namespace,
    /// Group.
    pub group: String,
    /// Member id; empty for a new one.
    pub member: String,
    /// Instance id of a static member.
    pub instance: Option<String>,
    /// Client id: prefix of the member id made for a new member.
    pub client_id: String,
    /// The client's address.
    pub client_host: String,
    /// Evicted when silent for so long, milliseconds.
    pub session_timeout_ms: u32,
    /// How long a rebalance waits for it, milliseconds.
    pub rebalance_timeout_ms: u32,
    /// `consumer`, `connect`, ...: must be the same for all members.
    pub protocol_type: String,
    /// Assignors it can do, best first, each with its metadata.
    pub protocols: Vec<(String, Bytes)>,
    /// A new dynamic member is first given an id (error `MemberIdRequired`) and must come back with it.
    pub require_known_member: bool,
    /// The client understands `skip_assignment` (a returning static leader).
    pub can_skip_assignment: bool,
}

/// A request to synchronise.
#[derive(Clone, Debug)]
pub struct Sync {
    /// Who.
    pub who: Who,
    /// Protocol type it believes in, if it says.
    pub protocol_type: Option<String>,
    /// Protocol it believes in, if it says.
    pub protocol: Option<String>,
    /// From the leader: assignment of each member.
    pub assignments: Vec<(String, Bytes)>,
}

/// A commit of offsets. `who.generation == -1` with an empty member commits from outside; the group must be empty then.
#[derive(Clone, Debug)]
pub struct Commit {
    /// Who.
    pub who: Who,
    /// What.
    pub offsets: Vec<(LogId, CommittedOffset)>,
}

/// A committed offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    /// Next offset to read.
    pub offset: u64,
    /// Leader epoch of the record before it, -1 = unknown.
    pub leader_epoch: i32,
    /// The client's text, at most `OFFSET_METADATA_BYTES_MAX`.
    pub metadata: String,
}

/// The answer to a [`GroupOp`].
#[non_exhaustive]
#[derive(Debug)]
pub enum GroupReply {
    /// To `Join`.
    Join(Result<Joined, GroupError>),
    /// To `Sync`.
    Sync(Result<Synced, GroupError>),
    /// To `Heartbeat`.
    Heartbeat(Result<(), GroupError>),
    /// To `Leave`: per member; or an error of the group as a whole.
    Leave(Vec<Result<(), GroupError>>),
    /// To `Commit`: an error concerns all; else one result per offset.
    Commit(Result<Vec<Result<(), GroupError>>, GroupError>),
    /// To `FetchOffsets`.
    Offsets(Vec<(LogId, Option<CommittedOffset>)>),
    /// To `DeleteOffsets`.
    DeleteOffsets(Result<Vec<Result<(), GroupError>>, GroupError>),
    /// To `Delete`: per group.
    Delete(Vec<Result<(), GroupError>>),
    /// To `Describe`: per group; `None` = no such group.
    Describe(Vec<Option<GroupInfo>>),
    /// To `List`.
    List(Vec<GroupSummary>),
}

/// A completed join.
#[derive(Clone, Debug)]
pub struct Joined {
    /// The new generation.
    pub generation: i32,
    /// The group's protocol type.
    pub protocol_type: String,
    /// The protocol chosen by vote.
    pub protocol: String,
    /// The leader's member id.
    pub leader: String,
    /// This member's id.
    pub member: String,
    /// For the leader: all members (id, instance, metadata for the protocol).
    pub members: Vec<(String, Option<String>, Bytes)>,
    /// For a returning static leader whose assignment still holds.
    pub skip_assignment: bool,
}

/// A completed sync.
#[derive(Clone, Debug)]
pub struct Synced {
    /// The group's protocol type.
    pub protocol_type: String,
    /// The protocol chosen.
    pub protocol: String,
    /// This member's assignment.
    pub assignment: Bytes,
}

/// A group's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupState {
    /// No members; offsets may be there.
    Empty,
    /// Waiting for members to join.
    PreparingRebalance,
    /// Waiting for the leader's assignment.
    CompletingRebalance,
    /// At work.
    Stable,
    /// Deleted.
    Dead,
}

/// A group at a glance.
#[derive(Clone, Debug)]
pub struct GroupSummary {
    /// Its name.
    pub group: String,
    /// Protocol type; empty for simple consumers.
    pub protocol_type: String,
    /// State.
    pub state: GroupState,
}

/// A group in full.
#[derive(Clone, Debug)]
pub struct GroupInfo {
    /// At a glance.
    pub summary: GroupSummary,
    /// Generation.
    pub generation: i32,
    /// Protocol chosen, if any.
    pub protocol: String,
    /// Members.
    pub members: Vec<MemberInfo>,
    /// Committed offsets.
    pub offsets: BTreeMap<LogId, CommittedOffset>,
}

/// A member in full.
#[derive(Clone, Debug)]
pub struct MemberInfo {
    /// Member id.
    pub member: String,
    /// Instance id.
    pub instance: Option<String>,
    /// Client id.
    pub client_id: String,
    /// Client's address.
    pub client_host: String,
    /// Metadata for the chosen protocol.
    pub metadata: Bytes,
    /// Assignment.
    pub assignment: Bytes,
}

/// Why a group refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum GroupError {
    /// The member is not in the group: join again as a new one.
    #[error("unknown member")]
    UnknownMember,
    /// The generation is over.
    #[error("the generation is over")]
    IllegalGeneration,
    /// A rebalance is going on: join again.
    #[error("a rebalance is in progress")]
    Rebalancing,
    /// Come back with this member id.
    #[error("come back as member {member}")]
    MemberIdRequired {
        /// The id given.
        member: String,
    },
    /// Another process uses this instance id now.
    #[error("the instance id is in use by another member")]
    FencedInstance,
    /// No protocol that all members can do, or another protocol type.
    #[error("inconsistent group protocol")]
    InconsistentProtocol,
    /// Session timeout out of bounds.
    #[error("session timeout must be {SESSION_TIMEOUT_MIN_MS} to {SESSION_TIMEOUT_MAX_MS} ms")]
    InvalidSessionTimeout,
    /// Empty or overlong group name.
    #[error("invalid group name")]
    InvalidGroup,
    /// The group has its most members or bytes.
    #[error("the group is at its limit")]
    Full,
    /// No such group.
    #[error("no such group")]
    NotFound,
    /// It has members.
    #[error("the group has members")]
    NotEmpty,
    /// A member is subscribed to the topic.
    #[error("a member is subscribed to the topic")]
    Subscribed,
    /// Metadata too long.
    #[error("metadata exceeds {OFFSET_METADATA_BYTES_MAX} bytes")]
    MetadataTooLong,
    /// The partition does not exist.
    #[error("no such partition")]
    NoPartition,
}

#[cfg(test)]
mod tests;
