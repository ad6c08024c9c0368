//! One entry of a pattern's leaf, and whether a value is what it says.

use std::net::IpAddr;

use serde_json::{Number, Value};

/// What a value may be.
#[derive(Clone, Debug)]
pub(crate) enum Test {
    Equals(Value),
    Text(TextTest),
    /// None of these.
    AnythingBut(Vec<Test>),
    Numeric(Vec<(Comparison, f64)>),
    Exists(bool),
    Cidr {
        net: IpAddr,
        bits: u8,
    },
}

/// A test of text.
#[derive(Clone, Debug)]
pub(crate) enum TextTest {
    Prefix(String),
    PrefixFolded(String),
    Suffix(String),
    SuffixFolded(String),
    EqualsFolded(String),
    /// What stands between the stars.
    Wildcard(Vec<String>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal,
    Less,
    LessOrEqual,
    More,
    MoreOrEqual,
}

impl Test {
    /// Whether a field that is not there is what it says.
    pub(crate) fn matches_nothing(&self) -> bool {
        matches!(self, Self::Exists(false))
    }

    /// Whether a value, or one of its elements, is what it says.
    pub(crate) fn matches(&self, value: &Value) -> bool {
        match (self, value) {
            (Self::Exists(there), _) => *there,
            (_, Value::Array(all)) => all.iter().any(|v| self.matches(v)),
            // What an object is, only its fields say.
            (_, Value::Object(_)) => false,
            (Self::Equals(want), _) => equal(want, value),
            (Self::Text(wanted), Value::String(text)) => wanted.matches(text),
            (Self::AnythingBut(tests), _) => !tests.iter().any(|t| t.matches(value)),
            (Self::Numeric(all), Value::Number(n)) => {
                n.as_f64().is_some_and(|n| all.iter().all(|(how, bound)| how.holds(n, *bound)))
            }
            (Self::Cidr { net, bits }, Value::String(text)) => {
                text.parse().is_ok_and(|address| within(address, *net, *bits))
            }
            (Self::Text(_) | Self::Numeric(_) | Self::Cidr { .. }, _) => false,
        }
    }
}

fn equal(want: &Value, value: &Value) -> bool {
    match (want, value) {
        (Value::Number(a), Value::Number(b)) => same_number(a, b),
        _ => want == value,
    }
}

/// By value: 300, 300.0 and 3e2 are the same.
fn same_number(a: &Number, b: &Number) -> bool {
    match (a.as_i128(), b.as_i128()) {
        (Some(a), Some(b)) => a == b,
        _ => a.as_f64() == b.as_f64(),
    }
}

fn within(address: IpAddr, net: IpAddr, bits: u8) -> bool {
    let (address, net, all) = match (address, net) {
        (IpAddr::V4(a), IpAddr::V4(n)) => (u128::from(u32::from(a)), u128::from(u32::from(n)), 32),
        (IpAddr::V6(a), IpAddr::V6(n)) => (u128::from(a), u128::from(n), 128),
        _ => return false,
    };
    let shift = all - u32::from(bits);
    address.checked_shr(shift).unwrap_or(0) == net.checked_shr(shift).unwrap_or(0)
}

impl Comparison {
    #[expect(clippy::float_cmp, reason = "equal is meant")]
    fn holds(self, n: f64, bound: f64) -> bool {
        match self {
            Self::Equal => n == bound,
            Self::Less => n < bound,
            Self::LessOrEqual => n <= bound,
            Self::More => n > bound,
            Self::MoreOrEqual => n >= bound,
        }
    }
}

impl TextTest {
    fn matches(&self, text: &str) -> bool {
        match self {
            Self::Prefix(p) => text.starts_with(p.as_str()),
            Self::Suffix(s) => text.ends_with(s.as_str()),
            Self::PrefixFolded(p) => {
                let mut chars = folded(text);
                folded(p).all(|c| chars.next() == Some(c))
            }
            Self::SuffixFolded(s) => {
                let mut chars = folded(text).rev();
                folded(s).rev().all(|c| chars.next() == Some(c))
            }
            Self::EqualsFolded(want) => folded(want).eq(folded(text)),
            Self::Wildcard(parts) => wildcard(parts, text),
        }
    }
}

/// Letters as small ones, one for one: what has no small letter of one character stays as it is.
fn folded(text: &str) -> impl DoubleEndedIterator<Item = char> {
    text.chars().map(|c| {
        let mut small = c.to_lowercase();
        match (small.next(), small.next()) {
            (Some(one), None) => one,
            _ => c,
        }
    })
}

/// The first part stands at the front, the last at the end, the others in between and in order. Each as early as it can.
fn wildcard(parts: &[String], text: &str) -> bool {
    let [first, rest @ ..] = parts else { return text.is_empty() };
    let [middle @ .., last] = rest else { return text == first };
    let Some(mut left) = text.strip_prefix(first.as_str()) else { return false };
    for part in middle {
        let Some((_, behind)) = left.split_once(part.as_str()) else { return false };
        left = behind;
    }
    left.ends_with(last.as_str())
}
