//! Every setting: its name, default, meaning, and where it goes.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use anyhow::{Context, bail, ensure};

use millstream_aws::AccessKey;

use super::Config;

/// One setting.
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// Its default, as text; empty = none.
    pub default: &'static str,
    /// What it is, with its unit.
    pub doc: &'static str,
    /// Puts a value into a configuration.
    pub set: fn(&mut Config, &str) -> anyhow::Result<()>,
}

macro_rules! keys {
    ($( $name:literal = $default:literal, $doc:literal, |$cfg:ident, $v:ident| $body:expr; )*) => {
        /// All of them.
        pub const KEYS: &[Key] = &[ $( Key { name: $name, default: $default, doc: $doc, set: |$cfg, $v| { $body; Ok(()) } } ),* ];
    };
}

keys! {
    "data_dir" = "./millstream-data", "Where everything is kept.",
        |c, v| c.data_dir = PathBuf::from(v);
    "kafka.listen" = "127.0.0.1:9092", "Address of the Kafka listener, or off.",
        |c, v| c.kafka = address(v)?;
    "kafka.advertised" = "", "HOST:PORT that Kafka clients on other hosts are told to use. Default: the address they connected to.",
        |c, v| c.kafka_advertised = Some(host_port(v)?);
    "kafka.connections_max" = "10000", "Kafka connections at once.",
        |c, v| c.kafka_connections_max = number(v, 1, 1_000_000)?;
    "kafka.frame_bytes_max" = "33554432", "Largest Kafka request, bytes.",
        |c, v| c.kafka_frame_bytes_max = number(v, 1 << 16, 100 << 20)?;
    "amqp.listen" = "127.0.0.1:5672", "Address of the AMQP 0-9-1 listener, or off.",
        |c, v| c.amqp = address(v)?;
    "amqp.connections_max" = "10000", "AMQP connections at once.",
        |c, v| c.amqp_connections_max = number(v, 1, 1_000_000)?;
    "amqp.channels_max" = "2047", "Channels of one AMQP connection at once.",
        |c, v| c.amqp_channels_max = number(v, 1, 65_535)?;
    "amqp.heartbeat_s" = "60", "Time between signs of life that AMQP clients are asked for, seconds; 0 = none.",
        |c, v| c.amqp_heartbeat_s = number(v, 0, 65_535)?;
    "amqp.consumer_timeout_ms" = "1800000", "A delivery not settled within closes its channel, unless its queue has an x-consumer-timeout, milliseconds; 0 = never.",
        |c, v| c.amqp_consumer_timeout_ms = number(v, 0, u64::from(u32::MAX))?;
    "amqp.loopback_users" = "guest", "Users that may log in from this machine only, with commas between; empty = none.",
        |c, v| c.amqp_loopback_users = v.split(',').map(|u| u.trim().to_owned()).filter(|u| !u.is_empty()).collect();
    "aws.listen" = "127.0.0.1:4566", "Address of the AWS listener (SQS), or off.",
        |c, v| c.aws = address(v)?;
    "aws.region" = "us-east-1", "Region in the ARNs of queues.",
        |c, v| c.aws_region = region(v)?;
    "aws.account" = "000000000000", "Account in the ARNs and URLs of queues: 12 digits.",
        |c, v| c.aws_account = account(v)?;
    "aws.access_keys" = "", "ID:SECRET of each access key that requests must be signed with, behind commas. Default: none, requests are taken unsigned.",
        |c, v| c.aws_access_keys = access_keys(v)?;
    "aws.connections_max" = "10000", "AWS connections at once.",
        |c, v| c.aws_connections_max = number(v, 1, 1_000_000)?;
    "aws.cooldown_s" = "60", "How long after a deletion a queue of the same name cannot be made, and after a purge not be purged again, seconds.",
        |c, v| c.aws_cooldown_s = number(v, 0, 3_600)?;
    "http.listen" = "127.0.0.1:15672", "Address of the HTTP listener (health, metrics, administration), or off.",
        |c, v| c.http = address(v)?;
    "insecure" = "false", "Let Kafka, HTTP, and AWS without access keys listen on addresses that other machines reach, without authentication.",
        |c, v| c.insecure = flag(v)?;
    "topics.auto_create" = "true", "Make a topic when a client first names it.",
        |c, v| c.broker.topics_auto_create = flag(v)?;
    "topics.partitions" = "1", "Partitions of a topic made without saying how many.",
        |c, v| c.broker.topic_partitions = number(v, 1, 65_536)?;
    "topics.retention_ms" = "604800000", "Default of retention.ms: messages older than this go, milliseconds; -1 = never.",
        |c, v| c.broker.retention_ms = number(v, -1, i64::MAX)?;
    "topics.retention_bytes" = "-1", "Default of retention.bytes: of each partition the newest so many bytes stay; -1 = all.",
        |c, v| c.broker.retention_bytes = number(v, -1, i64::MAX)?;
    "topics.message_bytes_max" = "1048588", "Default of max.message.bytes: largest batch as sent, bytes.",
        |c, v| c.broker.message_bytes_max = number(v, 0, 15 << 20)?;
    "topics.retention_check_ms" = "300000", "How often retention is looked at, milliseconds.",
        |c, v| c.broker.retention_check_ms = number(v, 10, 86_400_000)?;
    "queues.transient_bytes_max" = "268435456", "Memory for messages of exclusive and non-durable queues, all together, bytes: publishers to such queues are held beyond.",
        |c, v| c.broker.transient_bytes_max = number(v, 1 << 20, 1 << 40)?;
    "groups.offsets_retention_ms" = "604800000", "Committed offsets go so long after their group became empty, milliseconds.",
        |c, v| c.broker.offsets_retention_ms = number(v, 1, u64::MAX / 4)?;
    "groups.initial_rebalance_delay_ms" = "0", "How long an empty group waits for more members, milliseconds.",
        |c, v| c.broker.group_initial_rebalance_delay_ms = number(v, 0, 300_000)?;
    "producers.expiry_ms" = "86400000", "What is known of an idle producer goes after so long, milliseconds.",
        |c, v| c.broker.producer_expiry_ms = number(v, 1_000, u64::MAX / 4)?;
    "log.segment_bytes" = "", "Size of a segment file, bytes (a multiple of 4096). Fixed when the data directory is made. Default: 64 MiB, on a file system below 16 GiB 8 MiB.",
        |c, v| { c.broker.log.segment_bytes = number(v, 1 << 20, 1 << 30)?; ensure!(c.broker.log.segment_bytes.is_multiple_of(4096), "not a multiple of 4096") };
    "log.reserve_bytes" = "", "Producers are refused when less is free, bytes. Fixed when the data directory is made. Default: 1/32 of the file system, within 24 and 512 MiB.",
        |c, v| c.broker.log.reserve_bytes = number(v, 4 << 20, 1 << 40)?;
    "log.inflight_bytes" = "16777216", "Bytes that may be on their way to the disk.",
        |c, v| c.broker.log.inflight_bytes = number(v, 1 << 20, 1 << 30)?;
    "log.tail_bytes" = "50331648", "Recent log kept in memory at most, where readers reach back so far, bytes.",
        |c, v| c.broker.log.tail_bytes = number(v, 4 << 20, 1 << 40)?;
    "log.replay_bytes" = "536870912", "Log that a restart may have to read, bytes.",
        |c, v| c.broker.log.replay_bytes = number(v, 1 << 20, 1 << 40)?;
    "log.replay_records" = "2000000", "Records that a restart may have to replay.",
        |c, v| c.broker.log.replay_records = number(v, 1_000, 1 << 40)?;
    "log.flush_interval_ms" = "10000", "Engine state is saved this often, milliseconds; up to six times less often where there is much of it.",
        |c, v| c.broker.log.flush_interval_ms = number(v, 10, 3_600_000)?;
    "log.merge_budget_percent" = "35", "Bytes that may be rewritten for each 100 appended, to free mostly dead files; a full disk does not ask.",
        |c, v| c.broker.log.merge_budget_percent = number(v, 0, 1_000)?;
    "log.ready_files" = "4", "Segment files prepared ahead; two of them are for offsets, groups and deletes alone.",
        |c, v| c.broker.log.ready_files = number(v, 3, 64)?;
}

fn number<T>(v: &str, min: T, max: T) -> anyhow::Result<T>
where
    T: Copy + std::str::FromStr + PartialOrd + std::fmt::Display,
{
    let Ok(n) = v.trim().replace('_', "").parse::<T>() else { bail!("not a whole number of {min} to {max}") };
    ensure!(n >= min && n <= max, "must be {min} to {max}");
    Ok(n)
}

fn region(v: &str) -> anyhow::Result<String> {
    let legal = v.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    ensure!(legal && !v.is_empty(), "must be a name like us-east-1");
    Ok(v.to_owned())
}

fn account(v: &str) -> anyhow::Result<String> {
    ensure!(v.len() == 12 && v.bytes().all(|b| b.is_ascii_digit()), "must be 12 digits");
    Ok(v.to_owned())
}

fn access_keys(v: &str) -> anyhow::Result<Vec<AccessKey>> {
    let one = |pair: &str| {
        let (id, secret) = pair.trim().split_once(':').context("must be ID:SECRET")?;
        ensure!(!id.is_empty() && !secret.is_empty(), "must be ID:SECRET");
        Ok(AccessKey { id: id.to_owned(), secret: secret.to_owned() })
    };
    v.split(',').filter(|p| !p.trim().is_empty()).map(one).collect()
}

fn flag(v: &str) -> anyhow::Result<bool> {
    match v.trim() {
        "true" | "on" | "yes" | "1" => Ok(true),
        "false" | "off" | "no" | "0" => Ok(false),
        _ => bail!("must be true or false"),
    }
}

fn address(v: &str) -> anyhow::Result<Option<SocketAddr>> {
    if v.trim() == "off" {
        return Ok(None);
    }
    let mut found = v.trim().to_socket_addrs().context("must be HOST:PORT or off")?;
    found.next().map(Some).context("the host has no address")
}

fn host_port(v: &str) -> anyhow::Result<(String, u16)> {
    let (host, port) = v.trim().rsplit_once(':').context("must be HOST:PORT")?;
    ensure!(!host.is_empty(), "must be HOST:PORT");
    Ok((host.trim_matches(['[', ']']).to_owned(), port.parse().context("not a port")?))
}
