//! `cargo xtask conformance kafka|amqp|sqs`: the client programs against one broker of choice.

use std::path::Path;

use anyhow::{Result, bail};

use crate::args::Args;
use crate::clients::{self, Client, Peer, Protocol, Run};
use crate::clock::Moment;
use crate::differential;
use crate::elasticmq::ElasticMq;
use crate::millstream::{self, Millstream};
use crate::original::{Original, Setting};
use crate::process::Scratch;
use crate::rabbitmq::RabbitMq;
use crate::summary::Summary;
use crate::tools;

/// Does what the command line says.
pub fn run(root: &Path, mut args: Args) -> Result<bool> {
    let against = args.value("--against")?.unwrap_or_else(|| "millstream".to_owned());
    let bootstrap = args.value("--bootstrap")?;
    let (only, check) = (args.value("--only")?, args.value("--check")?);
    let word = args.word();
    let Some(protocol) = word.as_deref().and_then(Protocol::named) else {
        bail!("conformance with what? kafka, amqp or sqs, not {word:?}");
    };
    args.finish()?;
    let compares = protocol == Protocol::Amqp && against == "original" && bootstrap.is_none();
    let only_compares = compares && only.as_deref() == Some(differential::NAME);
    let clients = if only_compares { Vec::new() } else { clients::chosen(protocol, only.as_deref())? };
    let peer = match against.as_str() {
        "original" => Peer::Original,
        "millstream" => Peer::Millstream,
        other => bail!("--against original or millstream, not {other:?}"),
    };
    let mut summary = Summary::default();
    let mut go = |address: &str, amqp_admin: Option<&str>| {
        let run = Run { address, amqp_admin, peer, check: check.as_deref(), require_all: false };
        all(root, &clients, &run, &mut summary);
    };
    let place = Scratch::new(tools::made(root).join("conformance"))?;
    match (bootstrap, peer) {
        (Some(address), _) => go(&address, None),
        (None, Peer::Original) if protocol == Protocol::Amqp => {
            let broker = RabbitMq::start(place.path())?;
            go(&broker.address, Some(&broker.admin));
            if only.is_none() || only_compares {
                differential::run(root, place.path(), &broker.address, &mut summary);
            }
            broker.stop()?;
        }
        (None, Peer::Original) if protocol == Protocol::Sqs => {
            let broker = ElasticMq::start(&tools::elasticmq_jars(root)?, place.path())?;
            go(&broker.address, None);
            broker.stop()?;
        }
        (None, Peer::Original) => {
            let broker = Original::start(&tools::kafka_jars(root)?, place.path(), Setting::Brisk)?;
            go(&broker.bootstrap, None);
            broker.stop()?;
        }
        (None, Peer::Millstream) => {
            let broker =
                Millstream::start(&millstream::build_tested(root)?, place.path(), millstream::BRISK)?;
            go(broker.address(protocol), Some(&broker.admin));
            let stopping = Moment::now();
            let stopped = broker.stop();
            summary.check("clean stop", stopping.elapsed(), stopped);
        }
    }
    Ok(summary.close())
}

/// Sets client programs up and runs them, one after another.
fn all(root: &Path, clients: &[&Client], run: &Run<'_>, summary: &mut Summary) {
    for client in clients {
        client.run(root, client.prepare(root), run, summary);
    }
}
