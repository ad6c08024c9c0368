//! The bare disk: one committer that writes all that came meanwhile with one direct write and one `fdatasync`, and nothing else. No
//! format, no checksum, no index. Start at [`Bare`].

use std::io::IoSlice;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

use millstream_env::{ALIGN, AlignedBuf, Env, File, OpenMode};

use crate::turns::{Signal, Target};

const FILE_BYTES: u64 = 64 << 20;
/// Two of these; a write never has more.
const BUFFER_BYTES: usize = 16 << 20;

/// Files of 64 MiB, written round and round.
#[derive(Clone)]
pub struct Files(Vec<Arc<dyn File>>);

impl Files {
    /// So many bytes. `recycled`: every block was written before; else only reserved.
    pub fn new(env: &Env, bytes: u64, recycled: bool) -> Self {
        let zeros = vec![0; 1 << 20];
        let make = |n| {
            let name = format!("bare-{n}");
            let file = env.disk.open(&name, OpenMode::CreateNew).unwrap();
            file.allocate(FILE_BYTES).unwrap();
            if recycled {
                (0..FILE_BYTES >> 20)
                    .for_each(|mib| file.write_at(mib << 20, &[IoSlice::new(&zeros)]).unwrap());
            }
            file.sync_all().unwrap();
            env.disk.open(&name, OpenMode::Direct).unwrap()
        };
        let files = Self((0..bytes.div_ceil(FILE_BYTES)).map(make).collect());
        env.disk.sync_dir("").unwrap();
        files
    }

    pub fn is_direct(&self) -> bool {
        self.0.iter().all(|f| f.is_direct())
    }
}

/// The loop's submitting end.
pub struct Bare {
    shared: Arc<Shared>,
    record: Vec<u8>,
    signal: Arc<Signal>,
    committer: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    open: Mutex<Open>,
    work: Condvar,
}

#[derive(Default)]
struct Open {
    buf: Option<AlignedBuf>,
    last: u64,
    turn_over: bool,
    stop: bool,
}

fn touched() -> AlignedBuf {
    let mut buf = AlignedBuf::with_capacity(BUFFER_BYTES);
    buf.resize_zeroed(BUFFER_BYTES);
    buf.clear();
    buf
}

impl Bare {
    pub fn start(files: Files, record_bytes: usize) -> Self {
        let open = Open { buf: Some(touched()), ..Open::default() };
        let shared = Arc::new(Shared { open: Mutex::new(open), work: Condvar::new() });
        let signal = Arc::new(Signal::default());
        let (s, to) = (Arc::clone(&shared), Arc::clone(&signal));
        let committer = std::thread::spawn(move || commit(&files, &s, &to));
        Self { shared, record: vec![7; record_bytes], signal, committer: Some(committer) }
    }
}

impl Target for Bare {
    fn submit(&mut self) -> Option<u64> {
        let mut open = self.shared.open.lock().unwrap();
        let buf = open.buf.as_mut().filter(|b| b.remaining() >= self.record.len())?;
        buf.extend_from_slice(&self.record);
        open.last += 1;
        Some(open.last)
    }

    fn end_turn(&mut self) {
        self.shared.open.lock().unwrap().turn_over = true;
        self.shared.work.notify_one();
    }

    fn signal(&self) -> Arc<Signal> {
        Arc::clone(&self.signal)
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        self.shared.open.lock().unwrap().stop = true;
        self.shared.work.notify_one();
        if let Some(thread) = self.committer.take() {
            thread.join().unwrap();
        }
    }
}

fn commit(files: &Files, shared: &Shared, signal: &Signal) {
    let (mut spare, mut file, mut at) = (Some(touched()), 0, 0);
    loop {
        let (mut buf, last) = {
            let mut open = shared.open.lock().unwrap();
            while !open.turn_over || open.buf.as_ref().is_none_or(|b| b.is_empty()) {
                if open.stop {
                    return;
                }
                open.turn_over = false;
                open = shared.work.wait(open).unwrap();
            }
            open.turn_over = false;
            (std::mem::replace(&mut open.buf, spare.take()).unwrap(), open.last)
        };
        buf.resize_zeroed(buf.len().next_multiple_of(ALIGN));
        if at + buf.len() as u64 > FILE_BYTES {
            (file, at) = ((file + 1) % files.0.len(), 0);
        }
        files.0[file].write_at(at, &[IoSlice::new(&buf)]).unwrap();
        files.0[file].sync_data().unwrap();
        at += buf.len() as u64;
        signal.set(last);
        buf.clear();
        spare = Some(buf);
    }
}
