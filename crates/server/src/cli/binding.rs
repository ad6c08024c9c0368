//! `millstream binding ...`.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::Remote;
use super::client::escape;
use super::output::{json as print_json, rows, say, table};
use super::parse::{argument, object};

#[derive(Debug, Args)]
pub struct Binding {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Bind a queue, a topic or an exchange to an exchange
    Create(Bind),
    /// List bindings
    List {
        /// Only those from this exchange
        #[arg(long, value_name = "EXCHANGE")]
        source: Option<String>,
        /// Only those to this queue or topic
        #[arg(long, value_name = "NAME")]
        target: Option<String>,
        /// What the target is [default: the queue or topic of that name]
        #[arg(long, requires = "target", value_parser = ["queue", "topic", "exchange"])]
        kind: Option<String>,
    },
    /// Remove a binding
    Delete(Bind),
}

#[derive(Debug, Args)]
struct Bind {
    /// The exchange
    source: String,
    /// Where its messages go
    target: String,
    /// What the target is [default: the queue or topic of that name]
    #[arg(long, value_parser = ["queue", "topic", "exchange"])]
    kind: Option<String>,
    /// Routing key, or pattern
    #[arg(long, short, default_value = "")]
    key: String,
    /// An argument (may be repeated), for example x-match=any
    #[arg(long = "argument", value_name = "NAME=VALUE", value_parser = argument)]
    arguments: Vec<(String, Value)>,
}

impl Bind {
    fn body(self) -> Value {
        json!({
            "source": self.source, "target": self.target, "kind": self.kind, "key": self.key,
            "arguments": object(self.arguments),
        })
    }
}

impl Binding {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let client = self.remote.client();
        let as_json = self.remote.json;
        match self.action {
            Action::Create(bind) => {
                let (source, target) = (bind.source.clone(), bind.target.clone());
                let made = client.post("/bindings", bind.body().to_string().as_bytes())?;
                if as_json {
                    print_json(&made)?;
                } else if made.get("made").and_then(Value::as_bool).unwrap_or(true) {
                    say!("bound {target} to {source}");
                } else {
                    say!("{target} was bound to {source} so already");
                }
            }
            Action::List { source, target, kind } => {
                let mut query = Vec::new();
                for (name, value) in [("source", source), ("target", target), ("kind", kind)] {
                    query.extend(value.map(|v| format!("{name}={}", escape(&v))));
                }
                let all = client.get(&format!("/bindings?{}", query.join("&")))?;
                if as_json {
                    print_json(&all)?;
                } else {
                    let fields = ["source", "target", "kind", "key", "arguments"];
                    table(
                        &["SOURCE", "TARGET", "KIND", "KEY", "ARGUMENTS"],
                        &rows(&all, "bindings", &fields),
                    )?;
                }
            }
            Action::Delete(bind) => {
                let (source, target) = (bind.source.clone(), bind.target.clone());
                client.delete_with("/bindings", &bind.body())?;
                if !as_json {
                    say!("unbound {target} from {source}");
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
