//! Which messages of a channel are confirmed: a broker says it in any order, one at a time or all up to one.

use std::collections::BTreeSet;

/// Numbers are those of delivery tags: the first message is 1.
#[derive(Default)]
pub(super) struct Confirms {
    /// All up to this one are.
    all_to: u64,
    /// And these above it. As many as wait for a confirm, at most.
    above: BTreeSet<u64>,
}

impl Confirms {
    /// An ack came.
    pub(super) fn ack(&mut self, tag: u64, multiple: bool) {
        if multiple {
            self.all_to = self.all_to.max(tag);
            self.above = self.above.split_off(&(self.all_to + 1));
        } else if tag > self.all_to {
            self.above.insert(tag);
        }
        while self.above.remove(&(self.all_to + 1)) {
            self.all_to += 1;
        }
    }

    /// How many are.
    pub(super) fn count(&self) -> u64 {
        self.all_to + self.above.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_message_counts_once_in_whatever_order_it_is_confirmed() {
        let mut confirms = Confirms::default();
        for (tag, multiple, count) in [
            (1, false, 1),
            (4, false, 2),
            (2, true, 3),
            (2, true, 3),
            (3, false, 4),
            (9, false, 5),
            (8, true, 9),
        ] {
            confirms.ack(tag, multiple);
            assert_eq!(confirms.count(), count, "after {tag}");
        }
        assert!(confirms.above.is_empty());
    }
}
