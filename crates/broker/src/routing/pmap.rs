//! A map that shares what two versions of it have in common: an edit copies the path to what it changes, 32-way nodes from the root, and
//! nothing if nobody else holds the map. Lookups take any key that can be hashed and compared alike, so that none is made for them.
//!
//! Start at [`PMap`]. The caller hashes; equal keys must have equal hashes.

use std::sync::Arc;

/// Bits of the hash that one level looks at.
const LEVEL_BITS: u32 = 5;

/// The map. Cloning it is cheap.
#[derive(Debug)]
pub(crate) struct PMap<K, V> {
    root: Option<Arc<Node<K, V>>>,
    len: usize,
}

#[derive(Clone, Debug)]
enum Node<K, V> {
    /// One bit per kid that there is, kids in the order of their bits.
    Branch { bits: u32, kids: Vec<Arc<Node<K, V>>> },
    /// All with one hash.
    Leaf { hash: u64, items: Vec<(K, V)> },
}

impl<K, V> Clone for PMap<K, V> {
    fn clone(&self) -> Self {
        Self { root: self.root.clone(), len: self.len }
    }
}

impl<K, V> Default for PMap<K, V> {
    fn default() -> Self {
        Self { root: None, len: 0 }
    }
}

fn bit(hash: u64, shift: u32) -> u32 {
    1 << (hash.checked_shr(shift).unwrap_or(0) & 31)
}

fn place(bits: u32, bit: u32) -> usize {
    (bits & (bit - 1)).count_ones() as usize
}

impl<K, V> PMap<K, V> {
    /// How many there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The value of the key with this hash that `same` knows.
    pub(crate) fn get(&self, hash: u64, same: impl Fn(&K) -> bool) -> Option<&V> {
        let mut node = self.root.as_deref()?;
        let mut shift = 0;
        loop {
            match node {
                Node::Branch { bits, kids } => {
                    let bit = bit(hash, shift);
                    if bits & bit == 0 {
                        return None;
                    }
                    node = kids.get(place(*bits, bit))?;
                    shift += LEVEL_BITS;
                }
                Node::Leaf { hash: h, items } if *h == hash => {
                    return items.iter().find(|(k, _)| same(k)).map(|(_, v)| v);
                }
                Node::Leaf { .. } => return None,
            }
        }
    }

    /// Shows every one, in no particular order.
    pub(crate) fn each(&self, f: &mut impl FnMut(&K, &V)) {
        if let Some(root) = &self.root {
            root.each(f);
        }
    }
}

impl<K, V> Node<K, V> {
    fn each(&self, f: &mut impl FnMut(&K, &V)) {
        match self {
            Self::Branch { kids, .. } => kids.iter().for_each(|kid| kid.each(f)),
            Self::Leaf { items, .. } => items.iter().for_each(|(k, v)| f(k, v)),
        }
    }
}

impl<K: Clone, V: Clone> PMap<K, V> {
    /// The value to be changed, if there is one.
    pub(crate) fn get_mut(&mut self, hash: u64, same: impl Fn(&K) -> bool) -> Option<&mut V> {
        self.get(hash, &same)?;
        let mut node = self.root.as_mut()?;
        let mut shift = 0;
        loop {
            match Arc::make_mut(node) {
                Node::Branch { bits, kids } => {
                    node = kids.get_mut(place(*bits, bit(hash, shift)))?;
                    shift += LEVEL_BITS;
                }
                Node::Leaf { items, .. } => {
                    return items.iter_mut().find(|(k, _)| same(k)).map(|(_, v)| v);
                }
            }
        }
    }

    /// The value to be changed; made first if there is none.
    pub(crate) fn get_or_insert(
        &mut self,
        hash: u64,
        same: impl Fn(&K) -> bool,
        make: impl FnOnce() -> (K, V),
    ) -> &mut V {
        let empty = || Arc::new(Node::Leaf { hash, items: Vec::new() });
        let mut node = self.root.get_or_insert_with(empty);
        let mut shift = 0;
        loop {
            // Two hashes in one place: a branch takes the leaf's place.
            if let Node::Leaf { hash: other, .. } = **node
                && other != hash
            {
                *node = Arc::new(Node::Branch { bits: bit(other, shift), kids: vec![Arc::clone(node)] });
            }
            match Arc::make_mut(node) {
                Node::Branch { bits, kids } => {
                    let bit = bit(hash, shift);
                    let at = place(*bits, bit);
                    if *bits & bit == 0 {
                        *bits |= bit;
                        kids.insert(at, empty());
                    }
                    node = kids.get_mut(at).expect("its bit is set");
                    shift += LEVEL_BITS;
                }
                Node::Leaf { items, .. } => {
                    let at = items.iter().position(|(k, _)| same(k)).unwrap_or_else(|| {
                        items.push(make());
                        self.len += 1;
                        items.len() - 1
                    });
                    return &mut items.get_mut(at).expect("it is there").1;
                }
            }
        }
    }

    /// Takes one out.
    pub(crate) fn remove(&mut self, hash: u64, same: impl Fn(&K) -> bool) -> Option<V> {
        self.get(hash, &same)?;
        let root = self.root.as_mut()?;
        let (value, empty) = remove(root, 0, hash, &same);
        if empty {
            self.root = None;
        }
        self.len -= usize::from(value.is_some());
        value
    }
}

/// The value, and whether nothing is left of the node. A branch with one leaf becomes that leaf.
fn remove<K: Clone, V: Clone>(
    node: &mut Arc<Node<K, V>>,
    shift: u32,
    hash: u64,
    same: &impl Fn(&K) -> bool,
) -> (Option<V>, bool) {
    let only = match Arc::make_mut(node) {
        Node::Leaf { items, .. } => {
            let at = items.iter().position(|(k, _)| same(k));
            let value = at.map(|at| items.swap_remove(at).1);
            return (value, items.is_empty());
        }
        Node::Branch { bits, kids } => {
            let bit = bit(hash, shift);
            let at = place(*bits, bit);
            let Some(kid) = kids.get_mut(at) else { return (None, false) };
            let (value, empty) = remove(kid, shift + LEVEL_BITS, hash, same);
            if empty {
                kids.remove(at);
                *bits &= !bit;
            }
            match kids.as_slice() {
                [] => return (value, true),
                [kid] if matches!(**kid, Node::Leaf { .. }) => (value, Arc::clone(kid)),
                _ => return (value, false),
            }
        }
    };
    *node = only.1;
    (only.0, false)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// Hashes that meet at every level, and some that are equal.
    fn hash(key: u16) -> u64 {
        match key % 4 {
            0 => u64::from(key),
            1 => u64::from(key) << 48,
            2 => u64::from(key / 64),
            _ => u64::from(key).wrapping_mul(0x9E37_79B9_7F4A_7C15),
        }
    }

    fn all(map: &PMap<u16, u32>) -> BTreeMap<u16, u32> {
        let mut seen = BTreeMap::new();
        map.each(&mut |k, v| assert!(seen.insert(*k, *v).is_none()));
        assert_eq!(seen.len(), map.len());
        seen
    }

    proptest! {
        #[test]
        fn it_is_a_map_and_its_older_versions_stay_as_they_were(steps in vec((0..3u8, 0..300u16, any::<u32>()), 1..200)) {
            let (mut map, mut model) = (PMap::default(), BTreeMap::new());
            let mut past = Vec::new();
            for (what, key, value) in steps {
                match what {
                    0 => {
                        *map.get_or_insert(hash(key), |k| *k == key, || (key, 0)) = value;
                        model.insert(key, value);
                    }
                    1 => prop_assert_eq!(map.remove(hash(key), |k| *k == key), model.remove(&key)),
                    _ => {
                        let got = map.get_mut(hash(key), |k| *k == key);
                        prop_assert_eq!(got.as_deref(), model.get(&key));
                        if let Some(v) = got {
                            *v += 1;
                            *model.get_mut(&key).unwrap() += 1;
                        }
                    }
                }
                prop_assert_eq!(map.get(hash(key), |k| *k == key), model.get(&key));
                prop_assert_eq!(map.is_empty(), model.is_empty());
                if past.len() < 20 {
                    past.push((map.clone(), model.clone()));
                }
            }
            past.push((map, model));
            for (map, model) in &past {
                prop_assert_eq!(&all(map), model);
            }
        }
    }
}
