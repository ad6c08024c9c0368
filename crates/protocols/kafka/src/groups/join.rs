//! `JoinGroup`: answered when the generation is complete.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::JoinGroupRequest;
use kafka_protocol::messages::join_group_response::{JoinGroupResponse, JoinGroupResponseMember};
use kafka_protocol::protocol::StrBytes;
use millstream_broker::group::{GroupError, GroupOp, GroupReply, Join, Joined};

use super::{MISMATCH, ask, count, owned};
use crate::connection::Conn;
use crate::error;
use crate::wire::{Close, Header, text};

/// First version in which a new member is given an id to come back with (KIP-394).
const MEMBER_ID_REQUIRED_SINCE: i16 = 4;
/// First version in which the response names the protocol type, and no protocol is null.
const PROTOCOL_TYPE_SINCE: i16 = 7;
/// First version in which a returning static leader may be told to keep the assignment (KIP-814).
const SKIP_ASSIGNMENT_SINCE: i16 = 9;

/// Answers.
pub(crate) async fn answer(
    conn: Arc<Conn>,
    h: Header,
    req: JoinGroupRequest,
) -> Result<JoinGroupResponse, Close> {
    let member = req.member_id.clone();
    let group = req.group_id.to_string();
    let result = match join(&conn, &h, req) {
        Err(e) => Err((e, None)),
        Ok(join) => match ask(&conn, &group, GroupOp::Join(join)).await? {
            Err(e) => Err((e, None)),
            Ok(GroupReply::Join(Ok(joined))) => Ok(joined),
            Ok(GroupReply::Join(Err(e))) => {
                let given = match &e {
                    GroupError::MemberIdRequired { member } => Some(text(member)),
                    _ => None,
                };
                Err((error::of_group(&e), given))
            }
            Ok(_) => Err((MISMATCH, None)),
        },
    };
    let named = h.version >= PROTOCOL_TYPE_SINCE;
    Ok(match result {
        Ok(joined) => success(joined, named),
        Err((e, given)) => {
            count(&conn, h.api.name, e.code());
            JoinGroupResponse::default()
                .with_error_code(e.code())
                .with_generation_id(-1)
                .with_protocol_name((!named).then(StrBytes::new))
                .with_member_id(given.unwrap_or(member))
        }
    })
}

fn join(conn: &Conn, h: &Header, req: JoinGroupRequest) -> Result<Join, ResponseError> {
    let ms = |n: i32| u32::try_from(n).map_err(|_| ResponseError::InvalidSessionTimeout);
    let session_timeout_ms = ms(req.session_timeout_ms)?;
    // Version 0 has no rebalance timeout: the session's serves for both.
    let rebalance_timeout_ms =
        if h.version == 0 { session_timeout_ms } else { ms(req.rebalance_timeout_ms)? };
    Ok(Join {
        ns: conn.ns,
        group: req.group_id.to_string(),
        member: req.member_id.to_string(),
        require_known_member: h.version >= MEMBER_ID_REQUIRED_SINCE && req.group_instance_id.is_none(),
        instance: req.group_instance_id.map(|i| i.to_string()),
        client_id: h.client_id.clone(),
        client_host: conn.peer_host.clone(),
        session_timeout_ms,
        rebalance_timeout_ms,
        protocol_type: req.protocol_type.to_string(),
        protocols: req.protocols.iter().map(|p| (p.name.to_string(), owned(&p.metadata))).collect(),
        can_skip_assignment: h.version >= SKIP_ASSIGNMENT_SINCE,
    })
}

fn success(joined: Joined, named: bool) -> JoinGroupResponse {
    let members = joined.members.into_iter().map(|(member, instance, metadata)| {
        JoinGroupResponseMember::default()
            .with_member_id(text(&member))
            .with_group_instance_id(instance.map(|i| text(&i)))
            .with_metadata(metadata)
    });
    JoinGroupResponse::default()
        .with_generation_id(joined.generation)
        .with_protocol_type(named.then(|| text(&joined.protocol_type)))
        .with_protocol_name(Some(text(&joined.protocol)))
        .with_leader(text(&joined.leader))
        .with_skip_assignment(joined.skip_assignment)
        .with_member_id(text(&joined.member))
        .with_members(members.collect())
}
