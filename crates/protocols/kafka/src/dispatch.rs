//! From an API's key to the file that answers it.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion};

use crate::connection::{Conn, Job};
use crate::versions as v;
use crate::wire::{self, Close, Header, Out};
use crate::{
    api_versions, cluster, configs, epochs, fetch, groups, list_offsets, metadata, producer_id, topics,
};

/// Decodes a request other than Produce and `OffsetCommit` and makes it a job, to run when its turn has come.
///
/// # Errors
/// The connection is to be closed.
pub(crate) fn job(conn: &Arc<Conn>, h: Header, body: Bytes) -> Result<Job, Close> {
    match h.api.key {
        v::FETCH => {
            let job = raw(conn, h, body, fetch::answer)?;
            Ok(Job { waits: true, may_be_overtaken: true, ..job })
        }
        v::JOIN_GROUP => {
            Ok(Job { waits: true, may_be_overtaken: true, ..plain(conn, h, body, groups::join)? })
        }
        v::SYNC_GROUP => {
            Ok(Job { waits: true, may_be_overtaken: true, ..plain(conn, h, body, groups::sync)? })
        }
        v::HEARTBEAT => Ok(Job { may_be_overtaken: true, ..plain(conn, h, body, groups::heartbeat)? }),
        v::LEAVE_GROUP => plain(conn, h, body, groups::leave),
        v::OFFSET_FETCH => plain(conn, h, body, groups::offset_fetch),
        v::LIST_GROUPS => plain(conn, h, body, groups::list),
        v::DESCRIBE_GROUPS => plain(conn, h, body, groups::describe),
        v::DELETE_GROUPS => plain(conn, h, body, groups::delete),
        v::LIST_OFFSETS => plain(conn, h, body, list_offsets::answer),
        v::OFFSET_FOR_LEADER_EPOCH => plain(conn, h, body, epochs::answer),
        v::METADATA => plain(conn, h, body, metadata::answer),
        v::FIND_COORDINATOR => plain(conn, h, body, cluster::find_coordinator),
        v::DESCRIBE_CLUSTER => plain(conn, h, body, cluster::describe),
        v::INIT_PRODUCER_ID => plain(conn, h, body, producer_id::answer),
        v::CREATE_TOPICS => plain(conn, h, body, topics::create),
        v::DELETE_TOPICS => plain(conn, h, body, topics::delete),
        v::CREATE_PARTITIONS => plain(conn, h, body, topics::create_partitions),
        v::DESCRIBE_CONFIGS => plain(conn, h, body, configs::describe),
        v::ALTER_CONFIGS => plain(conn, h, body, configs::alter),
        v::INCREMENTAL_ALTER_CONFIGS => plain(conn, h, body, configs::alter_incrementally),
        v::API_VERSIONS if !h.api.serves(h.version) => {
            let out = api_versions::unsupported(&h)?;
            Ok(Job { work: Box::pin(async { Ok(Some(out)) }), waits: false, may_be_overtaken: true })
        }
        v::API_VERSIONS => plain(conn, h, body, api_versions::answer),
        other => Err(Close::UnknownApi(other)),
    }
}

/// A handler that gives a response of the codec.
fn plain<Req, Resp, F, Fut>(conn: &Arc<Conn>, h: Header, body: Bytes, handler: F) -> Result<Job, Close>
where
    Req: Decodable + Send + 'static,
    Resp: Encodable + HeaderVersion + Send + 'static,
    F: FnOnce(Arc<Conn>, Header, Req) -> Fut + Send + 'static,
    Fut: Future<Output = Result<Resp, Close>> + Send + 'static,
{
    raw(conn, h, body, |conn, h: Header, req| {
        let answer = handler(conn, h.clone(), req);
        async move { wire::encode(&h, &answer.await?) }
    })
}

/// A handler that frames its response itself.
fn raw<Req, F, Fut>(conn: &Arc<Conn>, h: Header, body: Bytes, handler: F) -> Result<Job, Close>
where
    Req: Decodable + Send + 'static,
    F: FnOnce(Arc<Conn>, Header, Req) -> Fut + Send + 'static,
    Fut: Future<Output = Result<Out, Close>> + Send + 'static,
{
    let req = wire::decode::<Req>(&h, body)?;
    let answer = handler(Arc::clone(conn), h, req);
    Ok(Job { work: Box::pin(async move { answer.await.map(Some) }), waits: false, may_be_overtaken: false })
}
