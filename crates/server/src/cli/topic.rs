//! `millstream topic ...`.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::Remote;
use super::client::escape;
use super::output::{field, json as print_json, rows, say, table};

#[derive(Debug, Args)]
pub struct Topic {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a topic
    Create {
        /// Its name
        name: String,
        /// Partitions [default: the broker's]
        #[arg(long, short)]
        partitions: Option<u32>,
        /// A setting (may be repeated), for example retention.ms=3600000
        #[arg(long = "set", value_name = "KEY=VALUE")]
        set: Vec<String>,
    },
    /// List topics
    List,
    /// Show a topic's partitions and settings
    Describe {
        /// Its name
        name: String,
    },
    /// Change settings, add partitions
    Alter {
        /// Its name
        name: String,
        /// Partitions afterwards; only more
        #[arg(long, short)]
        partitions: Option<u32>,
        /// Give a setting a value (may be repeated)
        #[arg(long = "set", value_name = "KEY=VALUE")]
        set: Vec<String>,
        /// Take a setting back to its default (may be repeated)
        #[arg(long = "unset", value_name = "KEY")]
        unset: Vec<String>,
    },
    /// Remove a topic and its messages
    Delete {
        /// Its name
        name: String,
    },
}

fn pairs(set: &[String]) -> anyhow::Result<BTreeMap<&str, &str>> {
    set.iter().map(|s| s.split_once('=').with_context(|| format!("{s}: must be KEY=VALUE"))).collect()
}

impl Topic {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let client = self.remote.client();
        let as_json = self.remote.json;
        match self.action {
            Action::Create { name, partitions, set } => {
                let body = json!({ "name": name, "partitions": partitions, "settings": pairs(&set)? });
                let made = client.post("/topics", body.to_string().as_bytes())?;
                if as_json {
                    print_json(&made)?;
                } else {
                    say!("made topic {name} with {} partitions", field(&made, "partitions"));
                }
            }
            Action::List => {
                let topics = client.get("/topics")?;
                if as_json {
                    print_json(&topics)?;
                } else {
                    let fields = ["name", "partitions", "offsets_held", "bytes"];
                    table(
                        &["TOPIC", "PARTITIONS", "OFFSETS HELD", "BYTES"],
                        &rows(&topics, "topics", &fields),
                    )?;
                }
            }
            Action::Describe { name } => {
                let topic = client.get(&format!("/topics/{}", escape(&name)))?;
                describe(&topic, as_json)?;
            }
            Action::Alter { name, partitions, set, unset } => {
                let body = json!({ "partitions": partitions, "set": pairs(&set)?, "unset": unset });
                let topic = client.patch(&format!("/topics/{}", escape(&name)), &body)?;
                describe(&topic, as_json)?;
            }
            Action::Delete { name } => {
                client.delete(&format!("/topics/{}", escape(&name)))?;
                if !as_json {
                    say!("deleted topic {name}");
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn describe(topic: &Value, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        return print_json(topic);
    }
    say!(
        "topic {}: {} partitions, {} bytes\n",
        field(topic, "name"),
        field(topic, "partitions"),
        field(topic, "bytes")
    );
    let fields = ["partition", "start", "end", "bytes"];
    table(&["PARTITION", "START", "END", "BYTES"], &rows(topic, "partition_list", &fields))?;
    say!();
    table(&["SETTING", "VALUE", "FROM"], &rows(topic, "settings", &["key", "value", "source"]))
}
