//! The programs that start the broker's binary themselves: the command line's checks and the crash tests.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::process::counted;
use crate::setup::Ready;
use crate::summary::Summary;
use crate::tools::{self, Tool};

/// A program that starts the binary itself: as people do, or to kill or trace it.
pub struct Solo {
    /// What `--only` calls it.
    pub name: &'static str,
    /// About how long it takes on two cores, seconds: what takes longest begins first.
    pub lasts_s: u32,
    /// Its file under `conformance`.
    program: &'static str,
    /// The Python that has the client libraries which it imports.
    python: fn(&Path) -> Result<PathBuf>,
    arguments: &'static [&'static str],
    /// Tools that it does not go without.
    pub needs: &'static [&'static Tool],
    within: Duration,
}

/// All of them, in the order of the table at the end.
pub const SOLOS: &[Solo] = &[
    Solo {
        name: "cli",
        lasts_s: 24,
        program: "cli/run.py",
        python: plain_python,
        arguments: &[],
        needs: &[&tools::PYTHON],
        within: Duration::from_mins(10),
    },
    Solo {
        name: "kill9",
        lasts_s: 106,
        program: "crash/kill9.py",
        python: tools::python,
        arguments: &["--rounds", "50"],
        needs: &[&tools::PYTHON],
        within: Duration::from_mins(15),
    },
    Solo {
        name: "bridge",
        lasts_s: 10,
        program: "crash/bridge.py",
        python: tools::python,
        arguments: &["--rounds", "8"],
        needs: &[&tools::PYTHON],
        within: Duration::from_mins(10),
    },
    Solo {
        name: "cross",
        lasts_s: 36,
        program: "cross/run.py",
        python: tools::cross_python,
        arguments: &[],
        needs: &[&tools::PYTHON],
        within: Duration::from_mins(10),
    },
    Solo {
        name: "hold_sync",
        lasts_s: 5,
        program: "crash/hold_sync.py",
        python: tools::python,
        arguments: &[],
        needs: &[&tools::PYTHON, &tools::STRACE],
        within: Duration::from_mins(10),
    },
    Solo {
        name: "kill9_queues",
        lasts_s: 119,
        program: "crash/kill9_queues.py",
        python: tools::amqp_python,
        arguments: &["--rounds", "50"],
        needs: &[&tools::PYTHON],
        within: Duration::from_mins(15),
    },
    Solo {
        name: "hold_sync_queues",
        lasts_s: 5,
        program: "crash/hold_sync_queues.py",
        python: tools::amqp_python,
        arguments: &[],
        needs: &[&tools::PYTHON, &tools::STRACE],
        within: Duration::from_mins(10),
    },
    Solo {
        name: "kill9_sqs",
        lasts_s: 52,
        program: "crash/kill9_sqs.py",
        python: tools::sqs_python,
        arguments: &["--rounds", "50"],
        needs: &[&tools::PYTHON],
        within: Duration::from_mins(15),
    },
    Solo {
        name: "kill9_moves",
        lasts_s: 30,
        program: "crash/kill9_moves.py",
        python: tools::sqs_python,
        arguments: &["--rounds", "10"],
        needs: &[&tools::PYTHON],
        within: Duration::from_mins(10),
    },
    Solo {
        name: "hold_sync_sqs",
        lasts_s: 19,
        program: "crash/hold_sync_sqs.py",
        python: tools::sqs_python,
        arguments: &[],
        needs: &[&tools::PYTHON, &tools::STRACE],
        within: Duration::from_mins(10),
    },
    Solo {
        name: "full_disk",
        lasts_s: 25,
        program: "crash/full_disk.py",
        python: tools::python,
        arguments: &[],
        needs: &[&tools::PYTHON],
        within: Duration::from_mins(15),
    },
    Solo {
        name: "full_disk_queues",
        lasts_s: 40,
        program: "crash/full_disk_queues.py",
        python: tools::amqp_python,
        arguments: &[],
        needs: &[&tools::PYTHON],
        within: Duration::from_mins(10),
    },
];

/// The machine's own, without client libraries.
#[expect(clippy::unnecessary_wraps, reason = "one of several")]
fn plain_python(_root: &Path) -> Result<PathBuf> {
    Ok(PathBuf::from("python3"))
}

impl Solo {
    /// Sets up what it runs with.
    pub fn prepare(&self, root: &Path) -> Ready {
        Ready::with(self.needs, || {
            let mut command = Command::new((self.python)(root)?);
            command.arg(root.join("conformance").join(self.program));
            Ok(command)
        })
    }

    /// Runs it.
    pub fn run(&self, ready: Ready, binary: &Path, require_all: bool) -> Summary {
        let mut summary = Summary::default();
        let name = self.program.trim_end_matches("/run.py").trim_end_matches(".py").replace('/', " ");
        ready.run(&name, require_all, &mut summary, |mut command| {
            command.arg("--binary").arg(binary).args(self.arguments);
            counted(self.name, &mut command, self.within)
        });
        summary
    }
}
