//! The machine, and the place where the data lies.

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
