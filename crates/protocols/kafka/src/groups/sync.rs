//! `SyncGroup`: the leader brings the assignment, each member gets its part.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{SyncGroupRequest, SyncGroupResponse};
use millstream_broker::group::{GroupOp, GroupReply, Sync};

use super::{MISMATCH, ask, count, owned, who};
use crate::connection::Conn;
use crate::error;
use crate::wire::{Close, Header, text};

/// First version that names protocol type and protocol; they are mandatory then.
const PROTOCOL_SINCE: i16 = 5;

/// Answers.
pub(crate) async fn answer(
    conn: Arc<Conn>,
    h: Header,
    req: SyncGroupRequest,
) -> Result<SyncGroupResponse, Close> {
    let unnamed = h.version >= PROTOCOL_SINCE && (req.protocol_type.is_none() || req.protocol_name.is_none());
    let group = req.group_id.to_string();
    let result = if unnamed {
        Err(ResponseError::InconsistentGroupProtocol)
    } else {
        let sync = Sync {
            who: who(&conn, &group, req.generation_id, &req.member_id, req.group_instance_id.as_ref()),
            protocol_type: req.protocol_type.map(|p| p.to_string()),
            protocol: req.protocol_name.map(|p| p.to_string()),
            assignments: req
                .assignments
                .iter()
                .map(|a| (a.member_id.to_string(), owned(&a.assignment)))
                .collect(),
        };
        match ask(&conn, &group, GroupOp::Sync(sync)).await? {
            Err(e) => Err(e),
            Ok(GroupReply::Sync(result)) => result.map_err(|e| error::of_group(&e)),
            Ok(_) => Err(MISMATCH),
        }
    };
    Ok(match result {
        Ok(synced) => SyncGroupResponse::default()
            .with_protocol_type(Some(text(&synced.protocol_type)))
            .with_protocol_name(Some(text(&synced.protocol)))
            .with_assignment(synced.assignment),
        Err(e) => {
            count(&conn, h.api.name, e.code());
            SyncGroupResponse::default().with_error_code(e.code())
        }
    })
}
