//! Follows the engine: each change of exchanges and bindings makes the next [`Routes`].

use std::hash::RandomState;
use std::sync::Arc;

use millstream_engine::exchange::{BindingDef, ExchangeDef, RouteEvent, Target, TargetKind};
use millstream_types::Namespace;

use super::table::Table;
use super::{Exchange, Place, Routes, spread};

/// Belongs to the sequencer.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    routes: Arc<Routes>,
    /// Numbers of targets that nothing is bound to any more.
    free: Vec<u32>,
}

impl Builder {
    /// From everything there is.
    pub(crate) fn of(
        exchanges: impl Iterator<Item = ExchangeDef>,
        bindings: impl Iterator<Item = BindingDef>,
    ) -> Self {
        let mut builder = Self::default();
        exchanges.for_each(|def| builder.follow(&RouteEvent::Made(Arc::new(def))));
        bindings.for_each(|def| builder.follow(&RouteEvent::Bound(Arc::new(def))));
        builder
    }

    /// As they are now.
    pub(crate) fn routes(&self) -> Arc<Routes> {
        Arc::clone(&self.routes)
    }

    /// Something changed.
    pub(crate) fn follow(&mut self, event: &RouteEvent) {
        // Copied only if it was published.
        let routes = Arc::make_mut(&mut self.routes);
        match event {
            RouteEvent::Made(def) => made(routes, def),
            RouteEvent::Gone { ns, name } => {
                let hash = routes.exchange_hash(*ns, name);
                let gone = routes.exchanges.remove(hash, |n| n.0 == *ns && *n.1 == **name);
                if let Some(gone) = gone {
                    gone.table.each_target(&mut |number, bindings| {
                        release(routes, &mut self.free, number, u64::from(bindings));
                    });
                }
            }
            RouteEvent::Bound(def) => {
                let number = number(routes, &mut self.free, def.ns, &def.target);
                if routes.find(def.ns, &def.source).is_none()
                    && let Some(fixed) = ExchangeDef::predeclared(def.ns, &def.source)
                {
                    made(routes, &Arc::new(fixed));
                }
                edit(routes, def, |hasher, exchange| exchange.table.bind(hasher, def, number));
            }
            RouteEvent::Unbound(def) => {
                let Some(number) = routes.number(def.ns, def.target.kind, &def.target.name) else { return };
                // An exchange that is gone has taken its bindings with it.
                if edit(routes, def, |hasher, exchange| exchange.table.unbind(hasher, def, number)) {
                    release(routes, &mut self.free, number, 1);
                }
            }
        }
    }
}

fn made(routes: &mut Routes, def: &Arc<ExchangeDef>) {
    let hash = routes.exchange_hash(def.ns, &def.name);
    let same = |n: &super::Named| n.0 == def.ns && *n.1 == *def.name;
    let new = || {
        let exchange = Exchange { def: Arc::clone(def), table: Table::new(def.kind) };
        ((def.ns, def.name.as_str().into()), Arc::new(exchange))
    };
    routes.exchanges.get_or_insert(hash, same, new);
}

/// Changes the table of a binding's exchange; false: there is no such exchange.
fn edit(routes: &mut Routes, def: &BindingDef, f: impl FnOnce(&RandomState, &mut Exchange)) -> bool {
    let hash = routes.exchange_hash(def.ns, &def.source);
    let found = routes.exchanges.get_mut(hash, |n| n.0 == def.ns && *n.1 == *def.source);
    found.map(|exchange| f(&routes.hasher, Arc::make_mut(exchange))).is_some()
}

/// The number of a target that one more binding leads to.
fn number(routes: &mut Routes, free: &mut Vec<u32>, ns: Namespace, target: &Target) -> u32 {
    let hash = routes.number_hash(ns, target.kind, &target.name);
    let known = routes.number(ns, target.kind, &target.name);
    let number = known.unwrap_or_else(|| {
        free.pop().unwrap_or_else(|| {
            routes.numbers_end += 1;
            routes.numbers_end - 1
        })
    });
    routes.numbers.get_or_insert(hash, |n| n.0 == ns && n.1 == *target, || ((ns, target.clone()), number));
    let hash = match target.kind {
        TargetKind::Exchange => routes.exchange_hash(ns, &target.name),
        _ => 0,
    };
    let place = || (number, Arc::new(Place { ns, target: target.clone(), bindings: 0, hash }));
    let place = routes.places.get_or_insert(spread(number), |n| *n == number, place);
    Arc::make_mut(place).bindings += 1;
    number
}

/// So many bindings less lead to a target.
fn release(routes: &mut Routes, free: &mut Vec<u32>, number: u32, bindings: u64) {
    let Some(place) = routes.places.get_mut(spread(number), |n| *n == number) else { return };
    let place = Arc::make_mut(place);
    place.bindings = place.bindings.saturating_sub(bindings);
    if place.bindings > 0 {
        return;
    }
    let (ns, target) = (place.ns, place.target.clone());
    routes.places.remove(spread(number), |n| *n == number);
    let hash = routes.number_hash(ns, target.kind, &target.name);
    routes.numbers.remove(hash, |n| n.0 == ns && n.1 == target);
    free.push(number);
}
