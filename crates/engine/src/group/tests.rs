//! The coordinator driven by hand: time, room for records, durability and restarts are the test's.
#![allow(clippy::pedantic, clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]

mod admin;
mod history;
mod joining;
mod offsets;
mod restarting;
mod rows;
mod statics;
mod syncing;
mod world;
