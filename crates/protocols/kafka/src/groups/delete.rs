//! `DeleteGroups`: groups without members, with their committed offsets.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::DeleteGroupsRequest;
use kafka_protocol::messages::delete_groups_response::{DeletableGroupResult, DeleteGroupsResponse};
use millstream_broker::Action;
use millstream_broker::group::{GroupOp, GroupReply};

use super::{MISMATCH, count};
use crate::connection::Conn;
use crate::error::{self, NONE};
use crate::wire::{Close, Header};

/// Answers.
pub(crate) async fn answer(
    conn: Arc<Conn>,
    h: Header,
    req: DeleteGroupsRequest,
) -> Result<DeleteGroupsResponse, Close> {
    let (may, may_not): (Vec<_>, Vec<_>) =
        req.groups_names.into_iter().partition(|g| conn.may_group(Action::Configure, g));
    let groups = may.iter().map(|g| g.as_str().to_owned()).collect();
    let codes: Vec<i16> = match conn.session.group(GroupOp::Delete { ns: conn.ns, groups }).await {
        Ok(GroupReply::Delete(results)) => {
            results.iter().map(|r| r.as_ref().map_or_else(|e| error::of_group(e).code(), |()| NONE)).collect()
        }
        Ok(_) => vec![MISMATCH.code(); may.len()],
        Err(e) => vec![error::of_group_call(&e)?.code(); may.len()],
    };
    let denied = ResponseError::GroupAuthorizationFailed.code();
    let results = may.into_iter().zip(codes).chain(may_not.into_iter().map(|g| (g, denied)));
    let results = results.map(|(group, code)| {
        count(&conn, h.api.name, code);
        DeletableGroupResult::default().with_group_id(group).with_error_code(code)
    });
    Ok(DeleteGroupsResponse::default().with_results(results.collect()))
}
