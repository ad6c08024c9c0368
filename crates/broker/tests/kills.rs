//! Ends in the wrong moment: kills while a broker opens, after which what it told of itself must stay true, and a panic of its thread.
#![allow(clippy::pedantic, clippy::unwrap_used, clippy::indexing_slicing)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use millstream_broker::{
    AdminError, Broker, BrokerConfig, CallError, NewTopic, OpenError, Principal, SessionOptions,
};
use millstream_log::mem::Commit;
use millstream_log::{DiskLog, LogConfig, LogStore, Op, Opened, Permit, Replay, Sequence};
use millstream_testkit::under::{LogUnderTest, Mem, OnSim};
use millstream_types::{ConnId, Lsn, Namespace};

fn open(machine: &OnSim) -> Result<Broker, OpenError> {
    let cfg = BrokerConfig { log: machine.config(), ..BrokerConfig::default() };
    Broker::open(cfg, machine.env(), &*machine.store())
}

#[tokio::test]
async fn the_public_id_stays_the_same_after_a_kill_at_any_call_and_a_power_cut() {
    for calls in 0..60 {
        let machine = OnSim::new(calls, |env| Box::new(DiskLog::new(env)));
        machine.cut_after(calls);
        if let Ok(broker) = open(&machine) {
            broker.close();
        }
        machine.kill();
        let broker = open(&machine).unwrap();
        let told = broker.cluster_id().to_owned();
        machine.crash();
        broker.close();
        let broker = open(&machine).unwrap();
        assert_eq!(broker.cluster_id(), told, "killed after {calls} calls");
        broker.close();
    }
}

/// A log whose next record after `armed` is a panic.
struct Panics {
    of: Box<dyn LogStore>,
    armed: Arc<AtomicBool>,
}

struct PanicsOnce(Box<dyn Sequence>, Arc<AtomicBool>);

impl LogStore for Panics {
    fn open(&self, cfg: &LogConfig, replay: &mut dyn Replay) -> Result<Opened, OpenError> {
        let mut opened = self.of.open(cfg, replay)?;
        opened.sequencer = Box::new(PanicsOnce(opened.sequencer, Arc::clone(&self.armed)));
        Ok(opened)
    }
}

impl Sequence for PanicsOnce {
    fn sequence(&mut self, permit: Permit, record: &[Op<'_>], waiter: Option<ConnId>) -> Lsn {
        assert!(!self.1.load(Ordering::SeqCst), "on purpose");
        self.0.sequence(permit, record, waiter)
    }
    fn end_turn(&mut self) {
        self.0.end_turn();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_sequencer_ends_by_a_panic_nobody_waits_and_the_broker_is_lost() {
    let machines: [Box<dyn LogUnderTest>; 2] =
        [Box::new(Mem::new(Commit::AtOnce)), Box::new(OnSim::new(1, |env| Box::new(DiskLog::new(env))))];
    for machine in machines {
        let armed = Arc::new(AtomicBool::new(false));
        let log = Panics { of: machine.store(), armed: Arc::clone(&armed) };
        let cfg = BrokerConfig { log: machine.config(), ..BrokerConfig::default() };
        let broker = Broker::open(cfg.clone(), machine.env(), &log).unwrap();
        let new = || broker.session(Principal::anonymous(), Namespace::DEFAULT, SessionOptions::default());
        let topic = |name: &str| NewTopic { name: name.to_owned(), ..NewTopic::default() };
        let session = new();
        session.create_topic(topic("acknowledged")).await.unwrap();
        armed.store(true, Ordering::SeqCst);
        let answer = session.create_topic(topic("half-done")).await;
        assert!(matches!(answer, Err(AdminError::Call(CallError::FateUnknown))), "{answer:?}");
        assert!(broker.lost().is_some());
        for later in [session, new()] {
            let answer = later.create_topic(topic("later")).await;
            assert!(matches!(answer, Err(AdminError::Call(_))), "{answer:?}");
        }
        broker.close();
        let again = Broker::open(cfg, machine.env(), &*machine.store()).unwrap();
        let names: Vec<_> = again.catalogue().by_name.keys().map(|(_, name)| name.clone()).collect();
        assert_eq!(names, ["acknowledged"]);
        again.close();
    }
}
