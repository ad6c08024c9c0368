//! `DescribeCluster` and `FindCoordinator`: there is one broker, and it coordinates every group.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_cluster_response::{DescribeClusterBroker, DescribeClusterResponse};
use kafka_protocol::messages::find_coordinator_response::{Coordinator, FindCoordinatorResponse};
use kafka_protocol::messages::{BrokerId, DescribeClusterRequest, FindCoordinatorRequest};
use kafka_protocol::protocol::StrBytes;
use millstream_broker::Action;

use crate::connection::Conn;
use crate::wire::{Close, Header, message, text};

/// What stands for operations that were not asked for.
pub(crate) const UNASKED_OPERATIONS: i32 = i32::MIN;
/// Read, write, create, delete, alter, describe, describe configs, alter configs: bits 3 to 8, 10, 11.
pub(crate) const TOPIC_OPERATIONS: i32 = 0b1101_1111_1000;
/// Create, alter, describe, cluster action, describe configs, alter configs, idempotent write: bits 5, 7 to 12.
pub(crate) const CLUSTER_OPERATIONS: i32 = 0b1_1111_1010_0000;
/// Read, delete, describe: bits 3, 6, 8.
pub(crate) const GROUP_OPERATIONS: i32 = 0b1_0100_1000;

const ENDPOINT_BROKERS: i8 = 1;
const ENDPOINT_CONTROLLERS: i8 = 2;

const KEY_GROUP: i8 = 0;
const KEY_TRANSACTION: i8 = 1;

/// Answers `DescribeCluster`.
pub(crate) async fn describe(
    conn: Arc<Conn>,
    _: Header,
    req: DescribeClusterRequest,
) -> Result<DescribeClusterResponse, Close> {
    let refused = match req.endpoint_type {
        ENDPOINT_BROKERS => None,
        ENDPOINT_CONTROLLERS => Some(ResponseError::MismatchedEndpointType),
        _ => Some(ResponseError::UnsupportedEndpointType),
    };
    if let Some(e) = refused {
        let why = message("this listener is a broker's");
        return Ok(DescribeClusterResponse::default()
            .with_error_code(e.code())
            .with_error_message(Some(why)));
    }
    let broker = DescribeClusterBroker::default()
        .with_broker_id(BrokerId(conn.cfg.node_id))
        .with_host(conn.advertised_host.clone())
        .with_port(conn.advertised_port);
    let operations =
        if req.include_cluster_authorized_operations { CLUSTER_OPERATIONS } else { UNASKED_OPERATIONS };
    Ok(DescribeClusterResponse::default()
        .with_cluster_id(text(conn.broker.cluster_id()))
        .with_controller_id(BrokerId(conn.cfg.node_id))
        .with_brokers(vec![broker])
        .with_cluster_authorized_operations(operations))
}

/// Answers `FindCoordinator`.
pub(crate) async fn find_coordinator(
    conn: Arc<Conn>,
    h: Header,
    req: FindCoordinatorRequest,
) -> Result<FindCoordinatorResponse, Close> {
    if h.version >= 4 {
        let coordinators = req.coordinator_keys.iter().map(|key| match refusal(&conn, req.key_type, key) {
            None => Coordinator::default()
                .with_key(key.clone())
                .with_node_id(BrokerId(conn.cfg.node_id))
                .with_host(conn.advertised_host.clone())
                .with_port(conn.advertised_port),
            Some((e, why)) => Coordinator::default()
                .with_key(key.clone())
                .with_node_id(BrokerId(-1))
                .with_port(-1)
                .with_error_code(e.code())
                .with_error_message(Some(why)),
        });
        return Ok(FindCoordinatorResponse::default().with_coordinators(coordinators.collect()));
    }
    Ok(match refusal(&conn, req.key_type, &req.key) {
        None => FindCoordinatorResponse::default()
            .with_node_id(BrokerId(conn.cfg.node_id))
            .with_host(conn.advertised_host.clone())
            .with_port(conn.advertised_port),
        Some((e, why)) => FindCoordinatorResponse::default()
            .with_node_id(BrokerId(-1))
            .with_port(-1)
            .with_error_code(e.code())
            .with_error_message(Some(why)),
    })
}

fn refusal(conn: &Conn, kind: i8, key: &str) -> Option<(ResponseError, StrBytes)> {
    match kind {
        KEY_GROUP if conn.may_group(Action::Describe, key) => None,
        KEY_GROUP => Some((ResponseError::GroupAuthorizationFailed, message("not authorised"))),
        // A code that clients take as final: a retriable one would have them ask until their time is over.
        KEY_TRANSACTION => Some((
            ResponseError::TransactionalIdAuthorizationFailed,
            message("transactions are not supported"),
        )),
        _ => Some((ResponseError::InvalidRequest, message("there are no coordinators of this type"))),
    }
}
