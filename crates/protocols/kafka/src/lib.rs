//! The Kafka protocol over the broker's API: frames in, frames out. It keeps no data of its own but fetch sessions.
//!
//! Start at [`serve`]. A connection is [`connection`]; what a request does is found from [`dispatch`], one file per API. The table
//! of versions is [`versions`]; whatever bytes come in pass [`guard`] before the codec sees them. What is supported is said in
//! `docs/protocols.md`.
#![forbid(unsafe_code)]

mod api_versions;
mod batch;
mod cluster;
mod config;
mod configs;
mod connection;
mod dispatch;
mod epochs;
mod error;
mod fetch;
mod frame;
mod groups;
mod guard;
mod list_offsets;
pub mod member;
mod metadata;
mod num;
mod produce;
mod producer_id;
mod serve;
mod topics;
mod versions;
mod wire;

pub use config::{KafkaConfig, NoObserver, Observer};
pub use serve::serve;
pub use versions::api_name;
