//! `millstream group ...`.

use std::process::ExitCode;

use clap::{ArgGroup, Args, Subcommand};
use serde_json::json;

use super::Remote;
use super::client::escape;
use super::output::{field, json as print_json, rows, say, table};

#[derive(Debug, Args)]
pub struct Group {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List groups
    List,
    /// Show a group's members, and its lag by partition
    Describe {
        /// Its name
        group: String,
    },
    /// Remove a group that has no members, and its offsets
    Delete {
        /// Its name
        group: String,
    },
    /// Move a group's offsets; it must have no members
    ResetOffsets(Reset),
}

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("to").required(true)))]
struct Reset {
    /// Its name
    group: String,
    /// On this topic (may be repeated) [default: all that it has offsets on]
    #[arg(long = "topic", short)]
    topics: Vec<String>,
    /// Only on this partition
    #[arg(long, short)]
    partition: Option<u32>,
    /// To the first offset held
    #[arg(long, group = "to")]
    to_earliest: bool,
    /// To the end
    #[arg(long, group = "to")]
    to_latest: bool,
    /// To this offset
    #[arg(long, group = "to", value_name = "N")]
    to_offset: Option<u64>,
    /// To the first record at or past this time, milliseconds since the epoch
    #[arg(long, group = "to", value_name = "MS")]
    to_time: Option<i64>,
    /// So many on, or back
    #[arg(long, group = "to", value_name = "N", allow_negative_numbers = true)]
    shift_by: Option<i64>,
    /// Only show what would be done
    #[arg(long)]
    dry_run: bool,
}

impl Reset {
    fn body(&self) -> serde_json::Value {
        let to = match (self.to_earliest, self.to_latest, self.to_offset, self.to_time, self.shift_by) {
            (true, ..) => json!("earliest"),
            (_, true, ..) => json!("latest"),
            (_, _, Some(n), ..) => json!({ "offset": n }),
            (_, _, _, Some(ms), _) => json!({ "time_ms": ms }),
            (.., by) => json!({ "shift": by }),
        };
        json!({ "topics": self.topics, "partition": self.partition, "to": to, "dry_run": self.dry_run })
    }
}

impl Group {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let client = self.remote.client();
        let as_json = self.remote.json;
        match self.action {
            Action::List => {
                let groups = client.get("/groups")?;
                if as_json {
                    print_json(&groups)?;
                } else {
                    let fields = ["group", "state", "protocol_type"];
                    table(&["GROUP", "STATE", "TYPE"], &rows(&groups, "groups", &fields))?;
                }
            }
            Action::Describe { group } => {
                let info = client.get(&format!("/groups/{}", escape(&group)))?;
                if as_json {
                    print_json(&info)?;
                } else {
                    say!(
                        "group {}: {}, generation {}\n",
                        group,
                        field(&info, "state"),
                        field(&info, "generation")
                    );
                    let fields = ["topic", "partition", "offset", "start", "end", "lag", "lost"];
                    table(
                        &["TOPIC", "PARTITION", "OFFSET", "START", "END", "LAG", "LOST"],
                        &rows(&info, "offsets", &fields),
                    )?;
                    say!();
                    let fields = ["member", "client_id", "client_host", "instance"];
                    table(&["MEMBER", "CLIENT", "HOST", "INSTANCE"], &rows(&info, "members", &fields))?;
                }
            }
            Action::Delete { group } => {
                client.delete(&format!("/groups/{}", escape(&group)))?;
                if !as_json {
                    say!("deleted group {group}");
                }
            }
            Action::ResetOffsets(reset) => {
                let path = format!("/groups/{}/reset-offsets", escape(&reset.group));
                let done = client.post(&path, reset.body().to_string().as_bytes())?;
                if as_json {
                    print_json(&done)?;
                } else {
                    let fields = ["topic", "partition", "before", "after"];
                    table(&["TOPIC", "PARTITION", "BEFORE", "AFTER"], &rows(&done, "offsets", &fields))?;
                    if reset.dry_run {
                        say!("nothing was changed (--dry-run)");
                    }
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
