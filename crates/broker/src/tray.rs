//! Where the sequencer leaves work for a task, and how the task is woken: once, however much there is.

use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

/// Work on its way to one task. What bounds it is said by who puts it there.
#[derive(Debug)]
pub(crate) struct Tray<T> {
    items: Mutex<Vec<T>>,
    arrived: Notify,
}

impl<T> Default for Tray<T> {
    fn default() -> Self {
        Self { items: Mutex::default(), arrived: Notify::new() }
    }
}

impl<T> Tray<T> {
    pub(crate) fn put(&self, more: impl IntoIterator<Item = T>) {
        let mut items = self.items.lock().unwrap_or_else(PoisonError::into_inner);
        let before = items.len();
        items.extend(more);
        if items.len() > before {
            drop(items);
            self.arrived.notify_one();
        }
    }

    fn take_now(&self, out: &mut Vec<T>) {
        out.append(&mut self.items.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Waits for something, and takes all there is.
    pub(crate) async fn take(&self, out: &mut Vec<T>) {
        loop {
            self.take_now(out);
            if !out.is_empty() {
                return;
            }
            self.arrived.notified().await;
        }
    }
}
