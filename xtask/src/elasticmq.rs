//! `ElasticMQ`, an independent implementation of SQS, in memory, on a port of its own.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::process::{Server, free_ports};

/// It starts within this.
const STARTED_WITHIN: Duration = Duration::from_mins(1);
/// It stops within this.
const STOPPED_WITHIN: Duration = Duration::from_mins(1);
/// What it prints when it serves.
const STARTED: &str = "started in";

/// A running `ElasticMQ`.
pub struct ElasticMq {
    server: Server,
    /// Where clients connect.
    pub address: String,
}

impl ElasticMq {
    /// Starts the one in `jars`, with its log under `place`.
    pub fn start(jars: &Path, place: &Path) -> Result<Self> {
        let [port] = free_ports::<1>()?;
        let mut command = Command::new("java");
        command
            .arg("-Drest-sqs.bind-hostname=127.0.0.1")
            .arg(format!("-Drest-sqs.bind-port={port}"))
            .args(["-Dnode-address.host=127.0.0.1", &format!("-Dnode-address.port={port}")])
            .arg("-Drest-stats.enabled=false")
            .arg("-cp")
            .arg(jars.join("*"))
            .arg("org.elasticmq.server.Main");
        let mut server = Server::start("ElasticMQ", &mut command, &place.join("elasticmq.log"))?;
        server.says(STARTED, STARTED_WITHIN)?;
        Ok(Self { server, address: format!("127.0.0.1:{port}") })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// SIGTERM; any exit status will do.
    pub fn stop(self) -> Result<()> {
        self.server.stop(STOPPED_WITHIN).context("stopping ElasticMQ").map(drop)
    }
}
