//! A sorted list of numbers, each with how often it was put in; shared between versions until it is changed.

use std::sync::Arc;

/// The list.
#[derive(Clone, Debug)]
pub(crate) struct List<T>(Arc<Vec<(T, u32)>>);

impl<T> Default for List<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T: Copy + Ord> List<T> {
    pub(crate) fn add(&mut self, item: T) {
        let list = Arc::make_mut(&mut self.0);
        match list.binary_search_by(|(have, _)| have.cmp(&item)) {
            Ok(at) => {
                if let Some((_, times)) = list.get_mut(at) {
                    *times += 1;
                }
            }
            Err(at) => list.insert(at, (item, 1)),
        }
    }

    /// Takes it out once; nothing if it is not in.
    pub(crate) fn take(&mut self, item: T) {
        let Ok(at) = self.0.binary_search_by(|(have, _)| have.cmp(&item)) else { return };
        let list = Arc::make_mut(&mut self.0);
        if let Some((_, times)) = list.get_mut(at) {
            *times -= 1;
            if *times == 0 {
                list.remove(at);
            }
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = T> {
        self.0.iter().map(|(item, _)| *item)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_in_twice_is_out_when_taken_out_twice() {
        let mut list = List::default();
        for n in [5, 3, 5, 9] {
            list.add(n);
        }
        let before = list.clone();
        for (taken, left) in [(5, vec![3, 5, 9]), (4, vec![3, 5, 9]), (5, vec![3, 9]), (5, vec![3, 9])] {
            list.take(taken);
            assert_eq!(list.iter().collect::<Vec<_>>(), left);
        }
        assert_eq!(*before.0, [(3, 1), (5, 2), (9, 1)]);
    }
}
