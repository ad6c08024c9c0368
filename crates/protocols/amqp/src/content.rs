//! Content of one channel: a header frame and the body frames behind it, put together without copying (section 4.2.6).
//!
//! Start at [`Assembler`].

use bytes::{Bytes, BytesMut};

use crate::error::CodecError;
use crate::frame::{Frame, FrameKind};
use crate::properties::ContentHeader;

/// A body of more frames than this is copied together: else a peer that sends single bytes would make us keep 32 for each.
pub const BODY_PIECES_MAX: usize = 1_024;

/// A message's content.
#[derive(Clone, Debug, PartialEq)]
pub struct Content {
    /// Its header.
    pub header: ContentHeader,
    /// Its body in pieces; together they have the length that the header says.
    pub body: Vec<Bytes>,
}

/// Follows the frames of a channel behind a method that has content.
#[derive(Debug, Default)]
pub struct Assembler {
    state: State,
}

#[derive(Debug, Default)]
enum State {
    /// No method with content is open.
    #[default]
    Idle,
    /// The header comes next.
    Header,
    /// So much of the body is still to come.
    Body { content: Content, left: u64, rest: BytesMut },
}

impl Assembler {
    /// A method with content came: its header is next.
    ///
    /// # Errors
    /// `Unexpected` if content is still open.
    pub fn begin(&mut self) -> Result<(), CodecError> {
        self.no_frame("method")?;
        self.state = State::Header;
        Ok(())
    }

    /// Whether frames of content are expected: a method must not come between.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !matches!(self.state, State::Idle)
    }

    /// A frame that is no content came.
    ///
    /// # Errors
    /// `Unexpected` if content is still open.
    pub fn no_frame(&self, found: &'static str) -> Result<(), CodecError> {
        match self.state {
            State::Idle => Ok(()),
            State::Header => Err(CodecError::Unexpected { found, expected: "header" }),
            State::Body { .. } => Err(CodecError::Unexpected { found, expected: "body" }),
        }
    }

    /// A header or body frame came. Gives the content when it is whole. `body_bytes_max` is looked at before memory is taken.
    ///
    /// # Errors
    /// `Unexpected`, `BodyTooLong`, `ChannelZero`, `ContentTooLarge`, or as [`ContentHeader::decode`]. The content is dropped then.
    pub fn frame(&mut self, frame: Frame, body_bytes_max: usize) -> Result<Option<Content>, CodecError> {
        let found = frame.kind.name();
        if frame.channel == 0 {
            return Err(CodecError::ChannelZero);
        }
        match (std::mem::take(&mut self.state), frame.kind) {
            (State::Header, FrameKind::Header) => {
                let header = ContentHeader::decode(&frame.payload)?;
                let left = header.body_bytes;
                if left > body_bytes_max as u64 {
                    return Err(CodecError::ContentTooLarge { bytes: left, max: body_bytes_max });
                }
                Ok(self.go_on(Content { header, body: Vec::new() }, left, BytesMut::new()))
            }
            (State::Body { mut content, left, mut rest }, FrameKind::Body) => {
                let came = frame.payload.len() as u64;
                let Some(left) = left.checked_sub(came) else {
                    return Err(CodecError::BodyTooLong { bytes: came - left });
                };
                if content.body.len() < BODY_PIECES_MAX {
                    if came > 0 {
                        content.body.push(frame.payload);
                    }
                } else {
                    rest.extend_from_slice(&frame.payload);
                }
                Ok(self.go_on(content, left, rest))
            }
            (State::Idle, _) => Err(CodecError::Unexpected { found, expected: "method" }),
            (State::Header, _) => Err(CodecError::Unexpected { found, expected: "header" }),
            (State::Body { .. }, _) => Err(CodecError::Unexpected { found, expected: "body" }),
        }
    }

    fn go_on(&mut self, mut content: Content, left: u64, rest: BytesMut) -> Option<Content> {
        if left > 0 {
            self.state = State::Body { content, left, rest };
            return None;
        }
        if !rest.is_empty() {
            content.body.push(rest.freeze());
        }
        Some(content)
    }
}
