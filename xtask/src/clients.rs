//! The client programs of `conformance/kafka`, `conformance/amqp` and `conformance/sqs`: what each needs, how it is set up, how it is run.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::process::{Ended, counted, must};
use crate::setup::Ready;
use crate::summary::Summary;
use crate::tools::{self, Tool};

/// A client program still running after this hangs.
const DONE_WITHIN: Duration = Duration::from_mins(5);

/// What a client program speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Kafka's.
    Kafka,
    /// AMQP 0-9-1.
    Amqp,
    /// Amazon SQS.
    Sqs,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Kafka, Self::Amqp, Self::Sqs];

    /// By its name, which is that of a folder of `conformance`.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|p| p.name() == name)
    }
    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::Amqp => "amqp",
            Self::Sqs => "sqs",
        }
    }
}

/// One client program.
pub struct Client {
    /// What it is called.
    pub name: &'static str,
    /// About how long it takes on two cores, seconds.
    pub lasts_s: u32,
    /// What it speaks.
    pub protocol: Protocol,
    /// Its folder, in that of its protocol.
    folder: &'static str,
    /// Tools that it does not go without.
    pub needs: &'static [&'static Tool],
    /// Sets it up, and says how it is started.
    prepare: fn(&Path, &Path) -> Result<Command>,
}

/// All of them, the broadest first.
pub const CLIENTS: &[Client] = &[
    Client {
        name: "python",
        lasts_s: 31,
        protocol: Protocol::Kafka,
        folder: "python",
        needs: &[&tools::PYTHON],
        prepare: python,
    },
    Client {
        name: "kcat",
        lasts_s: 7,
        protocol: Protocol::Kafka,
        folder: "kcat",
        needs: &[&tools::PYTHON, &tools::KCAT],
        prepare: kcat,
    },
    Client {
        name: "java",
        lasts_s: 16,
        protocol: Protocol::Kafka,
        folder: "java",
        needs: &[&tools::JAVA, &tools::JAVAC, &tools::MAVEN],
        prepare: java,
    },
    Client {
        name: "go",
        lasts_s: 17,
        protocol: Protocol::Kafka,
        folder: "go",
        needs: &[&tools::GO],
        prepare: go,
    },
    Client {
        name: "node",
        lasts_s: 15,
        protocol: Protocol::Kafka,
        folder: "node",
        needs: &[&tools::NODE, &tools::NPM],
        prepare: node,
    },
    Client {
        name: "pika",
        lasts_s: 13,
        protocol: Protocol::Amqp,
        folder: "python",
        needs: &[&tools::PYTHON],
        prepare: pika,
    },
    Client {
        name: "amqp091-go",
        lasts_s: 2,
        protocol: Protocol::Amqp,
        folder: "go",
        needs: &[&tools::GO],
        prepare: amqp_go,
    },
    Client {
        name: "amqplib",
        lasts_s: 3,
        protocol: Protocol::Amqp,
        folder: "node",
        needs: &[&tools::NODE, &tools::NPM],
        prepare: node,
    },
    Client {
        name: "boto3",
        lasts_s: 19,
        protocol: Protocol::Sqs,
        folder: "python",
        needs: &[&tools::PYTHON],
        prepare: boto3,
    },
    // The last version of botocore that speaks the Query form.
    Client {
        name: "boto3-query",
        lasts_s: 19,
        protocol: Protocol::Sqs,
        folder: "python",
        needs: &[&tools::PYTHON],
        prepare: boto3_query,
    },
    Client {
        name: "aws-sdk-js",
        lasts_s: 7,
        protocol: Protocol::Sqs,
        folder: "node",
        needs: &[&tools::NODE, &tools::NPM],
        prepare: node,
    },
    Client {
        name: "aws-sdk-go",
        lasts_s: 4,
        protocol: Protocol::Sqs,
        folder: "go",
        needs: &[&tools::GO],
        prepare: sqs_go,
    },
    Client {
        name: "aws-sdk-java",
        lasts_s: 11,
        protocol: Protocol::Sqs,
        folder: "java",
        needs: &[&tools::JAVA, &tools::JAVAC, &tools::MAVEN],
        prepare: sqs_java,
    },
    Client {
        name: "celery-sqs",
        lasts_s: 33,
        protocol: Protocol::Sqs,
        folder: "celery",
        needs: &[&tools::PYTHON, &tools::REDIS],
        prepare: celery_sqs,
    },
    Client {
        name: "amqp-client",
        lasts_s: 7,
        protocol: Protocol::Amqp,
        folder: "java",
        needs: &[&tools::JAVA, &tools::JAVAC, &tools::MAVEN],
        prepare: amqp_java,
    },
    Client {
        name: "celery",
        lasts_s: 33,
        protocol: Protocol::Amqp,
        folder: "celery",
        needs: &[&tools::PYTHON, &tools::REDIS],
        prepare: celery,
    },
];

/// Which broker the programs talk to; some checks differ where Millstream means to.
#[derive(Clone, Copy)]
pub enum Peer {
    /// Apache Kafka, `RabbitMQ`, `ElasticMQ`.
    Original,
    /// Ours.
    Millstream,
}

impl Client {
    /// Sets it up.
    pub fn prepare(&self, root: &Path) -> Ready {
        let folder = self.folder(root);
        Ready::with(self.needs, || (self.prepare)(root, &folder))
    }

    fn folder(&self, root: &Path) -> PathBuf {
        root.join("conformance").join(self.protocol.name()).join(self.folder)
    }

    /// Runs it, once it is set up, against the broker of `run`; the outcome is one row of `summary`.
    pub fn run(&self, root: &Path, ready: Ready, run: &Run<'_>, summary: &mut Summary) {
        let name = format!("conformance {}", self.name);
        ready.run(&name, run.require_all, summary, |command| self.ran(root, command, run));
    }

    fn ran(&self, root: &Path, mut command: Command, run: &Run<'_>) -> Result<Ended> {
        command.current_dir(self.folder(root)).args(["--bootstrap", run.address]);
        command.args([
            "--peer",
            match (run.peer, self.protocol) {
                (Peer::Original, Protocol::Kafka) => "kafka",
                (Peer::Original, Protocol::Amqp) => "rabbitmq",
                (Peer::Original, Protocol::Sqs) => "elasticmq",
                (Peer::Millstream, _) => "millstream",
            },
        ]);
        if self.name == "pika"
            && let Some(admin) = run.amqp_admin
        {
            command.args(["--admin", admin]);
        }
        if let Some(check) = run.check {
            command.args(["--only", check]);
        }
        counted(self.name, &mut command, DONE_WITHIN)
    }
}

/// What is the same for every client program of a run.
pub struct Run<'a> {
    /// The broker's address for clients of its protocol.
    pub address: &'a str,
    /// The command line of what AMQP's clients talk to, as a shell would have it.
    pub amqp_admin: Option<&'a str>,
    /// What it is.
    pub peer: Peer,
    /// Only the checks whose name holds this.
    pub check: Option<&'a str>,
    /// Whether a client whose tools are missing has failed, or is skipped.
    pub require_all: bool,
}

/// The clients of a protocol called `only`, or all.
pub fn chosen(protocol: Protocol, only: Option<&str>) -> Result<Vec<&'static Client>> {
    let of_protocol = CLIENTS.iter().filter(|client| client.protocol == protocol);
    let clients: Vec<_> = of_protocol.filter(|client| only.is_none_or(|only| only == client.name)).collect();
    if clients.is_empty() {
        bail!("no client program {:?}", only.unwrap_or_default());
    }
    Ok(clients)
}

fn python(root: &Path, folder: &Path) -> Result<Command> {
    let mut command = Command::new(tools::python(root)?);
    command.arg(folder.join("run.py"));
    Ok(command)
}

fn pika(root: &Path, folder: &Path) -> Result<Command> {
    let mut command = Command::new(tools::amqp_python(root)?);
    command.arg(folder.join("run.py"));
    Ok(command)
}

fn boto3(root: &Path, folder: &Path) -> Result<Command> {
    let mut command = Command::new(tools::sqs_python(root)?);
    command.arg(folder.join("run.py"));
    Ok(command)
}

fn boto3_query(root: &Path, folder: &Path) -> Result<Command> {
    let wanted = folder.join("requirements-query.txt");
    let mut command = Command::new(tools::python_with(root, "venv-sqs-query", &wanted)?);
    command.arg(folder.join("run.py"));
    Ok(command)
}

fn kcat(root: &Path, folder: &Path) -> Result<Command> {
    python(root, folder)
}

fn java(root: &Path, folder: &Path) -> Result<Command> {
    built_java(root, folder, "java")
}

fn amqp_java(root: &Path, folder: &Path) -> Result<Command> {
    built_java(root, folder, "amqp-java")
}

fn sqs_java(root: &Path, folder: &Path) -> Result<Command> {
    built_java(root, folder, "sqs-java")
}

fn celery(root: &Path, folder: &Path) -> Result<Command> {
    let wanted = folder.join("requirements.txt");
    let mut command = Command::new(tools::python_with(root, "venv-celery", &wanted)?);
    command.arg(folder.join("run.py"));
    Ok(command)
}

fn celery_sqs(root: &Path, folder: &Path) -> Result<Command> {
    let wanted = folder.join("requirements.txt");
    let mut command = Command::new(tools::python_with(root, "venv-celery-sqs", &wanted)?);
    command.arg(folder.join("run.py"));
    Ok(command)
}

fn built_java(root: &Path, folder: &Path, name: &str) -> Result<Command> {
    let made = tools::made(root).join(name);
    let classes = made.join("classes");
    let jars = tools::jars(&made.join("jars"), &folder.join("pom.xml"))?;
    let mut sources = Vec::new();
    for from in [folder.join("src"), root.join("conformance/common/java")] {
        find(&from, "java", &mut sources)?;
    }
    let _ = std::fs::remove_dir_all(&classes); // classes of sources that are gone
    std::fs::create_dir_all(&classes)?;
    let path = format!("{}:{}/*", classes.display(), jars.display());
    must(Command::new("javac").arg("-d").arg(&classes).args(["-cp", &path]).args(sources))?;
    let mut command = Command::new("java");
    command.args(["-Xmx512m", "-cp", &path, "Main"]);
    Ok(command)
}

fn go(root: &Path, folder: &Path) -> Result<Command> {
    built_go(root, folder, "conformance-go")
}

fn amqp_go(root: &Path, folder: &Path) -> Result<Command> {
    built_go(root, folder, "conformance-amqp-go")
}

fn sqs_go(root: &Path, folder: &Path) -> Result<Command> {
    built_go(root, folder, "conformance-sqs-go")
}

fn built_go(root: &Path, folder: &Path, name: &str) -> Result<Command> {
    let binary = tools::made(root).join(name);
    must(Command::new("go").args(["build", "-o"]).arg(&binary).arg(".").current_dir(folder))?;
    Ok(Command::new(binary))
}

fn node(_root: &Path, folder: &Path) -> Result<Command> {
    tools::once(&folder.join("node_modules"), &folder.join("package-lock.json"), || {
        must(Command::new("npm").args(["ci", "--no-audit", "--no-fund", "--silent"]).current_dir(folder))
    })?;
    let mut command = Command::new("node");
    command.arg(folder.join("run.js"));
    Ok(command)
}

/// The files under `folder` that end in `.end`.
fn find(folder: &Path, end: &str, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            find(&path, end, found)?;
        } else if path.extension().is_some_and(|extension| extension == end) {
            found.push(path);
        }
    }
    Ok(())
}
