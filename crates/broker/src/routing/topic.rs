//! Patterns of words: a tree with a node per word of a pattern, in which `*` stands for one word and `#` for any number of them.
//! Dots part words, which may be empty; an empty key has none.
//!
//! Start at [`Trie::walk`]. A node that stands for `#` remembers, for the walk at hand, from which word on it has been looked at
//! already; every other node can be reached at one word in one way only. So each (node, word) is looked at once, and `#.#.#` is not
//! exponential. A word is hashed once per message and compared where the hash is met.

use std::hash::BuildHasher;
use std::sync::Arc;

use super::list::List;
use super::pmap::PMap;
use super::scratch::{Lows, Word};

/// The patterns of one exchange, with their targets.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trie {
    root: Arc<Node>,
    /// Numbers of `#` nodes that were given and are free again.
    free: Arc<Vec<u32>>,
    next: u32,
}

#[derive(Clone, Debug, Default)]
struct Node {
    words: PMap<Box<str>, Arc<Node>>,
    one: Option<Arc<Node>>,
    many: Option<Arc<Node>>,
    /// Of a `#` node: which of the walk's memories is its.
    number: u32,
    targets: List<u32>,
}

impl Node {
    fn is_empty(&self) -> bool {
        self.words.is_empty() && self.one.is_none() && self.many.is_none() && self.targets.is_empty()
    }
}

/// The words of a key or a pattern.
pub(super) fn words_of(key: &str) -> impl Iterator<Item = &str> {
    key.split('.').filter(move |_| !key.is_empty())
}

impl Trie {
    pub(crate) fn bind(&mut self, hasher: &impl BuildHasher, pattern: &str, target: u32) {
        let mut node = &mut self.root;
        for word in words_of(pattern) {
            let here = Arc::make_mut(node);
            node = match word {
                "*" => here.one.get_or_insert_default(),
                "#" => here.many.get_or_insert_with(|| {
                    let number = Arc::make_mut(&mut self.free).pop().unwrap_or_else(|| {
                        self.next += 1;
                        self.next - 1
                    });
                    Arc::new(Node { number, ..Node::default() })
                }),
                _ => here.words.get_or_insert(
                    hasher.hash_one(word),
                    |w| **w == *word,
                    || (word.into(), Arc::default()),
                ),
            };
        }
        Arc::make_mut(node).targets.add(target);
    }

    pub(crate) fn unbind(&mut self, hasher: &impl BuildHasher, pattern: &str, target: u32) {
        let mut freed = Vec::new();
        unbind(&mut self.root, hasher, Some(pattern).filter(|p| !p.is_empty()), target, &mut freed);
        if !freed.is_empty() {
            Arc::make_mut(&mut self.free).extend(freed);
        }
    }

    /// Shows the targets of every pattern that the words match; one may be shown more than once.
    pub(crate) fn walk(&self, key: &str, words: &[Word], lows: &mut Lows, found: &mut impl FnMut(u32)) {
        lows.begin(self.next);
        walk(&self.root, key, words, 0, lows, found);
    }
}

/// Goes down to the pattern's end; nodes that are empty then go. As deep as the pattern has words.
fn unbind(
    node: &mut Arc<Node>,
    hasher: &impl BuildHasher,
    pattern: Option<&str>,
    target: u32,
    freed: &mut Vec<u32>,
) {
    let here = Arc::make_mut(node);
    let Some(pattern) = pattern else {
        here.targets.take(target);
        return;
    };
    let (word, rest) = match pattern.split_once('.') {
        Some((word, rest)) => (word, Some(rest)),
        None => (pattern, None),
    };
    let mut below = |kid: &mut Arc<Node>| {
        unbind(kid, hasher, rest, target, freed);
        kid.is_empty()
    };
    match word {
        "*" => {
            if here.one.as_mut().is_some_and(below) {
                here.one = None;
            }
        }
        "#" => {
            if let Some(kid) = here.many.as_mut()
                && below(kid)
            {
                let number = kid.number;
                here.many = None;
                freed.push(number);
            }
        }
        _ => {
            let hash = hasher.hash_one(word);
            if here.words.get_mut(hash, |w| **w == *word).is_some_and(below) {
                here.words.remove(hash, |w| **w == *word);
            }
        }
    }
}

/// As deep as the longest pattern has words, which its length bounds.
fn walk(node: &Node, key: &str, words: &[Word], at: usize, lows: &mut Lows, found: &mut impl FnMut(u32)) {
    match words.get(at) {
        None => node.targets.iter().for_each(&mut *found),
        Some(word) => {
            let text = word.text(key);
            if let Some(kid) = node.words.get(word.hash, |w| **w == *text) {
                walk(kid, key, words, at + 1, lows, found);
            }
            if let Some(kid) = &node.one {
                walk(kid, key, words, at + 1, lows, found);
            }
        }
    }
    if let Some(kid) = &node.many {
        for from in at..lows.lower(kid.number, at, words.len()) {
            walk(kid, key, words, from, lows, found);
        }
    }
}
