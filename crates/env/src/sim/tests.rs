//! Tests of the simulated machine beyond the contract.

#![allow(clippy::pedantic, clippy::unwrap_used, clippy::indexing_slicing)]
use super::*;
fn sim() -> (std::sync::Arc<SimDisk>, ()) {
    (SimDisk::new(1), ())
}

crate::disk_contract!(contract, sim);
