//! Debian's `RabbitMQ`, one node, on ports and a directory of its own.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::process::{Scratch, Server, free_ports, output};

/// It starts within this.
const STARTED_WITHIN: Duration = Duration::from_mins(2);
/// It stops within this.
const STOPPED_WITHIN: Duration = Duration::from_mins(1);
/// What it prints when it serves.
const STARTED: &str = "Starting broker... completed";
/// Where Debian puts what is meant for root; the one on the path asks for another user.
const PROGRAM: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";
/// Its command line, beside it.
const CONTROL: &str = "/usr/lib/rabbitmq/bin/rabbitmqctl";

/// A running `RabbitMQ`.
pub struct RabbitMq {
    server: Server,
    /// Where clients connect.
    pub address: String,
    /// Its command line, as a shell would have it.
    pub admin: String,
    data: Scratch,
}

impl RabbitMq {
    /// Starts on an empty directory under `place`.
    pub fn start(place: &Path) -> Result<Self> {
        let data = Scratch::new(place.join("rabbitmq"))?;
        let [port, distribution] = free_ports::<2>()?;
        let home = data.path();
        let plugins = home.join("enabled_plugins");
        std::fs::write(&plugins, "[].")?;
        let node = format!("millstream-peer-{port}@localhost");
        let mut command = Command::new(PROGRAM);
        command
            .env("HOME", home)
            .env("RABBITMQ_NODENAME", &node)
            .env("RABBITMQ_MNESIA_BASE", home.join("mnesia"))
            .env("RABBITMQ_LOG_BASE", home.join("log"))
            .env("RABBITMQ_PID_FILE", home.join("pid"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", &plugins)
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODE_PORT", port.to_string())
            .env("RABBITMQ_DIST_PORT", distribution.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1");
        let mut server = Server::start("RabbitMQ", &mut command, &place.join("rabbitmq.log"))?;
        server.says(STARTED, STARTED_WITHIN)?;
        let admin = format!("env 'HOME={}' {CONTROL} -n {node}", home.display());
        Ok(Self { server, address: format!("127.0.0.1:{port}"), admin, data })
    }

    /// The process id of the broker itself, not of the script that started it.
    pub fn pid(&self) -> Result<u32> {
        let file = self.data.path().join("pid");
        let said = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        said.trim().parse().context("RabbitMQ's pid file")
    }

    /// Its name and version, as it says them itself.
    pub fn version(&self) -> Result<String> {
        let said = output(Command::new("sh").arg("-c").arg(format!("{} version", self.admin)))?;
        Ok(format!("RabbitMQ {}", said.trim()))
    }

    /// SIGTERM; any exit status will do.
    pub fn stop(self) -> Result<()> {
        self.server.stop(STOPPED_WITHIN).context("stopping RabbitMQ").map(drop)
    }
}
