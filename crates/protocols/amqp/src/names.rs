//! Names that the server makes up: `amq.gen-...` for queues, `amq.ctag-...` for consumers.

use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// A name that was never given before and cannot be guessed: the prefix and 22 characters.
pub(crate) fn server_named(prefix: &str) -> String {
    static KEYS: OnceLock<(RandomState, RandomState)> = OnceLock::new();
    static NEXT: AtomicU64 = AtomicU64::new(0);
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    let (a, b) = KEYS.get_or_init(|| (RandomState::new(), RandomState::new()));
    let mut bits = u128::from(a.hash_one(n)) << 64 | u128::from(b.hash_one(n));
    let mut name = format!("{prefix}-");
    for _ in 0..22 {
        let digit = usize::try_from(bits & 0x3f).ok().and_then(|d| DIGITS.get(d));
        name.push(digit.map_or('A', |d| char::from(*d)));
        bits >>= 6;
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_is_given_twice() {
        let names: std::collections::HashSet<_> = (0..1_000).map(|_| server_named("amq.gen")).collect();
        assert_eq!(names.len(), 1_000);
        assert!(names.iter().all(|n| n.len() == "amq.gen-".len() + 22));
    }
}
