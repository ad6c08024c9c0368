#![allow(clippy::pedantic, clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]

mod basics;
mod closed;
mod crash;
mod full;
mod golden;
mod kept;
mod kept_crash;
mod merge;
mod merge_crash;
mod nasty;
mod rebuild;
mod resolve;
mod support;
