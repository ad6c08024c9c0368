//! `millstream serve`: opens the broker, then its listeners, says so, and stops cleanly on SIGTERM or SIGINT.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use millstream_broker::bridge::BridgeError;
use millstream_broker::{Broker, OpenError, Principal, SessionOptions};
use millstream_env::{Clock, Env};
use millstream_log::DiskLog;
use millstream_types::Namespace;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::config::Config;
use crate::full::FullDisk;
use crate::http::{self, Health};

/// Exit status when the log was lost (`EX_IOERR` of sysexits.h).
const EXIT_LOG_LOST: u8 = 74;
/// How often the server looks whether the log is lost, or the disk full.
const LOST_CHECK: Duration = Duration::from_millis(100);
/// How long connections get to finish when the server stops.
const DRAIN: Duration = Duration::from_secs(5);

/// Runs until it is told to stop, or the log is lost.
///
/// # Errors
/// A listener or the data directory cannot be opened.
pub fn run(cfg: &Config) -> anyhow::Result<ExitCode> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the runtime")?;
    let code = runtime.block_on(serve(cfg));
    runtime.shutdown_timeout(DRAIN);
    code
}

async fn serve(cfg: &Config) -> anyhow::Result<ExitCode> {
    let env = Env::os(cfg.data_dir.clone());
    let started = env.clock.mono_ns();
    // Ports first: a port that is taken is said before anything is touched.
    let kafka = bind("kafka", cfg.kafka).await?;
    let amqp = bind("amqp", cfg.amqp).await?;
    let aws = bind("aws", cfg.aws).await?;
    let http = bind("http", cfg.http).await?;
    let http_addr = http.as_ref().map(|(_, addr)| *addr);
    let (stop, stopped) = watch::channel(false);
    let mut tasks = tokio::task::JoinSet::new();
    let health = Arc::new(Health::default());
    if let Some((listener, _)) = http {
        let (health, stopped) = (Arc::clone(&health), stopped.clone());
        tasks.spawn(async move { http::serve(listener, health, wait(stopped)).await });
    }
    let broker = tokio::task::block_in_place(|| open(cfg, &env))?;
    // Until here a signal ends the process at once, which harms nothing; from the first listener's line on, it is a clean stop.
    let signals = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    health.set(broker.clone());
    bridges(&broker, cfg).await?;
    let mut out = std::io::stdout();
    if let Some((listener, addr)) = kafka {
        writeln!(out, "kafka  {addr}")?;
        let kafka_cfg = millstream_kafka::KafkaConfig {
            advertised_host: cfg.kafka_advertised.as_ref().map(|(h, _)| h.clone()),
            advertised_port: cfg.kafka_advertised.as_ref().map(|(_, p)| *p),
            observer: crate::http::kafka_observer(),
            connections_max: cfg.kafka_connections_max,
            frame_bytes_max: cfg.kafka_frame_bytes_max,
            ..millstream_kafka::KafkaConfig::default()
        };
        let (broker, stopped) = (broker.clone(), stopped.clone());
        tasks.spawn(async move { millstream_kafka::serve(listener, broker, kafka_cfg, wait(stopped)).await });
    }
    if let Some((listener, addr)) = amqp {
        writeln!(out, "amqp   {addr}")?;
        if !addr.ip().is_loopback() {
            tracing::warn!(%addr, "AMQP clients on other machines send their passwords unencrypted");
        }
        let amqp_cfg = millstream_amqp::AmqpConfig {
            connections_max: cfg.amqp_connections_max,
            channels_max: cfg.amqp_channels_max,
            heartbeat_s: cfg.amqp_heartbeat_s,
            consumer_timeout: (cfg.amqp_consumer_timeout_ms > 0)
                .then(|| Duration::from_millis(cfg.amqp_consumer_timeout_ms)),
            stats: crate::http::amqp_stats(),
            loopback_users: cfg.amqp_loopback_users.clone(),
            ..millstream_amqp::AmqpConfig::default()
        };
        let (broker, stopped) = (broker.clone(), stopped.clone());
        tasks.spawn(async move { millstream_amqp::serve(listener, broker, amqp_cfg, wait(stopped)).await });
    }
    if let Some((listener, addr)) = aws {
        writeln!(out, "aws    {addr}")?;
        let aws_cfg = millstream_aws::AwsConfig {
            region: cfg.aws_region.clone(),
            account: cfg.aws_account.clone(),
            keys: cfg.aws_access_keys.clone(),
            connections_max: cfg.aws_connections_max,
            cooldown: Duration::from_secs(cfg.aws_cooldown_s),
            stats: crate::http::aws_stats(),
            ..millstream_aws::AwsConfig::default()
        };
        let (broker, stopped) = (broker.clone(), stopped.clone());
        tasks.spawn(async move { millstream_aws::serve(listener, broker, aws_cfg, wait(stopped)).await });
    }
    if let Some(addr) = http_addr {
        writeln!(out, "http   {addr}")?;
    }
    let report = broker.open_report();
    // Before the line that says so: who reads it may ask at once.
    health.ready();
    let took_ms = (env.clock.mono_ns() - started) / 1_000_000;
    write!(
        out,
        "ready  in {took_ms} ms; epoch {}, replayed {} records",
        broker.epoch().0,
        report.replayed_records
    )?;
    writeln!(out, " ({} bytes)", report.replayed_bytes)?;
    out.flush()?;
    if let Some(lsn) = report.cut_at {
        tracing::info!(%lsn, frames_rewritten = report.frames_rewritten, "the log's torn tail was cut");
    }

    let code = until_stopped(signals, &broker, &*env.clock).await;
    health.stopping();
    let _ = stop.send(true);
    let drained = tokio::time::timeout(DRAIN, async { while tasks.join_next().await.is_some() {} }).await;
    if drained.is_err() {
        tracing::warn!("connections were still open when the time to stop was over");
        tasks.abort_all();
    }
    let closing = broker.clone();
    tokio::task::spawn_blocking(move || closing.close()).await.context("closing the broker")?;
    Ok(code)
}

/// Makes the bridges of the configuration that are not there, and changes those that are otherwise.
async fn bridges(broker: &Broker, cfg: &Config) -> anyhow::Result<()> {
    let session = broker.session(Principal::anonymous(), Namespace::DEFAULT, SessionOptions::default());
    for (name, def) in &cfg.bridges {
        let done = match session.bridge(name).await {
            Err(BridgeError::NotFound(_)) => session.create_bridge(name, def, true).await.map(drop),
            Ok(there) if there.def.as_ref() == Ok(def) => Ok(()),
            Ok(_) => session.redefine_bridge(name, def).await.map(drop),
            Err(e) => Err(e),
        };
        done.with_context(|| format!("bridge {name:?} of the configuration"))?;
    }
    Ok(())
}

fn open(cfg: &Config, env: &Env) -> anyhow::Result<Broker> {
    env.disk.create_dir_all("").with_context(|| format!("making {}", cfg.data_dir.display()))?;
    let log = DiskLog::new(env.clone());
    Broker::open(cfg.broker.clone(), env.clone(), &log).map_err(|e: OpenError| {
        anyhow::Error::new(e)
            .context(format!("the data directory {} cannot be opened", cfg.data_dir.display()))
    })
}

async fn bind(
    name: &str,
    addr: Option<std::net::SocketAddr>,
) -> anyhow::Result<Option<(TcpListener, std::net::SocketAddr)>> {
    let Some(addr) = addr else { return Ok(None) };
    let listener =
        TcpListener::bind(addr).await.with_context(|| format!("listening on {addr} for {name}"))?;
    let addr = listener.local_addr()?;
    Ok(Some((listener, addr)))
}

async fn wait(mut stopped: watch::Receiver<bool>) {
    let _ = stopped.wait_for(|s| *s).await;
}

/// Waits for a signal, or the loss of the log.
async fn until_stopped(
    (mut term, mut int): (Signal, Signal),
    broker: &Broker,
    clock: &dyn Clock,
) -> ExitCode {
    let mut check = tokio::time::interval(LOST_CHECK);
    let mut full = FullDisk::default();
    loop {
        tokio::select! {
            _ = term.recv() => return ExitCode::SUCCESS,
            _ = int.recv() => return ExitCode::SUCCESS,
            _ = check.tick() => {
                if let Some(lost) = broker.lost() {
                    tracing::error!(cause = %lost, "the log can no longer be written: the process ends, nothing more is acknowledged");
                    // Not a clean stop: what is in memory may be ahead of the disk.
                    std::process::exit(i32::from(EXIT_LOG_LOST));
                }
                full.look(broker, clock);
            }
        }
    }
}
