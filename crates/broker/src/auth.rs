//! Who may do what. Asked on the session's side, before room is taken.

use std::fmt;

use millstream_types::Namespace;

/// Somebody who is connected.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Principal {
    /// Name, as authentication established it.
    pub name: String,
    /// Whether the name is a user's; else nobody asked who it is, or it is the broker itself.
    pub is_user: bool,
}

impl Principal {
    /// Nobody in particular: no authentication took place.
    #[must_use]
    pub fn anonymous() -> Self {
        Self::inner("anonymous")
    }
    /// A user that was authenticated.
    #[must_use]
    pub fn user(name: impl Into<String>) -> Self {
        Self { name: name.into(), is_user: true }
    }
    /// A part of the broker.
    pub(crate) fn inner(name: &str) -> Self {
        Self { name: name.to_owned(), is_user: false }
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Read messages, commit offsets, join groups.
    Read,
    /// Publish.
    Write,
    /// Create, delete, alter.
    Configure,
    /// See that it exists and how it is set.
    Describe,
}

/// To what.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Resource {
    /// A topic.
    Topic(Namespace, String),
    /// A queue.
    Queue(Namespace, String),
    /// An exchange.
    Exchange(Namespace, String),
    /// A consumer group.
    Group(Namespace, String),
    /// The broker itself.
    Broker,
}

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// May.
    Allow,
    /// May not.
    Deny,
}

/// Decides. Must be fast: it is asked on hot paths.
pub trait Authorizer: Send + Sync {
    /// Whether `who` may do `action` to `what`.
    fn check(&self, who: &Principal, action: Action, what: &Resource) -> Decision;
}

/// Everybody may everything; for listeners on loopback.
#[derive(Clone, Copy, Debug, Default)]
pub struct AllowAll;

impl Authorizer for AllowAll {
    fn check(&self, _: &Principal, _: Action, _: &Resource) -> Decision {
        Decision::Allow
    }
}
