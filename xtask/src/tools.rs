//! Programs that are not Rust's: which are here, and Debian's packages for those that are not.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::process::{must, output};
use crate::workspace;

/// A program from outside, and the Debian packages that bring it.
pub struct Tool {
    /// What is looked for on the path.
    pub program: &'static str,
    packages: &'static [&'static str],
}

/// librdkafka's command line.
pub const KCAT: Tool = Tool { program: "kcat", packages: &["kcat"] };
/// The system call tracer that holds syncs back.
pub const STRACE: Tool = Tool { program: "strace", packages: &["strace"] };
/// Java's virtual machine.
pub const JAVA: Tool = Tool { program: "java", packages: &["default-jdk-headless"] };
/// Java's compiler.
pub const JAVAC: Tool = Tool { program: "javac", packages: &["default-jdk-headless"] };
/// What fetches and builds for Java.
pub const MAVEN: Tool = Tool { program: "mvn", packages: &["maven"] };
/// Go's tool.
pub const GO: Tool = Tool { program: "go", packages: &["golang"] };
/// Node.
pub const NODE: Tool = Tool { program: "node", packages: &["nodejs"] };
/// Node's packages.
pub const NPM: Tool = Tool { program: "npm", packages: &["npm"] };
/// Redis.
pub const REDIS: Tool = Tool { program: "redis-server", packages: &["redis-server"] };
/// Python 3.
pub const PYTHON: Tool = Tool { program: "python3", packages: &["python3", "python3-venv"] };

impl Tool {
    /// Whether it is here. Some answer no flag alike, so the path is searched.
    pub fn is_here(&self) -> bool {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|place| place.join(self.program).is_file())
    }
}

/// Installs those that are missing, as root, from Debian's packages.
pub fn install(tools: &[&Tool]) -> Result<()> {
    let missing: Vec<&str> =
        tools.iter().filter(|tool| !tool.is_here()).flat_map(|tool| tool.packages).copied().collect();
    if missing.is_empty() {
        return Ok(());
    }
    ensure!(
        output(Command::new("id").arg("-u"))?.trim() == "0",
        "missing, and not root to install: {missing:?}"
    );
    println!("installing {}", missing.join(" "));
    must(Command::new("apt-get").args(["-q", "update"]).stdout(Stdio::null()))?;
    let mut install = Command::new("apt-get");
    install.env("DEBIAN_FRONTEND", "noninteractive");
    must(
        install.args(["-q", "install", "-y", "--no-install-recommends"]).args(&missing).stdout(Stdio::null()),
    )
}

/// Where this tool keeps what it makes.
pub fn made(root: &Path) -> PathBuf {
    workspace::target(root).join("xtask")
}

/// The Python of the environment with Kafka's client libraries.
pub fn python(root: &Path) -> Result<PathBuf> {
    python_with(root, "venv", &root.join("conformance/kafka/python/requirements.txt"))
}

/// The Python of the environment with AMQP's client library.
pub fn amqp_python(root: &Path) -> Result<PathBuf> {
    python_with(root, "venv-amqp", &root.join("conformance/amqp/python/requirements.txt"))
}

/// The Python of the environment with the client libraries of all protocols.
pub fn cross_python(root: &Path) -> Result<PathBuf> {
    python_with(root, "venv-cross", &root.join("conformance/cross/requirements.txt"))
}

/// The Python of the environment with SQS's client library.
pub fn sqs_python(root: &Path) -> Result<PathBuf> {
    python_with(root, "venv-sqs", &root.join("conformance/sqs/python/requirements.txt"))
}

/// The Python of the environment `name`, with what is `wanted`; made when that has changed.
pub fn python_with(root: &Path, name: &str, wanted: &Path) -> Result<PathBuf> {
    let environment = made(root).join(name);
    let python = environment.join("bin/python");
    once(&environment, wanted, || {
        println!("making the Python environment");
        let venv = |more: &[&str]| {
            must(Command::new("python3").args(["-m", "venv", "--clear"]).args(more).arg(&environment))
        };
        if venv(&[]).is_err() {
            install_venv().context("python3 -m venv does not work here")?;
            venv(&[])?;
        }
        let mut pip = Command::new(&python);
        must(pip.args(["-m", "pip", "install", "-q", "--disable-pip-version-check", "-r"]).arg(wanted))
    })?;
    Ok(python)
}

/// Debian keeps `venv` in a package of its own.
fn install_venv() -> Result<()> {
    must(Command::new("apt-get").args(["-q", "update"]).stdout(Stdio::null()))?;
    must(Command::new("apt-get").args(["-q", "install", "-y", "python3-venv"]).stdout(Stdio::null()))
}

/// The directory with Apache Kafka's jars.
pub fn kafka_jars(root: &Path) -> Result<PathBuf> {
    jars(&made(root).join("kafka-jars"), &root.join("conformance/kafka/peer/pom.xml"))
}

/// The directory with `ElasticMQ`'s jars, likewise.
pub fn elasticmq_jars(root: &Path) -> Result<PathBuf> {
    jars(&made(root).join("elasticmq-jars"), &root.join("conformance/sqs/peer/pom.xml"))
}

/// The directory with the jars of `RabbitMQ`'s load tool.
pub fn perftest_jars(root: &Path) -> Result<PathBuf> {
    jars(&made(root).join("perftest-jars"), &root.join("conformance/amqp/perf/pom.xml"))
}

/// What `pom` asks for, in the directory `jars`; fetched when it has changed.
pub fn jars(jars: &Path, pom: &Path) -> Result<PathBuf> {
    once(jars, pom, || {
        println!("fetching the jars of {}", pom.display());
        let mut maven = Command::new("mvn");
        maven.args(["-q", "-B", "-f"]).arg(pom).arg("dependency:copy-dependencies");
        must(maven.arg(format!("-DoutputDirectory={}", jars.display())))
    })?;
    Ok(jars.to_owned())
}

/// Does `work` unless it was done for `wanted` as it is now; a copy of `wanted` in `made` says so.
pub fn once(made: &Path, wanted: &Path, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let content = std::fs::read(wanted).with_context(|| wanted.display().to_string())?;
    let stamp = made.join(".made-for");
    if made.exists() && std::fs::read(&stamp).is_ok_and(|stamped| stamped == content) {
        return Ok(());
    }
    if made.exists() {
        std::fs::remove_dir_all(made)?;
    }
    std::fs::create_dir_all(made)?;
    work()?;
    Ok(std::fs::write(stamp, content)?)
}
