//! AMQP 0-9-1 on the wire: frames, methods, content and field tables to what the broker speaks, and back. Does no I/O and decides
//! nothing; the session that will speak the protocol is built on it.
//!
//! Bytes come in at [`frame::take`], a method goes to [`method::decode`], content is put together by [`content::Assembler`], and its
//! properties become a message's in [`properties`]. Whatever is wrong with them is a [`CodecError`], which knows its reply code.
//! Sections cited are those of the AMQP 0-9-1 specification.
#![forbid(unsafe_code)]

pub mod content;
mod cursor;
mod error;
pub mod frame;
pub mod greeting;
pub mod method;
pub mod properties;
pub mod table;

pub use amq_protocol::protocol as methods;
pub use error::{CodecError, EncodeError, ReplyCode};
