//! What goes wrong in a session: a reply code, a text, and the method that it was raised on.
//!
//! Texts are those of `RabbitMQ` wherever a program may look at them.

use amq_protocol::protocol::{AMQPClass, channel, connection};

use crate::error::{CodecError, ReplyCode};
use crate::method::BASIC_QOS;
use crate::text;

/// Closes a channel or a connection, as its code says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exception {
    pub(crate) code: ReplyCode,
    text: String,
    /// Class and method that it was raised on; 0, 0 = none.
    method: (u16, u16),
}

impl Exception {
    pub(crate) fn new(code: ReplyCode, text: impl Into<String>) -> Self {
        Self { code, text: text.into(), method: (0, 0) }
    }

    /// Names the method that it was raised on, unless one is named already.
    pub(crate) fn on(mut self, method: (u16, u16)) -> Self {
        if self.method == (0, 0) {
            self.method = method;
        }
        self
    }

    pub(crate) fn not_found_queue(name: &str) -> Self {
        Self::new(ReplyCode::NotFound, format!("no queue '{name}' in vhost '/'"))
    }
    pub(crate) fn not_found_exchange(name: &str) -> Self {
        Self::new(ReplyCode::NotFound, format!("no exchange '{name}' in vhost '/'"))
    }
    pub(crate) fn not_implemented(what: impl Into<String>) -> Self {
        Self::new(ReplyCode::NotImplemented, what)
    }
    pub(crate) fn precondition(text: impl Into<String>) -> Self {
        Self::new(ReplyCode::PreconditionFailed, text)
    }
    /// The server failed; why is in its log only.
    pub(crate) fn internal(cause: &impl std::fmt::Display) -> Self {
        tracing::warn!(%cause, "an AMQP connection ends with an internal error");
        Self::new(ReplyCode::InternalError, "")
    }

    /// As it is sent: the code's name, then what happened.
    pub(crate) fn reply_text(&self) -> String {
        match self.text.as_str() {
            "" => self.code.name().to_owned(),
            text => format!("{} - {text}", self.code.name()),
        }
    }

    /// The method that closes a channel.
    pub(crate) fn channel_close(&self) -> AMQPClass {
        AMQPClass::Channel(channel::AMQPMethod::Close(channel::Close {
            reply_code: self.code.number(),
            reply_text: text::short(&self.reply_text()),
            class_id: self.method.0,
            method_id: self.method.1,
        }))
    }

    /// The method that closes a connection.
    pub(crate) fn connection_close(&self) -> AMQPClass {
        AMQPClass::Connection(connection::AMQPMethod::Close(connection::Close {
            reply_code: self.code.number(),
            reply_text: text::short(&self.reply_text()),
            class_id: self.method.0,
            method_id: self.method.1,
        }))
    }
}

impl From<CodecError> for Exception {
    fn from(e: CodecError) -> Self {
        let exception = Self::new(e.reply_code(), e.to_string());
        match e {
            CodecError::PrefetchSize { .. } => exception.on(BASIC_QOS),
            _ => exception,
        }
    }
}
