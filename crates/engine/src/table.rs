//! The rows of one family: as they are now, and which of them the state store does not have yet.
//!
//! Start at [`Table`]. All rows are resident (of queues, few: ADR 0033): they are loaded once, when the log is opened. A row changes only through
//! [`Table::apply`], in the order of LSNs, by a record that is newer than the row; replay and service call the same.
//!
//! **In memory only.** A row of a transient queue changes by operations that are in no record: with [`Lsn::UNRECORDED`]. It is never dirty,
//! the store never has it, and it goes when it is removed.
//!
//! **Removing.** A row that is removed leaves no tombstone in the store. Sound, because replay always goes on from the floor to
//! the end of the log: an older operation that makes the row anew is followed by the removal. So `apply` functions must be total: they
//! may meet an absent row, and what they make of it is thrown away by a later record of the same replay.

use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeBounds;
use std::sync::Arc;

use millstream_log::{Row, StateReader};
use millstream_types::Lsn;

use crate::error::LoadError;
use crate::rows::{RowKey, RowValue};

/// Rows read at once when a family is loaded.
const LOAD_ROWS: usize = 1_024;

/// The rows of one family.
#[derive(Debug)]
pub struct Table<K, R> {
    rows: BTreeMap<K, Slot<R>>,
    /// Rows that changed since they were last taken, by the first LSN that did: ascending, since records are applied in order.
    dirty: VecDeque<(Lsn, K)>,
    /// Rows that the record being applied touched.
    touched: Vec<K>,
}

#[derive(Debug)]
struct Slot<R> {
    value: Option<R>,
    row_lsn: Lsn,
    dirty: bool,
    /// Only memory has the value: for the store there is no such row.
    transient: bool,
}

impl<R> Slot<R> {
    /// Of a row that was never there.
    const NONE: Self = Self { value: None, row_lsn: Lsn(0), dirty: false, transient: false };
}

impl<K, R> Default for Table<K, R> {
    fn default() -> Self {
        Self { rows: BTreeMap::new(), dirty: VecDeque::new(), touched: Vec::new() }
    }
}

impl<K: RowKey, R: RowValue> Table<K, R> {
    /// Loads all rows of the family.
    ///
    /// # Errors
    /// If the store fails or holds what cannot be read.
    pub fn load(rows: &Arc<dyn StateReader>) -> Result<Self, LoadError> {
        Self::load_with(rows, |_| {})
    }

    /// The same; `f` may have each row share what others have too.
    ///
    /// # Errors
    /// As [`Table::load`].
    pub fn load_with(rows: &Arc<dyn StateReader>, mut f: impl FnMut(&mut R)) -> Result<Self, LoadError> {
        // Ascending as they come, so the map is made of full nodes: one by one they would be half empty.
        let mut all = Vec::new();
        let prefix = [K::FAMILY];
        let mut from = prefix.to_vec();
        loop {
            let page = rows.scan(&prefix, &from, LOAD_ROWS)?;
            let Some(last) = page.last() else { break };
            from.clone_from(&last.key);
            from.push(0);
            let full = page.len() >= LOAD_ROWS;
            for row in page {
                let Some(bytes) = row.value else { continue };
                let key = K::decode(&row.key).map_err(|e| LoadError::row(&row.key, e))?;
                let mut value = R::take(&bytes).map_err(|e| LoadError::row(&row.key, e))?;
                f(&mut value);
                all.push((key, Slot { value: Some(value), row_lsn: row.row_lsn, ..Slot::NONE }));
            }
            if !full {
                break;
            }
        }
        Ok(Self { rows: all.into_iter().collect(), ..Self::default() })
    }

    /// The row now.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<&R> {
        self.rows.get(key)?.value.as_ref()
    }

    /// How many rows there are, with those that were removed and not taken yet.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// All rows, ascending by key.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &R)> {
        self.rows.iter().filter_map(|(k, s)| Some((k, s.value.as_ref()?)))
    }

    /// Rows in a range of keys, ascending.
    pub fn range(&self, range: impl RangeBounds<K>) -> impl Iterator<Item = (&K, &R)> {
        self.rows.range(range).filter_map(|(k, s)| Some((k, s.value.as_ref()?)))
    }

    /// Applies one operation of record `lsn` to one row, if the row does not have it yet; one that is in no record always. `f` looks at
    /// that row only.
    pub fn apply(&mut self, lsn: Lsn, key: &K, f: impl FnOnce(&mut Option<R>)) {
        let slot = match self.rows.get_mut(key) {
            Some(slot) => slot,
            None => self.rows.entry(key.clone()).or_insert(Slot::NONE),
        };
        if lsn == Lsn::UNRECORDED {
            f(&mut slot.value);
            slot.transient = true;
            if slot.value.is_none() && !slot.dirty {
                self.rows.remove(key);
            }
            return;
        }
        if lsn <= slot.row_lsn {
            return;
        }
        f(&mut slot.value);
        slot.transient = false;
        self.touched.push(key.clone());
        if !slot.dirty {
            slot.dirty = true;
            self.dirty.push_back((lsn, key.clone()));
        }
    }

    fn pop(&mut self) -> Option<Row> {
        let (_, key) = self.dirty.pop_front()?;
        let slot = self.rows.get_mut(&key)?;
        slot.dirty = false;
        let row_lsn = slot.row_lsn;
        // Under this key there may be a row by now that only memory has: what the store had there was removed before.
        let value = slot.value.as_ref().filter(|_| !slot.transient).map(|v| {
            let mut out = Vec::new();
            v.put(&mut out);
            out
        });
        if slot.value.is_none() {
            self.rows.remove(&key);
        }
        Some(Row { key: key.encode(), row_lsn, value })
    }
}

/// What every table can do for the flusher, whatever its rows are. Between records only.
pub trait Dirty {
    /// The record is complete: the rows it touched have it.
    fn record_end(&mut self, lsn: Lsn);
    /// The lowest LSN of which an effect is in no row taken so far.
    fn oldest_dirty(&self) -> Option<Lsn>;
    /// Takes the row that is dirty for longest.
    fn pop_dirty(&mut self) -> Option<Row>;
}

impl<K: RowKey, R: RowValue> Dirty for Table<K, R> {
    fn record_end(&mut self, lsn: Lsn) {
        for key in self.touched.drain(..) {
            if let Some(slot) = self.rows.get_mut(&key) {
                slot.row_lsn = lsn;
            }
        }
    }
    fn oldest_dirty(&self) -> Option<Lsn> {
        self.dirty.front().map(|d| d.0)
    }
    fn pop_dirty(&mut self) -> Option<Row> {
        self.pop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::id::{Counter, NextId};

    type Counters = Table<Counter, NextId>;

    fn add(t: &mut Counters, lsn: u64, key: Counter) {
        t.apply(Lsn(lsn), &key, |row| row.get_or_insert(NextId(0)).0 += 1);
    }

    #[test]
    fn a_record_is_applied_to_a_row_whole_and_once() {
        let mut t = Counters::default();
        for _ in 0..2 {
            add(&mut t, 5, Counter::Objects);
            add(&mut t, 5, Counter::Objects);
            t.record_end(Lsn(5));
        }
        assert_eq!(t.get(&Counter::Objects), Some(&NextId(2)));
    }

    #[test]
    fn rows_are_given_in_the_order_in_which_they_became_dirty() {
        let mut t = Counters::default();
        for (lsn, key) in [(1, Counter::Producers), (2, Counter::Objects), (3, Counter::Producers)] {
            add(&mut t, lsn, key);
            t.record_end(Lsn(lsn));
        }
        assert_eq!(t.oldest_dirty(), Some(Lsn(1)));
        let row = t.pop_dirty().unwrap();
        assert_eq!((row.key, row.row_lsn), (Counter::Producers.encode(), Lsn(3)));
        assert_eq!(t.oldest_dirty(), Some(Lsn(2)));
        add(&mut t, 4, Counter::Producers);
        t.record_end(Lsn(4));
        assert_eq!(t.pop_dirty().unwrap().key, Counter::Objects.encode());
        assert_eq!((t.oldest_dirty(), t.pop_dirty().unwrap().row_lsn), (Some(Lsn(4)), Lsn(4)));
        assert!(t.pop_dirty().is_none());
    }

    #[test]
    fn a_removed_row_is_given_once_and_then_forgotten() {
        let mut t = Counters::default();
        add(&mut t, 1, Counter::Objects);
        t.record_end(Lsn(1));
        t.apply(Lsn(2), &Counter::Objects, |row| *row = None);
        t.record_end(Lsn(2));
        assert_eq!(t.get(&Counter::Objects), None);
        let row = t.pop_dirty().unwrap();
        assert_eq!((row.row_lsn, row.value), (Lsn(2), None));
        assert!(t.rows.is_empty() && t.oldest_dirty().is_none());
    }

    #[test]
    fn a_row_that_only_memory_has_is_never_given_to_the_store_and_goes_when_it_is_removed() {
        let mut t = Counters::default();
        add(&mut t, 0, Counter::Objects);
        add(&mut t, 0, Counter::Objects);
        t.record_end(Lsn(0));
        assert_eq!(t.get(&Counter::Objects), Some(&NextId(2)));
        assert!(t.oldest_dirty().is_none() && t.pop_dirty().is_none());
        t.apply(Lsn(0), &Counter::Objects, |row| *row = None);
        assert!(t.rows.is_empty());
    }

    #[test]
    fn a_row_that_only_memory_has_may_take_the_key_of_one_that_was_removed_and_leave_it_to_another() {
        let mut t = Counters::default();
        add(&mut t, 1, Counter::Objects);
        t.record_end(Lsn(1));
        t.pop_dirty().unwrap();
        t.apply(Lsn(2), &Counter::Objects, |row| *row = None);
        t.record_end(Lsn(2));
        add(&mut t, 0, Counter::Objects);
        let row = t.pop_dirty().unwrap();
        assert_eq!((row.row_lsn, row.value), (Lsn(2), None));
        assert_eq!(t.get(&Counter::Objects), Some(&NextId(1)));
        t.apply(Lsn(0), &Counter::Objects, |row| *row = None);
        add(&mut t, 3, Counter::Objects);
        t.record_end(Lsn(3));
        let row = t.pop_dirty().unwrap();
        assert!(row.row_lsn == Lsn(3) && row.value.is_some());
    }
}
