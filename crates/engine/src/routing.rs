//! The engine's part in routing: exchanges and bindings change, are listed, and whoever routes is told.
//!
//! Start at `Engine::change_routes`.

use std::ops::Bound;

use millstream_log::Permit;
use millstream_types::{ConnId, Namespace};

use crate::decide::routing::{self, Plan};
use crate::effect::RowEffect;
use crate::engine::{Engine, writing};
use crate::exchange::{
    BINDINGS_PAGE_MAX, BindingDef, BindingsFrom, BindingsOf, BindingsPage, ExchangeChange, ExchangeDef,
    RoutingError,
};
use crate::op::{Commits, Effects};
use crate::rows::bind::BindKey;
use crate::rows::exchange::ExchangeKey;

impl Engine {
    /// All exchanges that have a row.
    pub fn exchanges(&self) -> impl Iterator<Item = ExchangeDef> {
        self.state.exchange.iter().map(|(key, row)| row.def(key))
    }

    /// All bindings.
    pub fn bindings(&self) -> impl Iterator<Item = BindingDef> {
        self.state.bind.iter().map(|(key, row)| row.def(key))
    }

    pub(crate) fn change_routes(
        &mut self,
        session: ConnId,
        changes: &[ExchangeChange],
        permit: Option<Permit>,
        log: &mut dyn Commits,
        out: &mut Effects,
    ) -> Result<Vec<bool>, RoutingError> {
        let room = permit.as_ref().map_or(0, |p| p.bytes);
        let plan = routing::decide(&self.state, &self.live.routes, self.now.wall_ms, changes, room)?;
        if !plan.effects.is_empty() {
            let ops: Vec<_> = plan.effects.iter().map(RowEffect::op).collect();
            self.commit(log, writing(permit), &ops, Some(session));
            self.routes_changed(&plan, out);
        }
        Ok(plan.changed)
    }

    /// Rows of exchanges and bindings have changed as planned: the index follows, and who routes is told.
    pub(crate) fn routes_changed(&mut self, plan: &Plan, out: &mut Effects) {
        for step in &plan.steps {
            self.live.routes.changed(step);
            out.routes.push(step.event());
        }
    }

    pub(crate) fn list_bindings(
        &self,
        ns: Namespace,
        of: &BindingsOf,
        from: Option<BindingsFrom>,
    ) -> BindingsPage {
        // One more than a page: where the next one begins.
        let most = BINDINGS_PAGE_MAX + 1;
        let mut keys: Vec<BindKey> = match of {
            BindingsOf::Source(name) => {
                let hash = from.map_or([0; 16], |f| f.0.hash);
                let all = self.state.bind.of(&ExchangeKey::new(ns, name), hash);
                all.take(most).map(|(k, _)| k.clone()).collect()
            }
            BindingsOf::Target(target) => {
                let from = from.map_or(Bound::Unbounded, |f| Bound::Included(f.0));
                let all = self.live.routes.to(ns, target).range((from, Bound::Unbounded));
                all.take(most).cloned().collect()
            }
        };
        let next = if keys.len() == most { keys.pop().map(BindingsFrom) } else { None };
        let row = |key: &BindKey| self.state.bind.get(key).map(|row| row.def(key));
        BindingsPage { bindings: keys.iter().filter_map(row).collect(), next }
    }
}
