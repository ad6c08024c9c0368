//! `millstream exchange ...`.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::Remote;
use super::client::escape;
use super::output::{field, json as print_json, rows, say, table};
use super::parse::{argument, object};

#[derive(Debug, Args)]
pub struct Exchange {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make an exchange
    Create {
        /// Its name
        name: String,
        /// How it routes
        #[arg(long = "type", value_parser = ["direct", "fanout", "topic", "headers"], default_value = "direct")]
        kind: String,
        /// It goes with its last binding
        #[arg(long)]
        auto_delete: bool,
        /// It takes messages from other exchanges only
        #[arg(long)]
        internal: bool,
        /// Where messages go that it routes nowhere
        #[arg(long, value_name = "EXCHANGE")]
        alternate: Option<String>,
        /// An argument (may be repeated)
        #[arg(long = "argument", value_name = "NAME=VALUE", value_parser = argument)]
        arguments: Vec<(String, Value)>,
    },
    /// List exchanges
    List,
    /// Show an exchange and the bindings from it
    Describe {
        /// Its name
        name: String,
    },
    /// Remove an exchange with its bindings
    Delete {
        /// Its name
        name: String,
        /// Only if nothing is bound to it
        #[arg(long)]
        if_unused: bool,
    },
}

impl Exchange {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let client = self.remote.client();
        let as_json = self.remote.json;
        match self.action {
            Action::Create { name, kind, auto_delete, internal, alternate, arguments } => {
                let body = json!({
                    "name": name, "type": kind, "auto_delete": auto_delete, "internal": internal,
                    "alternate": alternate, "arguments": object(arguments),
                });
                let made = client.post("/exchanges", body.to_string().as_bytes())?;
                if as_json {
                    print_json(&made)?;
                } else if made.get("made").and_then(Value::as_bool).unwrap_or(true) {
                    say!("made {kind} exchange {name}");
                } else {
                    say!("{kind} exchange {name} is there already, made alike");
                }
            }
            Action::List => {
                let (mut all, mut after) = (Vec::new(), String::new());
                loop {
                    let page = client.get(&format!("/exchanges?after={}", escape(&after)))?;
                    all.extend(
                        page.get("exchanges").and_then(Value::as_array).into_iter().flatten().cloned(),
                    );
                    match page.get("next").and_then(Value::as_str) {
                        Some(next) => next.clone_into(&mut after),
                        None => break,
                    }
                }
                let all = json!({ "exchanges": all });
                if as_json {
                    print_json(&all)?;
                } else {
                    let fields = ["name", "type", "internal", "auto_delete", "alternate"];
                    table(
                        &["EXCHANGE", "TYPE", "INTERNAL", "AUTO-DELETE", "ALTERNATE"],
                        &rows(&all, "exchanges", &fields),
                    )?;
                }
            }
            Action::Describe { name } => {
                let told = client.get(&format!("/exchanges/{}", escape(&name)))?;
                if as_json {
                    print_json(&told)?;
                } else {
                    say!(
                        "{} exchange {name}, alternate {}\n",
                        field(&told, "type"),
                        field(&told, "alternate")
                    );
                    let fields = ["target", "kind", "key", "arguments"];
                    table(&["TARGET", "KIND", "KEY", "ARGUMENTS"], &rows(&told, "bindings", &fields))?;
                }
            }
            Action::Delete { name, if_unused } => {
                client.delete(&format!("/exchanges/{}?if_unused={if_unused}", escape(&name)))?;
                if !as_json {
                    say!("deleted exchange {name}");
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
