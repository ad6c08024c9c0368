//! What a queue costs that does nothing: memory with so many of them, and how long a start takes with them.
//!
//! `cargo xtask bench idle [-- QUEUES...]`, 100,000 and 1,000,000 unless said otherwise. One process makes the queues through the broker's
//! API: each is declared, gets a message of 100 bytes which is received and settled, and every hundredth gets another one that stays. It
//! rests, is looked at, and is killed. The next opens what it left, rests, is looked at, and stops cleanly; a third opens it
//! again. Tables go to standard output as Markdown.
#![forbid(unsafe_code)]
#![allow(clippy::pedantic, clippy::unwrap_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use millstream_broker::queue::api::{Receive, Verb};
use millstream_broker::{
    Broker, BrokerConfig, Message, NewMessage, NewQueue, Principal, Session, SessionOptions, settle_item,
};
use millstream_env::Env;
use millstream_log::DiskLog;
use millstream_testkit::process::{Used, child, measured_and_killed, resident_mib};
use millstream_types::Namespace;

/// As in the server.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Sessions that make queues at the same time.
const SESSIONS: u64 = 512;
/// Of so many queues, one keeps a message.
const KEEPS_ONE_IN: u64 = 100;
/// So long after the last operation all is at rest: floors are recorded after a second, rows written, freed memory is given back.
const REST: Duration = Duration::from_secs(25);

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|w| w != "--bench").collect();
    match words.first().map(String::as_str) {
        Some("--make") => make(Path::new(&words[1]), words[2].parse().unwrap()),
        Some("--open") => open(Path::new(&words[1]), words[2].parse().unwrap()),
        _ => {
            let asked: Vec<u64> = words.iter().map(|w| w.parse().expect("a number of queues")).collect();
            run(if asked.is_empty() { &[100_000, 1_000_000] } else { &asked });
        }
    }
}

fn run(counts: &[u64]) {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("Load average before the run: {}\n", load.split_whitespace().next().unwrap_or("?"));
    println!(
        "| idle queues | made in, s | resident, MiB | at most, making | opening after a kill, s | CPU s | at most, opening | resident | after a clean stop, s | CPU s | at most, opening | resident | disk, MB |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|---|");
    for &queues in counts {
        let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("bench-idle-{}", std::process::id()));
        std::fs::create_dir_all(&place).unwrap();
        let dir = place.display().to_string();
        let made = measured_and_killed(&["--make", &dir, &queues.to_string()]);
        let killed = measured_and_ended(&["--open", &dir, &queues.to_string()]);
        let disk = bytes_in(&place) / 1_000_000;
        let clean = measured_and_killed(&["--open", &dir, &queues.to_string()]);
        std::fs::remove_dir_all(&place).unwrap();
        println!(
            "| {queues} | {:.0} | {} | {} | {:.2} | {:.2} | {} | {} | {:.2} | {:.2} | {} | {} | {disk} |",
            made["seconds"],
            made["rss"],
            made["peak"],
            killed["seconds"],
            killed["cpu"],
            killed["opened_peak"],
            killed["rss"],
            clean["seconds"],
            clean["cpu"],
            clean["opened_peak"],
            clean["rss"],
        );
    }
}

fn bytes_in(dir: &Path) -> u64 {
    let all = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap());
    all.map(|e| if e.path().is_dir() { bytes_in(&e.path()) } else { e.metadata().unwrap().len() }).sum()
}

/// Runs a child until it has measured, and lets it end.
fn measured_and_ended(words: &[&str]) -> HashMap<String, f64> {
    let (values, mut child) = child(words, "measured");
    drop(child.stdin.take());
    child.wait().unwrap();
    assert!(!values.is_empty(), "the process ended early: {words:?}");
    values
}

fn broker(dir: &Path) -> Broker {
    let env = Env::os(dir);
    let log = DiskLog::new(env.clone());
    Broker::open(BrokerConfig::default(), env, &log).unwrap()
}

fn session(broker: &Broker) -> Session {
    broker.session(Principal::anonymous(), Namespace::DEFAULT, SessionOptions::default())
}

/// As long as a name is that people give.
fn name(n: u64) -> String {
    format!("orders.eu-west.customer-{n:07}")
}

/// Says what was measured, and waits to be killed or told to end.
async fn measured(broker: Broker) {
    tokio::time::sleep(REST).await; // tidy: pacing
    println!("rss={}\nmeasured", resident_mib().0);
    tokio::task::spawn_blocking(move || {
        std::io::stdin().lines().for_each(drop);
        broker.close();
    })
    .await
    .unwrap();
}

#[tokio::main]
async fn make(dir: &Path, queues: u64) {
    let broker = broker(dir);
    let clock = Env::os(dir).clock;
    let begun_ns = clock.mono_ns();
    let tasks: Vec<_> = (0..SESSIONS)
        .map(|first| {
            let session = session(&broker);
            tokio::spawn(async move {
                for n in (first..queues).step_by(SESSIONS as usize) {
                    use_once(&session, n).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    println!("seconds={}\npeak={}", (clock.mono_ns() - begun_ns) as f64 / 1e9, resident_mib().1);
    measured(broker).await;
}

/// Makes a queue; a message goes through it, and one in so many keeps another.
async fn use_once(session: &Session, n: u64) {
    let queue = session.declare_queue(NewQueue::named(&name(n))).await.unwrap().def;
    publish(session, n).await;
    let one = Receive { wait_ms: 60_000, ..Receive::now(queue.id, 1) };
    let taken = session.receive(one).unwrap().await.unwrap().unwrap();
    let items = taken.iter().map(|d| settle_item(d, Verb::Ack)).collect::<Vec<_>>();
    assert_eq!(items.len(), 1);
    session.settle(items).await.unwrap().await.unwrap();
    if n.is_multiple_of(KEEPS_ONE_IN) {
        publish(session, n).await;
    }
}

async fn publish(session: &Session, n: u64) {
    let payload = Some(Bytes::from(vec![b'x'; 100]));
    let message = Message { routing_key: name(n), payload, ..Message::default() };
    let one = vec![NewMessage { message, ..NewMessage::default() }];
    assert_eq!(session.publish(one).await.unwrap().await.unwrap().pop().unwrap().unwrap().accepted, 1);
}

#[tokio::main]
async fn open(dir: &Path, queues: u64) {
    let clock = Env::os(dir).clock;
    let begun_ns = clock.mono_ns();
    let broker = broker(dir);
    println!("seconds={}\ncpu={}", (clock.mono_ns() - begun_ns) as f64 / 1e9, Used::now().cpu_seconds);
    println!("opened_peak={}", resident_mib().1);
    let session = session(&broker);
    // All are there, and hold what they held.
    for n in [0, 1, queues / 2, queues - 1] {
        let queue = session.queue(&name(n)).unwrap();
        let ready = session.queue_stats(queue.id, false).await.unwrap().unwrap().ready.n;
        assert_eq!(ready, u64::from(n.is_multiple_of(KEEPS_ONE_IN)), "{}", name(n));
    }
    drop(session);
    measured(broker).await;
}
