//! Bindings that look at a message's headers: all of some pairs, or any of them.
//!
//! Start at [`HeaderTable::find`]. A binding of `all` lies under the one of its pairs that the fewest others lie under, one of `any`
//! under each of its pairs; a message looks up the pairs it has and compares only what it finds there.

use std::hash::BuildHasher;
use std::sync::Arc;

use millstream_engine::exchange::BindingDef;

use super::list::List;
use super::pmap::PMap;
use crate::envelope::{Header, HeaderValue};
use crate::exchanges::arguments_of;

/// The argument that says how the others are to be matched.
pub(crate) const MATCH_ARGUMENT: &str = "x-match";

const MS_PER_SECOND: i64 = 1_000;
/// Floats below this may be compared with whole numbers.
const WHOLE_FLOAT_MAX: f64 = 1e30;

/// How a binding's arguments are matched. Arguments that begin with `x-` count only with the two that say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MatchKind {
    All,
    Any,
    AllWithX,
    AnyWithX,
}

impl MatchKind {
    /// What the arguments ask for; `None` if that is no kind. Without the argument it is `all`.
    pub(crate) fn of(arguments: &[Header]) -> Option<Self> {
        match arguments.iter().find(|h| h.name == MATCH_ARGUMENT).map(|h| &h.value) {
            None => Some(Self::All),
            Some(HeaderValue::Str(s)) => match s.as_str() {
                "all" => Some(Self::All),
                "any" => Some(Self::Any),
                "all-with-x" => Some(Self::AllWithX),
                "any-with-x" => Some(Self::AnyWithX),
                _ => None,
            },
            Some(_) => None,
        }
    }

    fn counts(self, name: &str) -> bool {
        name != MATCH_ARGUMENT && (matches!(self, Self::AllWithX | Self::AnyWithX) || !name.starts_with("x-"))
    }
}

/// A binding.
#[derive(Debug)]
pub(crate) struct Rule {
    target: u32,
    any: bool,
    pairs: Vec<Header>,
    /// The probes of the pairs under which it lies.
    under: Vec<u64>,
}

/// The bindings of one exchange.
#[derive(Clone, Debug, Default)]
pub(crate) struct HeaderTable {
    rules: PMap<u64, Arc<Rule>>,
    numbers: PMap<Arc<BindingDef>, u64>,
    /// By hash of a pair: numbers of rules.
    pairs: PMap<u64, List<u64>>,
    /// `all` of nothing: every message.
    always: List<u32>,
    next: u64,
}

/// A hash of what [`same_value`] compares.
fn pair_hash(hasher: &impl BuildHasher, name: &str, value: &HeaderValue) -> u64 {
    match value {
        HeaderValue::Null => hasher.hash_one((name, 0u8)),
        HeaderValue::Bool(v) => hasher.hash_one((name, 1u8, v)),
        HeaderValue::Decimal(scale, v) => hasher.hash_one((name, 3u8, scale, v)),
        HeaderValue::Str(v) => hasher.hash_one((name, 5u8, v.as_bytes())),
        HeaderValue::Bytes(v) => hasher.hash_one((name, 5u8, &**v)),
        HeaderValue::Array(_) => hasher.hash_one((name, 6u8)),
        HeaderValue::Table(_) => hasher.hash_one((name, 7u8)),
        _ => hasher.hash_one((name, 8u8, number(value))),
    }
}

/// A number as it is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Number {
    Whole(i128),
    /// Its bits.
    Fraction(u64),
    /// A time that is no whole second, milliseconds.
    Time(i64),
}

/// A message's pair, and its name alone: a binding without a value wants the header to be there.
pub(crate) fn hashes_of(hasher: &impl BuildHasher, header: &Header) -> (u64, u64) {
    (pair_hash(hasher, &header.name, &header.value), pair_hash(hasher, &header.name, &HeaderValue::Null))
}

/// 5, 5.0 and the time 5 s are one number, as in `RabbitMQ`.
fn number(value: &HeaderValue) -> Option<Number> {
    Some(Number::Whole(match value {
        HeaderValue::F32(v) => return Some(float(f64::from(*v))),
        HeaderValue::F64(v) => return Some(float(*v)),
        HeaderValue::Timestamp(ms) if ms % MS_PER_SECOND != 0 => return Some(Number::Time(*ms)),
        HeaderValue::Timestamp(ms) => i128::from(ms / MS_PER_SECOND),
        HeaderValue::I8(v) => i128::from(*v),
        HeaderValue::I16(v) => i128::from(*v),
        HeaderValue::I32(v) => i128::from(*v),
        HeaderValue::I64(v) => i128::from(*v),
        HeaderValue::U8(v) => i128::from(*v),
        HeaderValue::U16(v) => i128::from(*v),
        HeaderValue::U32(v) => i128::from(*v),
        HeaderValue::U64(v) => i128::from(*v),
        _ => return None,
    }))
}

fn float(v: f64) -> Number {
    if v.fract() == 0.0 && v.abs() < WHOLE_FLOAT_MAX {
        #[expect(clippy::cast_possible_truncation, reason = "it is whole, and not too large")]
        return Number::Whole(v as i128);
    }
    Number::Fraction(v.to_bits())
}

/// Whether a message's value is the one asked for: text and bytes by their bytes, numbers whatever their type.
pub(crate) fn same_value(asked: &HeaderValue, value: &HeaderValue) -> bool {
    use HeaderValue::{Bytes, Str};
    match (asked, value) {
        (Str(a), Bytes(b)) | (Bytes(b), Str(a)) => a.as_bytes() == &**b,
        _ => match (number(asked), number(value)) {
            (Some(a), Some(b)) => a == b,
            _ => asked == value,
        },
    }
}

/// Whether one header of the message is what is asked for.
fn has(headers: &[Header], asked: &Header) -> bool {
    let fits = |h: &Header| asked.value == HeaderValue::Null || same_value(&asked.value, &h.value);
    headers.iter().any(|h| h.name == asked.name && fits(h))
}

impl Rule {
    fn of(def: &BindingDef, target: u32) -> Self {
        // What was stored was checked; what cannot be read matches as nothing would.
        let arguments = arguments_of(&def.arguments).unwrap_or_default();
        let kind = MatchKind::of(&arguments).unwrap_or(MatchKind::All);
        let pairs = arguments.into_iter().filter(|h| kind.counts(&h.name)).collect();
        let any = matches!(kind, MatchKind::Any | MatchKind::AnyWithX);
        Self { target, any, pairs, under: Vec::new() }
    }

    fn matches(&self, headers: &[Header]) -> bool {
        if self.any {
            self.pairs.iter().any(|p| has(headers, p))
        } else {
            self.pairs.iter().all(|p| has(headers, p))
        }
    }

    /// Always matches: it lies under no pair.
    fn is_open(&self) -> bool {
        !self.any && self.pairs.is_empty()
    }
}

impl HeaderTable {
    pub(crate) fn bind(&mut self, hasher: &impl BuildHasher, def: &Arc<BindingDef>, target: u32) {
        let mut rule = Rule::of(def, target);
        if rule.is_open() {
            self.always.add(target);
        }
        let probes = rule.pairs.iter().map(|p| pair_hash(hasher, &p.name, &p.value));
        let crowd = |hash: &u64| self.pairs.get(*hash, |h| h == hash).map_or(0, List::len);
        rule.under = if rule.any { probes.collect() } else { probes.min_by_key(crowd).into_iter().collect() };
        let number = self.next;
        self.next += 1;
        for hash in &rule.under {
            self.pairs.get_or_insert(*hash, |h| h == hash, || (*hash, List::default())).add(number);
        }
        let hash = hasher.hash_one(number);
        self.rules.get_or_insert(hash, |n| *n == number, || (number, Arc::new(rule)));
        let hash = def_hash(hasher, def);
        *self.numbers.get_or_insert(hash, |d| **d == **def, || (Arc::clone(def), 0)) = number;
    }

    pub(crate) fn unbind(&mut self, hasher: &impl BuildHasher, def: &BindingDef) {
        let Some(number) = self.numbers.remove(def_hash(hasher, def), |d| **d == *def) else { return };
        let Some(rule) = self.rules.remove(hasher.hash_one(number), |n| *n == number) else { return };
        if rule.is_open() {
            self.always.take(rule.target);
        }
        for hash in &rule.under {
            if let Some(list) = self.pairs.get_mut(*hash, |h| h == hash) {
                list.take(number);
                if list.is_empty() {
                    self.pairs.remove(*hash, |h| h == hash);
                }
            }
        }
    }

    /// Shows the targets of every binding that the headers match; one may be shown more than once. `probes` are those of the headers.
    pub(crate) fn find(
        &self,
        hasher: &impl BuildHasher,
        headers: &[Header],
        probes: &[u64],
        found: &mut impl FnMut(u32),
    ) {
        self.always.iter().for_each(&mut *found);
        for hash in probes {
            for number in self.pairs.get(*hash, |h| h == hash).into_iter().flat_map(List::iter) {
                if let Some(rule) = self.rules.get(hasher.hash_one(number), |n| *n == number)
                    && rule.matches(headers)
                {
                    found(rule.target);
                }
            }
        }
    }
}

fn def_hash(hasher: &impl BuildHasher, def: &BindingDef) -> u64 {
    hasher.hash_one((&def.target, &def.key, &def.arguments))
}
