//! What can be wrong with bytes, and the reply code that says so to the peer (section 1.2, constants).

use millstream_types::limits::HEADER_DEPTH_MAX;
use thiserror::Error;

/// A reply code of the specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum ReplyCode {
    /// A mandatory message that no queue takes: in `basic.return`.
    NoRoute = 312,
    /// The server ends the connection for reasons of its own.
    ConnectionForced = 320,
    /// Not allowed to this user, or to anybody. Closes the channel (at login, the connection).
    AccessRefused = 403,
    /// No such exchange or queue. Closes the channel.
    NotFound = 404,
    /// Somebody else has it for himself. Closes the channel.
    ResourceLocked = 405,
    /// A precondition failed. Closes the channel.
    PreconditionFailed = 406,
    /// A frame that cannot be decoded. Closes the connection, as all that follow.
    FrameError = 501,
    /// A frame with illegal values.
    SyntaxError = 502,
    /// A frame out of sequence.
    CommandInvalid = 503,
    /// A channel that was not opened, or may not carry this.
    ChannelError = 504,
    /// A frame that was not expected, usually within content.
    UnexpectedFrame = 505,
    /// More than the server will hold.
    ResourceError = 506,
    /// Something that is never allowed.
    NotAllowed = 530,
    /// Something the server does not do.
    NotImplemented = 540,
    /// The server failed.
    InternalError = 541,
}

impl ReplyCode {
    /// As sent.
    #[must_use]
    pub const fn number(self) -> u16 {
        self as u16
    }
    /// Its name in the specification, with which reply texts begin.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoRoute => "NO_ROUTE",
            Self::ConnectionForced => "CONNECTION_FORCED",
            Self::AccessRefused => "ACCESS_REFUSED",
            Self::NotFound => "NOT_FOUND",
            Self::ResourceLocked => "RESOURCE_LOCKED",
            Self::PreconditionFailed => "PRECONDITION_FAILED",
            Self::FrameError => "FRAME_ERROR",
            Self::SyntaxError => "SYNTAX_ERROR",
            Self::CommandInvalid => "COMMAND_INVALID",
            Self::ChannelError => "CHANNEL_ERROR",
            Self::UnexpectedFrame => "UNEXPECTED_FRAME",
            Self::ResourceError => "RESOURCE_ERROR",
            Self::NotAllowed => "NOT_ALLOWED",
            Self::NotImplemented => "NOT_IMPLEMENTED",
            Self::InternalError => "INTERNAL_ERROR",
        }
    }
    /// Whether only the channel is closed.
    #[must_use]
    pub const fn is_soft(self) -> bool {
        (self as u16) < 500 && !matches!(self, Self::ConnectionForced)
    }
}

/// Bytes that are not what they should be.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CodecError {
    /// A frame larger than agreed.
    #[error("a frame of {bytes} bytes where {max} were agreed")]
    FrameTooLarge {
        /// With head and end.
        bytes: u64,
        /// With head and end.
        max: u32,
    },
    /// The octet behind the payload is another.
    #[error("frame end octet {found:#04x}")]
    FrameEnd {
        /// What is there.
        found: u8,
    },
    /// No such type of frame.
    #[error("frame type {found}")]
    FrameType {
        /// What is there.
        found: u8,
    },
    /// A heartbeat with a channel or a payload.
    #[error("a heartbeat on channel {channel} with {bytes} bytes")]
    Heartbeat {
        /// Its channel.
        channel: u16,
        /// Its payload.
        bytes: usize,
    },
    /// A part ends too early.
    #[error("{what} cut short")]
    Short {
        /// Which.
        what: &'static str,
    },
    /// A part is longer than what it holds.
    #[error("{bytes} bytes too many behind {what}")]
    Long {
        /// Which.
        what: &'static str,
        /// How many.
        bytes: usize,
    },
    /// A value that none may have.
    #[error("{what} is not legal")]
    Illegal {
        /// Which.
        what: &'static str,
    },
    /// Tables or arrays in one another deeper than any message may have.
    #[error("tables and arrays nested deeper than {HEADER_DEPTH_MAX}")]
    TooDeep,
    /// More than a limit.
    #[error("more than {max} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The limit.
        max: usize,
    },
    /// No such class or method.
    #[error("unknown method {class}.{method}")]
    UnknownMethod {
        /// Class id.
        class: u16,
        /// Method id.
        method: u16,
    },
    /// A field with a value that stands for something the server does not do.
    #[error("{what}")]
    NotServed {
        /// What.
        what: &'static str,
    },
    /// A prefetch in bytes.
    #[error("prefetch_size!=0 ({bytes})")]
    PrefetchSize {
        /// How many.
        bytes: u32,
    },
    /// A frame that does not belong here.
    #[error("{found} frame where {expected} was expected")]
    Unexpected {
        /// What came.
        found: &'static str,
        /// What should have.
        expected: &'static str,
    },
    /// More body than the header said.
    #[error("{bytes} bytes of body more than the header said")]
    BodyTooLong {
        /// How many.
        bytes: u64,
    },
    /// Content of a class that has none, or of another than its method's.
    #[error("content header of class {class}")]
    ContentClass {
        /// The class.
        class: u16,
    },
    /// Content on channel 0.
    #[error("content on channel 0")]
    ChannelZero,
    /// A message larger than any may be.
    #[error("message size {bytes} is larger than configured max size {max}")]
    ContentTooLarge {
        /// Its size.
        bytes: u64,
        /// The limit.
        max: usize,
    },
    /// An expiration that is no number of milliseconds.
    #[error("invalid expiration '{said}': {why}")]
    Expiration {
        /// What was said.
        said: String,
        /// What is wrong with it, in `RabbitMQ`'s words.
        why: String,
    },
}

impl CodecError {
    /// The code to close the channel or the connection with.
    #[must_use]
    pub const fn reply_code(&self) -> ReplyCode {
        match self {
            // 2.3.7, 4.2.3: a frame that cannot be told from noise.
            Self::FrameTooLarge { .. }
            | Self::FrameEnd { .. }
            | Self::FrameType { .. }
            | Self::Heartbeat { channel: 0, .. } => ReplyCode::FrameError,
            Self::Short { .. }
            | Self::Long { .. }
            | Self::Illegal { .. }
            | Self::TooDeep
            | Self::TooMany { .. } => ReplyCode::SyntaxError,
            Self::UnknownMethod { .. } | Self::NotServed { .. } | Self::PrefetchSize { .. } => {
                ReplyCode::NotImplemented
            }
            // 4.2.6: incomplete or badly formatted content. The last three as `RabbitMQ` has them; the specification says 501.
            Self::Unexpected { .. }
            | Self::BodyTooLong { .. }
            | Self::Heartbeat { .. }
            | Self::ChannelZero
            | Self::ContentClass { .. } => ReplyCode::UnexpectedFrame,
            // As `RabbitMQ` has it; the specification's own code is 311.
            Self::ContentTooLarge { .. } | Self::Expiration { .. } => ReplyCode::PreconditionFailed,
        }
    }
}

/// What the protocol cannot express.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum EncodeError {
    /// A name or property of more than 255 bytes.
    #[error("{what} of {bytes} bytes; the protocol has 255")]
    TooLong {
        /// Which.
        what: &'static str,
        /// Its length.
        bytes: usize,
    },
    /// A table or value of 4 GiB or more, or nested deeper than any message may be.
    #[error("{what} is too large")]
    TooLarge {
        /// Which.
        what: &'static str,
    },
}
