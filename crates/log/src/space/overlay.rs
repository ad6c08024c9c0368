//! [`Overlay`]: rows of the state store with changes on top that are not written yet.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::api::StoreError;
use crate::store::{Change, Pair, StateStore};

const PAGE_ROWS: usize = 1024;

/// Rows as they will be once the changes are written.
pub(crate) struct Overlay {
    store: Arc<dyn StateStore>,
    dirty: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl Overlay {
    pub(crate) fn new(store: Arc<dyn StateStore>) -> Self {
        Self { store, dirty: BTreeMap::new() }
    }

    /// Rows changed and not written.
    pub(crate) fn dirty(&self) -> usize {
        self.dirty.len()
    }

    /// The changes, to be written at once in one batch: from now on they are read from the store.
    pub(crate) fn take(&mut self) -> impl Iterator<Item = Change> + use<> {
        std::mem::take(&mut self.dirty).into_iter()
    }

    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match self.dirty.get(key) {
            Some(row) => Ok(row.clone()),
            None => self.store.get(key),
        }
    }

    pub(crate) fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.dirty.insert(key, Some(value));
    }

    pub(crate) fn remove(&mut self, key: Vec<u8>) {
        self.dirty.insert(key, None);
    }

    /// The row with the greatest key that starts with `prefix` and is at most `at`.
    pub(crate) fn at_or_below(&self, prefix: &[u8], at: &[u8]) -> Result<Option<Pair>, StoreError> {
        let mut at = at.to_vec();
        loop {
            let stored = self.store.at_or_below(prefix, &at)?;
            let changed = self.dirty.range(..=at.clone()).next_back().filter(|(k, _)| k.starts_with(prefix));
            match (stored, changed) {
                (stored, None) => return Ok(stored),
                (Some(s), Some((k, _))) if s.0 > *k => return Ok(Some(s)),
                (_, Some((k, Some(v)))) => return Ok(Some((k.clone(), v.clone()))),
                // Removed: look below it. Keys here end in a number, so the greatest key below is that of the number before.
                (_, Some((k, None))) => match below(k, prefix.len()) {
                    Some(k) => at = k,
                    None => return Ok(None),
                },
            }
        }
    }

    /// At most `max` rows whose key starts with `prefix` and is at least `from`, ascending.
    pub(crate) fn scan(&self, prefix: &[u8], from: &[u8], max: usize) -> Result<Vec<Pair>, StoreError> {
        let mut from = from.max(prefix).to_vec();
        let mut found = Vec::new();
        let page_rows = max.clamp(1, PAGE_ROWS);
        loop {
            let page = self.store.scan(prefix, &from, page_rows)?;
            let whole = page.len() < page_rows;
            // Changes may be merged up to the last row of the page, or all if it is the last page.
            let until = if whole { None } else { page.last().map(|(k, _)| k.clone()) };
            let mut merged: BTreeMap<Vec<u8>, Vec<u8>> = page.into_iter().collect();
            let changes = self.dirty.range(from..).take_while(|(k, _)| k.starts_with(prefix));
            for (key, value) in changes.take_while(|(k, _)| until.as_ref().is_none_or(|u| *k <= u)) {
                match value {
                    Some(value) => merged.insert(key.clone(), value.clone()),
                    None => merged.remove(key),
                };
            }
            found.extend(merged.into_iter().take(max - found.len()));
            match until {
                Some(mut last) if found.len() < max => {
                    last.push(0);
                    from = last;
                }
                _ => return Ok(found),
            }
        }
    }
}

/// The greatest key of the same length that is less, if its first `keep` bytes can stay.
fn below(key: &[u8], keep: usize) -> Option<Vec<u8>> {
    let mut key = key.to_vec();
    let tail = key.get_mut(keep..)?;
    for byte in tail.iter_mut().rev() {
        let (less, borrow) = byte.overflowing_sub(1);
        *byte = less;
        if !borrow {
            return Some(key);
        }
    }
    None
}
