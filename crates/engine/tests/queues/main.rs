//! Work queues: rules one by one, and random histories with crashes against a naive model.
//!
//! - [`world`]: an engine with a log, a store and a reader in memory.
//! - [`model`]: queues as naively as they can be said.
//! - [`history`]: random histories; a failing seed says how to run it again.
//! - [`bugs`]: promises broken on purpose, which the histories must notice.
//! - [`subscriptions`]: queues over a topic, rules and histories.
//! - [`behaviour`], [`at_once`], [`definitions`], [`keys`], [`ids`], [`rest`], [`nastiest`]: rules with numbers one can check by hand.
#![allow(clippy::pedantic, clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]

#[path = "../support/mod.rs"]
mod support;

mod at_once;
mod behaviour;
mod bugs;
mod definitions;
mod floors;
mod history;
mod ids;
mod keys;
mod limits;
mod model;
mod nastiest;
mod receives;
mod rest;
mod subscriptions;
mod transient;
mod world;
