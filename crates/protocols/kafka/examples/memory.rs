//! A Kafka listener over a log in memory: `cargo run -p millstream-kafka --example memory -- 127.0.0.1:9092 DIRECTORY`. For trying
//! clients; what they write is gone when it ends.

use millstream_broker::{Broker, BrokerConfig};
use millstream_kafka::KafkaConfig;
use millstream_testkit::env::Env;
use millstream_testkit::log::mem::{Commit, MemLog};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).init();
    let mut args = std::env::args().skip(1);
    let address = args.next().unwrap_or_else(|| "127.0.0.1:9092".to_owned());
    let directory = args.next().ok_or("which directory may it keep its id in?")?;
    let env = Env::os(directory);
    env.disk.create_dir_all("")?;
    let broker = Broker::open(
        BrokerConfig { retention_check_ms: 500, ..BrokerConfig::default() },
        env,
        &MemLog::new(Commit::AtOnce),
    )?;
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("kafka  {}", listener.local_addr()?);
    let stop = async { drop(tokio::signal::ctrl_c().await) };
    millstream_kafka::serve(listener, broker.clone(), KafkaConfig::default(), stop).await;
    tokio::task::spawn_blocking(move || broker.close()).await?;
    Ok(())
}
