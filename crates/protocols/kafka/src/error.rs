//! Error codes of the protocol for the broker's errors, one explicit table per enum.

use kafka_protocol::ResponseError;
use millstream_broker::group::GroupError;
use millstream_broker::{AdminError, AppendError, CallError, CatalogueError, ReadError, Refused};

use crate::wire::Close;

/// No error.
pub(crate) const NONE: i16 = 0;

/// For what a producer asked.
pub(crate) fn of_append(e: &AppendError) -> ResponseError {
    match e {
        AppendError::Gone => ResponseError::UnknownTopicOrPartition,
        AppendError::OutOfSequence { .. } => ResponseError::OutOfOrderSequenceNumber,
        AppendError::Fenced { .. } => ResponseError::InvalidProducerEpoch,
        AppendError::PastEnd { .. } => ResponseError::OffsetOutOfRange,
    }
}

/// For what there was no room for, at a partition.
pub(crate) fn of_refused(e: &Refused) -> ResponseError {
    match e {
        Refused::DiskFull => ResponseError::KafkaStorageError,
        Refused::TooLarge { .. } => ResponseError::MessageTooLarge,
        Refused::MemoryFull | Refused::Overloaded => ResponseError::RequestTimedOut,
        Refused::Closed => ResponseError::NotLeaderOrFollower,
    }
}

/// For what there was no room for, at a group's coordinator.
pub(crate) fn of_refused_group(e: &Refused) -> ResponseError {
    match e {
        Refused::TooLarge { .. } => ResponseError::InvalidCommitOffsetSize,
        Refused::Closed => ResponseError::NotCoordinator,
        Refused::DiskFull | Refused::MemoryFull | Refused::Overloaded => {
            ResponseError::CoordinatorNotAvailable
        }
    }
}

/// For a call about a group that gave no answer of its own.
///
/// # Errors
/// To close the connection, if it is not known what happened.
pub(crate) fn of_group_call(e: &CallError) -> Result<ResponseError, Close> {
    match e {
        CallError::Refused(r) => Ok(of_refused_group(r)),
        CallError::FateUnknown => Err(Close::FateUnknown),
    }
}

/// For what was asked of a group.
pub(crate) fn of_group(e: &GroupError) -> ResponseError {
    match e {
        GroupError::UnknownMember => ResponseError::UnknownMemberId,
        GroupError::IllegalGeneration => ResponseError::IllegalGeneration,
        GroupError::Rebalancing => ResponseError::RebalanceInProgress,
        GroupError::MemberIdRequired { .. } => ResponseError::MemberIdRequired,
        GroupError::FencedInstance => ResponseError::FencedInstanceId,
        GroupError::InconsistentProtocol => ResponseError::InconsistentGroupProtocol,
        GroupError::InvalidSessionTimeout => ResponseError::InvalidSessionTimeout,
        GroupError::InvalidGroup => ResponseError::InvalidGroupId,
        GroupError::Full => ResponseError::GroupMaxSizeReached,
        GroupError::NotFound => ResponseError::GroupIdNotFound,
        GroupError::NotEmpty => ResponseError::NonEmptyGroup,
        GroupError::Subscribed => ResponseError::GroupSubscribedToTopic,
        GroupError::MetadataTooLong => ResponseError::OffsetMetadataTooLarge,
        GroupError::NoPartition => ResponseError::UnknownTopicOrPartition,
    }
}

/// For what was asked of the catalogue.
///
/// # Errors
/// To close the connection, if it is not known what happened.
pub(crate) fn of_admin(e: &AdminError) -> Result<ResponseError, Close> {
    Ok(match e {
        AdminError::InvalidName { .. } => ResponseError::InvalidTopicException,
        AdminError::InvalidPartitions { .. } => ResponseError::InvalidPartitions,
        AdminError::Setting(_) => ResponseError::InvalidConfig,
        AdminError::Catalogue(c) => match c {
            CatalogueError::Exists { .. } | CatalogueError::WrongKind { .. } => {
                ResponseError::TopicAlreadyExists
            }
            CatalogueError::InvalidName => ResponseError::InvalidTopicException,
            CatalogueError::NotFound => ResponseError::UnknownTopicOrPartition,
            CatalogueError::NotMore { .. } | CatalogueError::TooMany { .. } | CatalogueError::Subscribed => {
                ResponseError::InvalidPartitions
            }
            CatalogueError::Version { .. } | CatalogueError::Room { .. } => ResponseError::NotController,
        },
        AdminError::Call(CallError::Refused(r)) => match r {
            Refused::TooLarge { .. } => ResponseError::PolicyViolation,
            Refused::DiskFull => ResponseError::KafkaStorageError,
            Refused::MemoryFull | Refused::Overloaded => ResponseError::RequestTimedOut,
            Refused::Closed => ResponseError::NotController,
        },
        AdminError::Call(CallError::FateUnknown) => return Err(Close::FateUnknown),
    })
}

/// For what a reader asked.
pub(crate) fn of_read(e: &ReadError) -> ResponseError {
    match e {
        ReadError::Trimmed { .. } => ResponseError::OffsetOutOfRange,
        ReadError::Damaged { .. } => ResponseError::CorruptMessage,
        ReadError::Io { .. } => ResponseError::KafkaStorageError,
        ReadError::Overloaded => ResponseError::RequestTimedOut,
        ReadError::Closed => ResponseError::NotLeaderOrFollower,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn group_errors_have_the_protocols_codes() {
        for (error, want) in [
            (GroupError::IllegalGeneration, 22),
            (GroupError::UnknownMember, 25),
            (GroupError::Rebalancing, 27),
            (GroupError::MemberIdRequired { member: String::new() }, 79),
            (GroupError::FencedInstance, 82),
        ] {
            assert_eq!(of_group(&error).code(), want);
        }
    }

    #[test]
    fn sequence_errors_and_a_full_disk_have_the_protocols_codes() {
        assert_eq!(of_append(&AppendError::OutOfSequence { expected: 1, got: 2 }).code(), 45);
        assert_eq!(of_append(&AppendError::Fenced { current: 1, got: 0 }).code(), 47);
        assert_eq!(of_refused(&Refused::DiskFull).code(), 56);
    }

    #[test]
    fn an_unknown_fate_closes_the_connection() {
        assert!(of_admin(&AdminError::Call(CallError::FateUnknown)).is_err());
        assert!(of_group_call(&CallError::FateUnknown).is_err());
    }
}
