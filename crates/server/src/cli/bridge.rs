//! `millstream bridge ...`.

use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::Remote;
use super::client::escape;
use super::output::{field, json as print_json, rows, say, table};
use super::parse::pattern;

#[derive(Debug, Args)]
pub struct Bridge {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a bridge: from a topic into a queue or an exchange, or from a queue into a topic
    ///
    /// PART is `key`, `header:NAME`, `body:/json/pointer`, `topic`, `partition`, `offset`, `literal:TEXT` or `none`. An option that takes one may be
    /// repeated: of several the first that is there counts. A message without any of them cannot be passed on (--on-poison); with `none`
    /// last, the field stays as it is.
    Create(Box<Create>),
    /// List bridges: how far behind they are, how fast they go, and what keeps them
    List,
    /// Show a bridge's definition, counts, and how far it came in each partition
    Describe {
        /// Its name
        name: String,
    },
    /// Have a bridge rest
    Pause {
        /// Its name
        name: String,
    },
    /// Have a bridge go on where it is
    Resume {
        /// Its name
        name: String,
        /// From now on: pause, skip, or a topic's name as topic:NAME
        #[arg(long, value_name = "POLICY", value_parser = on_poison)]
        on_poison: Option<Value>,
        /// From now on: stop or skip
        #[arg(long, value_name = "POLICY", value_parser = ["stop", "skip"])]
        on_trimmed: Option<String>,
    },
    /// Remove a bridge; what it passed on stays
    Delete {
        /// Its name
        name: String,
    },
}

#[derive(Debug, Args)]
struct Create {
    /// Its name
    name: String,
    #[command(flatten)]
    source: Source,
    /// Where to begin in the topic
    #[arg(long, value_parser = ["earliest", "latest"], requires = "from_topic")]
    start: Option<String>,
    #[command(flatten)]
    target: Target,
    /// Which messages: a pattern as of `EventBridge` on key, headers and body, as JSON or @FILE
    #[arg(long, value_name = "JSON|@FILE", requires = "from_topic", value_parser = pattern)]
    filter: Option<Value>,
    /// Key of the message: its group in SQS, in a topic what chooses the partition
    #[arg(long, value_name = "PART")]
    group: Vec<String>,
    /// What tells duplicates apart
    #[arg(long, value_name = "PART")]
    dedup: Vec<String>,
    /// Routing key, for an exchange
    #[arg(long, value_name = "PART")]
    routing_key: Vec<String>,
    /// Priority, 0 to 255
    #[arg(long, value_name = "PART")]
    priority: Vec<String>,
    /// Delay, milliseconds
    #[arg(long, value_name = "PART")]
    delay_ms: Vec<String>,
    /// A header (may be repeated)
    #[arg(long, value_name = "NAME=PART")]
    header: Vec<String>,
    /// When a message cannot be passed on: pause, skip, or a topic's name as topic:NAME [default: pause]
    #[arg(long, value_name = "POLICY", value_parser = on_poison)]
    on_poison: Option<Value>,
    /// When retention took what was not read [default: stop]
    #[arg(long, value_parser = ["stop", "skip"])]
    on_trimmed: Option<String>,
}

/// Where messages come from: one of these.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Source {
    /// The topic that messages come from
    #[arg(id = "from_topic", long = "from-topic", value_name = "TOPIC")]
    topic: Option<String>,
    /// The queue that they come from
    #[arg(id = "from_queue", long = "from-queue", value_name = "QUEUE")]
    queue: Option<String>,
    /// The queue whose dead letters they are
    #[arg(id = "from_dead_letters_of", long = "from-dead-letters-of", value_name = "QUEUE")]
    dead_letters_of: Option<String>,
}

/// Where they go: one of these.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Target {
    /// The queue that they go to
    #[arg(id = "to_queue", long = "to-queue", value_name = "QUEUE")]
    queue: Option<String>,
    /// The exchange that they go to
    #[arg(id = "to_exchange", long = "to-exchange", value_name = "EXCHANGE")]
    exchange: Option<String>,
    /// The topic that they go to
    #[arg(id = "to_topic", long = "to-topic", value_name = "TOPIC")]
    topic: Option<String>,
}

fn on_poison(text: &str) -> Result<Value, String> {
    match text.split_once(':') {
        None if matches!(text, "pause" | "skip") => Ok(json!(text)),
        Some(("topic", name)) if !name.is_empty() => Ok(json!({ "dead_letter_topic": name })),
        _ => Err("pause, skip, or topic:NAME".to_owned()),
    }
}

impl Create {
    fn body(&self) -> anyhow::Result<Value> {
        let mut source = Map::new();
        let Self { source: from, target: to, .. } = self;
        let sources =
            [("topic", &from.topic), ("queue", &from.queue), ("dead_letters_of", &from.dead_letters_of)];
        for (kind, name) in sources {
            source.extend(name.as_ref().map(|n| (kind.to_owned(), json!(n))));
        }
        source.extend(self.start.as_ref().map(|s| ("from".to_owned(), json!(s))));
        let targets = [("queue", &to.queue), ("exchange", &to.exchange), ("topic", &to.topic)];
        let target: Map<String, Value> = targets
            .into_iter()
            .filter_map(|(kind, name)| Some((kind.to_owned(), json!(name.as_ref()?))))
            .collect();
        let mut map = Map::new();
        let fields = [
            ("group", &self.group),
            ("dedup", &self.dedup),
            ("routing_key", &self.routing_key),
            ("priority", &self.priority),
            ("delay_ms", &self.delay_ms),
        ];
        for (name, parts) in fields.into_iter().filter(|f| !f.1.is_empty()) {
            map.insert(name.to_owned(), json!(parts));
        }
        let mut headers = Map::new();
        for h in &self.header {
            let (name, part) =
                h.split_once('=').with_context(|| format!("--header {h}: must be NAME=PART"))?;
            let parts = headers.entry(name).or_insert_with(|| json!([]));
            if let Value::Array(parts) = parts {
                parts.push(json!(part));
            }
        }
        if !headers.is_empty() {
            map.insert("headers".to_owned(), Value::Object(headers));
        }
        Ok(json!({
            "name": self.name, "source": source, "target": target, "filter": self.filter, "map": map,
            "on_poison": self.on_poison, "on_trimmed": self.on_trimmed,
        }))
    }
}

impl Bridge {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let client = self.remote.client();
        let as_json = self.remote.json;
        let path = |name: &str| format!("/bridges/{}", escape(name));
        match self.action {
            Action::Create(c) => {
                let made = client.post("/bridges", c.body()?.to_string().as_bytes())?;
                told(&made, as_json, &format!("made bridge {}", c.name))?;
            }
            Action::List => {
                let all = client.get("/bridges")?;
                if as_json {
                    print_json(&all)?;
                } else {
                    let fields = ["name", "state", "lag", "rate", "passed", "filtered", "errors", "cause"];
                    let names =
                        ["BRIDGE", "STATE", "LAG", "PASSED/S", "PASSED", "FILTERED", "ERRORS", "CAUSE"];
                    table(&names, &rows(&all, "bridges", &fields))?;
                }
            }
            Action::Describe { name } => describe(&client.get(&path(&name))?, as_json)?,
            Action::Pause { name } => {
                let b = client.post(&format!("{}/pause", path(&name)), b"{}")?;
                told(&b, as_json, &format!("paused bridge {name}"))?;
            }
            Action::Resume { name, on_poison, on_trimmed } => {
                let mut body = Map::new();
                body.extend(on_poison.map(|p| ("on_poison".to_owned(), p)));
                body.extend(on_trimmed.map(|t| ("on_trimmed".to_owned(), json!(t))));
                let body = Value::Object(body).to_string();
                let b = client.post(&format!("{}/resume", path(&name)), body.as_bytes())?;
                told(&b, as_json, &format!("resumed bridge {name}"))?;
            }
            Action::Delete { name } => {
                client.delete(&path(&name))?;
                if !as_json {
                    say!("deleted bridge {name}");
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn told(b: &Value, as_json: bool, text: &str) -> anyhow::Result<()> {
    if as_json {
        return print_json(b);
    }
    say!("{text}");
    Ok(())
}

fn describe(b: &Value, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        return print_json(b);
    }
    say!("bridge {}: {}", field(b, "name"), field(b, "state"));
    if b.get("cause").and_then(Value::as_str).is_some_and(|c| !c.is_empty()) {
        say!("cause: {}", field(b, "cause"));
    }
    say!("definition: {}\n", field(b, "definition"));
    let names = ["LAG", "PASSED/S", "PASSED", "FILTERED", "SKIPPED", "DEAD-LETTERED", "TRIMMED", "ERRORS"];
    let fields = ["lag", "rate", "passed", "filtered", "skipped", "dead_lettered", "trimmed", "errors"];
    table(&names, &[fields.iter().map(|f| field(b, f)).collect()])?;
    let partitions = rows(b, "partitions", &["partition", "next", "end", "lag"]);
    if !partitions.is_empty() {
        say!();
        table(&["PARTITION", "NEXT", "END", "LAG"], &partitions)?;
    }
    let not_passed = rows(b, "not_passed", &["partition", "offset"]);
    if !not_passed.is_empty() {
        say!("\nlast messages that were not passed on:");
        table(&["PARTITION", "OFFSET"], &not_passed)?;
    }
    Ok(())
}
