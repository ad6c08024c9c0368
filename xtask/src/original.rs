//! Apache Kafka, one node in `KRaft` mode, on ports and a directory of its own.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::clock::Moment;
use crate::process::{Scratch, Server, free_ports, output};

/// It starts within this.
const STARTED_WITHIN: Duration = Duration::from_mins(2);
/// It stops within this.
const STOPPED_WITHIN: Duration = Duration::from_mins(1);
/// What it logs when it serves.
const STARTED: &str = "Kafka Server started";

/// How it is set up.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Setting {
    /// As it ships, with what one node needs: heap and log settings untouched. For measuring.
    AsItShips,
    /// Short intervals, so that checks of retention and groups need not wait long. For conformance.
    Brisk,
}

/// A running Apache Kafka.
pub struct Original {
    server: Server,
    /// Where clients connect.
    pub bootstrap: String,
    /// From starting the process to its word that it has started.
    pub ready_after: Duration,
    _data: Scratch,
}

impl Original {
    /// Formats an empty directory under `place` and starts.
    pub fn start(jars: &Path, place: &Path, setting: Setting) -> Result<Self> {
        let data = Scratch::new(place.join("kafka-data"))?;
        let [broker, controller] = free_ports::<2>()?;
        let properties = data.path().join("server.properties");
        std::fs::write(&properties, server_properties(data.path(), broker, controller, setting))?;
        let classes = format!("{}/*", jars.display());
        let mut format = Command::new("java");
        format.args([
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-cp",
            &classes,
            "kafka.tools.StorageTool",
        ]);
        format.args(["format", "-t", "bWlsbHN0cmVhbS1wZWVyMQ", "-c"]).arg(&properties);
        output(&mut format).context("formatting Kafka's directory")?;
        let heap: &[&str] = match setting {
            Setting::AsItShips => &["-Xmx1G", "-Xms1G"],
            Setting::Brisk => &["-Xmx512m", "-Xms256m"],
        };
        let mut java = Command::new("java");
        java.args(heap).args([
            "-server",
            "-XX:+UseG1GC",
            "-XX:MaxGCPauseMillis=20",
            "-Djava.awt.headless=true",
        ]);
        java.args(["-XX:InitiatingHeapOccupancyPercent=35", "-XX:+ExplicitGCInvokesConcurrent"]);
        java.args(["-cp", &classes, "kafka.Kafka"]).arg(&properties);
        let started = Moment::now();
        let mut server = Server::start("Apache Kafka", &mut java, &place.join("kafka.log"))?;
        server.says(STARTED, STARTED_WITHIN)?;
        Ok(Self {
            server,
            bootstrap: format!("127.0.0.1:{broker}"),
            ready_after: started.elapsed(),
            _data: data,
        })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// SIGTERM; any exit status will do (Java's is 143).
    pub fn stop(self) -> Result<()> {
        self.server.stop(STOPPED_WITHIN).context("stopping Apache Kafka").map(drop)
    }
}

fn server_properties(data: &Path, broker: u16, controller: u16, setting: Setting) -> String {
    let mut text = format!(
        "process.roles=broker,controller\n\
         node.id=1\n\
         controller.quorum.voters=1@127.0.0.1:{controller}\n\
         listeners=PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{broker}\n\
         controller.listener.names=CONTROLLER\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
         inter.broker.listener.name=PLAINTEXT\n\
         offsets.topic.replication.factor=1\n\
         transaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\n\
         share.coordinator.state.topic.replication.factor=1\n\
         share.coordinator.state.topic.min.isr=1\n\
         group.initial.rebalance.delay.ms=0\n"
    );
    let _ = writeln!(text, "log.dirs={}", data.join("log").display());
    if setting == Setting::Brisk {
        text.push_str(
            "offsets.topic.num.partitions=4\n\
             transaction.state.log.num.partitions=4\n\
             group.min.session.timeout.ms=1000\n\
             log.retention.check.interval.ms=500\n\
             log.segment.delete.delay.ms=1000\n\
             log.initial.task.delay.ms=1000\n",
        );
    }
    text
}
