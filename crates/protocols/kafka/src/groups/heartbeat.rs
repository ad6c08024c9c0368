//! Heartbeat: a member says that it is still there, and learns of rebalances.

use std::sync::Arc;

use kafka_protocol::messages::{HeartbeatRequest, HeartbeatResponse};
use millstream_broker::group::{GroupOp, GroupReply};

use super::{MISMATCH, ask, count, who};
use crate::connection::Conn;
use crate::error::{self, NONE};
use crate::wire::{Close, Header};

/// Answers.
pub(crate) async fn answer(
    conn: Arc<Conn>,
    h: Header,
    req: HeartbeatRequest,
) -> Result<HeartbeatResponse, Close> {
    let who = who(&conn, &req.group_id, req.generation_id, &req.member_id, req.group_instance_id.as_ref());
    let code = match ask(&conn, &req.group_id, GroupOp::Heartbeat { who }).await? {
        Ok(GroupReply::Heartbeat(Ok(()))) => NONE,
        Ok(GroupReply::Heartbeat(Err(e))) => error::of_group(&e).code(),
        Ok(_) => MISMATCH.code(),
        Err(e) => e.code(),
    };
    count(&conn, h.api.name, code);
    Ok(HeartbeatResponse::default().with_error_code(code))
}
