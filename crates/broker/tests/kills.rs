//! Kills while a broker opens: what it told of itself must stay true when the power goes later.
#![allow(clippy::pedantic, clippy::unwrap_used, clippy::indexing_slicing)]

use millstream_broker::{Broker, BrokerConfig, OpenError};
use millstream_log::DiskLog;
use millstream_testkit::under::{LogUnderTest, OnSim};

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
