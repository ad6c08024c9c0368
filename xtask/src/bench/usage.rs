//! What a process has used, as Linux counts it in `/proc`.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::process::output;

/// A process that is measured.
pub struct Usage {
    pid: u32,
    ticks_per_second: f64,
}

impl Usage {
    /// Watches process `pid`.
    pub fn of(pid: u32) -> Result<Self> {
        let ticks = output(Command::new("getconf").arg("CLK_TCK"))?;
        Ok(Self { pid, ticks_per_second: ticks.trim().parse().context("getconf CLK_TCK")? })
    }

    /// Processor seconds so far, in user and system mode, all threads.
    pub fn cpu_seconds(&self) -> Result<f64> {
        let stat = self.read("stat")?;
        Ok(ticks(&stat, UTIME).context("/proc/PID/stat")? / self.ticks_per_second)
    }

    /// Processor seconds of this tool, all its threads, and of the programs that it ran to their end.
    pub fn tools_cpu_seconds(&self) -> Result<f64> {
        let stat = std::fs::read_to_string("/proc/self/stat")?;
        let of = |at| ticks(&stat, at).context("/proc/self/stat");
        Ok((of(UTIME)? + of(CUTIME)?) / self.ticks_per_second)
    }

    /// Reads of files so far: of the operating system, whatever their size. Sockets do not count.
    pub fn reads(&self) -> Result<f64> {
        count(&self.read("io")?, "syscr:").context("syscr")
    }

    /// Resident memory now, in MiB.
    pub fn resident_mib(&self) -> Result<f64> {
        mib(&self.read("status")?, "VmRSS:").context("VmRSS")
    }

    /// The most resident memory since it started, in MiB.
    pub fn peak_mib(&self) -> Result<f64> {
        mib(&self.read("status")?, "VmHWM:").context("VmHWM")
    }

    fn read(&self, file: &str) -> Result<String> {
        let path = PathBuf::from(format!("/proc/{}/{file}", self.pid));
        std::fs::read_to_string(&path).with_context(|| path.display().to_string())
    }
}

/// Where `utime` and `stime` begin, and those of children that ended, counted behind the name in parentheses, which may hold spaces.
const UTIME: usize = 11;
const CUTIME: usize = 13;

/// The sum of two fields of `stat`.
fn ticks(stat: &str, at: usize) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(at);
    let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(user + system)
}

fn count(lines: &str, name: &str) -> Option<f64> {
    lines.lines().find_map(|line| line.strip_prefix(name))?.trim().parse().ok()
}

fn mib(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse::<f64>().ok().map(|kib| kib / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_proc_are_found() {
        let stat = "7 (a b) c) S 1 2 3 4 5 6 7 8 9 10 300 45 70 8 20 0 12 0 999";
        assert_eq!((ticks(stat, UTIME), ticks(stat, CUTIME)), (Some(345.0), Some(78.0)));
        assert_eq!(count("rchar: 5\nsyscr: 7\nsyscw: 9\n", "syscr:"), Some(7.0));
        assert_eq!(mib("Name:\tx\nVmHWM:\t  2048 kB\nVmRSS:\t 1024 kB\n", "VmRSS:"), Some(1.0));
        assert_eq!(mib("Name:\tx\n", "VmRSS:"), None);
    }
}
