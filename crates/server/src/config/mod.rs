//! The server's settings: one table of keys, from a TOML file, the environment and the command line, the later winning.
//!
//! Start at [`Config::load`]. Key `topics.auto_create` is `[topics] auto_create` in the file, `MILLSTREAM_TOPICS_AUTO_CREATE` in the
//! environment and `--set topics.auto_create=...` on the command line. An unknown key is an error, wherever it stands.

mod keys;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use millstream_aws::AccessKey;
use millstream_broker::BrokerConfig;
use millstream_broker::bridge::BridgeDef;

pub use keys::KEYS;

/// Prefix of environment variables.
const ENV_PREFIX: &str = "MILLSTREAM_";

/// Everything that `millstream serve` needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// `data_dir`.
    pub data_dir: PathBuf,
    /// `kafka.listen`; `None` = off.
    pub kafka: Option<SocketAddr>,
    /// `kafka.advertised`: host and port that clients are told to use.
    pub kafka_advertised: Option<(String, u16)>,
    /// `kafka.connections_max`.
    pub kafka_connections_max: usize,
    /// `kafka.frame_bytes_max`.
    pub kafka_frame_bytes_max: usize,
    /// `amqp.listen`; `None` = off.
    pub amqp: Option<SocketAddr>,
    /// `amqp.connections_max`.
    pub amqp_connections_max: usize,
    /// `amqp.channels_max`.
    pub amqp_channels_max: u16,
    /// `amqp.heartbeat_s`.
    pub amqp_heartbeat_s: u16,
    /// `amqp.consumer_timeout_ms`; 0 = none.
    pub amqp_consumer_timeout_ms: u64,
    /// `amqp.loopback_users`.
    pub amqp_loopback_users: Vec<String>,
    /// `aws.listen`; `None` = off.
    pub aws: Option<SocketAddr>,
    /// `aws.region`.
    pub aws_region: String,
    /// `aws.account`.
    pub aws_account: String,
    /// `aws.access_keys`.
    pub aws_access_keys: Vec<AccessKey>,
    /// `aws.connections_max`.
    pub aws_connections_max: usize,
    /// `aws.cooldown_s`.
    pub aws_cooldown_s: u64,
    /// `http.listen`; `None` = off.
    pub http: Option<SocketAddr>,
    /// `insecure`: listen on other than loopback addresses without authentication.
    pub insecure: bool,
    /// Bridges that are to be there: `[[bridge]]` in the file.
    pub bridges: Vec<(String, BridgeDef)>,
    /// The broker's.
    pub broker: BrokerConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("./millstream-data"),
            kafka: Some(SocketAddr::from(([127, 0, 0, 1], 9092))),
            kafka_advertised: None,
            kafka_connections_max: 10_000,
            kafka_frame_bytes_max: 32 << 20,
            amqp: Some(SocketAddr::from(([127, 0, 0, 1], 5672))),
            amqp_connections_max: 10_000,
            amqp_channels_max: 2_047,
            amqp_heartbeat_s: 60,
            amqp_consumer_timeout_ms: 1_800_000,
            amqp_loopback_users: vec!["guest".to_owned()],
            aws: Some(SocketAddr::from(([127, 0, 0, 1], 4566))),
            aws_region: "us-east-1".to_owned(),
            aws_account: "000000000000".to_owned(),
            aws_access_keys: Vec::new(),
            aws_connections_max: 10_000,
            aws_cooldown_s: 60,
            http: Some(SocketAddr::from(([127, 0, 0, 1], 15672))),
            insecure: false,
            bridges: Vec::new(),
            broker: BrokerConfig::default(),
        }
    }
}

impl Config {
    /// Reads the file if there is one, then the environment, then what the command line says.
    ///
    /// # Errors
    /// The file cannot be read, a key is unknown, a value is not of its kind, or a listener is open to others without `insecure`.
    pub fn load(
        file: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
        command_line: &[(String, String)],
    ) -> anyhow::Result<Self> {
        let mut cfg = Self::default();
        if let Some(path) = file {
            let text =
                std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
            let mut table: toml::Table =
                text.parse().with_context(|| format!("{} is not TOML", path.display()))?;
            if let Some(bridges) = table.remove("bridge") {
                cfg.bridges = read_bridges(bridges).with_context(|| format!("in {}", path.display()))?;
            }
            for (key, value) in flatten(&table)? {
                cfg.set(&key, &value).with_context(|| format!("in {}", path.display()))?;
            }
        }
        for (name, value) in environment {
            let Some(rest) = name.strip_prefix(ENV_PREFIX) else { continue };
            // These two are the command line's own: the file to read, and what to log.
            if matches!(rest, "CONFIG" | "LOG" | "SERVER") {
                continue;
            }
            let key = KEYS
                .iter()
                .find(|k| k.name.replace('.', "_").eq_ignore_ascii_case(rest))
                .with_context(|| format!("the environment variable {name} names no setting"))?;
            cfg.set(key.name, &value).with_context(|| format!("in the environment variable {name}"))?;
        }
        for (key, value) in command_line {
            cfg.set(key, value).context("on the command line")?;
        }
        cfg.check_listeners()?;
        Ok(cfg)
    }

    fn set(&mut self, name: &str, value: &str) -> anyhow::Result<()> {
        let Some(key) = KEYS.iter().find(|k| k.name == name) else {
            bail!("there is no setting {name:?}; `millstream serve --help` lists them");
        };
        (key.set)(self, value).with_context(|| format!("setting {name} = {value:?}"))
    }

    fn check_listeners(&self) -> anyhow::Result<()> {
        // Requests to this one are signed where there are keys.
        let aws = self.aws.filter(|_| self.aws_access_keys.is_empty());
        for (name, addr) in [("kafka.listen", self.kafka), ("aws.listen", aws), ("http.listen", self.http)] {
            if let Some(addr) = addr
                && !addr.ip().is_loopback()
                && !self.insecure
            {
                bail!(
                    "{name} = {addr} can be reached from other machines, and there is no authentication on it yet: \
                     listen on a loopback address, or say --insecure"
                );
            }
        }
        Ok(())
    }
}

/// `[[bridge]]` tables: a name, and what a bridge's definition has as JSON.
fn read_bridges(bridges: toml::Value) -> anyhow::Result<Vec<(String, BridgeDef)>> {
    let toml::Value::Array(all) = bridges else { bail!("write [[bridge]], with two brackets") };
    let mut out: Vec<(String, BridgeDef)> = Vec::with_capacity(all.len());
    for (n, bridge) in all.into_iter().enumerate() {
        let mut o = serde_json::to_value(bridge)?;
        let name = o.as_object_mut().and_then(|o| o.remove("name"));
        let Some(serde_json::Value::String(name)) = name.filter(|n| n != "") else {
            bail!("bridge {} has no name", n + 1);
        };
        if out.iter().any(|(other, _)| *other == name) {
            bail!("there are two bridges {name:?}");
        }
        let def = BridgeDef::parse(&o).with_context(|| format!("bridge {name:?}"))?;
        out.push((name, def));
    }
    Ok(out)
}

/// `[a] b = 1` as `("a.b", "1")`.
fn flatten(table: &toml::Table) -> anyhow::Result<BTreeMap<String, String>> {
    fn walk(prefix: &str, table: &toml::Table, out: &mut BTreeMap<String, String>) -> anyhow::Result<()> {
        for (k, v) in table {
            let key = if prefix.is_empty() { k.clone() } else { format!("{prefix}.{k}") };
            match v {
                toml::Value::Table(t) => walk(&key, t, out)?,
                toml::Value::String(s) => drop(out.insert(key, s.clone())),
                toml::Value::Integer(_) | toml::Value::Boolean(_) => drop(out.insert(key, v.to_string())),
                other => bail!("setting {key} is a {}", other.type_str()),
            }
        }
        Ok(())
    }
    let mut out = BTreeMap::new();
    walk("", table, &mut out)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(env: &[(&str, &str)], cli: &[(&str, &str)]) -> anyhow::Result<Config> {
        let own = |p: &[(&str, &str)]| {
            p.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<Vec<_>>()
        };
        Config::load(None, own(env).into_iter(), &own(cli))
    }

    #[test]
    fn the_command_line_wins_over_the_environment() {
        let cfg = load(
            &[("MILLSTREAM_TOPICS_PARTITIONS", "3"), ("MILLSTREAM_KAFKA_LISTEN", "off"), ("HOME", "x")],
            &[("topics.partitions", "4")],
        )
        .unwrap();
        assert_eq!((cfg.broker.topic_partitions, cfg.kafka), (4, None));
    }

    #[test]
    fn an_unknown_key_is_refused_wherever_it_stands() {
        assert!(load(&[("MILLSTREAM_TOPICS_COLOUR", "3")], &[]).is_err());
        assert!(load(&[], &[("topics.colour", "3")]).is_err());
    }

    #[test]
    fn bridges_are_read_from_tables_and_what_is_wrong_is_said_with_their_names() {
        let read = |text: &str| read_bridges(text.parse::<toml::Table>().unwrap().remove("bridge").unwrap());
        let bridges = read(
            "[[bridge]]\nname = 'b'\nsource = { topic = 't' }\ntarget = { queue = 'q' }\n\
             filter = { body = { total = [{ numeric = ['>', 10] }] } }\n[bridge.map]\ngroup = 'body:/c'\n",
        )
        .unwrap();
        assert_eq!(bridges[0].0, "b");
        assert_eq!(bridges[0].1.to_json()["filter"]["body"]["total"][0]["numeric"][1], 10);
        for (text, what) in [
            ("[bridge]\nname = 'b'", "two brackets"),
            ("[[bridge]]\nsource = { topic = 't' }", "no name"),
            ("[[bridge]]\nname = 'b'", "\"b\""),
        ] {
            let error = format!("{:#}", read(text).unwrap_err());
            assert!(error.contains(what), "{error}");
        }
    }

    #[test]
    fn an_address_open_to_others_needs_insecure() {
        assert!(load(&[], &[("kafka.listen", "0.0.0.0:9092")]).is_err());
        assert!(load(&[], &[("kafka.listen", "0.0.0.0:9092"), ("insecure", "true")]).is_ok());
    }

    #[test]
    fn an_aws_address_open_to_others_needs_keys_or_insecure() {
        assert!(load(&[], &[("aws.listen", "0.0.0.0:4566")]).is_err());
        let keys = ("aws.access_keys", "AKID:secret, OTHER:more:colons");
        let cfg = load(&[], &[("aws.listen", "0.0.0.0:4566"), keys]).unwrap();
        let second = AccessKey { id: "OTHER".to_owned(), secret: "more:colons".to_owned() };
        assert_eq!(cfg.aws_access_keys.get(1), Some(&second));
        assert!(load(&[], &[("aws.access_keys", "AKID")]).is_err());
        assert!(load(&[], &[("aws.account", "123")]).is_err());
    }

    #[test]
    fn every_key_takes_its_own_default() {
        let mut cfg = Config::default();
        for key in KEYS {
            if !key.default.is_empty() {
                (key.set)(&mut cfg, key.default).unwrap_or_else(|e| panic!("{}: {e}", key.name));
            }
        }
    }
}
