//! Exchanges and bindings as the engine knows them, and the changes that make and remove them.
//!
//! The engine keeps who is bound to what; which message goes where is the broker's to say. Arguments are opaque here: bytes in the
//! one form that the broker gives equal arguments. Start at [`ExchangeChange`].

use std::sync::Arc;

use millstream_types::Namespace;
use millstream_types::limits::NAME_BYTES_MAX;
use thiserror::Error;

/// Most exchanges of a broker, besides those that are always there.
pub const EXCHANGES_MAX: usize = 1_000_000;
/// Most bindings of a broker.
pub const BINDINGS_MAX: usize = 10_000_000;
/// Most bindings that lead to one queue, topic or exchange: removing it removes them in the same record, so they must fit one.
pub const TARGET_BINDINGS_MAX: usize = 65_536;
/// Longest routing key of a binding.
pub const ROUTING_KEY_BYTES_MAX: usize = 255;
/// Largest arguments of a binding or an exchange.
pub const ARGUMENTS_BYTES_MAX: usize = 16 << 10;

/// How an exchange routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ExchangeType {
    /// To the bindings with the message's routing key.
    Direct,
    /// To all bindings.
    Fanout,
    /// To the bindings whose pattern of words matches the routing key.
    Topic,
    /// To the bindings whose arguments match the message's headers.
    Headers,
}

impl ExchangeType {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Fanout => "fanout",
            Self::Topic => "topic",
            Self::Headers => "headers",
        }
    }

    /// By its name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Direct, Self::Fanout, Self::Topic, Self::Headers].into_iter().find(|t| t.name() == name)
    }
}

/// Names that begin so are not for clients to make.
pub const RESERVED_PREFIX: &str = "amq.";

/// The exchanges that every namespace has, the default one (without a name) aside. They are in no row and cannot be removed.
pub const PREDECLARED: [(&str, ExchangeType); 5] = [
    ("amq.direct", ExchangeType::Direct),
    ("amq.fanout", ExchangeType::Fanout),
    ("amq.headers", ExchangeType::Headers),
    ("amq.match", ExchangeType::Headers),
    ("amq.topic", ExchangeType::Topic),
];

/// The type of an exchange that is always there.
#[must_use]
pub fn predeclared(name: &str) -> Option<ExchangeType> {
    PREDECLARED.iter().find(|p| p.0 == name).map(|p| p.1)
}

/// An exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExchangeDef {
    /// Its namespace.
    pub ns: Namespace,
    /// Its name: a name space of its own, apart from topics and queues.
    pub name: String,
    /// How it routes.
    pub kind: ExchangeType,
    /// Whether it was asked to survive a restart. All exchanges do so far.
    pub durable: bool,
    /// Goes when its last binding goes.
    pub auto_delete: bool,
    /// Takes messages from other exchanges only.
    pub internal: bool,
    /// Where messages go that this exchange routes nowhere.
    pub alternate: Option<String>,
    /// Other arguments, as the broker encodes them.
    pub arguments: Vec<u8>,
    /// When it was made, milliseconds since the epoch; 0 = always there.
    pub created_ms: u64,
}

impl ExchangeDef {
    /// The definition of an exchange that is always there.
    #[must_use]
    pub fn predeclared(ns: Namespace, name: &str) -> Option<Self> {
        let kind = predeclared(name)?;
        Some(Self {
            ns,
            name: name.to_owned(),
            kind,
            durable: true,
            auto_delete: false,
            internal: false,
            alternate: None,
            arguments: Vec::new(),
            created_ms: 0,
        })
    }
}

/// What a binding leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TargetKind {
    /// A queue.
    Queue,
    /// Another exchange.
    Exchange,
    /// A topic.
    Topic,
}

/// Where a binding leads, within its namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// What it is.
    pub kind: TargetKind,
    /// Its name.
    pub name: String,
}

/// A binding. Two that are equal are the same one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindingDef {
    /// Its namespace.
    pub ns: Namespace,
    /// The exchange whose messages it takes.
    pub source: String,
    /// Where they go.
    pub target: Target,
    /// Routing key, or pattern.
    pub key: String,
    /// Arguments, as the broker encodes them.
    pub arguments: Vec<u8>,
}

/// A change of exchanges or bindings.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExchangeChange {
    /// Makes an exchange, or finds that it is there already, made alike. `created_ms` is the engine's to say.
    Create(ExchangeDef),
    /// Removes an exchange and all bindings from it and to it.
    Delete {
        /// Namespace.
        ns: Namespace,
        /// Name.
        name: String,
        /// Only if nothing is bound to it.
        if_unused: bool,
    },
    /// Binds, or finds the same binding there.
    Bind(BindingDef),
    /// Removes a binding, or finds it gone.
    Unbind(BindingDef),
}

/// What happened to the routes, in order; whoever routes follows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteEvent {
    /// An exchange was made.
    Made(Arc<ExchangeDef>),
    /// An exchange is gone, and all bindings from it. Bindings to it were removed by events of their own.
    Gone {
        /// Namespace.
        ns: Namespace,
        /// Name.
        name: String,
    },
    /// A binding was made.
    Bound(Arc<BindingDef>),
    /// A binding was removed.
    Unbound(Arc<BindingDef>),
}

/// Which bindings to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BindingsOf {
    /// Those from an exchange.
    Source(String),
    /// Those to something.
    Target(Target),
}

/// Most bindings in one answer to a listing.
pub const BINDINGS_PAGE_MAX: usize = 1_000;

/// A page of bindings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BindingsPage {
    /// The bindings, in an order that stays while they do.
    pub bindings: Vec<BindingDef>,
    /// Where the next page begins; `None`: there are no more.
    pub next: Option<BindingsFrom>,
}

/// A place in a listing of bindings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindingsFrom(pub(crate) crate::rows::bind::BindKey);

/// Why a change of exchanges or bindings was refused; nothing was changed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RoutingError {
    /// There is no such thing.
    #[error("there is no {what} {name:?}")]
    NotFound {
        /// What is missing.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// The queue is subscribed to a topic: nothing is routed to it.
    #[error("queue {name:?} is subscribed to a topic and takes no other messages")]
    Subscription {
        /// The queue.
        name: String,
    },
    /// It exists and is made otherwise.
    #[error("exchange {name:?} exists with {arg} {current:?}, not {asked:?}")]
    Differs {
        /// The exchange.
        name: String,
        /// What differs.
        arg: &'static str,
        /// How it is.
        current: String,
        /// How it was asked for.
        asked: String,
    },
    /// It was to be removed only if unused, and has bindings.
    #[error("exchange {name:?} is in use")]
    InUse {
        /// The exchange.
        name: String,
    },
    /// The name is the broker's own, or the exchange cannot be changed.
    #[error("{name:?} is reserved")]
    Reserved {
        /// The name.
        name: String,
    },
    /// Empty, or longer than `NAME_BYTES_MAX`.
    #[error("a name has 1 to {NAME_BYTES_MAX} bytes")]
    InvalidName,
    /// A part is too large.
    #[error("{what} exceeds {max} bytes")]
    TooLarge {
        /// Which.
        what: &'static str,
        /// The limit.
        max: usize,
    },
    /// A limit was reached.
    #[error("more than {max} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The limit.
        max: usize,
    },
    /// Another binding has the same hash. Not to be met by chance.
    #[error("another binding of {source_name:?} has this one's hash")]
    HashTaken {
        /// The exchange.
        source_name: String,
    },
    /// The record needs more room than was taken for it: take this much and ask again.
    #[error("the change needs {bytes} bytes of room")]
    Room {
        /// How much.
        bytes: usize,
    },
}
