//! `ListGroups`, with the filters by state (version 4) and type (version 5).

use std::sync::Arc;

use kafka_protocol::messages::list_groups_response::{ListGroupsResponse, ListedGroup};
use kafka_protocol::messages::{GroupId, ListGroupsRequest};
use millstream_broker::Action;
use millstream_broker::group::{GroupOp, GroupReply};

use super::{MISMATCH, state_name};
use crate::connection::Conn;
use crate::error;
use crate::wire::{Close, Header, text};

/// The only type of group there is.
const CLASSIC: &str = "classic";

/// Answers.
pub(crate) async fn answer(
    conn: Arc<Conn>,
    _: Header,
    req: ListGroupsRequest,
) -> Result<ListGroupsResponse, Close> {
    let passes = |filter: &[kafka_protocol::protocol::StrBytes], value: &str| {
        filter.is_empty() || filter.iter().any(|f| f.eq_ignore_ascii_case(value))
    };
    let groups = match conn.session.group(GroupOp::List { ns: conn.ns }).await {
        Ok(GroupReply::List(groups)) => groups,
        Ok(_) => return Ok(ListGroupsResponse::default().with_error_code(MISMATCH.code())),
        Err(e) => return Ok(ListGroupsResponse::default().with_error_code(error::of_group_call(&e)?.code())),
    };
    let listed = groups
        .into_iter()
        .filter(|g| passes(&req.states_filter, state_name(g.state)) && passes(&req.types_filter, CLASSIC))
        .filter(|g| conn.may_group(Action::Describe, &g.group))
        .map(|g| {
            ListedGroup::default()
                .with_group_id(GroupId(text(&g.group)))
                .with_protocol_type(text(&g.protocol_type))
                .with_group_state(text(state_name(g.state)))
                .with_group_type(text(CLASSIC))
        });
    Ok(ListGroupsResponse::default().with_groups(listed.collect()))
}
