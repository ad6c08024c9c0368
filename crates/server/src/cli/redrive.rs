//! `millstream queue redrive`, `redrives` and `cancel-redrive`: dead letters on their way back, which go on whether anybody waits or not.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::{Value, json};

use super::client::{Client, escape};
use super::output::{field, json as print_json, rows, say, table};

/// A redrive is asked how far it is so often.
const LOOK_EACH: Duration = Duration::from_millis(100);
/// Looks between two lines that tell it.
const LOOKS_PER_LINE: u32 = 10;

#[derive(Debug, Args)]
pub struct Redrive {
    /// The queue with the dead letters
    name: String,
    /// All to this queue
    #[arg(long, value_name = "QUEUE")]
    to: Option<String>,
    /// At most so many [default: all that are ready]
    #[arg(long, short = 'n')]
    max: Option<u64>,
    /// At most so many a second
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// Do not wait for its end
    #[arg(long)]
    detach: bool,
}

#[derive(Debug, Args)]
pub struct Redrives {
    /// The queue with the dead letters
    name: String,
    /// Wait for the end of the one that runs
    #[arg(long)]
    wait: bool,
}

fn path(queue: &str) -> String {
    format!("/queues/{}/redrives", escape(queue))
}

pub fn redrive(client: &Client, r: &Redrive, as_json: bool) -> anyhow::Result<()> {
    let body = json!({ "to": r.to, "max": r.max, "rate": r.rate });
    let begun = client
        .post(&path(&r.name), body.to_string().as_bytes())
        .with_context(|| format!("see `millstream queue redrives {}`", r.name))?;
    if r.detach {
        if as_json {
            return print_json(&begun);
        }
        say!("takes {} messages back; see `millstream queue redrives {}`", field(&begun, "messages"), r.name);
        return Ok(());
    }
    wait(client, &r.name, begun, as_json)
}

/// Tells how far it is until it has ended, and what it did.
fn wait(client: &Client, queue: &str, begun: Value, as_json: bool) -> anyhow::Result<()> {
    let one = format!("{}/{}", path(queue), field(&begun, "id"));
    let (mut now, mut looks) = (begun, 0_u32);
    while field(&now, "state") == "running" {
        sleep(LOOK_EACH); // tidy: pacing
        now = client.get(&one).with_context(|| {
            format!("it goes on as soon as the broker is there: see `millstream queue redrives {queue}`")
        })?;
        looks += 1;
        if looks.is_multiple_of(LOOKS_PER_LINE) {
            eprintln!("{} of {} messages", field(&now, "moved"), field(&now, "messages"));
        }
    }
    ended(&now, as_json)
}

fn ended(done: &Value, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        print_json(done)?;
    } else {
        say!("took {} messages back", field(done, "moved"));
        for (left, why) in [
            ("homeless", "name no queue that is there"),
            ("refused", "are for a queue that is full"),
            ("unreadable", "cannot be read, or are too large"),
        ] {
            if done.get(left).and_then(Value::as_u64).unwrap_or(0) > 0 {
                say!("left {} that {why}", field(done, left));
            }
        }
    }
    match field(done, "state").as_str() {
        "completed" => Ok(()),
        "cancelled" => bail!("it was cancelled"),
        _ => bail!("it failed: {}", field(done, "cause")),
    }
}

pub fn list(client: &Client, r: &Redrives, as_json: bool) -> anyhow::Result<()> {
    let all = client.get(&path(&r.name))?;
    if r.wait {
        let running = running(&all).with_context(|| format!("no redrive of queue {} runs", r.name))?;
        return wait(client, &r.name, running.clone(), as_json);
    }
    if as_json {
        return print_json(&all);
    }
    let fields = ["id", "state", "to", "moved", "messages", "homeless", "refused", "unreadable"];
    let heading = ["REDRIVE", "STATE", "TO", "MOVED", "OF", "HOMELESS", "REFUSED", "UNREADABLE"];
    table(&heading, &rows(&all, "redrives", &fields))
}

fn running(all: &Value) -> Option<&Value> {
    all.get("redrives")?.as_array()?.iter().find(|r| field(r, "state") == "running")
}

pub fn cancel(client: &Client, queue: &str, as_json: bool) -> anyhow::Result<()> {
    let all = client.get(&path(queue))?;
    let running = running(&all).with_context(|| format!("no redrive of queue {queue} runs"))?;
    let ended = client.post(&format!("{}/{}/cancel", path(queue), field(running, "id")), b"")?;
    if as_json {
        return print_json(&ended);
    }
    say!("cancelled: {} of {} messages were moved", field(&ended, "moved"), field(&ended, "messages"));
    Ok(())
}
