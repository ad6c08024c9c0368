//! What was done to a queue a short while ago, so that it is not done again too soon. Forgotten by a restart.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// Names remembered; beyond, the oldest goes.
const NAMES_MAX: usize = 10_000;

/// Names, and when they were noted.
#[derive(Debug)]
pub(crate) struct Recent {
    span_ms: u64,
    noted: Mutex<VecDeque<(u64, String)>>,
}

impl Recent {
    pub(crate) fn new(span_ms: u64) -> Self {
        Self { span_ms, noted: Mutex::default() }
    }

    /// Whether the name was noted within the span before `now_ms`.
    pub(crate) fn has(&self, name: &str, now_ms: u64) -> bool {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        while noted.pop_front_if(|n| n.0.saturating_add(self.span_ms) <= now_ms).is_some() {}
        noted.iter().any(|n| n.1 == name)
    }

    pub(crate) fn note(&self, name: &str, now_ms: u64) {
        if self.span_ms == 0 {
            return;
        }
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.len() >= NAMES_MAX {
            noted.pop_front();
        }
        noted.push_back((now_ms, name.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_remembered_for_the_span_and_within_the_bound() {
        let r = Recent::new(10);
        r.note("a", 5);
        assert!(r.has("a", 14) && !r.has("b", 14));
        assert!(!r.has("a", 15));
        r.note("first", 20);
        for n in 0..NAMES_MAX {
            r.note(&n.to_string(), 20);
        }
        assert!(!r.has("first", 20) && r.has("9999", 20));
        let none = Recent::new(0);
        none.note("a", 1);
        assert!(!none.has("a", 1));
    }
}
