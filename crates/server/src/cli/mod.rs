//! The command line: `serve`, and what people ask of a running broker.

mod binding;
mod bridge;
mod client;
mod consume;
mod exchange;
mod group;
mod output;
mod parse;
mod produce;
mod queue;
mod redrive;
mod show;
mod topic;
mod user;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args as ClapArgs, Parser, Subcommand};

use crate::config::{Config, KEYS};
use client::Client;
pub use output::NobodyReads;

/// Queues and event streams over one durable log, for the clients you already have.
#[derive(Debug, Parser)]
#[command(name = "millstream", version, about)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the broker
    #[command(after_help = settings_help())]
    Serve(Serve),
    /// Create, list, describe, alter, delete topics
    Topic(topic::Topic),
    /// Create, list, describe, delete, purge queues; look into them, publish to them, take dead letters back
    Queue(Box<queue::Queue>),
    /// Create, list, describe, delete exchanges
    Exchange(exchange::Exchange),
    /// Create, list, delete bindings
    Binding(binding::Binding),
    /// Create, list, describe, pause, resume, delete bridges between topics and queues
    Bridge(bridge::Bridge),
    /// Publish messages to a topic or a queue, from arguments, a file or standard input
    Produce(produce::Produce),
    /// Read a topic's messages from an offset or a time, or take a queue's; to the end or following
    Consume(consume::Consume),
    /// Add, list, delete users of AMQP; passwords and permissions
    User(user::User),
    /// List, describe, delete consumer groups; move their offsets
    Group(group::Group),
}

/// Where help lists what all commands have: behind a command's own options.
const LAST: usize = 900;

/// How to reach a running broker, and how to print.
#[derive(Debug, Clone, ClapArgs)]
pub struct Remote {
    /// The broker's HTTP address
    #[arg(long, env = "MILLSTREAM_SERVER", default_value = "127.0.0.1:15672", global = true, display_order = LAST)]
    server: String,
    /// Print JSON, for programs
    #[arg(long, global = true, display_order = LAST)]
    json: bool,
}

impl Remote {
    fn client(&self) -> Client {
        Client::new(&self.server)
    }
}

#[derive(Debug, ClapArgs)]
struct Serve {
    /// TOML file with settings
    #[arg(long, env = "MILLSTREAM_CONFIG")]
    config: Option<PathBuf>,
    /// Where everything is kept [default: ./millstream-data]
    #[arg(long)]
    data_dir: Option<String>,
    /// Address of the Kafka listener, or off [default: 127.0.0.1:9092]
    #[arg(long, value_name = "ADDR|off")]
    kafka: Option<String>,
    /// HOST:PORT that Kafka clients on other hosts are told to use
    #[arg(long, value_name = "HOST:PORT")]
    kafka_advertised: Option<String>,
    /// Address of the AMQP 0-9-1 listener, or off [default: 127.0.0.1:5672]
    #[arg(long, value_name = "ADDR|off")]
    amqp: Option<String>,
    /// Address of the AWS listener (SQS), or off [default: 127.0.0.1:4566]
    #[arg(long, value_name = "ADDR|off")]
    aws: Option<String>,
    /// Address of the HTTP listener, or off [default: 127.0.0.1:15672]
    #[arg(long, value_name = "ADDR|off")]
    http: Option<String>,
    /// Let Kafka, HTTP, and AWS without access keys listen on addresses that other machines reach, without authentication
    #[arg(long)]
    insecure: bool,
    /// Any setting, by its key (may be repeated)
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// What to log: a level, or directives as of tracing's `EnvFilter`
    #[arg(long, env = "MILLSTREAM_LOG", default_value = "info")]
    log: String,
}

/// Whether a name is a `topic` or a `queue`.
///
/// # Errors
/// Neither, or no broker.
fn kind_of(client: &Client, name: &str) -> anyhow::Result<&'static str> {
    let told = client.get(&format!("/names/{}", client::escape(name)))?;
    Ok(if told.get("kind").is_some_and(|k| k == "queue") { "queue" } else { "topic" })
}

fn settings_help() -> String {
    let mut text = String::from(
        "Settings: [section] key in the TOML file, MILLSTREAM_SECTION_KEY in the environment, --set section.key=value here.\n",
    );
    for k in KEYS {
        // Where there is no one value, the text says what holds.
        let default = if k.default.is_empty() { String::new() } else { format!(" [{}]", k.default) };
        let _ = writeln!(text, "  {:<34} {}{default}", k.name, k.doc);
    }
    text
}

/// Does what the command line says.
///
/// # Errors
/// What a person should read.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Serve(s) => serve(s),
        Command::Topic(t) => t.run(),
        Command::Queue(q) => q.run(),
        Command::Exchange(e) => e.run(),
        Command::Binding(b) => b.run(),
        Command::Bridge(b) => b.run(),
        Command::Produce(p) => p.run(),
        Command::Consume(c) => c.run(),
        Command::Group(g) => g.run(),
        Command::User(u) => u.run(),
    }
}

fn serve(s: Serve) -> anyhow::Result<ExitCode> {
    let filter =
        tracing_subscriber::EnvFilter::try_new(&s.log).with_context(|| format!("--log {:?}", s.log))?;
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    let mut given = Vec::new();
    let mut give = |key: &str, value: Option<String>| {
        if let Some(v) = value {
            given.push((key.to_owned(), v));
        }
    };
    give("data_dir", s.data_dir);
    give("kafka.listen", s.kafka);
    give("kafka.advertised", s.kafka_advertised);
    give("amqp.listen", s.amqp);
    give("aws.listen", s.aws);
    give("http.listen", s.http);
    give("insecure", s.insecure.then(|| "true".to_owned()));
    for setting in &s.settings {
        let (key, value) =
            setting.split_once('=').ok_or_else(|| anyhow::anyhow!("--set {setting}: must be KEY=VALUE"))?;
        give(key, Some(value.to_owned()));
    }
    let cfg = Config::load(s.config.as_deref(), std::env::vars(), &given)?;
    crate::serve::run(&cfg)
}
