//! [`Count`]: what a listener counts.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that goes up, or up and down.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Now.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
    /// So many more.
    pub fn add(&self, n: usize) {
        self.0.fetch_add(n as u64, Ordering::Relaxed);
    }
    /// So many less.
    pub fn sub(&self, n: usize) {
        self.0.fetch_sub(n as u64, Ordering::Relaxed);
    }
    /// One more, until what is given goes, however that ends.
    #[must_use]
    pub fn during(&self) -> During<'_> {
        self.add(1);
        During(self)
    }
}

/// Something that goes on.
#[derive(Debug)]
pub struct During<'a>(&'a Count);

impl Drop for During<'_> {
    fn drop(&mut self) {
        self.0.sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_on_is_counted_until_it_ends() {
        let n = Count::default();
        let one = n.during();
        let _two = n.during();
        drop(one);
        assert_eq!(n.get(), 1);
    }
}
