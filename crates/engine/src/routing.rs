//! The engine's part in routing: exchanges and bindings change, are listed, and whoever routes is told.
//!
//! Start at `Engine::change_routes`.

use std::ops::Bound;

use millstream_log::Permit;
use millstream_types::{Lsn, Namespace};

use crate::ctx::Asker;
use crate::decide::routing::{self, Plan};
use crate::engine::{Engine, writing};
use crate::exchange::{
    BINDINGS_PAGE_MAX, BindingDef, BindingsFrom, BindingsOf, BindingsPage, ExchangeChange, ExchangeDef,
};
use crate::op::{Answer, Commits, Effects, Reply};
use crate::parts::Parts;
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
        asker: Asker,
        changes: &[ExchangeChange],
        permit: Option<Permit>,
        log: &mut dyn Commits,
        out: &mut Effects,
    ) {
        let room = permit.as_ref().map_or(0, |p| p.bytes);
        let plan = routing::decide(&self.state, &self.live.routes, self.now.wall_ms, changes, room);
        let Asker { session, ticket } = asker;
        let mut at_once = false;
        let reply = plan.map(|plan| {
            if !plan.effects.is_empty() {
                let parts: Parts<'_> = plan.effects.iter().collect();
                at_once = self.commit_parts(log, writing(permit), parts, session) == Lsn::UNRECORDED;
                self.routes_changed(&plan, out);
            }
            plan.changed
        });
        // Bindings of transient queues are in memory only.
        let wait = if at_once { Lsn::UNRECORDED } else { self.last_lsn };
        out.answers.push(Answer { session, ticket, wait, reply: Reply::Routing(reply) });
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
