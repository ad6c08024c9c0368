//! AMQP 0-9-1 with the extensions of `RabbitMQ`, over the broker's API.
//!
//! Start at [`serve()`]. A connection is [`connection`], what a channel does is found from [`channel`], one file per class of methods. What
//! is supported is said in `docs/protocols.md`.
//!
//! Beneath lies the codec, which does no I/O and decides nothing: bytes come in at [`frame::take`], a method goes to [`method::decode`], content is put together by [`content::Assembler`], and its
//! properties become a message's in [`properties`]. Whatever is wrong with them is a [`CodecError`], which knows its reply code.
//! Sections cited are those of the AMQP 0-9-1 specification.
#![forbid(unsafe_code)]

mod arguments;
mod auth;
mod channel;
mod config;
mod connection;
pub mod content;
mod cursor;
mod deaths;
mod error;
mod exception;
pub mod frame;
pub mod greeting;
mod handshake;
mod input;
mod key;
mod link;
pub mod method;
mod names;
mod outbox;
pub mod properties;
mod serve;
mod stats;
pub mod table;
mod text;

pub use amq_protocol::protocol as methods;
pub use arguments::queue_arguments;
pub use config::AmqpConfig;
pub use error::{CodecError, EncodeError, ReplyCode};
pub use serve::serve;
pub use stats::{AmqpStats, Count};
