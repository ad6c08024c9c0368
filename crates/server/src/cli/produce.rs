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
    /// The topic
    topic: String,
    /// Messages; none = lines of --file, or of standard input
    messages: Vec<String>,
    /// Read lines from a file
    #[arg(long, short, conflicts_with = "messages")]
    file: Option<PathBuf>,
    /// What stands between key and value in a line; without it lines have no key
    #[arg(long, short = 'K')]
    key_separator: Option<String>,
    /// To this partition, not by key or in turns
    #[arg(long, short)]
    partition: Option<u32>,
    /// A header (may be repeated)
    #[arg(long = "header", short = 'H', value_name = "NAME=VALUE")]
    headers: Vec<String>,
}

impl Produce {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let client = self.remote.client();
        let mut sender = Sender::new(&self, &client)?;
        if !self.messages.is_empty() {
            for m in &self.messages {
                sender.line(m.as_bytes())?;
            }
        } else if let Some(path) = &self.file {
            let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
            let bytes = file.metadata()?.len();
            sender.lines(file, Some(bytes))?;
        } else {
            sender.lines(std::io::stdin().lock(), None)?;
        }
        sender.flush()?;
        let sent = sender.sent;
        if self.remote.json {
            output::json(&json!({ "topic": self.topic, "messages": sent }))?;
        } else {
            eprintln!("{sent} messages stored in {}", self.topic);
        }
        Ok(ExitCode::SUCCESS)
    }
}

struct Sender<'a> {
    args: &'a Produce,
    client: &'a Client,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    waiting: u64,
    sent: u64,
}

impl<'a> Sender<'a> {
    fn new(args: &'a Produce, client: &'a Client) -> anyhow::Result<Self> {
        let header = |h: &String| {
            let (n, v) = h.split_once('=').with_context(|| format!("{h}: must be NAME=VALUE"))?;
            anyhow::Ok((n.to_owned(), v.to_owned()))
        };
        let headers = args.headers.iter().map(header).collect::<Result<_, _>>()?;
        let path = format!("/topics/{}/messages", escape(&args.topic));
        Ok(Self { args, client, path, headers, body: Vec::new(), waiting: 0, sent: 0 })
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
        let (key, value) = match &self.args.key_separator {
            None => (None, line),
            Some(sep) => {
                let at = find(line, sep.as_bytes()).with_context(|| {
                    format!("message {}: no {sep:?} between key and value", self.sent + self.waiting + 1)
                })?;
                (line.get(..at), line.get(at + sep.len()..).unwrap_or_default())
            }
        };
        let mut m = json!({ "headers": self.headers });
        put(&mut m, "key", key);
        put(&mut m, "value", Some(value));
        if let Some(p) = self.args.partition {
            put_value(&mut m, "partition", json!(p));
        }
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
            self.client
                .post(&self.path, &self.body)
                .with_context(|| format!("{} messages were stored before", self.sent))?;
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
