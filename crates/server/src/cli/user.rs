//! `millstream user ...`.

use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::Remote;
use super::client::{Client, escape};
use super::output::{field, json as print_json, say, table};

#[derive(Debug, Args)]
pub struct User {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a user; it may do nothing before `user permissions`
    Add {
        /// Its name
        name: String,
        #[command(flatten)]
        password: Password,
        /// A tag (may be repeated): impersonator lets it publish in others' names
        #[arg(long = "tag", value_name = "TAG")]
        tags: Vec<String>,
    },
    /// List users, their tags, and what they may do
    List,
    /// Remove a user
    Delete {
        /// Its name
        name: String,
    },
    /// Give a user another password
    Passwd {
        /// Its name
        name: String,
        #[command(flatten)]
        password: Password,
    },
    /// Say what a user may do, or show it
    ///
    /// Each is a regular expression that is looked for in a name (write ^ and $ for the whole of it); "" stands for nothing.
    Permissions {
        /// Its name
        name: String,
        /// What it may make, change and remove
        #[arg(requires = "write")]
        configure: Option<String>,
        /// What it may publish to; the default exchange is amq.default
        #[arg(requires = "read")]
        write: Option<String>,
        /// What it may consume from
        read: Option<String>,
        /// In this virtual host
        #[arg(long, default_value = "/")]
        vhost: String,
        /// Take all away
        #[arg(long, conflicts_with = "configure")]
        clear: bool,
    },
}

#[derive(Debug, Args)]
struct Password {
    /// The password; others on this machine can see it in the list of processes [default: a line of standard input]
    #[arg(long)]
    password: Option<String>,
}

impl Password {
    fn read(self) -> anyhow::Result<String> {
        if let Some(password) = self.password {
            return Ok(password);
        }
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).context("reading the password")?;
        match line.trim_end_matches(['\n', '\r']) {
            "" => bail!("no password: give a line of standard input, or --password"),
            password => Ok(password.to_owned()),
        }
    }
}

impl User {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let client = self.remote.client();
        let as_json = self.remote.json;
        let say = |text: String| -> anyhow::Result<()> {
            if !as_json {
                say!("{text}");
            }
            Ok(())
        };
        match self.action {
            Action::Add { name, password, tags } => {
                let body = json!({ "name": name, "password": password.read()?, "tags": tags });
                let made = client.post("/users", body.to_string().as_bytes())?;
                if as_json {
                    print_json(&made)?;
                }
                say(format!("made user {name}; it may do nothing before `millstream user permissions`"))?;
            }
            Action::List => {
                let users = client.get("/users")?;
                if as_json { print_json(&users)? } else { list(&users)? }
            }
            Action::Delete { name } => {
                client.delete(&format!("/users/{}", escape(&name)))?;
                say(format!("deleted user {name}"))?;
            }
            Action::Passwd { name, password } => {
                let body = json!({ "password": password.read()? });
                client.post(&format!("/users/{}/password", escape(&name)), body.to_string().as_bytes())?;
                say(format!("user {name} has another password"))?;
            }
            Action::Permissions { name, configure, write, read, vhost, clear } => {
                let path = format!("/users/{}/permissions", escape(&name));
                if clear {
                    client.delete(&format!("{path}?vhost={}", escape(&vhost)))?;
                    say(format!("user {name} may do nothing in {vhost}"))?;
                } else if let (Some(configure), Some(write), Some(read)) = (configure, write, read) {
                    let body =
                        json!({ "vhost": vhost, "configure": configure, "write": write, "read": read });
                    client.post(&path, body.to_string().as_bytes())?;
                    say(format!("user {name} has its permissions in {vhost}"))?;
                } else {
                    show(&client, &name, as_json)?;
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

const HEADING: [&str; 6] = ["USER", "TAGS", "VHOST", "CONFIGURE", "WRITE", "READ"];

fn list(users: &Value) -> anyhow::Result<()> {
    let all = users.get("users").and_then(Value::as_array);
    table(&HEADING, &all.into_iter().flatten().flat_map(lines).collect::<Vec<_>>())
}

fn show(client: &Client, name: &str, as_json: bool) -> anyhow::Result<()> {
    let user = client.get(&format!("/users/{}", escape(name)))?;
    if as_json { print_json(&user) } else { table(&HEADING, &lines(&user)) }
}

/// A line for each virtual host.
fn lines(user: &Value) -> Vec<Vec<String>> {
    let tags = user.get("tags").and_then(Value::as_array).into_iter().flatten();
    let tags: Vec<&str> = tags.filter_map(Value::as_str).collect();
    let who = vec![field(user, "name"), if tags.is_empty() { "-".to_owned() } else { tags.join(",") }];
    let vhosts = user.get("permissions").and_then(Value::as_object);
    let line = |(vhost, p): (&String, &Value)| {
        let mut line = who.clone();
        line.push(vhost.clone());
        line.extend(["configure", "write", "read"].map(|what| field(p, what)));
        line
    };
    let lines: Vec<_> = vhosts.into_iter().flatten().map(line).collect();
    if lines.is_empty() {
        vec![who.into_iter().chain((0..4).map(|_| "-".to_owned())).collect()]
    } else {
        lines
    }
}
