//! Bindings, family [`BIND`](super::family::BIND). Their parent is the exchange they come from: removing it voids them.
//!
//! Key: `ns u32 · length of the exchange's name u8 · name · hash 16 B` ([`hash`]). Value, version 1: `version u8 · target u8 (1 queue,
//! 2 exchange, 3 topic) · target's name blob · routing key blob · arguments blob`; a blob is its length (u32) and bytes.
//! Effect, version 1: `version u8 · what u8`: 0 = the binding is removed, 1 = it is now the value that follows.

use std::cmp::Ordering;
use std::sync::Arc;

use millstream_types::limits::NAME_BYTES_MAX;
use millstream_types::{Lsn, Namespace};
use siphasher::sip128::SipHasher13;

use super::exchange::ExchangeKey;
use super::{KeyDec, RowKey, RowValue, family, whole};
use crate::codec::{Dec, DecodeError, Enc};
use crate::effect::RowEffect;
use crate::exchange::{BindingDef, Target, TargetKind};
use crate::table::Table;

const VERSION: u8 = 1;

/// A binding's key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BindKey {
    /// Its namespace.
    pub ns: Namespace,
    /// The exchange it comes from. At most `NAME_BYTES_MAX`.
    pub source: Arc<str>,
    /// See [`hash`].
    pub hash: [u8; 16],
}

impl BindKey {
    /// The key of a binding.
    #[must_use]
    pub fn of(def: &BindingDef) -> Self {
        Self { ns: def.ns, source: def.source.as_str().into(), hash: hash(def) }
    }

    /// The exchange it comes from.
    #[must_use]
    pub fn source_key(&self) -> ExchangeKey {
        ExchangeKey::new(self.ns, &self.source)
    }
}

/// A binding's hash: SipHash-1-3 with 128 bits under the key 0 of its value's bytes. It is part of the format. Nobody gains by finding
/// two bindings with one hash: the second is refused.
#[must_use]
pub fn hash(def: &BindingDef) -> [u8; 16] {
    let mut bytes = Vec::new();
    BindRow::of(def).put(&mut bytes);
    SipHasher13::new().hash(&bytes).as_bytes()
}

/// As the bytes are: the length of the name before the name.
impl Ord for BindKey {
    fn cmp(&self, other: &Self) -> Ordering {
        let parts = |k: &Self| (k.ns, k.source.len());
        parts(self)
            .cmp(&parts(other))
            .then_with(|| self.source.cmp(&other.source))
            .then_with(|| self.hash.cmp(&other.hash))
    }
}

impl PartialOrd for BindKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl RowKey for BindKey {
    const FAMILY: u8 = family::BIND;
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.ns.0.to_be_bytes());
        debug_assert!(self.source.len() <= NAME_BYTES_MAX, "names were checked before they came here");
        out.push(u8::try_from(self.source.len()).unwrap_or(u8::MAX));
        out.extend_from_slice(self.source.as_bytes());
        out.extend_from_slice(&self.hash);
    }
    fn take(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut d = KeyDec(bytes);
        let ns = Namespace(d.u32()?);
        let len = usize::from(d.u8()?);
        let (name, hash) = d.0.split_at_checked(len).ok_or(DecodeError::Short)?;
        let source = std::str::from_utf8(name).map_err(|_| DecodeError::Value { what: "text" })?;
        let hash = hash.try_into().map_err(|_| DecodeError::Value { what: "hash" })?;
        Ok(Self { ns, source: source.into(), hash })
    }
}

/// A binding without what its key says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindRow {
    /// Where it leads.
    pub target: Target,
    /// Routing key, or pattern.
    pub key: String,
    /// Arguments.
    pub arguments: Vec<u8>,
}

impl BindRow {
    /// From a definition.
    #[must_use]
    pub fn of(def: &BindingDef) -> Self {
        Self { target: def.target.clone(), key: def.key.clone(), arguments: def.arguments.clone() }
    }

    /// The definition.
    #[must_use]
    pub fn def(&self, key: &BindKey) -> BindingDef {
        BindingDef {
            ns: key.ns,
            source: key.source.to_string(),
            target: self.target.clone(),
            key: self.key.clone(),
            arguments: self.arguments.clone(),
        }
    }
}

impl RowValue for BindRow {
    fn put(&self, out: &mut Vec<u8>) {
        out.u8(VERSION);
        out.u8(match self.target.kind {
            TargetKind::Queue => 1,
            TargetKind::Exchange => 2,
            TargetKind::Topic => 3,
        });
        out.blob(self.target.name.as_bytes());
        out.blob(self.key.as_bytes());
        out.blob(&self.arguments);
    }

    fn take(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut d = Dec::new(bytes);
        d.version(VERSION)?;
        let kind = match d.u8()? {
            1 => TargetKind::Queue,
            2 => TargetKind::Exchange,
            3 => TargetKind::Topic,
            _ => return Err(DecodeError::Value { what: "kind of target" }),
        };
        let target = Target { kind, name: d.text()?.to_owned() };
        let key = d.text()?.to_owned();
        let arguments = d.blob()?.to_vec();
        d.end()?;
        Ok(Self { target, key, arguments })
    }
}

/// The effect after which the binding is `row`; `None` removes it.
#[must_use]
pub fn effect(key: &BindKey, row: Option<&BindRow>) -> RowEffect {
    whole::effect(key, row)
}

impl Table<BindKey, BindRow> {
    /// The bindings from an exchange, ascending by hash, from `hash` on.
    pub fn of<'a>(
        &'a self,
        source: &ExchangeKey,
        hash: [u8; 16],
    ) -> impl Iterator<Item = (&'a BindKey, &'a BindRow)> + use<'a> {
        let name: Arc<str> = source.name.as_str().into();
        let key = |hash| BindKey { ns: source.ns, source: Arc::clone(&name), hash };
        self.range(key(hash)..=key([u8::MAX; 16]))
    }

    /// Applies the removal of an exchange: the bindings from it are gone with it.
    pub fn apply_removed(&mut self, lsn: Lsn, source: &ExchangeKey) {
        let keys: Vec<BindKey> = self.of(source, [0; 16]).map(|(k, _)| k.clone()).collect();
        for key in keys {
            self.apply(lsn, &key, |row| *row = None);
        }
    }

    /// Applies an effect.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn apply_effect(&mut self, lsn: Lsn, key: &[u8], bytes: &[u8]) -> Result<(), DecodeError> {
        let key = BindKey::decode(key)?;
        let value = whole::decode(bytes, "binding effect")?;
        self.apply(lsn, &key, |row| *row = value);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn kind() -> impl Strategy<Value = TargetKind> {
        prop_oneof![Just(TargetKind::Queue), Just(TargetKind::Exchange), Just(TargetKind::Topic)]
    }
    prop_compose! {
        fn any_row()(kind in kind(), name in ".{0,9}", key in ".{0,9}", arguments in vec(any::<u8>(), 0..9)) -> BindRow {
            BindRow { target: Target { kind, name }, key, arguments }
        }
    }
    prop_compose! {
        fn any_key()(ns in 0..3u32, source in "[a-c\u{e9}]{0,3}", hash: [u8; 16]) -> BindKey {
            BindKey { ns: Namespace(ns), source: source.into(), hash }
        }
    }

    proptest! {
        #[test]
        fn a_binding_comes_back_as_it_was_written(row in any_row()) {
            let mut bytes = Vec::new();
            row.put(&mut bytes);
            prop_assert_eq!(BindRow::take(&bytes).unwrap(), row);
        }
        #[test]
        fn keys_come_back_and_keep_their_order(a in any_key(), b in any_key()) {
            prop_assert_eq!(&BindKey::decode(&a.encode()).unwrap(), &a);
            prop_assert_eq!(a.encode().cmp(&b.encode()), a.cmp(&b));
        }
        #[test]
        fn the_bindings_of_an_exchange_go_with_it(row in any_row(), keys in vec(any_key(), 1..9)) {
            let mut t = Table::<BindKey, BindRow>::default();
            for key in &keys {
                let set = effect(key, Some(&row));
                t.apply_effect(Lsn(1), &set.key, &set.bytes).unwrap();
            }
            let source = keys[0].source_key();
            prop_assert_eq!(t.of(&source, [0; 16]).count(), keys.iter().filter(|k| k.source_key() == source).count());
            t.apply_removed(Lsn(2), &source);
            prop_assert_eq!(t.of(&source, [0; 16]).count(), 0);
            for key in keys.iter().filter(|k| k.source_key() != source) {
                prop_assert_eq!(t.get(key), Some(&row));
            }
        }
        #[test]
        fn wrong_bytes_are_an_error(bytes: Vec<u8>) {
            let _ = (BindRow::take(&bytes), BindKey::decode(&bytes));
        }
    }

    /// The hash is in stored keys: it must never come out otherwise.
    #[test]
    fn the_hash_of_a_binding_is_what_it_has_always_been() {
        let def = BindingDef {
            ns: Namespace::DEFAULT,
            source: "orders".to_owned(),
            target: Target { kind: TargetKind::Queue, name: "bills".to_owned() },
            key: "eu.#".to_owned(),
            arguments: vec![1, 2, 3],
        };
        let known = [42, 92, 35, 161, 104, 249, 26, 122, 89, 235, 39, 121, 42, 133, 61, 117];
        assert_eq!(hash(&def), known);
    }
}
