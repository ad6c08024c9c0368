//! The broker's binary: built, started on ports and a directory of its own, and stopped.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::clients::Protocol;
use crate::clock::Moment;
use crate::process::{Scratch, Server, free_ports, must};
use crate::workspace;

/// It says `ready` within this, or something is wrong.
const READY_WITHIN: Duration = Duration::from_secs(20);
/// It stops within this.
const STOPPED_WITHIN: Duration = Duration::from_secs(20);

/// Settings with which checks of retention need not wait long.
pub const BRISK: &[&str] = &["topics.retention_check_ms=200"];

/// A running broker.
pub struct Millstream {
    server: Server,
    /// Where Kafka clients connect.
    pub bootstrap: String,
    /// Where AMQP clients connect.
    pub amqp: String,
    /// Where AWS clients connect.
    pub aws: String,
    /// Its command line, as a shell would have it.
    pub admin: String,
    /// From starting the process to its `ready`.
    pub ready_after: Duration,
    data: Scratch,
}

/// Builds the release binary and says where it is.
pub fn build(root: &Path) -> Result<PathBuf> {
    built(root, "release")
}

/// Builds the binary that tests run, which is the release binary but for what is optimised at linking, and says where it is.
pub fn build_tested(root: &Path) -> Result<PathBuf> {
    built(root, "tested")
}

fn built(root: &Path, profile: &str) -> Result<PathBuf> {
    let mut cargo = Command::new(workspace::cargo());
    cargo.args(["build", "--profile", profile, "--package", "millstream-server"]);
    must(cargo.current_dir(root))?;
    let binary = workspace::target(root).join(profile).join("millstream");
    ensure!(binary.is_file(), "cargo made no {}", binary.display());
    Ok(binary)
}

impl Millstream {
    /// Starts it on an empty directory under `place`, which goes when it is dropped.
    pub fn start(binary: &Path, place: &Path, settings: &[&str]) -> Result<Self> {
        Self::start_on(Scratch::new(place.join("millstream-data"))?, binary, place, settings)
    }

    /// Starts it on a directory that one before it left.
    pub fn start_on(data: Scratch, binary: &Path, place: &Path, settings: &[&str]) -> Result<Self> {
        let [bootstrap, amqp, aws, http] = free_ports::<4>()?.map(|port| format!("127.0.0.1:{port}"));
        let mut serve = Command::new(binary);
        serve
            .arg("serve")
            .arg("--data-dir")
            .arg(data.path())
            .args(["--kafka", &bootstrap, "--amqp", &amqp, "--aws", &aws, "--http", &http]);
        serve.args(settings.iter().flat_map(|setting| ["--set", setting]));
        let started = Moment::now();
        let (mut server, lines) =
            Server::start_lines("millstream", &mut serve, &place.join("millstream.log"))?;
        loop {
            match lines.recv_timeout(READY_WITHIN.saturating_sub(started.elapsed())) {
                Ok(line) if line.starts_with("ready") => break,
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => {
                    bail!("no `ready` in {} s\n{}", READY_WITHIN.as_secs(), server.tail())
                }
                Err(RecvTimeoutError::Disconnected) => {
                    server.alive()?;
                    bail!("it closed its output without `ready`\n{}", server.tail());
                }
            }
        }
        let admin = format!("env MILLSTREAM_SERVER={http} '{}'", binary.display());
        Ok(Self { server, bootstrap, amqp, aws, admin, ready_after: started.elapsed(), data })
    }

    /// Where clients of a protocol connect.
    pub fn address(&self, protocol: Protocol) -> &str {
        match protocol {
            Protocol::Kafka => &self.bootstrap,
            Protocol::Amqp => &self.amqp,
            Protocol::Sqs => &self.aws,
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// SIGKILL; gives its directory.
    pub fn kill(self) -> Scratch {
        let Self { server, data, .. } = self;
        drop(server);
        data
    }

    /// SIGTERM; it must end by itself with 0.
    pub fn stop(self) -> Result<()> {
        let tail = self.server.tail();
        let status = self.server.stop(STOPPED_WITHIN).context("stopping millstream")?;
        ensure!(status.success(), "millstream ended with {status}\n{tail}");
        Ok(())
    }
}
