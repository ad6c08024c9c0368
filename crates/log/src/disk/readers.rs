//! Threads that read from disk for those who must not block. They know nothing of what they read.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

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
    begun: Arc<Begun>,
}

/// Reads that were accepted and have not let go of everything yet.
#[derive(Default)]
struct Begun {
    count: Mutex<usize>,
    none: Condvar,
}

impl Begun {
    fn count(&self) -> MutexGuard<'_, usize> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn one_less(&self) {
        let mut count = self.count();
        *count -= 1;
        if *count == 0 {
            self.none.notify_all();
        }
    }
}

/// One less when dropped, however a read ends.
struct Ends<'a>(&'a Begun);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.one_less();
    }
}

impl ReaderThreads {
    /// Starts the threads.
    ///
    /// # Errors
    /// If the operating system gives no thread.
    pub(crate) fn start() -> std::io::Result<Self> {
        let (jobs, inbox) = sync_channel::<Job>(QUEUED_MAX);
        let inbox = Arc::new(Mutex::new(inbox));
        let begun = Arc::<Begun>::default();
        for n in 0..THREADS {
            let (inbox, begun) = (Arc::clone(&inbox), Arc::clone(&begun));
            std::thread::Builder::new()
                .name(format!("log-reader-{n}"))
                .spawn(move || work(&inbox, &begun))?;
        }
        Ok(Self { jobs, begun })
    }

    /// Waits until all reads that were begun have ended and hold nothing more.
    pub(crate) fn drain(&self) {
        let count = self.begun.count();
        drop(self.begun.none.wait_while(count, |n| *n > 0).unwrap_or_else(PoisonError::into_inner));
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
        *self.begun.count() += 1;
        if self.jobs.try_send(job).is_err() {
            self.begun.one_less();
            return Box::pin(async { Err(ReadError::Overloaded) });
        }
        Box::pin(async { rx.await.unwrap_or(Err(ReadError::Closed)) })
    }
}

fn work(inbox: &Mutex<Receiver<Job>>, begun: &Begun) {
    loop {
        let job = inbox.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        let _ends = Ends(begun);
        job();
    }
}
