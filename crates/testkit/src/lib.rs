//! What the tests of several crates share. A dev-dependency only.
//!
//! - [`log_contract`]: the one suite that every log passes. Start at [`log_contract!`].
//! - [`model`]: a naive log and random histories with power cuts. Start at [`model::run`].
//! - [`process`]: processes of a benchmark.
//! - [`seeds`]: runs by seed.
//! - [`under`]: the logs it runs over, with a power switch; [`wrapped`]: the same with a broken store.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::missing_errors_doc,
    clippy::missing_panics_doc,
    clippy::must_use_candidate,
    reason = "these are tests"
)]

pub mod block_on;
pub mod log_contract;
pub mod model;
pub mod process;
mod rot;
pub mod seeds;
pub mod seen;
pub mod under;
pub mod wrapped;

/// The layers below, for tests of crates that may not depend on them: a protocol's tests open a broker over a log in memory.
pub use {millstream_env as env, millstream_log as log};
