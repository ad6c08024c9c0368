//! The effect of rows that are replaced whole: the row as it is afterwards, or its removal. It knows nothing of what a row holds.
//!
//! Bytes: `version u8 (1) · what u8 (0 removed, 1 set) · the row's value, if set`.

use super::{RowKey, RowValue};
use crate::codec::{Dec, DecodeError, Enc};
use crate::effect::RowEffect;

/// Also of the effects that rows have beside these.
pub(super) const VERSION: u8 = 1;
const REMOVED: u8 = 0;
const SET: u8 = 1;

/// The effect after which the row is `row`; `None` removes it.
pub(crate) fn effect<K: RowKey, V: RowValue>(key: &K, row: Option<&V>) -> RowEffect {
    let mut bytes = vec![VERSION];
    match row {
        None => bytes.u8(REMOVED),
        Some(row) => {
            bytes.u8(SET);
            row.put(&mut bytes);
        }
    }
    RowEffect::new(key.encode(), bytes)
}

/// The row that an effect leaves; `None`: it is removed. `what` names the effect in the error.
pub(crate) fn decode<V: RowValue>(bytes: &[u8], what: &'static str) -> Result<Option<V>, DecodeError> {
    let mut d = Dec::new(bytes);
    d.version(VERSION)?;
    match d.u8()? {
        REMOVED => d.end().map(|()| None),
        SET => V::take(d.rest()).map(Some),
        _ => Err(DecodeError::Value { what }),
    }
}
