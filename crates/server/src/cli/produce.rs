//! `millstream produce`.

use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal as _, Read};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::Remote;
use super::client::{Client, escape};
use super::output;
use super::parse::span_ms;

/// Lines and bytes sent in one request.
const BATCH_LINES: u64 = 1_000;
const BATCH_BYTES: usize = 1 << 20;
/// Longest line, bytes.
const LINE_BYTES_MAX: u64 = 8 << 20;
/// Input of this many bytes gets a progress bar.
const PROGRESS_BYTES_MIN: u64 = 1 << 20;

#[derive(Debug, Args)]
pub struct Produce {
    #[command(flatten)]
    remote: Remote,
    /// The topic or queue
    name: String,
    #[command(flatten)]
    input: Input,
    /// To this partition, not by key or in turns
    #[arg(long, short)]
    partition: Option<u32>,
}

/// Where messages come from, and what is one.
#[derive(Debug, Args)]
pub struct Input {
    /// Messages; none = lines of --file, or of standard input
    messages: Vec<String>,
    /// Read lines from a file
    #[arg(long, short, conflicts_with = "messages")]
    file: Option<PathBuf>,
    /// What stands between key and value in a line; without it lines have no key
    #[arg(long, short = 'K')]
    key_separator: Option<String>,
    /// A header (may be repeated)
    #[arg(long = "header", short = 'H', value_name = "NAME=VALUE")]
    headers: Vec<String>,
}

/// What messages for queues may have besides.
#[derive(Debug, Default, Args)]
pub struct QueueFields {
    /// Their priority, 0 to 255
    #[arg(long)]
    priority: Option<u8>,
    /// They go when they are older, for example 30s
    #[arg(long, value_parser = span_ms)]
    ttl: Option<u64>,
    /// They are delivered no sooner, for example 10s
    #[arg(long, value_parser = span_ms)]
    delay: Option<u64>,
    /// The message's id, of a single message: a queue with an id window does not take it again
    #[arg(long)]
    id: Option<String>,
    /// A property by AMQP's name (may be repeated), for example `app_id=shop`
    #[arg(long = "property", value_name = "NAME=VALUE")]
    properties: Vec<String>,
}

/// Where messages go.
pub struct Target {
    /// The path that takes them.
    pub path: String,
    /// Of a topic.
    pub partition: Option<u32>,
}

impl Produce {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let client = self.remote.client();
        let kind = super::kind_of(&client, &self.name)?;
        if kind == "queue" && self.partition.is_some() {
            bail!("{} is a queue: it has no partition {:?}", self.name, self.partition.unwrap_or(0));
        }
        let path = format!("/{kind}s/{}/messages", escape(&self.name));
        let to = Target { path, partition: self.partition };
        let sent = publish(&client, to, &self.input, &QueueFields::default())?;
        if self.remote.json {
            output::json(&json!({ kind: self.name, "messages": sent }))?;
        } else {
            eprintln!("{sent} messages stored in {}", self.name);
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Sends all messages; gives how many.
///
/// # Errors
/// What was wrong with one, or what the broker says.
pub fn publish(client: &Client, to: Target, input: &Input, more: &QueueFields) -> anyhow::Result<u64> {
    if more.id.is_some() && input.messages.len() != 1 {
        bail!("--id is for one message, given as an argument");
    }
    let mut sender = Sender::new(client, to, input, more)?;
    if !input.messages.is_empty() {
        for m in &input.messages {
            sender.line(m.as_bytes())?;
        }
    } else if let Some(path) = &input.file {
        let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
        let bytes = file.metadata()?.len();
        sender.lines(file, Some(bytes))?;
    } else {
        sender.lines(std::io::stdin().lock(), None)?;
    }
    sender.flush()?;
    Ok(sender.sent)
}

struct Sender<'a> {
    input: &'a Input,
    client: &'a Client,
    path: String,
    /// What all messages have.
    common: Value,
    body: Vec<u8>,
    waiting: u64,
    sent: u64,
}

fn pair(text: &String) -> anyhow::Result<(String, String)> {
    let (n, v) = text.split_once('=').with_context(|| format!("{text}: must be NAME=VALUE"))?;
    Ok((n.to_owned(), v.to_owned()))
}

impl<'a> Sender<'a> {
    fn new(client: &'a Client, to: Target, input: &'a Input, more: &QueueFields) -> anyhow::Result<Self> {
        let headers = input.headers.iter().map(pair).collect::<Result<Vec<_>, _>>()?;
        let properties = more.properties.iter().map(pair).collect::<Result<Vec<_>, _>>()?;
        let mut common = json!({ "headers": headers });
        let mut put = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                put_value(&mut common, name, value);
            }
        };
        put("partition", to.partition.map(Value::from));
        put("priority", more.priority.map(Value::from));
        put("ttl_ms", more.ttl.map(Value::from));
        put("id", more.id.clone().map(Value::from));
        put("delay_ms", more.delay.map(Value::from));
        let properties: serde_json::Map<String, Value> =
            properties.into_iter().map(|(n, v)| (n, Value::String(v))).collect();
        put("properties", (!properties.is_empty()).then_some(Value::Object(properties)));
        Ok(Self { input, client, path: to.path, common, body: Vec::new(), waiting: 0, sent: 0 })
    }

    fn lines(&mut self, input: impl Read, bytes: Option<u64>) -> anyhow::Result<()> {
        let bar = match bytes {
            Some(n) if n >= PROGRESS_BYTES_MIN && std::io::stderr().is_terminal() => {
                let style =
                    ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}")?;
                ProgressBar::new(n).with_style(style)
            }
            _ => ProgressBar::hidden(),
        };
        let mut input = BufReader::new(input);
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = input.by_ref().take(LINE_BYTES_MAX + 1).read_until(b'\n', &mut line)?;
            if read == 0 {
                bar.finish_and_clear();
                return Ok(());
            }
            if read as u64 > LINE_BYTES_MAX {
                bail!("a line is longer than {LINE_BYTES_MAX} bytes");
            }
            bar.inc(read as u64);
            self.line(line.strip_suffix(b"\n").unwrap_or(&line))?;
        }
    }

    fn line(&mut self, line: &[u8]) -> anyhow::Result<()> {
        let (key, value) = match &self.input.key_separator {
            None => (None, line),
            Some(sep) => {
                let at = find(line, sep.as_bytes()).with_context(|| {
                    format!("message {}: no {sep:?} between key and value", self.sent + self.waiting + 1)
                })?;
                (line.get(..at), line.get(at + sep.len()..).unwrap_or_default())
            }
        };
        let mut m = self.common.clone();
        put(&mut m, "key", key);
        put(&mut m, "value", Some(value));
        serde_json::to_writer(&mut self.body, &m)?;
        self.body.push(b'\n');
        self.waiting += 1;
        if self.waiting >= BATCH_LINES || self.body.len() >= BATCH_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        if self.waiting > 0 {
            let posted = self.client.post(&self.path, &self.body);
            // Lines are numbered within what is sent at once.
            if let Err(e) = posted {
                return Err(match self.sent {
                    0 => e,
                    sent => e.context(format!("after {sent} messages that were stored")),
                });
            }
            self.sent += self.waiting;
            self.waiting = 0;
            self.body.clear();
        }
        Ok(())
    }
}

fn find(line: &[u8], separator: &[u8]) -> Option<usize> {
    line.windows(separator.len().max(1)).position(|w| w == separator)
}

fn put_value(m: &mut Value, name: &str, value: Value) {
    if let Some(o) = m.as_object_mut() {
        o.insert(name.to_owned(), value);
    }
}

fn put(m: &mut Value, name: &str, bytes: Option<&[u8]>) {
    use base64::Engine as _;
    match bytes.map(|b| std::str::from_utf8(b).map_err(|_| b)) {
        None => {}
        Some(Ok(text)) => put_value(m, name, json!(text)),
        Some(Err(raw)) => {
            put_value(m, &format!("{name}_base64"), json!(base64::prelude::BASE64_STANDARD.encode(raw)));
        }
    }
}
