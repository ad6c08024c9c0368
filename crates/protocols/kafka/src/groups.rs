//! Consumer groups (the classic protocol): one file per API. The coordinator is the engine's; here is only its wire form.

mod delete;
mod describe;
mod heartbeat;
mod join;
mod leave;
mod list;
mod offset_commit;
mod offset_fetch;
mod sync;

pub(crate) use delete::answer as delete;
pub(crate) use describe::answer as describe;
pub(crate) use heartbeat::answer as heartbeat;
pub(crate) use join::answer as join;
pub(crate) use leave::answer as leave;
pub(crate) use list::answer as list;
pub(crate) use offset_commit::begin as begin_offset_commit;
pub(crate) use offset_fetch::answer as offset_fetch;
pub(crate) use sync::answer as sync;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::protocol::StrBytes;
use millstream_broker::Action;
use millstream_broker::group::{GroupOp, GroupReply, GroupState, Who};

use crate::connection::Conn;
use crate::error;
use crate::wire::Close;

/// A member as it presents itself.
fn who(conn: &Conn, group: &str, generation: i32, member: &str, instance: Option<&StrBytes>) -> Who {
    Who {
        ns: conn.ns,
        group: group.to_owned(),
        generation,
        member: member.to_owned(),
        instance: instance.map(ToString::to_string),
    }
}

/// Asks the coordinator.
///
/// # Errors
/// The outer one closes the connection; the inner one concerns the group as a whole.
async fn ask(conn: &Conn, group: &str, op: GroupOp) -> Result<Result<GroupReply, ResponseError>, Close> {
    if !conn.may_group(Action::Read, group) {
        return Ok(Err(ResponseError::GroupAuthorizationFailed));
    }
    match conn.session.group(op).await {
        Ok(reply) => Ok(Ok(reply)),
        Err(e) => error::of_group_call(&e).map(Err),
    }
}

/// A reply of another kind than the question: a bug of ours.
const MISMATCH: ResponseError = ResponseError::UnknownServerError;

/// Group data outlives the buffer that it was read into.
fn owned(b: &Bytes) -> Bytes {
    Bytes::copy_from_slice(b)
}

/// A state's name in the protocol.
fn state_name(state: GroupState) -> &'static str {
    match state {
        GroupState::Empty => "Empty",
        GroupState::PreparingRebalance => "PreparingRebalance",
        GroupState::CompletingRebalance => "CompletingRebalance",
        GroupState::Stable => "Stable",
        GroupState::Dead => "Dead",
    }
}

/// Counts an error for the metrics.
fn count(conn: &Conn, api: &'static str, code: i16) {
    if code != error::NONE {
        conn.cfg.observer.error(api, code);
    }
}
