//! The machine, this process as the kernel counts it, and the place where the data lies.

use std::path::{Path, PathBuf};
use std::process::Command;

use millstream_env::Env;

/// A directory of this run's own, removed when dropped.
pub struct Place {
    pub root: PathBuf,
}

impl Place {
    /// A new one on the disk that holds the target directory.
    pub fn new(need_bytes: u64) -> Self {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("bench-log-{}", std::process::id()));
        std::fs::create_dir_all(&root).unwrap();
        let place = Self { root };
        let free = Env::os(&place.root).disk.space().unwrap().free_bytes;
        if free < need_bytes + (4 << 30) {
            drop(place);
            eprintln!(
                "{} MiB are free here, {} are needed (--mib)",
                free >> 20,
                (need_bytes + (4 << 30)) >> 20
            );
            std::process::exit(1);
        }
        place
    }

    /// An empty directory.
    pub fn fresh(&self, name: &str) -> PathBuf {
        let dir = self.root.join(name);
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

fn told(command: &str, args: &[&str]) -> String {
    let out = Command::new(command).args(args).output();
    out.map_or_else(|_| "?".to_owned(), |o| String::from_utf8_lossy(&o.stdout).trim().to_owned())
}

/// Cores, kernel, file system, and how busy others are.
pub fn line(root: &Path) -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let fs = told("stat", &["-f", "-c", "%T", &root.display().to_string()]);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: Vec<&str> = load.split_whitespace().take(3).collect();
    format!(
        "Machine: {cores} cores, {} {}, {fs}; load average {} before the run.",
        told("uname", &["-s"]),
        told("uname", &["-r"]),
        load.join(" ")
    )
}

/// What this process has used so far.
#[derive(Clone, Copy, Debug)]
pub struct Used {
    pub cpu_seconds: f64,
    /// Sent to the block layer, whoever wrote it.
    pub write_bytes: u64,
}

fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|l| l.strip_prefix(name));
    line.and_then(|l| l.split_whitespace().next()).and_then(|v| v.parse().ok()).unwrap_or(0)
}

impl Used {
    pub fn now() -> Self {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
        let mut fields = stat.rsplit_once(')').unwrap().1.split_whitespace().skip(11);
        let mut ticks = || fields.next().unwrap().parse::<f64>().unwrap();
        let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
        let per_second: f64 = told("getconf", &["CLK_TCK"]).parse().unwrap_or(100.0);
        Self { cpu_seconds: (ticks() + ticks()) / per_second, write_bytes: field(&io, "write_bytes:") }
    }
}

/// Resident memory of this process: now and at most, in MiB.
pub fn resident_mib() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    (field(&status, "VmRSS:") >> 10, field(&status, "VmHWM:") >> 10)
}
