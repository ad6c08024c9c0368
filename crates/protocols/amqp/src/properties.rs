//! Content headers (section 4.2.6.1) and the properties of class basic, to a message's properties and headers and back.
//!
//! Text properties are not looked into: a correlation id may hold any bytes, and comes back as it came.

use bytes::{BufMut, Bytes, BytesMut};
use millstream_broker::{Header, property};

use crate::arguments::TTL_MS_MAX;
use crate::cursor::Cursor;
use crate::error::{CodecError, EncodeError};
use crate::table::{self, put_short};

/// The only class with content.
pub const BASIC_CLASS: u16 = 60;

const WHAT: &str = "content header";
const MS_PER_SECOND: i64 = 1_000;

/// Bits of the properties, in the order in which they are written.
mod flag {
    pub(super) const CONTENT_TYPE: u16 = 1 << 15;
    pub(super) const CONTENT_ENCODING: u16 = 1 << 14;
    pub(super) const HEADERS: u16 = 1 << 13;
    pub(super) const DELIVERY_MODE: u16 = 1 << 12;
    pub(super) const PRIORITY: u16 = 1 << 11;
    pub(super) const CORRELATION_ID: u16 = 1 << 10;
    pub(super) const REPLY_TO: u16 = 1 << 9;
    pub(super) const EXPIRATION: u16 = 1 << 8;
    pub(super) const MESSAGE_ID: u16 = 1 << 7;
    pub(super) const TIMESTAMP: u16 = 1 << 6;
    pub(super) const TYPE: u16 = 1 << 5;
    pub(super) const USER_ID: u16 = 1 << 4;
    pub(super) const APP_ID: u16 = 1 << 3;
    pub(super) const CLUSTER_ID: u16 = 1 << 2;
    /// No property, and no more flags.
    pub(super) const NONE: u16 = 0b11;
}

/// How a property is written.
#[derive(Clone, Copy)]
enum Form {
    Text,
    Octet,
    Seconds,
    Headers,
}

/// All properties in the order of the wire: their bit, how they are written, and what they are to a message (0: its headers).
const PROPERTIES: [(u16, Form, u8); 14] = [
    (flag::CONTENT_TYPE, Form::Text, property::CONTENT_TYPE),
    (flag::CONTENT_ENCODING, Form::Text, property::CONTENT_ENCODING),
    (flag::HEADERS, Form::Headers, 0),
    (flag::DELIVERY_MODE, Form::Octet, property::DELIVERY_MODE),
    (flag::PRIORITY, Form::Octet, property::PRIORITY),
    (flag::CORRELATION_ID, Form::Text, property::CORRELATION_ID),
    (flag::REPLY_TO, Form::Text, property::REPLY_TO),
    (flag::EXPIRATION, Form::Text, property::EXPIRATION),
    (flag::MESSAGE_ID, Form::Text, property::MESSAGE_ID),
    (flag::TIMESTAMP, Form::Seconds, property::TIMESTAMP_MS),
    (flag::TYPE, Form::Text, property::TYPE),
    (flag::USER_ID, Form::Text, property::USER_ID),
    (flag::APP_ID, Form::Text, property::APP_ID),
    (flag::CLUSTER_ID, Form::Text, property::CLUSTER_ID),
];

/// A content header.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ContentHeader {
    /// Bytes of the body that follows.
    pub body_bytes: u64,
    /// As a [`millstream_broker::Message`] has them.
    pub properties: Vec<(u8, Bytes)>,
    /// As a [`millstream_broker::Message`] has them.
    pub headers: Vec<Header>,
    /// Whether there was a table at all: an empty one is not none.
    pub has_headers: bool,
}

impl ContentHeader {
    /// A property.
    #[must_use]
    pub fn property(&self, id: u8) -> Option<&Bytes> {
        self.properties.iter().find(|p| p.0 == id).map(|p| &p.1)
    }

    /// How long the message lives, milliseconds; `None`: as long as its queue keeps it.
    ///
    /// # Errors
    /// `Expiration` if it is no whole number, below 0, or longer than any life may be.
    pub fn expiration_ms(&self) -> Result<Option<u64>, CodecError> {
        let Some(text) = self.property(property::EXPIRATION) else { return Ok(None) };
        let said = String::from_utf8_lossy(text);
        let wrong = |why: String| Err(CodecError::Expiration { said: said.clone().into_owned(), why });
        let signs = usize::from(said.starts_with(['+', '-']));
        let digits = said.bytes().skip(signs).take_while(u8::is_ascii_digit).count();
        let (number, rest) = said.split_at(signs + digits);
        if digits == 0 {
            return wrong("no_integer".to_owned());
        }
        if !rest.is_empty() {
            return wrong(format!("{{leftover_string,\"{rest}\"}}"));
        }
        // What no whole number here can hold is too large, or too small, as well.
        match number.parse::<i128>() {
            Ok(n) if n < 0 => wrong(format!("{{value_negative,{n}}}")),
            Ok(n) => match u64::try_from(n) {
                Ok(ms) if ms <= TTL_MS_MAX => Ok(Some(ms)),
                _ => wrong(format!("{{value_too_large,{n}}}")),
            },
            Err(_) => wrong(format!("{{value_too_large,{number}}}")),
        }
    }

    /// Its priority; 0 if it says none.
    #[must_use]
    pub fn priority(&self) -> u8 {
        self.property(property::PRIORITY).and_then(|p| p.first().copied()).unwrap_or(0)
    }

    /// Whether it is to be stored durably.
    #[must_use]
    pub fn is_persistent(&self) -> bool {
        self.property(property::DELIVERY_MODE).is_some_and(|m| **m == [2])
    }

    /// Decodes the payload of a header frame.
    ///
    /// # Errors
    /// `ContentClass` for any class but basic; `Short`, `Long`, `Illegal`, `TooDeep`, `TooMany` for wrong bytes.
    pub fn decode(payload: &Bytes) -> Result<Self, CodecError> {
        let mut c = Cursor::new(payload.clone(), WHAT);
        let class = c.u16()?;
        if class != BASIC_CLASS {
            return Err(CodecError::ContentClass { class });
        }
        // The weight is not used; clients send 0.
        let _weight = c.u16()?;
        let mut header = Self { body_bytes: c.u64()?, ..Self::default() };
        let flags = c.u16()?;
        if flags & flag::NONE != 0 {
            return Err(CodecError::Illegal { what: "a flag of the content header" });
        }
        for (flag, form, id) in PROPERTIES {
            if flags & flag == 0 {
                continue;
            }
            let value = match form {
                Form::Text => c.short_bytes()?,
                Form::Octet => c.bytes(1)?,
                Form::Seconds => {
                    let seconds = i64::try_from(c.u64()?).unwrap_or(i64::MAX);
                    Bytes::copy_from_slice(&seconds.saturating_mul(MS_PER_SECOND).to_le_bytes())
                }
                Form::Headers => {
                    let mut rest = c.rest();
                    header.headers = table::read(&mut rest)?;
                    header.has_headers = true;
                    c = Cursor::new(rest, WHAT);
                    continue;
                }
            };
            header.properties.push((id, value));
        }
        c.end()?;
        Ok(header)
    }

    /// Writes it, without its frame.
    ///
    /// # Errors
    /// `TooLong` for a property or a header's name of more than 255 bytes, `TooLarge`. Part of it may be written then.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        out.put_u16(BASIC_CLASS);
        out.put_u16(0);
        out.put_u64(self.body_bytes);
        let with_headers = self.has_headers || !self.headers.is_empty();
        let has = |form, id| match form {
            Form::Headers => with_headers,
            _ => self.property(id).is_some(),
        };
        let flags =
            PROPERTIES.iter().filter(|(_, form, id)| has(*form, *id)).fold(0, |all, (flag, ..)| all | flag);
        out.put_u16(flags);
        for (_, form, id) in PROPERTIES {
            match form {
                Form::Headers if with_headers => table::write(out, &self.headers)?,
                Form::Headers => {}
                _ => {
                    let Some(value) = self.property(id) else { continue };
                    match form {
                        Form::Octet => out.put_u8(value.first().copied().unwrap_or(0)),
                        Form::Seconds => out.put_u64(seconds(value)),
                        _ => put_short(out, "a property", value)?,
                    }
                }
            }
        }
        Ok(())
    }
}

/// Milliseconds as a message keeps them, in seconds; what lies before 1970 is 0.
fn seconds(value: &[u8]) -> u64 {
    let ms = value.first_chunk().map_or(0, |b| i64::from_le_bytes(*b));
    u64::try_from(ms / MS_PER_SECOND).unwrap_or(0)
}

#[cfg(test)]
mod tests;
