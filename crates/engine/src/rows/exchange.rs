//! Exchanges, family [`EXCHANGE`](super::family::EXCHANGE). Those that are always there have no row.
//!
//! Key: `ns u32 · name`. Value, version 1: `version u8 · type u8 (1 direct, 2 fanout, 3 topic, 4 headers) · flags u8 (1 durable,
//! 2 auto-delete, 4 internal, 8 has an alternate) · created_ms u64 · [alternate blob] · arguments blob`; a blob is its length (u32) and bytes.
//! Effect, version 1: `version u8 · what u8`: 0 = the exchange is removed and all bindings from it ([`super::bind`]) with it; 1 = it
//! is now the value that follows.

use millstream_types::Lsn;

use super::name::Name;
use super::{RowKey, RowValue, family, whole};
use crate::codec::{Dec, DecodeError, Enc};
use crate::effect::RowEffect;
use crate::exchange::{ExchangeDef, ExchangeType};
use crate::table::Table;

const VERSION: u8 = 1;

const DURABLE: u8 = 1;
const AUTO_DELETE: u8 = 2;
const INTERNAL: u8 = 4;
const HAS_ALTERNATE: u8 = 8;

/// An exchange's name.
pub type ExchangeKey = Name<{ family::EXCHANGE }>;

/// An exchange's definition without what its key says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExchangeRow {
    /// How it routes.
    pub kind: ExchangeType,
    /// Asked to survive a restart.
    pub durable: bool,
    /// Goes with its last binding.
    pub auto_delete: bool,
    /// Takes messages from other exchanges only.
    pub internal: bool,
    /// Where messages go that it routes nowhere.
    pub alternate: Option<String>,
    /// Other arguments.
    pub arguments: Vec<u8>,
    /// When it was made, milliseconds since the epoch.
    pub created_ms: u64,
}

impl ExchangeRow {
    /// From a definition, made now.
    #[must_use]
    pub fn of(def: &ExchangeDef, created_ms: u64) -> Self {
        Self {
            kind: def.kind,
            durable: def.durable,
            auto_delete: def.auto_delete,
            internal: def.internal,
            alternate: def.alternate.clone(),
            arguments: def.arguments.clone(),
            created_ms,
        }
    }

    /// The definition.
    #[must_use]
    pub fn def(&self, key: &ExchangeKey) -> ExchangeDef {
        ExchangeDef {
            ns: key.ns,
            name: key.name.clone(),
            kind: self.kind,
            durable: self.durable,
            auto_delete: self.auto_delete,
            internal: self.internal,
            alternate: self.alternate.clone(),
            arguments: self.arguments.clone(),
            created_ms: self.created_ms,
        }
    }
}

impl RowValue for ExchangeRow {
    fn put(&self, out: &mut Vec<u8>) {
        out.u8(VERSION);
        out.u8(match self.kind {
            ExchangeType::Direct => 1,
            ExchangeType::Fanout => 2,
            ExchangeType::Topic => 3,
            ExchangeType::Headers => 4,
        });
        let flag = |on: bool, flag: u8| if on { flag } else { 0 };
        out.u8(flag(self.durable, DURABLE)
            | flag(self.auto_delete, AUTO_DELETE)
            | flag(self.internal, INTERNAL)
            | flag(self.alternate.is_some(), HAS_ALTERNATE));
        out.u64(self.created_ms);
        if let Some(alternate) = &self.alternate {
            out.blob(alternate.as_bytes());
        }
        out.blob(&self.arguments);
    }

    fn take(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut d = Dec::new(bytes);
        d.version(VERSION)?;
        let kind = match d.u8()? {
            1 => ExchangeType::Direct,
            2 => ExchangeType::Fanout,
            3 => ExchangeType::Topic,
            4 => ExchangeType::Headers,
            _ => return Err(DecodeError::Value { what: "type of exchange" }),
        };
        let flags = d.u8()?;
        if flags > DURABLE | AUTO_DELETE | INTERNAL | HAS_ALTERNATE {
            return Err(DecodeError::Value { what: "flags of exchange" });
        }
        let created_ms = d.u64()?;
        let alternate = if flags & HAS_ALTERNATE == 0 { None } else { Some(d.text()?.to_owned()) };
        let arguments = d.blob()?.to_vec();
        d.end()?;
        Ok(Self {
            kind,
            durable: flags & DURABLE != 0,
            auto_delete: flags & AUTO_DELETE != 0,
            internal: flags & INTERNAL != 0,
            alternate,
            arguments,
            created_ms,
        })
    }
}

/// The effect after which the exchange is `row`; `None` removes it, and all bindings from it.
#[must_use]
pub fn effect(key: &ExchangeKey, row: Option<&ExchangeRow>) -> RowEffect {
    whole::effect(key, row)
}

impl Table<ExchangeKey, ExchangeRow> {
    /// Applies an effect; gives the exchange if it was removed, whose bindings are void then.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn apply_effect(
        &mut self,
        lsn: Lsn,
        key: &[u8],
        bytes: &[u8],
    ) -> Result<Option<ExchangeKey>, DecodeError> {
        let key = ExchangeKey::decode(key)?;
        let value: Option<ExchangeRow> = whole::decode(bytes, "exchange effect")?;
        let removed = value.is_none();
        self.apply(lsn, &key, |row| *row = value);
        Ok(removed.then_some(key))
    }
}

#[cfg(test)]
mod tests {
    use millstream_types::Namespace;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn kind() -> impl Strategy<Value = ExchangeType> {
        use ExchangeType::{Direct, Fanout, Headers, Topic};
        prop_oneof![Just(Direct), Just(Fanout), Just(Topic), Just(Headers)]
    }
    prop_compose! {
        fn any_row()(kind in kind(), durable: bool, auto_delete: bool, internal: bool, created_ms: u64,
                     alternate in proptest::option::of(".{0,9}"), arguments in vec(any::<u8>(), 0..9)) -> ExchangeRow {
            ExchangeRow { kind, durable, auto_delete, internal, alternate, arguments, created_ms }
        }
    }
    prop_compose! {
        fn any_key()(ns in 0..3u32, name in "[a-c\u{e9}]{0,3}") -> ExchangeKey {
            ExchangeKey { ns: Namespace(ns), name }
        }
    }

    proptest! {
        #[test]
        fn an_exchange_comes_back_as_it_was_written(row in any_row()) {
            let mut bytes = Vec::new();
            row.put(&mut bytes);
            prop_assert_eq!(ExchangeRow::take(&bytes).unwrap(), row);
        }
        #[test]
        fn keys_come_back_and_keep_their_order(a in any_key(), b in any_key()) {
            prop_assert_eq!(&ExchangeKey::decode(&a.encode()).unwrap(), &a);
            prop_assert_eq!(a.encode().cmp(&b.encode()), a.cmp(&b));
        }
        #[test]
        fn an_effect_sets_and_removes(row in any_row(), key in any_key()) {
            let mut t = Table::<ExchangeKey, ExchangeRow>::default();
            let set = effect(&key, Some(&row));
            prop_assert_eq!(t.apply_effect(Lsn(1), &set.key, &set.bytes).unwrap(), None);
            prop_assert_eq!(t.get(&key), Some(&row));
            let gone = effect(&key, None);
            prop_assert_eq!(t.apply_effect(Lsn(2), &gone.key, &gone.bytes).unwrap(), Some(key.clone()));
            prop_assert_eq!(t.get(&key), None);
        }
        #[test]
        fn wrong_bytes_are_an_error(bytes: Vec<u8>) {
            let _ = (ExchangeRow::take(&bytes), ExchangeKey::decode(&bytes));
        }
    }
}
