//! A queue's lanes by number, one beside the other: most queues have one, and a million of them must not take room for more.
//!
//! Start at [`Lanes`].

use std::ops::{Bound, RangeBounds};

/// Below so many, room is made for one more at a time.
const EXACT: usize = 4;

/// Something of each lane, ascending by its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lanes<V>(Vec<(u16, V)>);

impl<V> Default for Lanes<V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<V> Lanes<V> {
    fn find(&self, number: u16) -> Result<usize, usize> {
        self.0.binary_search_by_key(&number, |l| l.0)
    }
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// The lane of that number.
    #[must_use]
    pub fn get(&self, number: u16) -> Option<&V> {
        self.0.get(self.find(number).ok()?).map(|l| &l.1)
    }
    /// The same, to be changed.
    pub fn get_mut(&mut self, number: u16) -> Option<&mut V> {
        let at = self.find(number).ok()?;
        self.0.get_mut(at).map(|l| &mut l.1)
    }
    /// Whether there is one of that number.
    #[must_use]
    pub fn contains_key(&self, number: u16) -> bool {
        self.find(number).is_ok()
    }
    fn put(&mut self, at: usize, number: u16, lane: V) {
        if self.0.len() < EXACT {
            self.0.reserve_exact(1);
        }
        self.0.insert(at, (number, lane));
    }
    /// The lane of that number, made if it is not there.
    ///
    /// # Panics
    /// Never: it is there by then.
    pub fn get_or_insert_with(&mut self, number: u16, make: impl FnOnce() -> V) -> &mut V {
        let at = self.find(number).unwrap_or_else(|at| {
            self.put(at, number, make());
            at
        });
        &mut self.0.get_mut(at).expect("a lane that was found or made").1
    }
    /// The lane of that number is this.
    pub fn insert(&mut self, number: u16, lane: V) {
        match self.find(number) {
            Ok(at) => {
                if let Some(is) = self.0.get_mut(at) {
                    is.1 = lane;
                }
            }
            Err(at) => self.put(at, number, lane),
        }
    }
    /// All, ascending.
    #[must_use]
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&u16, &V)> {
        self.0.iter().map(|(n, v)| (n, v))
    }
    /// All, ascending, to be changed.
    pub fn iter_mut(&mut self) -> impl DoubleEndedIterator<Item = (&u16, &mut V)> {
        self.0.iter_mut().map(|(n, v)| (&*n, v))
    }
    /// The numbers, ascending.
    #[must_use]
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &u16> {
        self.iter().map(|l| l.0)
    }
    /// Without the numbers.
    #[must_use]
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &V> {
        self.iter().map(|l| l.1)
    }
    /// Without the numbers, to be changed.
    pub fn values_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut V> {
        self.iter_mut().map(|l| l.1)
    }

    fn bounds(&self, range: &impl RangeBounds<u16>) -> (usize, usize) {
        let from = match range.start_bound() {
            Bound::Included(n) => self.0.partition_point(|l| l.0 < *n),
            Bound::Excluded(n) => self.0.partition_point(|l| l.0 <= *n),
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(n) => self.0.partition_point(|l| l.0 <= *n),
            Bound::Excluded(n) => self.0.partition_point(|l| l.0 < *n),
            Bound::Unbounded => self.0.len(),
        };
        (from, to.max(from))
    }
    /// Those whose number lies in a range, ascending.
    pub fn range(&self, range: impl RangeBounds<u16>) -> impl DoubleEndedIterator<Item = (&u16, &V)> {
        let (from, to) = self.bounds(&range);
        self.0.get(from..to).unwrap_or_default().iter().map(|(n, v)| (n, v))
    }
    /// The same, to be changed.
    pub fn range_mut(
        &mut self,
        range: impl RangeBounds<u16>,
    ) -> impl DoubleEndedIterator<Item = (&u16, &mut V)> {
        let (from, to) = self.bounds(&range);
        self.0.get_mut(from..to).unwrap_or_default().iter_mut().map(|(n, v)| (&*n, v))
    }
}

impl<V: Default> Lanes<V> {
    /// The lane of that number, made if it is not there.
    pub fn get_or_default(&mut self, number: u16) -> &mut V {
        self.get_or_insert_with(number, V::default)
    }
}

impl<V> FromIterator<(u16, V)> for Lanes<V> {
    fn from_iter<T: IntoIterator<Item = (u16, V)>>(all: T) -> Self {
        let mut lanes = Self::default();
        for (number, lane) in all {
            lanes.insert(number, lane);
        }
        lanes
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn lanes_are_as_a_map_has_them(inserts in vec((0..9_u16, any::<u8>()), 0..20), a in 0..10_u16, b in 0..10_u16) {
            let mut lanes = Lanes::default();
            let mut map = BTreeMap::new();
            for (n, v) in inserts {
                if v % 2 == 0 {
                    lanes.insert(n, v);
                    map.insert(n, v);
                } else {
                    *lanes.get_or_default(n) |= v;
                    *map.entry(n).or_default() |= v;
                }
                prop_assert_eq!((lanes.get(n), lanes.contains_key(n)), (map.get(&n), true));
            }
            prop_assert!(lanes.iter().eq(map.iter()) && lanes.keys().rev().eq(map.keys().rev()));
            prop_assert!(lanes.values().eq(map.values()) && lanes.len() == map.len());
            prop_assert!(lanes.range(a..).eq(map.range(a..)) && lanes.range(..b).eq(map.range(..b)));
            if a <= b {
                prop_assert!(lanes.range(a..=b).rev().eq(map.range(a..=b).rev()));
                prop_assert!(lanes.range_mut(a..b).eq(map.range_mut(a..b)));
            } else {
                prop_assert!(lanes.range(a..b).next().is_none());
            }
            prop_assert_eq!(lanes.is_empty(), map.is_empty());
            prop_assert!(lanes.values_mut().eq(map.values_mut()));
            prop_assert_eq!(lanes.get(a), map.get(&a));
        }
    }
}
