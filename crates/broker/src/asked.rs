//! An answer on its way, of the type that its question has.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use millstream_engine::op::Reply;

use crate::error::CallError;
use crate::mailbox::Pending;

/// An answer on its way: the operation was submitted, whether or not anyone waits. Resolves when what it tells of is durable.
pub struct Asked<T> {
    pending: Pending,
    read: fn(Reply) -> Option<T>,
}

impl<T> Asked<T> {
    pub(crate) fn new(pending: Pending, read: fn(Reply) -> Option<T>) -> Self {
        Self { pending, read }
    }
}

impl<T> Future for Asked<T> {
    type Output = Result<T, CallError>;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let read = self.read;
        Pin::new(&mut self.pending).poll(cx).map(|reply| read(reply).ok_or(CallError::FateUnknown))
    }
}

impl<T> fmt::Debug for Asked<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Asked").field(&self.pending.ticket).finish()
    }
}
