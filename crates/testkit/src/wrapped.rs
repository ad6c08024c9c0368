//! [`Wrapped`]: a log under test whose store is another than its machine's own: a broken one, or one on a broken disk.

use std::any::Any;
use std::time::Duration;

use millstream_env::Env;
use millstream_log::{LogConfig, LogStore};

use crate::model::SpaceHeld;
use crate::under::LogUnderTest;

/// A machine, and how its log is opened.
pub struct Wrapped<U, F>(U, F);

impl<U: LogUnderTest, F: Fn(&U) -> Box<dyn LogStore>> Wrapped<U, F> {
    /// The store is what `open` makes of the machine; all else is the machine's.
    pub fn new(under: U, open: F) -> Self {
        Self(under, open)
    }
}

impl<U: LogUnderTest, F: Fn(&U) -> Box<dyn LogStore>> LogUnderTest for Wrapped<U, F> {
    fn store(&self) -> Box<dyn LogStore> {
        (self.1)(&self.0)
    }
    fn crash(&self) -> bool {
        self.0.crash()
    }
    fn commit(&self) {
        self.0.commit();
    }
    fn hold(&self) -> Option<Box<dyn Any>> {
        self.0.hold()
    }
    fn fail(&self) -> bool {
        self.0.fail()
    }
    fn kill(&self) -> bool {
        self.0.kill()
    }
    fn cut_after(&self, calls: u64) {
        self.0.cut_after(calls);
    }
    fn is_off(&self) -> bool {
        self.0.is_off()
    }
    fn env(&self) -> Env {
        self.0.env()
    }
    fn disturb(&self, random: u64) {
        self.0.disturb(random);
    }
    fn slow_syncs(&self, by: Duration) {
        self.0.slow_syncs(by);
    }
    fn advance(&self, by: Duration) {
        self.0.advance(by);
    }
    fn rot(&self, random: u64) -> Option<Box<dyn FnOnce()>> {
        self.0.rot(random)
    }
    fn space_held(&self) -> Option<SpaceHeld> {
        self.0.space_held()
    }
    fn config(&self) -> LogConfig {
        self.0.config()
    }
}
