//! Decides changes of exchanges and bindings: all of them or none.
//!
//! Start at [`decide`]. Each change sees those before it. Whoever removes a topic or a queue in another operation tells the draft
//! ([`Draft::target_gone`]), so that its bindings go in the same record.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_types::Namespace;
use millstream_types::limits::{NAME_BYTES_MAX, RECORD_BYTES_MAX, RECORD_OPS_MAX};

use crate::effect::{OP_OVERHEAD_BYTES, RECORD_OVERHEAD_BYTES, RowEffect};
use crate::exchange::{
    ARGUMENTS_BYTES_MAX, BINDINGS_MAX, BindingDef, EXCHANGES_MAX, ExchangeChange, ExchangeDef,
    RESERVED_PREFIX, ROUTING_KEY_BYTES_MAX, RouteEvent, RoutingError, TARGET_BINDINGS_MAX, Target,
    TargetKind, predeclared,
};
use crate::routes::Index;
use crate::rows::bind::{self, BindKey, BindRow};
use crate::rows::cat::CatKey;
use crate::rows::exchange::{self, ExchangeKey, ExchangeRow};
use crate::state::State;

const _: () = assert!(RECORD_OPS_MAX * OP_OVERHEAD_BYTES > RECORD_BYTES_MAX, "room bounds operations too");
/// The effect that removes a binding: its key (family, namespace, name, hash) and two bytes.
const UNBIND_BYTES_MAX: usize = 1 + 4 + 1 + NAME_BYTES_MAX + 16 + 2 + OP_OVERHEAD_BYTES;
const _: () = assert!(
    TARGET_BINDINGS_MAX * UNBIND_BYTES_MAX + (1 << 20) <= RECORD_BYTES_MAX,
    "a target and all bindings to it go in one record"
);

/// What becomes of the changes.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Per change: whether anything changed.
    pub(crate) changed: Vec<bool>,
    /// In the order in which they are to be applied.
    pub(crate) effects: Vec<RowEffect>,
    /// What sessions and the index are told.
    pub(crate) steps: Vec<Step>,
}

/// One thing that happens to exchanges and bindings.
#[derive(Debug)]
pub(crate) enum Step {
    Made(Arc<ExchangeDef>),
    /// With the bindings from it that were voided, and where they led.
    Gone(ExchangeKey, Vec<(BindKey, Target)>),
    Bound(BindKey, Arc<BindingDef>),
    Unbound(BindKey, Arc<BindingDef>),
}

impl Step {
    /// As who routes is told.
    pub(crate) fn event(&self) -> RouteEvent {
        match self {
            Self::Made(def) => RouteEvent::Made(Arc::clone(def)),
            Self::Gone(key, _) => RouteEvent::Gone { ns: key.ns, name: key.name.clone() },
            Self::Bound(_, def) => RouteEvent::Bound(Arc::clone(def)),
            Self::Unbound(_, def) => RouteEvent::Unbound(Arc::clone(def)),
        }
    }
}

/// Decides the changes, in order. `room` is what the permit is good for.
pub(crate) fn decide(
    state: &State,
    index: &Index,
    wall_ms: u64,
    changes: &[ExchangeChange],
    room: usize,
) -> Result<Plan, RoutingError> {
    let mut draft = Draft::new(state, index, wall_ms);
    for change in changes {
        let did = draft.change(change)?;
        draft.plan.changed.push(did);
    }
    draft.finish(room)
}

/// Changes on their way.
#[derive(Debug)]
pub(crate) struct Draft<'a> {
    state: &'a State,
    index: &'a Index,
    wall_ms: u64,
    plan: Plan,
    exchanges: BTreeMap<ExchangeKey, Option<ExchangeRow>>,
    /// Over the rows of exchanges that were not removed here.
    binds: BTreeMap<BindKey, Option<BindRow>>,
    removed: Vec<ExchangeKey>,
    /// Bindings from an exchange and to a target, as far as they differ from the index.
    from: BTreeMap<ExchangeKey, usize>,
    to: BTreeMap<(Namespace, Target), usize>,
    exchanges_total: usize,
    binds_total: usize,
}

impl<'a> Draft<'a> {
    pub(crate) fn new(state: &'a State, index: &'a Index, wall_ms: u64) -> Self {
        Self {
            state,
            index,
            wall_ms,
            plan: Plan::default(),
            exchanges: BTreeMap::new(),
            binds: BTreeMap::new(),
            removed: Vec::new(),
            from: BTreeMap::new(),
            to: BTreeMap::new(),
            exchanges_total: index.exchanges(),
            binds_total: index.bindings(),
        }
    }

    /// The plan, if it fits a record and the room taken for it.
    pub(crate) fn finish(self, room: usize) -> Result<Plan, RoutingError> {
        let bytes = self.bytes();
        if bytes > room { Err(RoutingError::Room { bytes }) } else { Ok(self.plan) }
    }

    /// An upper bound of the record's bytes, 0 for none. A record of more operations than one may have has more bytes than one may
    /// have, so no room is ever given for it.
    pub(crate) fn bytes(&self) -> usize {
        let effects = &self.plan.effects;
        let record = if effects.is_empty() { 0 } else { RECORD_OVERHEAD_BYTES };
        effects.iter().map(RowEffect::bytes_bound).sum::<usize>() + record
    }

    /// The plan, whose room somebody else has seen to.
    pub(crate) fn into_plan(self) -> Plan {
        self.plan
    }

    fn change(&mut self, change: &ExchangeChange) -> Result<bool, RoutingError> {
        match change {
            ExchangeChange::Create(def) => self.create(def),
            ExchangeChange::Delete { ns, name, if_unused } => self.delete(*ns, name, *if_unused),
            ExchangeChange::Bind(def) => self.bind(def),
            ExchangeChange::Unbind(def) => Ok(self.unbind(def)),
        }
    }

    fn exchange(&self, key: &ExchangeKey) -> Option<&ExchangeRow> {
        match self.exchanges.get(key) {
            Some(row) => row.as_ref(),
            None => self.state.exchange.get(key),
        }
    }

    fn binding(&self, key: &BindKey) -> Option<&BindRow> {
        match self.binds.get(key) {
            Some(row) => row.as_ref(),
            None if self.removed.iter().any(|r| r.ns == key.ns && *r.name == *key.source) => None,
            None => self.state.bind.get(key),
        }
    }

    fn bindings_from(&self, key: &ExchangeKey) -> usize {
        self.from.get(key).copied().unwrap_or_else(|| self.index.from(key))
    }

    fn bindings_to(&self, ns: Namespace, target: &Target) -> usize {
        let known = self.to.get(&(ns, target.clone())).copied();
        known.unwrap_or_else(|| self.index.to(ns, target).len())
    }

    fn create(&mut self, def: &ExchangeDef) -> Result<bool, RoutingError> {
        let key = ExchangeKey::new(def.ns, &def.name);
        let fixed = ExchangeDef::predeclared(def.ns, &def.name);
        if let Some(current) = self.exchange(&key).map(|row| row.def(&key)).or(fixed) {
            return alike(&current, def).map(|()| false);
        }
        if def.name.starts_with(RESERVED_PREFIX) || def.name.is_empty() {
            return Err(RoutingError::Reserved { name: def.name.clone() });
        }
        if def.name.len() > NAME_BYTES_MAX || def.alternate.as_ref().is_some_and(|a| a.len() > NAME_BYTES_MAX)
        {
            return Err(RoutingError::InvalidName);
        }
        bound("an exchange's arguments", def.arguments.len(), ARGUMENTS_BYTES_MAX)?;
        if self.exchanges_total >= EXCHANGES_MAX {
            return Err(RoutingError::TooMany { what: "exchanges", max: EXCHANGES_MAX });
        }
        self.exchanges_total += 1;
        let row = ExchangeRow::of(def, self.wall_ms);
        self.plan.effects.push(exchange::effect(&key, Some(&row)));
        self.plan.steps.push(Step::Made(Arc::new(row.def(&key))));
        self.exchanges.insert(key, Some(row));
        Ok(true)
    }

    fn delete(&mut self, ns: Namespace, name: &str, if_unused: bool) -> Result<bool, RoutingError> {
        let key = ExchangeKey::new(ns, name);
        if name.is_empty() || predeclared(name).is_some() {
            return Err(RoutingError::Reserved { name: name.to_owned() });
        }
        if self.exchange(&key).is_none() {
            return Err(no_exchange(name));
        }
        if if_unused && self.bindings_from(&key) > 0 {
            return Err(RoutingError::InUse { name: name.to_owned() });
        }
        self.exchange_gone(key);
        Ok(true)
    }

    /// Removes an exchange; an exchange that goes by itself when its last binding went is removed too, and so on.
    fn exchange_gone(&mut self, key: ExchangeKey) {
        let mut gone = vec![key];
        while let Some(key) = gone.pop() {
            if self.exchange(&key).is_none() {
                continue;
            }
            let voided = self.void_from(&key);
            self.exchanges_total -= 1;
            self.plan.effects.push(exchange::effect(&key, None));
            self.plan.steps.push(Step::Gone(key.clone(), voided));
            self.exchanges.insert(key.clone(), None);
            self.remove_to(key.ns, &Target { kind: TargetKind::Exchange, name: key.name }, &mut gone);
        }
    }

    /// The bindings from an exchange that is removed; its own effect voids them.
    fn void_from(&mut self, key: &ExchangeKey) -> Vec<(BindKey, Target)> {
        let mut voided = Vec::new();
        if !self.removed.contains(key) {
            for (bind, row) in self.state.bind.of(key, [0; 16]) {
                if !self.binds.contains_key(bind) {
                    voided.push((bind.clone(), row.target.clone()));
                }
            }
            self.removed.push(key.clone());
        }
        let here = |k: &&BindKey| k.ns == key.ns && *k.source == *key.name;
        let of_draft: Vec<BindKey> = self.binds.keys().filter(here).cloned().collect();
        for bind in of_draft {
            if let Some(row) = self.binds.remove(&bind).flatten() {
                voided.push((bind, row.target));
            }
        }
        for (_, target) in &voided {
            self.count_to(key.ns, target, false);
        }
        self.binds_total -= voided.len();
        self.from.insert(key.clone(), 0);
        voided
    }

    /// A topic or a queue is removed by another part of the record: its bindings go with it.
    pub(crate) fn target_gone(&mut self, ns: Namespace, target: &Target) {
        let mut gone = Vec::new();
        self.remove_to(ns, target, &mut gone);
        for key in gone {
            self.exchange_gone(key);
        }
    }

    /// Removes all bindings to a target; adds the exchanges that go with them to `gone`.
    fn remove_to(&mut self, ns: Namespace, target: &Target, gone: &mut Vec<ExchangeKey>) {
        let mut keys: Vec<BindKey> = self.index.to(ns, target).iter().cloned().collect();
        let drafted = self.binds.iter().filter(|(k, row)| {
            k.ns == ns
                && row.as_ref().is_some_and(|r| r.target == *target)
                && !self.index.to(ns, target).contains(*k)
        });
        keys.extend(drafted.map(|(k, _)| k.clone()));
        for key in keys {
            if let Some(row) = self.binding(&key).cloned() {
                self.remove(key, &row, gone);
            }
        }
    }

    fn remove(&mut self, key: BindKey, row: &BindRow, gone: &mut Vec<ExchangeKey>) {
        let source = key.source_key();
        let transient = self.is_transient(key.ns, &row.target);
        self.plan.effects.push(bind::effect(&key, None).in_memory(transient));
        self.plan.steps.push(Step::Unbound(key.clone(), Arc::new(row.def(&key))));
        self.count_to(key.ns, &row.target, false);
        self.binds_total -= 1;
        let left = self.bindings_from(&source).saturating_sub(1);
        self.from.insert(source.clone(), left);
        self.binds.insert(key, None);
        if left == 0 && self.exchange(&source).is_some_and(|e| e.auto_delete) {
            gone.push(source);
        }
    }

    fn count_to(&mut self, ns: Namespace, target: &Target, more: bool) {
        let now = self.bindings_to(ns, target);
        let then = if more { now + 1 } else { now.saturating_sub(1) };
        self.to.insert((ns, target.clone()), then);
    }

    fn bind(&mut self, def: &BindingDef) -> Result<bool, RoutingError> {
        if def.source.is_empty() || (def.target.name.is_empty() && def.target.kind == TargetKind::Exchange) {
            return Err(RoutingError::Reserved { name: String::new() });
        }
        bound("a routing key", def.key.len(), ROUTING_KEY_BYTES_MAX)?;
        bound("a binding's arguments", def.arguments.len(), ARGUMENTS_BYTES_MAX)?;
        let source = ExchangeKey::new(def.ns, &def.source);
        if !self.is_exchange(&source) {
            return Err(no_exchange(&def.source));
        }
        self.find_target(def.ns, &def.target)?;
        let key = BindKey::of(def);
        let row = BindRow::of(def);
        match self.binding(&key) {
            Some(same) if *same == row => return Ok(false),
            Some(_) => return Err(RoutingError::HashTaken { source_name: def.source.clone() }),
            None => {}
        }
        if self.binds_total >= BINDINGS_MAX {
            return Err(RoutingError::TooMany { what: "bindings", max: BINDINGS_MAX });
        }
        if self.bindings_to(def.ns, &def.target) >= TARGET_BINDINGS_MAX {
            return Err(RoutingError::TooMany { what: "bindings to one target", max: TARGET_BINDINGS_MAX });
        }
        self.binds_total += 1;
        self.from.insert(source.clone(), self.bindings_from(&source) + 1);
        self.count_to(def.ns, &def.target, true);
        let transient = self.is_transient(def.ns, &def.target);
        self.plan.effects.push(bind::effect(&key, Some(&row)).in_memory(transient));
        self.plan.steps.push(Step::Bound(key.clone(), Arc::new(def.clone())));
        self.binds.insert(key, Some(row));
        Ok(true)
    }

    /// A binding that is not there, or whose exchange is not, is unbound already.
    fn unbind(&mut self, def: &BindingDef) -> bool {
        let key = BindKey::of(def);
        let Some(row) = self.binding(&key).filter(|row| **row == BindRow::of(def)).cloned() else {
            return false;
        };
        let mut gone = Vec::new();
        self.remove(key, &row, &mut gone);
        for key in gone {
            self.exchange_gone(key);
        }
        true
    }

    /// Whether a binding to it is in memory only: it goes with the process, as its queue does.
    fn is_transient(&self, ns: Namespace, target: &Target) -> bool {
        target.kind == TargetKind::Queue
            && self.state.queue(ns, &target.name).is_some_and(|row| row.id.is_transient())
    }

    fn is_exchange(&self, key: &ExchangeKey) -> bool {
        predeclared(&key.name).is_some() || self.exchange(key).is_some()
    }

    fn find_target(&self, ns: Namespace, target: &Target) -> Result<(), RoutingError> {
        let name = &target.name;
        let (found, what) = match target.kind {
            TargetKind::Exchange => (self.is_exchange(&ExchangeKey::new(ns, name)), "exchange"),
            TargetKind::Topic => (self.state.cat.get(&CatKey::topic(ns, name)).is_some(), "topic"),
            TargetKind::Queue => match self.state.queue(ns, name) {
                Some(row) if row.terms.source.is_some() => {
                    return Err(RoutingError::Subscription { name: name.clone() });
                }
                row => (row.is_some(), "queue"),
            },
        };
        if found { Ok(()) } else { Err(RoutingError::NotFound { what, name: name.clone() }) }
    }
}

fn no_exchange(name: &str) -> RoutingError {
    RoutingError::NotFound { what: "exchange", name: name.to_owned() }
}

fn bound(what: &'static str, len: usize, max: usize) -> Result<(), RoutingError> {
    if len > max { Err(RoutingError::TooLarge { what, max }) } else { Ok(()) }
}

/// Whether an exchange was asked for as it is. Arguments besides the alternate are not compared.
fn alike(current: &ExchangeDef, asked: &ExchangeDef) -> Result<(), RoutingError> {
    let flags = [
        ("durable", current.durable, asked.durable),
        ("auto_delete", current.auto_delete, asked.auto_delete),
        ("internal", current.internal, asked.internal),
    ];
    let text = |on: bool| if on { "true" } else { "false" }.to_owned();
    let flags = flags.into_iter().map(|(arg, a, b)| (arg, text(a), text(b)));
    let alternate = |d: &ExchangeDef| match &d.alternate {
        None => "none".to_owned(),
        Some(name) => format!("the exchange {name:?}"),
    };
    let kind = |d: &ExchangeDef| d.kind.name().to_owned();
    let mut all = [("type", kind(current), kind(asked))].into_iter().chain(flags).chain([(
        "alternate-exchange",
        alternate(current),
        alternate(asked),
    )]);
    match all.find(|(_, a, b)| a != b) {
        None => Ok(()),
        Some((arg, current, asked_for)) => {
            Err(RoutingError::Differs { name: asked.name.clone(), arg, current, asked: asked_for })
        }
    }
}

#[cfg(test)]
mod tests;
