//! `millstream consume`.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use clap::Args;
use serde_json::{Value, json};

use super::Remote;
use super::client::escape;

/// Longest wait of one poll as a group member, milliseconds, and most messages of one.
const POLL_WAIT_MS: u64 = 5_000;
const POLL_MESSAGES: u64 = 1_000;

#[derive(Debug, Args)]
pub struct Consume {
    #[command(flatten)]
    remote: Remote,
    /// The topic
    topic: String,
    /// Only this partition
    #[arg(long, short)]
    partition: Option<u32>,
    /// Where to begin: earliest, latest, offset:N, time:MS (milliseconds since the epoch)
    #[arg(long, default_value = "earliest")]
    from: String,
    /// As a member of this consumer group: its partitions, from its committed offsets, committing what was printed
    #[arg(long, short, conflicts_with_all = ["partition", "from"])]
    group: Option<String>,
    /// Go on when the end is reached
    #[arg(long, short)]
    follow: bool,
    /// Stop after so many messages
    #[arg(long, short = 'n')]
    max: Option<u64>,
    /// Print the key, and this, before the value
    #[arg(long, short = 'K')]
    key_separator: Option<String>,
}

impl Consume {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        if let Some(group) = &self.group {
            return self.as_member(group);
        }
        let mut path = format!(
            "/topics/{}/messages?from={}&follow={}",
            escape(&self.topic),
            escape(&self.from),
            self.follow
        );
        for (name, value) in
            [("partition", self.partition.map(|p| p.to_string())), ("max", self.max.map(|m| m.to_string()))]
        {
            if let Some(v) = value {
                path.push('&');
                path.push_str(name);
                path.push('=');
                path.push_str(&v);
            }
        }
        let mut out = std::io::stdout().lock();
        for line in self.remote.client().lines(&path)? {
            let line = line?;
            if !self.show(&mut out, &line)? {
                break;
            }
            if self.follow {
                out.flush()?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Polls as a member of a group; a poll commits what was printed since the last.
    fn as_member(&self, group: &str) -> anyhow::Result<ExitCode> {
        let client = self.remote.client();
        let members = format!("/groups/{}/members", escape(group));
        let joined = client.post(&members, json!({ "topic": self.topic }).to_string().as_bytes())?;
        let token =
            joined.get("member").and_then(Value::as_str).context("the broker named no member")?.to_owned();
        let mut out = std::io::stdout().lock();
        let mut left = self.max.unwrap_or(u64::MAX);
        while left > 0 {
            let wait_ms = if self.follow { POLL_WAIT_MS } else { 0 };
            let body = json!({ "max": left.min(POLL_MESSAGES), "wait_ms": wait_ms });
            let polled = client.post(&format!("{members}/{token}/poll"), body.to_string().as_bytes())?;
            let messages =
                polled.get("messages").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            for m in messages {
                if !self.show(&mut out, m)? {
                    // Nobody reads on: what was not printed is not committed.
                    return Ok(ExitCode::SUCCESS);
                }
            }
            out.flush()?;
            left -= messages.len() as u64;
            let at_end = polled.get("at_end").and_then(Value::as_bool).unwrap_or(true);
            if at_end && messages.is_empty() && !self.follow {
                break;
            }
        }
        client.delete(&format!("{members}/{token}"))?;
        Ok(ExitCode::SUCCESS)
    }

    /// Prints one message; false if nobody reads any more.
    fn show(&self, out: &mut impl std::io::Write, line: &Value) -> anyhow::Result<bool> {
        let printed = if self.remote.json { writeln!(out, "{line}") } else { self.print(out, line) };
        match printed {
            Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
            other => other.map(|()| true).context("writing to standard output"),
        }
    }

    fn print(&self, out: &mut impl std::io::Write, line: &Value) -> std::io::Result<()> {
        if let Some(sep) = &self.key_separator {
            out.write_all(&bytes(line, "key"))?;
            out.write_all(sep.as_bytes())?;
        }
        out.write_all(&bytes(line, "value"))?;
        out.write_all(b"\n")
    }
}

fn bytes(line: &Value, name: &str) -> Vec<u8> {
    match line.get(name).and_then(Value::as_str) {
        Some(text) => text.as_bytes().to_vec(),
        None => line
            .get(format!("{name}_base64"))
            .and_then(Value::as_str)
            .and_then(|b| BASE64_STANDARD.decode(b).ok())
            .unwrap_or_default(),
    }
}
