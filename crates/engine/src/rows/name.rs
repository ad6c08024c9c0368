//! [`Name`]: the key of what has a name in a namespace.
//!
//! Key: `ns u32 · name`.

use millstream_types::Namespace;

use super::{KeyDec, RowKey};
use crate::codec::DecodeError;

/// A name in one family of rows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name<const FAMILY: u8> {
    /// Its namespace.
    pub ns: Namespace,
    /// The name, in a key as it is: whoever makes one bounds it.
    pub name: String,
}

impl<const FAMILY: u8> Name<FAMILY> {
    /// The key of that name.
    #[must_use]
    pub fn new(ns: Namespace, name: &str) -> Self {
        Self { ns, name: name.to_owned() }
    }
}

impl<const FAMILY: u8> RowKey for Name<FAMILY> {
    const FAMILY: u8 = FAMILY;
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.ns.0.to_be_bytes());
        out.extend_from_slice(self.name.as_bytes());
    }
    fn take(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut d = KeyDec(bytes);
        Ok(Self { ns: Namespace(d.u32()?), name: d.text()?.to_owned() })
    }
}
