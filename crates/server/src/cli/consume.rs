//! `millstream consume`.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use serde_json::{Value, json};

use super::Remote;
use super::client::{Client, escape};
use super::show::{Shown, print_message};

/// Longest wait of one poll as a group member, milliseconds, and most messages of one.
const POLL_WAIT_MS: u64 = 5_000;
const POLL_MESSAGES: u64 = 1_000;
/// Messages taken from a queue at a time, and how long they are leased, milliseconds: they have to be printed by then.
const TAKE_MESSAGES: u64 = 100;
const TAKE_LEASE_MS: u64 = 60_000;
/// Messages of a queue that are looked at without being taken, at most.
const LOOK_MESSAGES: u64 = 1_000;

#[derive(Debug, Args)]
pub struct Consume {
    #[command(flatten)]
    remote: Remote,
    /// The topic or queue. A message of a queue is acknowledged once it is printed
    name: String,
    /// Only this partition of the topic
    #[arg(long, short)]
    partition: Option<u32>,
    /// Where in the topic to begin: earliest, latest, offset:N, time:MS (milliseconds since the epoch) [default: earliest]
    #[arg(long)]
    from: Option<String>,
    /// As a member of this consumer group: its partitions, from its committed offsets, committing what was printed
    #[arg(long, short, conflicts_with_all = ["partition", "from"])]
    group: Option<String>,
    /// Go on when the end is reached
    #[arg(long, short)]
    follow: bool,
    /// Stop after so many messages
    #[arg(long, short = 'n', visible_alias = "count")]
    max: Option<u64>,
    /// Leave the queue's messages where they are: only look at the next ones, at most 1000
    #[arg(long, conflicts_with = "follow")]
    no_ack: bool,
    /// Print the key, and this, before the value
    #[arg(long, short = 'K')]
    key_separator: Option<String>,
}

impl Consume {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let client = self.remote.client();
        if super::kind_of(&client, &self.name)? == "queue" {
            return self.queue(&client);
        }
        if self.no_ack {
            bail!("{} is a topic: reading it takes nothing away, and --no-ack is for queues", self.name);
        }
        if let Some(group) = &self.group {
            return self.as_member(group);
        }
        let mut path = format!(
            "/topics/{}/messages?from={}&follow={}",
            escape(&self.name),
            escape(self.from.as_deref().unwrap_or("earliest")),
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
        for line in client.lines(&path)? {
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
        let joined = client.post(&members, json!({ "topic": self.name }).to_string().as_bytes())?;
        let token =
            joined.get("member").and_then(Value::as_str).context("the broker named no member")?.to_owned();
        let mut out = std::io::stdout().lock();
        let mut left = self.max.unwrap_or(u64::MAX);
        while left > 0 {
            let wait_ms = if self.follow { POLL_WAIT_MS } else { 0 };
            let body = json!({ "max": left.min(POLL_MESSAGES), "wait_ms": wait_ms });
            let polled = client.post(&format!("{members}/{token}/poll"), body.to_string().as_bytes())?;
            let messages = messages(&polled);
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

    fn queue(&self, client: &Client) -> anyhow::Result<ExitCode> {
        for (given, option) in [
            (self.partition.is_some(), "--partition"),
            (self.from.is_some(), "--from"),
            (self.group.is_some(), "--group"),
        ] {
            if given {
                bail!("{} is a queue: {option} is for topics", self.name);
            }
        }
        if self.no_ack { self.look(client) } else { self.take(client) }
    }

    fn look(&self, client: &Client) -> anyhow::Result<ExitCode> {
        let max = self.max.unwrap_or(LOOK_MESSAGES);
        if max == 0 {
            return Ok(ExitCode::SUCCESS);
        }
        if max > LOOK_MESSAGES {
            bail!("--no-ack looks at {LOOK_MESSAGES} messages at most");
        }
        let seen = client.get(&format!("/queues/{}/messages?max={max}", escape(&self.name)))?;
        let mut out = std::io::stdout().lock();
        for m in messages(&seen) {
            if !self.show(&mut out, m)? {
                break;
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Takes messages, prints them, and then acknowledges them: what is not printed goes back.
    fn take(&self, client: &Client) -> anyhow::Result<ExitCode> {
        let path = format!("/queues/{}", escape(&self.name));
        let mut out = std::io::stdout().lock();
        let mut left = self.max.unwrap_or(u64::MAX);
        while left > 0 {
            let wait_ms = if self.follow { POLL_WAIT_MS } else { 0 };
            let body =
                json!({ "max": left.min(TAKE_MESSAGES), "wait_ms": wait_ms, "lease_ms": TAKE_LEASE_MS });
            let taken = client.post(&format!("{path}/receive"), body.to_string().as_bytes())?;
            let taken = messages(&taken);
            if taken.is_empty() && !self.follow {
                break;
            }
            let (mut printed, mut failed) = (0, None);
            for m in taken {
                match self.show(&mut out, m) {
                    Ok(true) => printed += 1,
                    Ok(false) => break,
                    Err(e) => {
                        failed = Some(e);
                        break;
                    }
                }
            }
            let reads_on = printed == taken.len() && out.flush().is_ok();
            let receipt = |m: &Value| m.get("receipt").cloned();
            let (ack, back) = taken.split_at(printed);
            let (ack, back): (Vec<_>, Vec<_>) =
                (ack.iter().filter_map(receipt).collect(), back.iter().filter_map(receipt).collect());
            if !ack.is_empty() || !back.is_empty() {
                let body = json!({ "ack": ack, "back": back });
                let settled = client.post(&format!("{path}/settle"), body.to_string().as_bytes())?;
                let late = settled.get("errors").and_then(Value::as_array).map_or(0, Vec::len);
                if late > 0 {
                    eprintln!(
                        "{late} messages were printed too late to be acknowledged: they will come again"
                    );
                }
            }
            if let Some(e) = failed {
                return Err(e);
            }
            left -= printed as u64;
            if !reads_on {
                break;
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Prints one message; false if nobody reads any more.
    fn show(&self, out: &mut impl std::io::Write, line: &Value) -> anyhow::Result<bool> {
        let how =
            Shown { as_json: self.remote.json, key_separator: self.key_separator.as_deref(), whole: false };
        print_message(out, &how, line)
    }
}

fn messages(answer: &Value) -> &[Value] {
    answer.get("messages").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}
