//! Other programs: run to their end with what they print counted, or kept as servers and ended by us. Ends only what it started.

use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::clock::wait_for;
use crate::tally::Tally;

/// Lines that may wait for us; a program that prints more is held up, not buffered without end.
const LINES_WAITING_MAX: usize = 1024;

/// What is shown of a server's log when something is wrong with it.
const TAIL_LINES: usize = 20;

/// How a program ended.
pub struct Ended {
    /// The sum of its closing lines.
    pub tally: Tally,
    /// Why it failed, where its counts do not say it; for people.
    pub note: String,
}

/// Runs a test program, prints its lines behind `label`, and sums its closing lines. One that runs past `within`, fails
/// without saying what, or counts nothing, is one failed check.
pub fn counted(label: &str, command: &mut Command, within: Duration) -> Result<Ended> {
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().with_context(|| described(command))?;
    let stdout = child.stdout.take().context("its standard output")?;
    let prefix = if label.is_empty() { String::new() } else { format!("{label} | ") };
    let reader = thread::spawn(move || {
        let mut tally = Tally::default();
        for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line);
            println!("{prefix}{line}");
            if let Some(counts) = Tally::parse(&line) {
                tally += counts;
            }
        }
        tally
    });
    let status = wait_for(within, || child.try_wait()).context("waiting for it")?;
    let late = status.is_none();
    if late {
        child.kill().context("ending it")?;
        child.wait()?;
    }
    let tally = reader.join().unwrap_or_default();
    Ok(judged(tally, status, late.then_some(within)))
}

fn judged(mut tally: Tally, status: Option<ExitStatus>, late: Option<Duration>) -> Ended {
    let success = status.is_some_and(|status| status.success());
    let note = match (late, status) {
        (Some(within), _) => format!("not done after {} s: ended", within.as_secs()),
        (None, Some(status)) if !success && tally.failed == 0 => status.to_string(),
        _ if success && tally == Tally::default() => "counted nothing".to_owned(),
        _ => String::new(),
    };
    if !note.is_empty() {
        tally += Tally::FAILED;
    }
    Ended { tally, note }
}

/// Runs a program that must succeed; what it prints goes to where ours goes.
pub fn must(command: &mut Command) -> Result<()> {
    let status = command.stdin(Stdio::null()).status().with_context(|| described(command))?;
    ensure!(status.success(), "{}: {status}", described(command));
    Ok(())
}

/// Runs a program that must succeed, and gives what it printed on standard output.
pub fn output(command: &mut Command) -> Result<String> {
    let out =
        command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().with_context(|| described(command))?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    ensure!(out.status.success(), "{}: {}\n{text}", described(command), out.status);
    Ok(text)
}

fn described(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

/// A server that we started. Killed if it is dropped while it runs.
pub struct Server {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Server {
    /// Starts it with both outputs in the file `log`.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Result<Self> {
        let out = File::create(log).with_context(|| log.display().to_string())?;
        let err = out.try_clone()?;
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .with_context(|| described(command))?;
        Ok(Self { child, name: name.to_owned(), log: log.to_owned() })
    }

    /// Starts it with standard error in the file `log`, and standard output as lines.
    pub fn start_lines(name: &str, command: &mut Command, log: &Path) -> Result<(Self, Receiver<String>)> {
        let err = File::create(log).with_context(|| log.display().to_string())?;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(err)
            .spawn()
            .with_context(|| described(command))?;
        let stdout = child.stdout.take().context("its standard output")?;
        let (sender, lines) = sync_channel(LINES_WAITING_MAX);
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = sender.try_send(line); // nobody reads after `ready`; the pipe must still be emptied
            }
        });
        Ok((Self { child, name: name.to_owned(), log: log.to_owned() }, lines))
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until its log holds `words`.
    pub fn says(&mut self, words: &str, within: Duration) -> Result<()> {
        let found = wait_for(within, || -> Result<Option<()>> {
            let said = std::fs::read(&self.log).unwrap_or_default();
            if String::from_utf8_lossy(&said).contains(words) {
                return Ok(Some(()));
            }
            self.alive().map(|()| None)
        })?;
        ensure!(
            found.is_some(),
            "{} did not say {words:?} in {} s\n{}",
            self.name,
            within.as_secs(),
            self.tail()
        );
        Ok(())
    }

    /// An error with the end of its log, if it has ended by itself.
    pub fn alive(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("{} ended by itself ({status})\n{}", self.name, self.tail()),
            None => Ok(()),
        }
    }

    /// Asks it to stop (SIGTERM) and waits.
    pub fn stop(mut self, within: Duration) -> Result<ExitStatus> {
        self.alive()?;
        must(Command::new("sh").arg("-c").arg(format!("kill -TERM {}", self.pid())))?;
        let status = wait_for(within, || self.child.try_wait())?;
        status.with_context(|| {
            format!("{} runs on {} s after SIGTERM\n{}", self.name, within.as_secs(), self.tail())
        })
    }

    /// The last lines of its log.
    pub fn tail(&self) -> String {
        let said = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&said).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        lines.get(lines.len().saturating_sub(TAIL_LINES)..).unwrap_or_default().join("\n    ")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Ports that no system hands out by itself: a client of a program beside ours cannot be given the port that we are about to use.
const PORTS: std::ops::Range<u16> = 10_000..32_768;
/// Ports looked at.
const PORT_TRIES_MAX: usize = 1000;

/// `N` loopback ports that were free a moment ago, all different.
pub fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let mut listeners = Vec::with_capacity(N);
    let mut ports = [0; N];
    for port in &mut ports {
        let try_one = |_| TcpListener::bind(("127.0.0.1", any_port())).ok();
        let listener = (0..PORT_TRIES_MAX).find_map(try_one).context("a free port")?;
        *port = listener.local_addr()?.port();
        listeners.push(listener);
    }
    Ok(ports)
}

fn any_port() -> u16 {
    let dice = RandomState::new().build_hasher().finish() % u64::from(PORTS.end - PORTS.start);
    PORTS.start + u16::try_from(dice).unwrap_or(0)
}

/// A directory that is emptied first and removed when this is dropped.
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes `path` an empty directory.
    pub fn new(path: PathBuf) -> Result<Self> {
        if path.exists() {
            std::fs::remove_dir_all(&path).with_context(|| path.display().to_string())?;
        }
        std::fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
        Ok(Self(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    fn shell(script: &str) -> Ended {
        counted("", Command::new("sh").args(["-c", script]), SOON).unwrap()
    }

    #[test]
    fn closing_lines_are_summed() {
        let ended = shell("echo '2 passed, 0 failed'; echo ok; echo '1 passed, 0 failed'");
        assert_eq!(ended.note, "");
        assert_eq!(ended.tally, Tally { passed: 3, failed: 0, skipped: 0 });
    }

    #[test]
    fn a_program_that_fails_silently_or_counts_nothing_has_failed() {
        for script in ["echo '2 passed, 0 failed'; exit 3", "true", "exit 1"] {
            let ended = shell(script);
            assert!(!ended.note.is_empty() && ended.tally.failed == 1, "{script}: {}", ended.note);
        }
        assert_eq!(shell("echo '2 passed, 1 failed'; exit 1").tally.failed, 1, "not counted twice");
    }

    #[test]
    fn a_program_that_hangs_is_ended() {
        let ended = counted("", Command::new("sleep").arg("1000"), Duration::from_millis(20)).unwrap();
        assert!(!ended.note.is_empty() && ended.tally.failed == 1, "{}", ended.note);
    }

    #[test]
    fn free_ports_differ() {
        let [a, b] = free_ports::<2>().unwrap();
        assert_ne!(a, b);
    }
}
