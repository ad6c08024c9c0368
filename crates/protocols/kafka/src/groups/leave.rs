//! `LeaveGroup`: one member (to version 2) or several (from 3 on), each with its own result.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::LeaveGroupRequest;
use kafka_protocol::messages::leave_group_response::{LeaveGroupResponse, MemberResponse};
use millstream_broker::group::{GroupOp, GroupReply};

use super::{MISMATCH, ask, count};
use crate::connection::Conn;
use crate::error::{self, NONE};
use crate::wire::{Close, Header};

/// First version with several members.
const SEVERAL_SINCE: i16 = 3;

/// Answers.
pub(crate) async fn answer(
    conn: Arc<Conn>,
    h: Header,
    req: LeaveGroupRequest,
) -> Result<LeaveGroupResponse, Close> {
    let several = h.version >= SEVERAL_SINCE;
    let members: Vec<(String, Option<String>)> = if several {
        let one = |m: &kafka_protocol::messages::leave_group_request::MemberIdentity| {
            (m.member_id.to_string(), m.group_instance_id.as_ref().map(ToString::to_string))
        };
        req.members.iter().map(one).collect()
    } else {
        vec![(req.member_id.to_string(), None)]
    };
    let asked = members.len();
    let op = GroupOp::Leave { ns: conn.ns, group: req.group_id.to_string(), members };
    let codes = match ask(&conn, &req.group_id, op).await? {
        Ok(GroupReply::Leave(results)) => Ok(results
            .iter()
            .map(|r| r.as_ref().map_or_else(|e| error::of_group(e).code(), |()| NONE))
            .collect::<Vec<_>>()),
        Ok(_) => Err(MISMATCH.code()),
        Err(e) => Err(e.code()),
    };
    let response = LeaveGroupResponse::default();
    let response = match codes {
        Err(code) => response.with_error_code(code),
        Ok(_) if req.group_id.is_empty() => response.with_error_code(ResponseError::InvalidGroupId.code()),
        // Not a result for each member: it concerns the group as a whole.
        Ok(codes) if codes.len() != asked || !several => {
            response.with_error_code(codes.into_iter().find(|c| *c != NONE).unwrap_or(NONE))
        }
        Ok(codes) => {
            let members = req.members.iter().zip(codes).map(|(m, code)| {
                MemberResponse::default()
                    .with_member_id(m.member_id.clone())
                    .with_group_instance_id(m.group_instance_id.clone())
                    .with_error_code(code)
            });
            response.with_members(members.collect())
        }
    };
    count(&conn, h.api.name, response.error_code);
    Ok(response)
}
