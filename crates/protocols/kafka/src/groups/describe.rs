//! `DescribeGroups`. A group that does not exist is `Dead`; from version 6 on that is also error 69 (KIP-1043).

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_groups_response::{
    DescribeGroupsResponse, DescribedGroup, DescribedGroupMember,
};
use kafka_protocol::messages::{DescribeGroupsRequest, GroupId};
use millstream_broker::Action;
use millstream_broker::group::{GroupInfo, GroupOp, GroupReply, GroupState};

use super::{MISMATCH, count, state_name};
use crate::cluster::{GROUP_OPERATIONS, UNASKED_OPERATIONS};
use crate::connection::Conn;
use crate::error;
use crate::wire::{Close, Header, message, text};

/// First version in which an unknown group is an error.
const NOT_FOUND_SINCE: i16 = 6;

/// Answers.
pub(crate) async fn answer(
    conn: Arc<Conn>,
    h: Header,
    req: DescribeGroupsRequest,
) -> Result<DescribeGroupsResponse, Close> {
    let operations = if req.include_authorized_operations { GROUP_OPERATIONS } else { UNASKED_OPERATIONS };
    let names: Vec<String> = req.groups.iter().map(|g| g.as_str().to_owned()).collect();
    let op = GroupOp::Describe { ns: conn.ns, groups: names };
    let found = match conn.session.group(op).await {
        Ok(GroupReply::Describe(found)) => Ok(found),
        Ok(_) => Err(MISMATCH),
        Err(e) => Err(error::of_group_call(&e)?),
    };
    let groups = match found {
        Err(e) => req.groups.into_iter().map(|g| failed(g, e)).collect(),
        Ok(found) => req
            .groups
            .into_iter()
            .zip(found)
            .map(|(group, info)| {
                if !conn.may_group(Action::Describe, &group) {
                    return failed(group, ResponseError::GroupAuthorizationFailed);
                }
                match info {
                    Some(info) => described(group, info, operations),
                    None if h.version >= NOT_FOUND_SINCE => {
                        let why = message(&format_args!("Group {} not found.", group.as_str()));
                        failed(group, ResponseError::GroupIdNotFound).with_error_message(Some(why))
                    }
                    None => DescribedGroup::default()
                        .with_group_id(group)
                        .with_group_state(text(state_name(GroupState::Dead)))
                        .with_authorized_operations(operations),
                }
            })
            .collect(),
    };
    let response = DescribeGroupsResponse::default().with_groups(groups);
    for g in &response.groups {
        count(&conn, h.api.name, g.error_code);
    }
    Ok(response)
}

fn failed(group: GroupId, e: ResponseError) -> DescribedGroup {
    DescribedGroup::default()
        .with_group_id(group)
        .with_error_code(e.code())
        .with_group_state(text(state_name(GroupState::Dead)))
        .with_authorized_operations(UNASKED_OPERATIONS)
}

/// As Kafka, a group shows its protocol and its members' data only while it is stable.
fn described(group: GroupId, info: GroupInfo, operations: i32) -> DescribedGroup {
    let stable = info.summary.state == GroupState::Stable;
    let shown = |b: Bytes| if stable { b } else { Bytes::new() };
    let members = info.members.into_iter().map(|m| {
        DescribedGroupMember::default()
            .with_member_id(text(&m.member))
            .with_group_instance_id(m.instance.map(|i| text(&i)))
            .with_client_id(text(&m.client_id))
            .with_client_host(text(&m.client_host))
            .with_member_metadata(shown(m.metadata))
            .with_member_assignment(shown(m.assignment))
    });
    DescribedGroup::default()
        .with_group_id(group)
        .with_group_state(text(state_name(info.summary.state)))
        .with_protocol_type(text(&info.summary.protocol_type))
        .with_protocol_data(text(if stable { &info.protocol } else { "" }))
        .with_members(members.collect())
        .with_authorized_operations(operations)
}
