//! One connection: requests are begun in the order they are read, responses leave in that order.
//!
//! Reading and answering run side by side in one task. A Produce or an `OffsetCommit` is submitted when it is read, so that many are
//! on their way to the disk at once; everything else is a [`Job`] that runs when its turn to be answered has come, which is what a
//! client sees of a broker that takes one request at a time. What is submitted early waits for the jobs before it, so that it never
//! runs ahead of, say, the making of its topic; only those that change no data are overtaken: Fetch, `JoinGroup`, `SyncGroup`,
//! Heartbeat. (A member that waits to join again may commit meanwhile: the commit belongs to the generation it was sent in.) A client
//! that goes away ends what waits for it (a Fetch, a `JoinGroup`); whatever changes something is still carried out.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use kafka_protocol::protocol::StrBytes;
use millstream_broker::{Action, Broker, Principal, Resource, Session};
use millstream_types::Namespace;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::config::KafkaConfig;
use crate::fetch::Sessions;
use crate::frame::{FrameLimits, Frames};
use crate::wire::{Close, Header, Out};
use crate::{dispatch, groups, produce, versions};

/// Responses that are ready are written together up to about this many bytes.
const WRITE_BYTES: usize = 256 << 10;

/// What the handlers of a connection's requests share.
pub(crate) struct Conn {
    pub(crate) broker: Broker,
    pub(crate) session: Session,
    pub(crate) who: Principal,
    pub(crate) ns: Namespace,
    /// The client's address, as group descriptions show it.
    pub(crate) peer_host: String,
    pub(crate) advertised_host: StrBytes,
    pub(crate) advertised_port: i32,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) cfg: Arc<KafkaConfig>,
}

impl Conn {
    /// Whether the client may do `action` to the topic.
    pub(crate) fn may_topic(&self, action: Action, name: &str) -> bool {
        self.broker.authorized(&self.who, action, &Resource::Topic(self.ns, name.to_owned()))
    }
    /// Whether the client may do `action` to the group.
    pub(crate) fn may_group(&self, action: Action, name: &str) -> bool {
        self.broker.authorized(&self.who, action, &Resource::Group(self.ns, name.to_owned()))
    }
    /// Whether the client may do `action` to the broker itself.
    pub(crate) fn may_broker(&self, action: Action) -> bool {
        self.broker.authorized(&self.who, action, &Resource::Broker)
    }
}

/// The work that leads to a response. `None`: there is none to send.
pub(crate) type Work = Pin<Box<dyn Future<Output = Result<Option<Out>, Close>> + Send>>;

/// A request between being read and being answered.
pub(crate) struct Job {
    pub(crate) work: Work,
    /// It only waits for the client's sake: dropped when the client is gone.
    pub(crate) waits: bool,
    /// A later Produce or `OffsetCommit` may be submitted before it is done.
    pub(crate) may_be_overtaken: bool,
}

struct Queued {
    job: Job,
    api: &'static str,
    bytes_in: usize,
    since: Instant,
}

/// How the reading came to its end.
enum End {
    /// The client closed, or the listener stops.
    Quiet,
    Closed(Close),
}

/// Serves a connection to its end.
///
/// # Errors
/// Why it was closed from this side.
pub(crate) async fn run(socket: TcpStream, conn: Conn, stopped: watch::Receiver<bool>) -> Result<(), Close> {
    let (read, write) = socket.into_split();
    serve(read, write, conn, stopped).await
}

async fn serve<R, W>(read: R, write: W, conn: Conn, stopped: watch::Receiver<bool>) -> Result<(), Close>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let cfg = Arc::clone(&conn.cfg);
    let (jobs, queue) = mpsc::channel(cfg.inflight_max.max(1));
    let (ended, end) = watch::channel(false);
    let (done, progress) = watch::channel(0_u64);
    let unanswered = AtomicUsize::new(0);
    let limits = FrameLimits {
        produce_bytes: cfg.frame_bytes_max,
        control_bytes: cfg.control_bytes_max.min(cfg.frame_bytes_max),
        idle: cfg.idle_max,
    };
    let reading = async {
        let frames = Frames::new(read, limits);
        let watch = Watch { frames, stopped, ended };
        Reader { conn: Arc::new(conn), jobs, progress, unanswered: &unanswered, watch }.run().await
    };
    let writing = async {
        let mut writer =
            Writer { socket: write, queue, end, done, unanswered: &unanswered, mute: false, cfg };
        let result = writer.run().await;
        let _ = writer.socket.shutdown().await;
        result
    };
    tokio::pin!(reading, writing);
    // A writer that fails ends the reading with it; a reader that ends lets the writer finish what is in the queue.
    tokio::select! {
        written = &mut writing => written,
        end = &mut reading => {
            let written = writing.await;
            match end {
                End::Quiet => written,
                End::Closed(close) => Err(close),
            }
        }
    }
}

/// The incoming side, which also tells the writer when nobody waits for answers any more.
struct Watch<R> {
    frames: Frames<R>,
    stopped: watch::Receiver<bool>,
    ended: watch::Sender<bool>,
}

impl<R: AsyncRead + Unpin> Watch<R> {
    /// The next frame; `None` at the end of the stream, or when the listener stops.
    async fn next(&mut self, is_idle: impl Fn() -> bool) -> Result<Option<Bytes>, Close> {
        tokio::select! {
            biased;
            _ = self.stopped.wait_for(|s| *s) => Ok(None),
            frame = self.frames.next(is_idle) => frame,
        }
    }

    /// Awaits `work`, and listens meanwhile: if the client goes away or the listener stops, what waits for the client is ended, on
    /// which `work` may depend.
    async fn during<T>(&mut self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        tokio::select! {
            biased;
            done = &mut work => return done,
            () = self.frames.closed() => {}
            _ = self.stopped.wait_for(|s| *s) => {}
        }
        self.end();
        work.await
    }

    fn end(&self) {
        // The writer is there until the queue ends.
        let _ = self.ended.send(true);
    }
}

struct Reader<'a, R> {
    conn: Arc<Conn>,
    jobs: mpsc::Sender<Queued>,
    progress: watch::Receiver<u64>,
    unanswered: &'a AtomicUsize,
    watch: Watch<R>,
}

impl<R: AsyncRead + Unpin> Reader<'_, R> {
    async fn run(mut self) -> End {
        let end = self.read().await;
        self.watch.end();
        end
    }

    async fn read(&mut self) -> End {
        let mut ordered: u64 = 0;
        loop {
            let unanswered = self.unanswered;
            let frame = match self.watch.next(|| unanswered.load(Ordering::Relaxed) == 0).await {
                Ok(Some(frame)) => frame,
                Ok(None) => return End::Quiet,
                Err(close) => return End::Closed(close),
            };
            let (since, bytes_in) = (Instant::now(), frame.len() + 4);
            match self.begin(frame, ordered).await {
                Ok((api, job)) => {
                    ordered += u64::from(!job.may_be_overtaken);
                    self.unanswered.fetch_add(1, Ordering::Relaxed);
                    let queued = Queued { job, api, bytes_in, since };
                    if self.watch.during(self.jobs.send(queued)).await.is_err() {
                        return End::Quiet;
                    }
                }
                Err(close) => return End::Closed(close),
            }
        }
    }

    async fn begin(&mut self, mut frame: Bytes, ordered: u64) -> Result<(&'static str, Job), Close> {
        let header = Header::take(&mut frame)?;
        let api = header.api.name;
        let key = header.api.key;
        if key != versions::PRODUCE && key != versions::OFFSET_COMMIT {
            return Ok((api, dispatch::job(&self.conn, header, frame)?));
        }
        let (progress, conn) = (&mut self.progress, &self.conn);
        let submitting = async {
            // The writer lives as long as the reader.
            let _ = progress.wait_for(|done| *done >= ordered).await;
            if key == versions::PRODUCE {
                produce::begin(conn, header, frame).await
            } else {
                groups::begin_offset_commit(conn, header, frame).await
            }
        };
        Ok((api, self.watch.during(submitting).await?))
    }
}

struct Writer<'a, W> {
    socket: W,
    queue: mpsc::Receiver<Queued>,
    end: watch::Receiver<bool>,
    done: watch::Sender<u64>,
    unanswered: &'a AtomicUsize,
    /// A response was left out: none may follow it.
    mute: bool,
    cfg: Arc<KafkaConfig>,
}

impl<W: AsyncWrite + Unpin> Writer<'_, W> {
    async fn run(&mut self) -> Result<(), Close> {
        let mut next = None;
        let mut failure = None;
        loop {
            let mut queued = match next.take() {
                Some(q) => q,
                None => match self.queue.recv().await {
                    Some(q) => q,
                    None => return failure.map_or(Ok(()), Err),
                },
            };
            let mut out = Out::default();
            let mut closing = Ok(());
            match self.finish(&mut queued).await {
                Some(result) => closing = self.add(&queued, result, &mut out),
                None => self.skip(&queued),
            }
            while closing.is_ok() && out.len() < WRITE_BYTES {
                let Ok(mut q) = self.queue.try_recv() else { break };
                let Some(result) = (&mut q.job.work).now_or_never() else {
                    next = Some(q);
                    break;
                };
                closing = self.add(&q, result, &mut out);
            }
            if !self.mute
                && out.len() > 0
                && let Err(e) = self.socket.write_all_buf(&mut out).await
            {
                // Nobody hears any more; what was read is still carried out.
                self.mute = true;
                failure = Some(Close::Io(e));
            }
            closing?;
            if failure.is_some() && next.is_none() && self.queue.is_empty() {
                return failure.map_or(Ok(()), Err);
            }
        }
    }

    /// Runs a job to its end; `None` if the client went away and it was only waiting.
    async fn finish(&mut self, queued: &mut Queued) -> Option<Result<Option<Out>, Close>> {
        if !queued.job.waits {
            return Some((&mut queued.job.work).await);
        }
        tokio::select! {
            biased;
            result = &mut queued.job.work => Some(result),
            _ = self.end.wait_for(|e| *e) => None,
        }
    }

    fn add(
        &mut self,
        queued: &Queued,
        result: Result<Option<Out>, Close>,
        out: &mut Out,
    ) -> Result<(), Close> {
        self.count(queued);
        let result = result?;
        let bytes_out = result.as_ref().map_or(0, Out::len);
        let took: Duration = queued.since.elapsed();
        self.cfg.observer.request(queued.api, took, queued.bytes_in, bytes_out);
        if let Some(r) = result {
            out.append(r);
        }
        Ok(())
    }

    fn skip(&mut self, queued: &Queued) {
        self.mute = true;
        self.count(queued);
    }

    fn count(&mut self, queued: &Queued) {
        self.unanswered.fetch_sub(1, Ordering::Relaxed);
        if !queued.job.may_be_overtaken {
            self.done.send_modify(|n| *n += 1);
        }
    }
}
