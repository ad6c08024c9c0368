//! Reads a request's body without keeping anything, before the codec does: every length and count must fit into what is there.
//!
//! The codec takes memory for as many items as a count says, and a count of two thousand million ends the process; so no body
//! reaches it that was not walked to its end here, by the layout of its version ([`layouts`]). The walk takes no memory. Start at
//! [`check`].

mod layouts;

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;

use crate::versions::Api;

/// Most array items (a tagged field counts as [`TAG_ITEMS`]) of one request: what the codec makes of an item is under 200 bytes,
/// so that one request takes at most 40 MiB beside its frame.
pub(crate) const ITEMS_MAX: usize = 200_000;
/// What a tagged field counts: it may take a tree node of its own.
const TAG_ITEMS: usize = 4;

/// What a field is made of.
pub(crate) enum Kind {
    /// So many bytes.
    Fixed(usize),
    /// A string, perhaps null.
    Text,
    /// Bytes, perhaps null.
    Blob,
    /// A topic's id, 16 bytes. [`name_for_id`] rewrites it.
    Id,
    /// An array of structures.
    Each(&'static Layout),
    /// An array of plain values.
    List(&'static Kind),
    /// One structure.
    One(&'static Layout),
}

/// A field and the versions that have it (both inclusive).
pub(crate) struct Field {
    pub(crate) kind: Kind,
    pub(crate) since: i16,
    pub(crate) until: i16,
}

/// A tagged field that the codec knows, and the first version that has it. (Others are skipped by their size.)
pub(crate) struct Tag {
    pub(crate) number: u32,
    pub(crate) since: i16,
    pub(crate) kind: Kind,
}

/// A structure: fields in order, then, in flexible versions, tagged fields.
pub(crate) struct Layout {
    pub(crate) fields: &'static [Field],
    pub(crate) tags: &'static [Tag],
}

/// Why a body is refused.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(crate) enum GuardError {
    /// A length or count says more than is there.
    #[error("it is cut short at byte {at}, or a length in it is wrong")]
    Short {
        /// Where.
        at: usize,
    },
    /// Too many items.
    #[error("it has more than {ITEMS_MAX} items")]
    TooMany,
    /// A varint longer than five bytes or above 2^32 - 1.
    #[error("the varint at byte {at} is too long")]
    Varint {
        /// Where.
        at: usize,
    },
    /// A negative length other than -1.
    #[error("a length at byte {at} is negative")]
    Negative {
        /// Where.
        at: usize,
    },
    /// A known tagged field of another size than it says.
    #[error("the tagged field at byte {at} has a wrong size")]
    WrongSize {
        /// Where.
        at: usize,
    },
    /// No layout: an API that is not served.
    #[error("no such API")]
    Unknown,
}

/// Walks the body of a request. What is left over behind its last field is ignored, as Kafka does.
///
/// # Errors
/// See [`GuardError`]; the connection is to be closed then.
pub(crate) fn check(api: &Api, version: i16, body: &[u8]) -> Result<(), GuardError> {
    let layout = layouts::of(api.key).ok_or(GuardError::Unknown)?;
    Walk::new(api, version, body).layout(layout)
}

/// Rewrites a body in which topics are named by their ids as one of the version before, in which they have names: the id's 32
/// hexadecimal digits. Checks it on the way.
///
/// # Errors
/// See [`GuardError`].
pub(crate) fn name_for_id(api: &Api, version: i16, body: &Bytes) -> Result<Bytes, GuardError> {
    const HEX_LENGTH: u8 = 33; // compact: one more than the length
    let layout = layouts::of(api.key).ok_or(GuardError::Unknown)?;
    let mut walk = Walk::new(api, version, body);
    walk.ids = Some(Vec::new());
    walk.layout(layout)?;
    let ids = walk.ids.unwrap_or_default();
    let mut out = BytesMut::with_capacity(body.len() + 17 * ids.len());
    let mut copied = 0;
    for at in ids {
        out.put_slice(body.get(copied..at).unwrap_or_default());
        out.put_u8(HEX_LENGTH);
        for byte in body.get(at..at + 16).unwrap_or_default() {
            let digit = |n: u8| {
                char::from_digit(u32::from(n), 16).map_or(b'0', |c| if c.is_ascii() { c as u8 } else { b'0' })
            };
            out.put_slice(&[digit(byte >> 4), digit(byte & 15)]);
        }
        copied = at + 16;
    }
    out.put_slice(body.get(copied..).unwrap_or_default());
    Ok(out.freeze())
}

struct Walk<'a> {
    data: &'a [u8],
    at: usize,
    version: i16,
    flexible: bool,
    items: usize,
    ids: Option<Vec<usize>>,
}

impl<'a> Walk<'a> {
    fn new(api: &Api, version: i16, data: &'a [u8]) -> Self {
        Self { data, at: 0, version, flexible: api.is_flexible(version), items: 0, ids: None }
    }

    fn skip(&mut self, n: usize) -> Result<(), GuardError> {
        if n > self.data.len() - self.at {
            return Err(GuardError::Short { at: self.at });
        }
        self.at += n;
        Ok(())
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], GuardError> {
        let bytes = self.data.get(self.at..self.at + N).ok_or(GuardError::Short { at: self.at })?;
        self.at += N;
        bytes.try_into().map_err(|_| GuardError::Short { at: self.at })
    }

    fn count(&mut self, n: usize) -> Result<(), GuardError> {
        self.items = self.items.saturating_add(n);
        if self.items > ITEMS_MAX { Err(GuardError::TooMany) } else { Ok(()) }
    }

    fn uvarint(&mut self) -> Result<u32, GuardError> {
        let start = self.at;
        let mut value: u64 = 0;
        for i in 0..5 {
            let [b] = self.take::<1>()?;
            value |= u64::from(b & 0x7f) << (7 * i);
            if b < 0x80 {
                return u32::try_from(value).map_err(|_| GuardError::Varint { at: start });
            }
        }
        Err(GuardError::Varint { at: start })
    }

    /// A length or count; `None` = null.
    fn length(&mut self, wide: bool) -> Result<Option<usize>, GuardError> {
        let start = self.at;
        let n = if self.flexible {
            i64::from(self.uvarint()?) - 1
        } else if wide {
            i64::from(i32::from_be_bytes(self.take()?))
        } else {
            i64::from(i16::from_be_bytes(self.take()?))
        };
        match n {
            -1 => Ok(None),
            n => usize::try_from(n).map(Some).map_err(|_| GuardError::Negative { at: start }),
        }
    }

    fn kind(&mut self, kind: &Kind) -> Result<(), GuardError> {
        match kind {
            Kind::Fixed(n) => self.skip(*n),
            Kind::Text => self.length(false)?.map_or(Ok(()), |n| self.skip(n)),
            Kind::Blob => self.length(true)?.map_or(Ok(()), |n| self.skip(n)),
            Kind::Id => {
                let at = self.at;
                if let Some(ids) = &mut self.ids {
                    ids.push(at);
                }
                self.skip(16)
            }
            Kind::Each(layout) => self.each(|w| w.layout(layout)),
            Kind::List(item) => self.each(|w| w.kind(item)),
            Kind::One(layout) => self.layout(layout),
        }
    }

    fn each(&mut self, item: impl Fn(&mut Self) -> Result<(), GuardError>) -> Result<(), GuardError> {
        let Some(n) = self.length(true)? else { return Ok(()) };
        // Each item takes at least one byte: a count that cannot be true is refused before the first.
        if n > self.data.len() - self.at {
            return Err(GuardError::Short { at: self.at });
        }
        self.count(n)?;
        for _ in 0..n {
            item(self)?;
        }
        Ok(())
    }

    fn layout(&mut self, layout: &Layout) -> Result<(), GuardError> {
        for f in layout.fields {
            if (f.since..=f.until).contains(&self.version) {
                self.kind(&f.kind)?;
            }
        }
        if self.flexible { self.tags(layout) } else { Ok(()) }
    }

    fn tags(&mut self, layout: &Layout) -> Result<(), GuardError> {
        for _ in 0..self.uvarint()? {
            self.count(TAG_ITEMS)?;
            let number = self.uvarint()?;
            let size = usize::try_from(self.uvarint()?).map_err(|_| GuardError::Short { at: self.at })?;
            let (start, known) =
                (self.at, layout.tags.iter().find(|t| t.number == number && self.version >= t.since));
            match known {
                None => self.skip(size)?,
                // The codec reads a known field by its type and not by the size given: they must agree.
                Some(t) => {
                    self.kind(&t.kind)?;
                    if self.at - start != size {
                        return Err(GuardError::WrongSize { at: start });
                    }
                }
            }
        }
        Ok(())
    }
}

/// Walks the tagged fields of a flexible request's header; returns how many bytes they took.
///
/// # Errors
/// See [`GuardError`].
pub(crate) fn header_tags(data: &[u8]) -> Result<usize, GuardError> {
    const NONE: Layout = Layout { fields: &[], tags: &[] };
    let mut walk = Walk { data, at: 0, version: 0, flexible: true, items: 0, ids: None };
    walk.tags(&NONE)?;
    Ok(walk.at)
}

#[cfg(test)]
mod tests;
