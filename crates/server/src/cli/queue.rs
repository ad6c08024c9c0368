//! `millstream queue ...`.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::Remote;
use super::client::{Client, escape};
use super::output::{field, json as print_json, rows, say, table};
use super::parse::{backoff, bytes, pattern, span_ms};
use super::produce::{Input, QueueFields, Target, publish};
use super::redrive::{self, Redrive, Redrives};
use super::show::{Shown, print_message};

/// How long a queue made with --fifo knows ids again, milliseconds: as SQS.
const FIFO_ID_WINDOW_MS: u64 = 300_000;

#[derive(Debug, Args)]
pub struct Queue {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a queue
    Create(Create),
    /// List queues: what is in them, and how fast it comes and goes
    List {
        #[command(flatten)]
        span: Span,
    },
    /// Show a queue's contents, rates, policy and bindings
    Describe {
        /// Its name
        name: String,
        #[command(flatten)]
        span: Span,
    },
    /// Remove a queue and its messages
    Delete {
        /// Its name
        name: String,
        /// Only if it has no consumers
        #[arg(long)]
        if_unused: bool,
        /// Only if no message is in it but those at consumers
        #[arg(long)]
        if_empty: bool,
    },
    /// Remove the messages that are not at consumers
    Purge {
        /// Its name
        name: String,
    },
    /// Give all parked messages back to their places, with no attempts counted
    Unpark {
        /// Its name
        name: String,
        /// Take them to the dead-letter target instead; without one they are dropped
        #[arg(long)]
        discard: bool,
    },
    /// Show the next messages, and leave them where they are
    Peek {
        /// Its name
        name: String,
        /// At most so many, 1 to 1000
        #[arg(long, short = 'n', default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
        max: u32,
        /// Only the key, this, and the value
        #[arg(long, short = 'K')]
        key_separator: Option<String>,
    },
    /// Publish messages from arguments, a file or standard input
    Publish {
        /// Its name
        name: String,
        #[command(flatten)]
        input: Input,
        #[command(flatten)]
        more: QueueFields,
    },
    /// Take dead letters back to the queues they came from
    ///
    /// Each goes to the queue that its last death names, as it was published there; its counts start at 0. What has no queue to go to
    /// stays. It goes on, also through a restart of the broker, whether this command waits for its end or not: interrupting the command
    /// ends the waiting alone. A queue has one at a time.
    Redrive(Redrive),
    /// List a queue's redrives: the one that runs, and the last that ended
    Redrives(Redrives),
    /// End the redrive of a queue that runs; what it moved stays moved
    CancelRedrive {
        /// The queue with the dead letters
        name: String,
    },
}

/// What rates are measured over.
#[derive(Debug, Args)]
struct Span {
    /// Measure rates over so long, at most 1m; 0 = no rates
    #[arg(long, value_parser = span_ms, default_value = "1s")]
    span: u64,
}

#[derive(Debug, Args)]
struct Create {
    /// Its name
    name: String,
    /// Messages go when they are older, for example 30s
    #[arg(long, value_parser = span_ms)]
    ttl: Option<u64>,
    /// Most messages that are ready
    #[arg(long, value_name = "N")]
    max_length: Option<u64>,
    /// Most bytes of messages that are ready, for example 64MiB
    #[arg(long, value_parser = bytes, value_name = "BYTES")]
    max_bytes: Option<u64>,
    /// When it is full
    #[arg(long, value_parser = ["drop-head", "reject-publish", "reject-publish-dlx"])]
    overflow: Option<String>,
    /// Highest priority told apart, 0 to 255
    #[arg(long, value_name = "N")]
    max_priority: Option<u8>,
    /// Deliveries that may fail before the message goes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_535))]
    attempts: Option<u32>,
    /// What becomes of a message whose attempts are used up; park: it is set aside in the queue
    #[arg(long, value_parser = ["dead-letter", "drop", "park"], requires = "attempts")]
    on_exhausted: Option<String>,
    /// Rest after a failed delivery: 5s, or 1s..5m to double it each time, or 1s..5m~20 to take up to 20 % off
    #[arg(long, value_parser = backoff)]
    backoff: Option<Value>,
    /// Where dead messages are published to; "" = the default exchange
    #[arg(long, value_name = "EXCHANGE")]
    dead_letter_exchange: Option<String>,
    /// With this key [default: those they have]
    #[arg(long, value_name = "KEY", requires = "dead_letter_exchange")]
    dead_letter_routing_key: Option<String>,
    /// Lease of consumers that ask for none, for example 30s
    #[arg(long, value_parser = span_ms)]
    lease: Option<u64>,
    /// Messages are delivered no sooner, for example 10s
    #[arg(long, value_parser = span_ms)]
    delay: Option<u64>,
    /// The queue goes when nobody used it for so long
    #[arg(long, value_parser = span_ms)]
    expires: Option<u64>,
    /// In order by key: nothing of a key is delivered while a message of it is out, rests or is parked; and what has an id
    /// that was seen within --id-window is not taken again
    #[arg(long)]
    fifo: bool,
    /// Know a message again by its id for so long [default: 5m with --fifo]
    #[arg(long, value_parser = span_ms)]
    id_window: Option<u64>,
    /// Only one consumer at a time gets messages
    #[arg(long)]
    single_active: bool,
    /// key: one holder of a key at a time, in its order; fair: a busy key stands back while others have something
    #[arg(long, value_parser = ["none", "key", "fair"], conflicts_with = "fifo")]
    ordering: Option<String>,
    /// Hand out the records of this topic instead of messages published to the queue; the topic keeps them
    #[arg(long, conflicts_with_all = ["max_length", "max_bytes", "overflow", "max_priority", "delay", "fifo", "id_window", "ordering"])]
    topic: Option<String>,
    /// Begin there: earliest, latest, offset:N (in every partition), or time:MILLISECONDS since the epoch [default: earliest]
    #[arg(long, requires = "topic")]
    from: Option<String>,
    /// Only records that match this pattern: as a bridge's, on key, headers and body
    #[arg(long, requires = "topic", value_parser = pattern, value_name = "JSON|@FILE")]
    filter: Option<Value>,
    /// What is the key of a message that has none: routing-key, correlation-id or header:NAME [default: it has none]
    #[arg(long, value_name = "WHAT")]
    key_from: Option<String>,
}

impl Create {
    fn body(&self) -> Value {
        json!({
            "name": self.name,
            "ttl_ms": self.ttl,
            "max_length": self.max_length,
            "max_bytes": self.max_bytes,
            "overflow": self.overflow,
            "max_priority": self.max_priority,
            "attempts": self.attempts,
            "on_exhausted": self.on_exhausted,
            "backoff": self.backoff,
            "id_window_ms": self.id_window.or(self.fifo.then_some(FIFO_ID_WINDOW_MS)),
            "dead_letter_exchange": self.dead_letter_exchange,
            "dead_letter_routing_key": self.dead_letter_routing_key,
            "lease_ms": self.lease,
            "delay_ms": self.delay,
            "expires_ms": self.expires,
            "single_active": self.single_active,
            "topic": self.topic,
            "from": self.from,
            "filter": self.filter,
            "key_from": self.key_from,
            "ordering": if self.fifo { Some("key") } else { self.ordering.as_deref() },
        })
    }
}

impl Queue {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let client = self.remote.client();
        let as_json = self.remote.json;
        match self.action {
            Action::Create(create) => {
                let made = client.post("/queues", create.body().to_string().as_bytes())?;
                if as_json {
                    print_json(&made)?;
                } else if made.get("made").and_then(Value::as_bool).unwrap_or(true) {
                    say!("made queue {}", create.name);
                } else {
                    say!("queue {} is there already, made alike", create.name);
                }
            }
            Action::List { span } => list(&client, span.span, as_json)?,
            Action::Describe { name, span } => {
                let told = client.get(&format!("/queues/{}?span_ms={}", escape(&name), span.span))?;
                if as_json {
                    print_json(&told)?;
                } else {
                    describe(&told)?;
                }
            }
            Action::Delete { name, if_unused, if_empty } => {
                let query = format!("if_unused={if_unused}&if_empty={if_empty}");
                let gone = client.delete(&format!("/queues/{}?{query}", escape(&name)))?;
                if as_json {
                    print_json(&gone)?;
                } else {
                    say!("deleted queue {name} with {} messages that were ready", field(&gone, "messages"));
                }
            }
            Action::Purge { name } => {
                let gone = client.post(&format!("/queues/{}/purge", escape(&name)), b"")?;
                if as_json {
                    print_json(&gone)?;
                } else {
                    say!("removed {} messages from queue {name}", field(&gone, "messages"));
                }
            }
            Action::Unpark { name, discard } => unpark(&client, &name, discard, as_json)?,
            Action::Peek { name, max, key_separator } => {
                let seen = client.get(&format!("/queues/{}/messages?max={max}", escape(&name)))?;
                let messages = seen.get("messages").and_then(Value::as_array);
                let mut out = std::io::stdout().lock();
                for m in messages.into_iter().flatten() {
                    let whole = key_separator.is_none();
                    let how = Shown { as_json, key_separator: key_separator.as_deref(), whole };
                    if !print_message(&mut out, &how, m)? {
                        break;
                    }
                }
            }
            Action::Publish { name, input, more } => {
                let to = Target { path: format!("/queues/{}/messages", escape(&name)), partition: None };
                let sent = publish(&client, to, &input, &more)?;
                if as_json {
                    print_json(&json!({ "queue": name, "messages": sent }))?;
                } else {
                    eprintln!("{sent} messages stored in {name}");
                }
            }
            Action::Redrive(r) => redrive::redrive(&client, &r, as_json)?,
            Action::Redrives(r) => redrive::list(&client, &r, as_json)?,
            Action::CancelRedrive { name } => redrive::cancel(&client, &name, as_json)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

const COUNTS: [&str; 6] = ["ready", "leased", "scheduled", "dead", "parked", "consumers"];

fn list(client: &Client, span_ms: u64, as_json: bool) -> anyhow::Result<()> {
    let mut all = Vec::new();
    let mut after = String::new();
    loop {
        let page = client.get(&format!("/queues?span_ms={span_ms}&after={}", escape(&after)))?;
        all.extend(page.get("queues").and_then(Value::as_array).into_iter().flatten().cloned());
        match page.get("next").and_then(Value::as_str) {
            Some(next) => next.clone_into(&mut after),
            None => break,
        }
    }
    if as_json {
        return print_json(&json!({ "queues": all }));
    }
    let mut heading = vec!["QUEUE", "READY", "LEASED", "SCHEDULED", "DEAD", "PARKED", "CONSUMERS"];
    if span_ms > 0 {
        heading.extend(["PUBLISH/S", "DELIVER/S", "ACK/S"]);
    }
    let row = |q: &Value| {
        let mut row = vec![field(q, "name")];
        row.extend(COUNTS.iter().map(|c| field(q, c)));
        if span_ms > 0 {
            row.extend(["publish", "deliver", "ack"].iter().map(|r| field(&q["rates"], r)));
        }
        row
    };
    table(&heading, &all.iter().map(row).collect::<Vec<_>>())
}

fn unpark(client: &Client, name: &str, discard: bool, as_json: bool) -> anyhow::Result<()> {
    let body = json!({ "release": !discard }).to_string();
    let done = client.post(&format!("/queues/{}/unpark", escape(name)), body.as_bytes())?;
    if as_json {
        return print_json(&done);
    }
    let what = if discard { "took away" } else { "gave back" };
    say!("{what} {} parked messages of queue {name}", field(&done, "messages"));
    Ok(())
}

fn describe(q: &Value) -> anyhow::Result<()> {
    say!(
        "queue {}: {} ready, {} bytes in all\n",
        field(q, "name"),
        field(q, "ready"),
        field(q, "payload_bytes")
    );
    let counts: Vec<String> = COUNTS.iter().map(|c| field(q, c)).collect();
    table(&["READY", "LEASED", "SCHEDULED", "DEAD", "PARKED", "CONSUMERS"], &[counts])?;
    if let Some(rates) = q.get("rates").filter(|r| r.is_object()) {
        say!("\na second, over {} ms:", field(rates, "span_ms"));
        let rates = ["publish", "deliver", "ack"].map(|r| field(rates, r)).to_vec();
        table(&["PUBLISH", "DELIVER", "ACK"], &[rates])?;
    }
    if q.get("paused").and_then(Value::as_bool).unwrap_or(false) {
        say!(
            "\nit is paused: its parking place is full, and a message's attempts are used up (see `queue unpark`)"
        );
    }
    if let Some(topic) = q.get("topic").filter(|t| t.is_object()) {
        say!("\nsubscribed to topic {}, from {}", field(topic, "name"), field(topic, "from"));
        let counts = ["skipped", "lost_to_retention", "unreadable"].map(|c| field(topic, c)).to_vec();
        table(&["SKIPPED", "LOST TO RETENTION", "UNREADABLE"], &[counts])?;
        if let Some(filter) = topic.get("filter").and_then(Value::as_str) {
            say!("filter {filter}");
        }
    }
    say!();
    let pairs = |v: &Value| -> Vec<Vec<String>> {
        let all = v.as_object().into_iter().flatten();
        all.filter(|(_, v)| !v.is_null()).map(|(k, v)| vec![k.clone(), text(v)]).collect()
    };
    table(&["POLICY", "VALUE"], &pairs(&q["policy"]))?;
    let arguments = pairs(&q["arguments"]);
    if !arguments.is_empty() {
        say!();
        table(&["ARGUMENT", "VALUE"], &arguments)?;
    }
    let bindings = rows(q, "bindings", &["source", "key", "arguments"]);
    if !bindings.is_empty() {
        say!();
        table(&["BOUND TO", "KEY", "ARGUMENTS"], &bindings)?;
    }
    Ok(())
}

fn text(v: &Value) -> String {
    v.as_str().map_or_else(|| v.to_string(), |s| if s.is_empty() { "\"\"".to_owned() } else { s.to_owned() })
}
