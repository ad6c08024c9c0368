//! Topics: made, removed, given more partitions. One file per API.

mod create;
mod create_partitions;
mod delete;

pub(crate) use create::answer as create;
pub(crate) use create_partitions::answer as create_partitions;
pub(crate) use delete::answer as delete;

use kafka_protocol::ResponseError;
use kafka_protocol::protocol::StrBytes;
use millstream_broker::AdminError;

use crate::error;
use crate::wire::{Close, message};

/// A code and what it means in words.
type Refusal = (ResponseError, Option<StrBytes>);

fn refuse(e: ResponseError, why: &str) -> Refusal {
    (e, Some(message(why)))
}

/// A refusal in the protocol's own words.
fn plain(e: ResponseError) -> Refusal {
    (e, Some(message(&e)))
}

/// # Errors
/// To close the connection, if it is not known what happened.
fn admin(e: &AdminError) -> Result<Refusal, Close> {
    Ok((error::of_admin(e)?, Some(message(e))))
}
