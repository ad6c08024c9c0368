//! Deciding: from applied state, the time and an operation to what will be written and answered. Nothing here changes state.

pub(crate) mod append;
pub(crate) mod catalogue;
pub(crate) mod routing;
pub(crate) mod task;
