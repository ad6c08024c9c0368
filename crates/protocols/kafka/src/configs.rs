//! Configuration of topics, described and altered; the broker's own is described only (its configuration file sets it).

mod alter;
mod describe;

pub(crate) use alter::{alter, alter_incrementally};
pub(crate) use describe::answer as describe;

use kafka_protocol::ResponseError;
use kafka_protocol::protocol::StrBytes;
use millstream_broker::SettingSource;

use crate::connection::Conn;
use crate::wire::message;

/// Resource types of the protocol.
const RESOURCE_TOPIC: i8 = 2;
const RESOURCE_BROKER: i8 = 4;

/// A code and what it means in words.
type Refusal = (ResponseError, Option<StrBytes>);

/// A refusal in the protocol's own words.
fn plain(e: ResponseError) -> Refusal {
    (e, Some(message(&e)))
}

/// Where a value comes from, in the protocol's numbers: the topic's own (1), the broker's file (4), built in (5).
pub(crate) fn source_code(source: SettingSource) -> i8 {
    match source {
        SettingSource::Topic => 1,
        SettingSource::Broker => 4,
        SettingSource::Default => 5,
    }
}

/// Whether this names the broker that is asked: by its id, or, for what holds for all brokers, not at all.
fn is_this_broker(conn: &Conn, name: &str) -> bool {
    name.is_empty() || name.parse() == Ok(conn.cfg.node_id)
}
