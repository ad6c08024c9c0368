//! Where a message goes: the exchanges and bindings of this moment as tables to look up, and the walk through them.
//!
//! Start at [`Routes::route`]. Routes never change; a change makes new ones that share nearly all with those before ([`pmap`]), and
//! the sequencer publishes them before it answers whoever asked for the change.

mod build;
mod headers;
mod list;
mod pmap;
mod scratch;
mod table;
mod topic;

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use millstream_engine::exchange::{ExchangeDef, PREDECLARED, ROUTING_KEY_BYTES_MAX, Target, TargetKind};
use millstream_types::Namespace;
use thiserror::Error;

use crate::envelope::Header;
pub(crate) use build::Builder;
pub(crate) use headers::{MATCH_ARGUMENT, MatchKind};
use pmap::PMap;
pub use scratch::RouteScratch;
use table::Table;

/// Most targets of one message.
pub const ROUTE_TARGETS_MAX: usize = 65_536;
/// Most exchanges that one message passes.
pub const ROUTE_EXCHANGES_MAX: usize = 64;
/// Most routing keys of one message.
pub const ROUTE_KEYS_MAX: usize = 1_024;

/// An exchange and its table.
#[derive(Clone, Debug)]
struct Exchange {
    def: Arc<ExchangeDef>,
    table: Table,
}

/// Something that bindings lead to.
#[derive(Clone, Debug)]
struct Place {
    ns: Namespace,
    target: Target,
    /// Bindings that lead to it.
    bindings: u64,
    /// Of an exchange: where it is found.
    hash: u64,
}

type Named = (Namespace, Box<str>);

/// All exchanges and bindings at one moment. Cloning it is cheap.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    hasher: RandomState,
    exchanges: PMap<Named, Arc<Exchange>>,
    /// The number of each target, and the target of each number.
    numbers: PMap<(Namespace, Target), u32>,
    places: PMap<u32, Arc<Place>>,
    /// Above all numbers.
    numbers_end: u32,
}

/// A message to be routed.
#[derive(Clone, Copy, Debug)]
pub struct RouteRequest<'a> {
    /// Its namespace.
    pub ns: Namespace,
    /// The exchange it is published to; empty: the default one.
    pub exchange: &'a str,
    /// Its routing key, and any others that it is to be routed by as well.
    pub keys: &'a [&'a str],
    /// Its headers.
    pub headers: &'a [Header],
}

/// One of the targets of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RouteTarget<'a> {
    /// A queue or a topic.
    pub kind: TargetKind,
    /// Its name.
    pub name: &'a str,
}

/// What the default exchange knows: every queue and every topic by its name.
pub trait Names {
    /// What has this name.
    fn find(&self, name: &(Namespace, String)) -> Option<TargetKind>;
}

impl Names for millstream_engine::catalogue::Snapshot {
    fn find(&self, name: &(Namespace, String)) -> Option<TargetKind> {
        self.by_name.contains_key(name).then_some(TargetKind::Topic)
    }
}

/// Why a message was not routed. A message that is routed to nothing is no error here.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RouteError {
    /// There is no such exchange.
    #[error("there is no exchange {name:?}")]
    NoExchange {
        /// Its name.
        name: String,
    },
    /// The exchange takes messages from other exchanges only.
    #[error("exchange {name:?} is internal")]
    Internal {
        /// Its name.
        name: String,
    },
    /// The queue hands out the records of a topic, and takes no other messages.
    #[error("queue {name:?} is subscribed to a topic and takes no other messages")]
    Subscription {
        /// Its name.
        name: String,
    },
    /// A routing key is too long.
    #[error("a routing key exceeds {ROUTING_KEY_BYTES_MAX} bytes")]
    KeyTooLong,
    /// Too many routing keys.
    #[error("more than {ROUTE_KEYS_MAX} routing keys")]
    TooManyKeys,
    /// Too many targets.
    #[error("more than {ROUTE_TARGETS_MAX} targets")]
    TooManyTargets,
    /// Too many exchanges on the way.
    #[error("more than {ROUTE_EXCHANGES_MAX} exchanges on the way")]
    TooManyExchanges,
}

/// The exchanges that a message has to pass, first come first served; each once.
struct Way<'a> {
    stops: [Option<&'a Exchange>; ROUTE_EXCHANGES_MAX],
    len: usize,
    /// The default exchange has a turn too, behind the others: it routes by name and to no exchange.
    default: bool,
}

impl<'a> Way<'a> {
    fn add(&mut self, stop: &'a Exchange) -> Result<(), RouteError> {
        let seen = self.stops.iter().take(self.len).flatten().any(|s| std::ptr::eq(*s, stop));
        if !seen {
            *self.stops.get_mut(self.len).ok_or(RouteError::TooManyExchanges)? = Some(stop);
            self.len += 1;
        }
        Ok(())
    }
}

impl Routes {
    /// Finds the targets of a message, each once: by the exchange's bindings with any of its keys, on through the exchanges that these
    /// lead to, and where an exchange leads nowhere, through its alternate. Gives how many there are; 0: it cannot be routed.
    /// [`Routes::targets`] has them then.
    ///
    /// # Errors
    /// See [`RouteError`]; `scratch` holds nothing of use then.
    pub fn route(
        &self,
        names: &impl Names,
        message: &RouteRequest<'_>,
        scratch: &mut RouteScratch,
    ) -> Result<usize, RouteError> {
        match self.find(message.ns, message.exchange) {
            Some(e) if e.def.internal => Err(RouteError::Internal { name: e.def.name.clone() }),
            _ => self.route_inside(names, message, scratch),
        }
    }

    /// As [`Routes::route`], for messages of the broker itself: internal exchanges take them.
    pub(crate) fn route_inside(
        &self,
        names: &impl Names,
        message: &RouteRequest<'_>,
        scratch: &mut RouteScratch,
    ) -> Result<usize, RouteError> {
        scratch.hits.clear();
        scratch.named.clear();
        scratch.probes.clear();
        scratch.marks.begin(self.numbers_end);
        if message.keys.len() > ROUTE_KEYS_MAX {
            return Err(RouteError::TooManyKeys);
        }
        if message.keys.iter().any(|k| k.len() > ROUTING_KEY_BYTES_MAX) {
            return Err(RouteError::KeyTooLong);
        }
        let mut way = Way { stops: [None; ROUTE_EXCHANGES_MAX], len: 0, default: false };
        if message.exchange.is_empty() {
            way.default = true;
        } else {
            match self.find(message.ns, message.exchange) {
                Some(e) => way.add(e)?,
                // One that is always there and that nothing is bound to.
                None if PREDECLARED.iter().any(|p| p.0 == message.exchange) => return Ok(0),
                None => return Err(RouteError::NoExchange { name: message.exchange.to_owned() }),
            }
        }
        self.walk(message, &mut way, scratch)?;
        if way.default {
            self.by_name(names, message, scratch)?;
        }
        Ok(scratch.hits.len() + scratch.named.len())
    }

    fn walk<'a>(
        &'a self,
        message: &RouteRequest<'_>,
        way: &mut Way<'a>,
        scratch: &mut RouteScratch,
    ) -> Result<(), RouteError> {
        let mut at = 0;
        while let Some(stop) = way.stops.get(at).copied().flatten() {
            at += 1;
            let RouteScratch { marks, lows, words, probes, hits, .. } = &mut *scratch;
            let (mut routed, mut result) = (false, Ok(()));
            stop.table.find(&self.hasher, message, lows, words, probes, &mut |number| {
                routed = true;
                if !marks.mark(number) || result.is_err() {
                    return;
                }
                result = match self.place(number) {
                    Some(place) if place.target.kind == TargetKind::Exchange => {
                        // One that is always there and that nothing is bound to has no table.
                        let next = self.find_at(place.hash, message.ns, &place.target.name);
                        next.map_or(Ok(()), |exchange| way.add(exchange))
                    }
                    _ if hits.len() >= ROUTE_TARGETS_MAX => Err(RouteError::TooManyTargets),
                    _ => {
                        hits.push(number);
                        Ok(())
                    }
                };
            });
            result?;
            if !routed && let Some(alternate) = &stop.def.alternate {
                if alternate.is_empty() {
                    way.default = true;
                } else if let Some(exchange) = self.find(message.ns, alternate) {
                    way.add(exchange)?;
                }
            }
        }
        Ok(())
    }

    /// The default exchange: each key is a name.
    fn by_name(
        &self,
        names: &impl Names,
        message: &RouteRequest<'_>,
        scratch: &mut RouteScratch,
    ) -> Result<(), RouteError> {
        for (at, key) in message.keys.iter().enumerate() {
            scratch.name.0 = message.ns;
            scratch.name.1.clear();
            scratch.name.1.push_str(key);
            let Some(kind) = names.find(&scratch.name) else { continue };
            if let Some(number) = self.number(message.ns, kind, key) {
                if scratch.marks.mark(number) {
                    scratch.hits.push(number);
                }
            } else if !message.keys.iter().take(at).any(|k| k == key) {
                scratch.named.push((at, kind));
            }
        }
        let total = scratch.hits.len() + scratch.named.len();
        if total > ROUTE_TARGETS_MAX { Err(RouteError::TooManyTargets) } else { Ok(()) }
    }

    /// The targets that [`Routes::route`] found for this message.
    pub fn targets<'a>(
        &'a self,
        message: &RouteRequest<'a>,
        scratch: &'a RouteScratch,
    ) -> impl Iterator<Item = RouteTarget<'a>> {
        let keys = message.keys;
        let bound = scratch.hits.iter().filter_map(|number| self.place(*number));
        let bound = bound.map(|p| RouteTarget { kind: p.target.kind, name: &p.target.name });
        let named = scratch.named.iter().filter_map(|(at, kind)| Some((keys.get(*at)?, *kind)));
        bound.chain(named.map(|(name, kind)| RouteTarget { kind, name }))
    }

    /// The exchange of this name.
    #[must_use]
    pub fn exchange(&self, ns: Namespace, name: &str) -> Option<Arc<ExchangeDef>> {
        let known = self.find(ns, name).map(|e| Arc::clone(&e.def));
        known.or_else(|| ExchangeDef::predeclared(ns, name).map(Arc::new))
    }

    /// The exchanges of a namespace whose names come after `after`, in the order of their names, at most `max`. The default exchange is
    /// not among them.
    #[must_use]
    pub fn exchanges(&self, ns: Namespace, after: &str, max: usize) -> Vec<Arc<ExchangeDef>> {
        let mut page = std::collections::BTreeMap::new();
        let mut add = |def: Arc<ExchangeDef>| {
            if *def.name > *after {
                page.insert(def.name.clone(), def);
                if page.len() > max {
                    page.pop_last();
                }
            }
        };
        let fixed = PREDECLARED.iter().filter_map(|(name, _)| ExchangeDef::predeclared(ns, name));
        fixed.for_each(|def| add(Arc::new(def)));
        self.exchanges.each(&mut |named, exchange| {
            if named.0 == ns {
                add(Arc::clone(&exchange.def));
            }
        });
        page.into_values().collect()
    }

    fn exchange_hash(&self, ns: Namespace, name: &str) -> u64 {
        self.hasher.hash_one((ns, name))
    }

    fn find(&self, ns: Namespace, name: &str) -> Option<&Exchange> {
        self.find_at(self.exchange_hash(ns, name), ns, name)
    }

    fn find_at(&self, hash: u64, ns: Namespace, name: &str) -> Option<&Exchange> {
        self.exchanges.get(hash, |n| n.0 == ns && *n.1 == *name).map(|e| &**e)
    }

    fn number_hash(&self, ns: Namespace, kind: TargetKind, name: &str) -> u64 {
        self.hasher.hash_one((ns, kind, name))
    }

    fn number(&self, ns: Namespace, kind: TargetKind, name: &str) -> Option<u32> {
        let hash = self.number_hash(ns, kind, name);
        self.numbers.get(hash, |n| n.0 == ns && n.1.kind == kind && n.1.name == name).copied()
    }

    fn place(&self, number: u32) -> Option<&Place> {
        self.places.get(spread(number), |n| *n == number).map(|p| &**p)
    }
}

/// Numbers are dense: as a hash they only need to be turned around.
fn spread(number: u32) -> u64 {
    u64::from(number)
}

#[cfg(test)]
mod tests;
