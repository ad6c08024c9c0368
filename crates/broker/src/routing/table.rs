//! The table of one exchange.

use std::hash::BuildHasher;
use std::sync::Arc;

use millstream_engine::exchange::{BindingDef, ExchangeType};

use super::headers::{self, HeaderTable};
use super::list::List;
use super::pmap::PMap;
use super::scratch::{Lows, Word, split};
use super::topic::Trie;
use super::{RouteRequest, spread};

/// What an exchange looks up.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    /// All targets, with the number of bindings that lead to each.
    targets: PMap<u32, u32>,
    by: By,
}

#[derive(Clone, Debug)]
enum By {
    Key(PMap<Box<str>, List<u32>>),
    /// All of them.
    Nothing,
    Pattern(Trie),
    Headers(HeaderTable),
}

impl Table {
    pub(crate) fn new(kind: ExchangeType) -> Self {
        let by = match kind {
            ExchangeType::Direct => By::Key(PMap::default()),
            ExchangeType::Fanout => By::Nothing,
            ExchangeType::Topic => By::Pattern(Trie::default()),
            ExchangeType::Headers => By::Headers(HeaderTable::default()),
        };
        Self { targets: PMap::default(), by }
    }

    /// Each target, with the number of bindings that lead to it.
    pub(crate) fn each_target(&self, f: &mut impl FnMut(u32, u32)) {
        self.targets.each(&mut |target, bindings| f(*target, *bindings));
    }

    pub(crate) fn bind(&mut self, hasher: &impl BuildHasher, def: &Arc<BindingDef>, target: u32) {
        *self.targets.get_or_insert(spread(target), |t| *t == target, || (target, 0)) += 1;
        match &mut self.by {
            By::Nothing => {}
            By::Key(map) => {
                let key = def.key.as_str();
                let hash = hasher.hash_one(key);
                map.get_or_insert(hash, |k| **k == *key, || (key.into(), List::default())).add(target);
            }
            By::Pattern(trie) => trie.bind(hasher, &def.key, target),
            By::Headers(table) => table.bind(hasher, def, target),
        }
    }

    pub(crate) fn unbind(&mut self, hasher: &impl BuildHasher, def: &BindingDef, target: u32) {
        if let Some(bindings) = self.targets.get_mut(spread(target), |t| *t == target) {
            *bindings -= 1;
            if *bindings == 0 {
                self.targets.remove(spread(target), |t| *t == target);
            }
        }
        match &mut self.by {
            By::Nothing => {}
            By::Key(map) => {
                let key = def.key.as_str();
                let hash = hasher.hash_one(key);
                let Some(list) = map.get_mut(hash, |k| **k == *key) else { return };
                list.take(target);
                if list.is_empty() {
                    map.remove(hash, |k| **k == *key);
                }
            }
            By::Pattern(trie) => trie.unbind(hasher, &def.key, target),
            By::Headers(table) => table.unbind(hasher, def),
        }
    }

    /// Shows the targets of the bindings that the message meets; one may be shown more than once. `probes` are made if they are
    /// wanted and empty.
    pub(crate) fn find(
        &self,
        hasher: &impl BuildHasher,
        message: &RouteRequest<'_>,
        lows: &mut Lows,
        words: &mut Vec<Word>,
        probes: &mut Vec<u64>,
        found: &mut impl FnMut(u32),
    ) {
        match &self.by {
            By::Nothing => self.targets.each(&mut |target, _| found(*target)),
            By::Key(map) => {
                for key in message.keys {
                    let list = map.get(hasher.hash_one(*key), |k| **k == **key);
                    list.into_iter().flat_map(List::iter).for_each(&mut *found);
                }
            }
            By::Pattern(trie) => {
                for key in message.keys {
                    split(hasher, key, words);
                    trie.walk(key, words, lows, found);
                }
            }
            By::Headers(table) => {
                if probes.is_empty() {
                    for header in message.headers {
                        let (pair, name) = headers::hashes_of(hasher, header);
                        probes.extend([pair, name]);
                    }
                }
                table.find(hasher, message.headers, probes, found);
            }
        }
    }
}
