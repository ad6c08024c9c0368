//! What can be chosen on the command line.

const USAGE: &str = "usage: cargo xtask bench log [-- OPTIONS]
  --quick            a few megabytes, one round: does it run?
  --only PART        group, kept (both, if not said) or crowd: reading from files that many logs share
  --rounds N         rounds of everything (3)
  --seconds S        of each round of group commit (2)
  --mib N            appended in each round of kept streams, and at most in one of group commit (2048)
  --in-flight A,B    records in flight (1,100,10000)
  --turn N           records handed over at a time, as an engine would (64)
  --logs A,B         logs written to (1,6,500,10000)
  --sizes A,B        bytes of an append to them (1024,65536)";

pub struct Args {
    pub group: bool,
    pub kept: bool,
    pub crowd: bool,
    pub rounds: usize,
    pub seconds: f64,
    /// Appended in one round at most.
    pub bytes: u64,
    pub in_flight: Vec<usize>,
    pub turn: usize,
    pub logs: Vec<u64>,
    pub sizes: Vec<usize>,
}

impl Args {
    pub fn parse(words: &[String]) -> Result<Self, String> {
        let mut a = Self {
            group: true,
            kept: true,
            crowd: false,
            rounds: 3,
            seconds: 2.0,
            bytes: 2 << 30,
            in_flight: vec![1, 100, 10_000],
            turn: 64,
            logs: vec![1, 6, 500, 10_000],
            sizes: vec![1 << 10, 64 << 10],
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if word == "--quick" {
                (a.rounds, a.seconds, a.bytes) = (1, 0.05, 8 << 20);
                continue;
            }
            let value = words.next().filter(|_| word != "--help").ok_or(USAGE)?;
            match word.as_str() {
                "--only" => {
                    (a.group, a.kept, a.crowd) = (value == "group", value == "kept", value == "crowd");
                }
                "--rounds" => a.rounds = number(value)?,
                "--seconds" => a.seconds = number(value)?,
                "--mib" => a.bytes = number::<u64>(value)? << 20,
                "--in-flight" => a.in_flight = list(value)?,
                "--turn" => a.turn = number(value)?,
                "--logs" => a.logs = list(value)?,
                "--sizes" => a.sizes = list(value)?,
                _ => return Err(USAGE.to_owned()),
            }
        }
        if (a.group || a.kept || a.crowd) && a.rounds > 0 { Ok(a) } else { Err(USAGE.to_owned()) }
    }
}

fn number<T: std::str::FromStr>(word: &str) -> Result<T, String> {
    word.parse().map_err(|_| format!("{word} is no number\n{USAGE}"))
}

fn list<T: std::str::FromStr>(words: &str) -> Result<Vec<T>, String> {
    words.split(',').map(number).collect()
}
