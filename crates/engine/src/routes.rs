//! Which bindings lead to what, and how many come from each exchange: an index over the rows, kept in memory.
//!
//! Start at [`Index`].

use std::collections::{BTreeSet, HashMap};

use millstream_types::Namespace;

use crate::decide::routing::Step;
use crate::exchange::Target;
use crate::rows::bind::BindKey;
use crate::rows::exchange::ExchangeKey;
use crate::state::State;

static NONE: BTreeSet<BindKey> = BTreeSet::new();

/// The index. Nothing is decided by the order of its maps.
#[derive(Debug, Default)]
pub(crate) struct Index {
    from: HashMap<ExchangeKey, usize>,
    to: HashMap<(Namespace, Target), BTreeSet<BindKey>>,
    exchanges: usize,
    bindings: usize,
}

impl Index {
    /// From the rows.
    pub(crate) fn of(state: &State) -> Self {
        let mut index = Self { exchanges: state.exchange.iter().count(), ..Self::default() };
        for (key, row) in state.bind.iter() {
            index.bound(key, &row.target);
        }
        index
    }

    /// Exchanges with a row.
    pub(crate) fn exchanges(&self) -> usize {
        self.exchanges
    }

    /// Bindings.
    pub(crate) fn bindings(&self) -> usize {
        self.bindings
    }

    /// How many bindings come from an exchange.
    pub(crate) fn from(&self, key: &ExchangeKey) -> usize {
        self.from.get(key).copied().unwrap_or(0)
    }

    /// The bindings to a target.
    pub(crate) fn to(&self, ns: Namespace, target: &Target) -> &BTreeSet<BindKey> {
        self.to.get(&(ns, target.clone())).unwrap_or(&NONE)
    }

    /// The rows have changed so.
    pub(crate) fn changed(&mut self, step: &Step) {
        match step {
            Step::Made(_) => self.exchanges += 1,
            Step::Gone(_, voided) => {
                self.exchanges = self.exchanges.saturating_sub(1);
                for (key, target) in voided {
                    self.unbound(key, target);
                }
            }
            Step::Bound(key, def) => self.bound(key, &def.target),
            Step::Unbound(key, def) => self.unbound(key, &def.target),
        }
    }

    fn bound(&mut self, key: &BindKey, target: &Target) {
        self.bindings += 1;
        *self.from.entry(key.source_key()).or_default() += 1;
        self.to.entry((key.ns, target.clone())).or_default().insert(key.clone());
    }

    fn unbound(&mut self, key: &BindKey, target: &Target) {
        self.bindings = self.bindings.saturating_sub(1);
        let source = key.source_key();
        if let Some(n) = self.from.get_mut(&source) {
            *n = n.saturating_sub(1);
            if *n == 0 {
                self.from.remove(&source);
            }
        }
        let target = (key.ns, target.clone());
        if let Some(keys) = self.to.get_mut(&target) {
            keys.remove(key);
            if keys.is_empty() {
                self.to.remove(&target);
            }
        }
    }
}
