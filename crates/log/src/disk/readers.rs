//! Threads that read from disk for those who must not block. They know nothing of what they read.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use crate::api::{BoxFuture, ReadError};

type Job = Box<dyn FnOnce() + Send>;

const THREADS: usize = 4;
/// Reads that wait; more are refused.
const QUEUED_MAX: usize = 1024;

/// A handle to the reader threads; they end when the last is dropped.
#[derive(Clone)]
pub(crate) struct ReaderThreads {
    jobs: SyncSender<Job>,
}

impl ReaderThreads {
    /// Starts the threads.
    ///
    /// # Errors
    /// If the operating system gives no thread.
    pub(crate) fn start() -> std::io::Result<Self> {
        let (jobs, inbox) = sync_channel::<Job>(QUEUED_MAX);
        let inbox = Arc::new(Mutex::new(inbox));
        for n in 0..THREADS {
            let inbox = Arc::clone(&inbox);
            std::thread::Builder::new().name(format!("log-reader-{n}")).spawn(move || work(&inbox))?;
        }
        Ok(Self { jobs })
    }

    /// Runs a read on one of the threads.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> Result<T, ReadError> + Send + 'static,
    ) -> BoxFuture<Result<T, ReadError>> {
        let (tx, rx) = oneshot::channel();
        let job: Job = Box::new(move || {
            if !tx.is_closed() {
                let _ = tx.send(read());
            }
        });
        if self.jobs.try_send(job).is_err() {
            return Box::pin(async { Err(ReadError::Overloaded) });
        }
        Box::pin(async { rx.await.unwrap_or(Err(ReadError::Closed)) })
    }
}

fn work(inbox: &Mutex<Receiver<Job>>) {
    loop {
        let job = inbox.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match job {
            Ok(job) => job(),
            Err(_) => return,
        }
    }
}
