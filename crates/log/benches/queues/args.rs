//! What can be chosen on the command line.

use millstream_log::LogConfig;

const USAGE: &str = "usage: cargo xtask bench log --queues [-- OPTIONS]
  --quick          small sizes: does it run?
  --only CASES     of idle,drained,kept,half,fanout,backlog,steady,full (all), with commas between
  --rounds N       rounds of everything (1)
  --mib N          published in each flow (4096)
  --idle N         logs of the idle case (1000000)
  --backlog N      messages of the backlog (10000000)
  --orders A,B     in which the backlog is settled, of in-order,third,random (all)
  --sizes A,B      bytes of a message in the backlog (1024,100)
  --seconds N      the steady case runs so long (150), of which the last third is measured
  --live N         MiB that live in the steady case (1024)
  --pace N         MiB published a second in the steady case (50)
  --spare N        seconds for which it spares files that die by themselves (5)
  --budget N       percent of what is published that merges may write in the steady case (as the default)";

/// The cases in the order in which they run.
pub const CASES: [&str; 8] = ["idle", "drained", "kept", "half", "fanout", "backlog", "steady", "full"];

/// Orders of settling, as they run.
pub const ORDERS: [&str; 3] = ["in-order", "third", "random"];

pub struct Args {
    pub orders: Vec<String>,
    pub only: Vec<String>,
    pub rounds: usize,
    pub mib: u64,
    pub idle: u64,
    pub backlog: u64,
    pub sizes: Vec<u64>,
    pub seconds: u64,
    pub live: u64,
    pub pace: u64,
    pub spare: u64,
    pub budget: u64,
}

impl Args {
    pub fn parse(words: &[String]) -> Result<Self, String> {
        let mut a = Self {
            orders: ORDERS.map(str::to_owned).to_vec(),
            only: CASES.map(str::to_owned).to_vec(),
            rounds: 1,
            mib: 4096,
            idle: 1_000_000,
            backlog: 10_000_000,
            sizes: vec![1024, 100],
            seconds: 150,
            live: 1024,
            pace: 50,
            spare: 5,
            budget: u64::from(LogConfig::default().merge_budget_percent),
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if word == "--quick" {
                (a.mib, a.idle, a.backlog) = (256, 20_000, 300_000);
                (a.seconds, a.live, a.pace) = (6, 64, 30);
                continue;
            }
            let value = words.next().filter(|_| word != "--help").ok_or(USAGE)?;
            match word.as_str() {
                "--orders" => a.orders = value.split(',').map(str::to_owned).collect(),
                "--only" => a.only = value.split(',').map(str::to_owned).collect(),
                "--rounds" => a.rounds = number(value)?,
                "--mib" => a.mib = number(value)?,
                "--idle" => a.idle = number(value)?,
                "--backlog" => a.backlog = number(value)?,
                "--seconds" => a.seconds = number::<u64>(value)?.max(6),
                "--live" => a.live = number(value)?,
                "--pace" => a.pace = number(value)?,
                "--spare" => a.spare = number(value)?,
                "--budget" => a.budget = number(value)?,
                "--sizes" => a.sizes = value.split(',').map(number).collect::<Result<_, _>>()?,
                _ => return Err(USAGE.to_owned()),
            }
        }
        let known = a.only.iter().all(|case| CASES.contains(&case.as_str()))
            && a.orders.iter().all(|order| ORDERS.contains(&order.as_str()));
        if known && a.rounds > 0 && a.idle > 0 && a.backlog > 0 { Ok(a) } else { Err(USAGE.to_owned()) }
    }

    /// More than any case holds at a time.
    pub fn disk_bytes(&self) -> u64 {
        let backlog = self.sizes.iter().max().copied().unwrap_or(0) + 100;
        (self.backlog * backlog).max(self.mib << 21).max((self.seconds * self.pace) << 20) + (2 << 30)
    }
}

fn number<T: std::str::FromStr>(word: &str) -> Result<T, String> {
    word.parse().map_err(|_| format!("{word} is no number\n{USAGE}"))
}
