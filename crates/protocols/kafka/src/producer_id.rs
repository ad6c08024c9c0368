//! `InitProducerId`: identities for idempotent producers. Transactional ids are refused.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};
use millstream_broker::{CallError, Refused};

use crate::connection::Conn;
use crate::wire::{Close, Header};

/// Answers. A producer without a transactional id always gets a new identity, as from Kafka: it may also name its present one
/// (version 3 on), which is then simply no longer used.
pub(crate) async fn answer(
    conn: Arc<Conn>,
    h: Header,
    req: InitProducerIdRequest,
) -> Result<InitProducerIdResponse, Close> {
    let result = if req.transactional_id.as_ref().is_some_and(|id| id.is_empty()) {
        Err(ResponseError::InvalidRequest)
    } else if req.transactional_id.is_some() {
        Err(ResponseError::TransactionalIdAuthorizationFailed)
    } else if (req.producer_id.0 == -1) != (req.producer_epoch == -1) {
        Err(ResponseError::InvalidRequest)
    } else {
        match conn.session.init_producer().await {
            Ok(identity) => Ok(identity),
            Err(CallError::Refused(Refused::Closed)) => Err(ResponseError::CoordinatorNotAvailable),
            Err(CallError::Refused(_)) => Err(ResponseError::CoordinatorLoadInProgress),
            Err(CallError::FateUnknown) => return Err(Close::FateUnknown),
        }
    };
    Ok(match result {
        Ok((id, epoch)) => {
            InitProducerIdResponse::default().with_producer_id(ProducerId(id)).with_producer_epoch(epoch)
        }
        Err(e) => {
            conn.cfg.observer.error(h.api.name, e.code());
            InitProducerIdResponse::default()
                .with_error_code(e.code())
                .with_producer_id(ProducerId(-1))
                .with_producer_epoch(-1)
        }
    })
}
