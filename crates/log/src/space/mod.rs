//! Space accounting: what still lives in which file. A state machine fed with durable operations in LSN order; it does no I/O but
//! reads rows, and decides nothing by time. Start at [`Account`].

mod account;
mod many;
mod merge;
mod open;
mod overlay;
mod retire;
mod settle;
#[cfg(test)]
mod tests;

pub(crate) use account::{Account, AdoptedAt};
pub(crate) use merge::Packed;
