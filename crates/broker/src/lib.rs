//! The broker: names, topics and their settings, sessions, streams, retention. **The one API** that protocols, the command line
//! and an embedding program see. It parses no wire bytes.
//!
//! Start at [`Broker::open`], then [`Broker::session`] for what changes something and [`Broker::streams`] for reading.
//! `examples/embedded.rs` runs the whole of it in a program with no network.
#![forbid(unsafe_code)]

mod admin;
mod asked;
mod auth;
pub mod batch;
mod bodies;
pub mod bridge;
mod broker;
mod config;
mod consume;
mod deaths;
mod envelope;
mod error;
mod exchanges;
mod key_from;
mod mailbox;
mod mover;
mod owners;
mod partitioner;
mod policy;
mod publish;
mod queue_settings;
mod queues;
mod redrive;
mod redrive_tasks;
mod retention;
mod routing;
mod secret;
mod send;
mod session;
pub mod shown;
mod streams;
mod subscription;
mod tasks;
mod time;
mod transaction;
mod transient;
mod tray;
mod turn;
mod users;
mod windows;

pub use admin::{NewTopic, TopicAlter};
pub use asked::Asked;
pub use auth::{Action, AllowAll, Authorizer, Decision, Principal, Resource};
pub use bodies::{BodyError, QueueMessage};
pub use broker::Broker;
pub use config::BrokerConfig;
pub use consume::{Receiving, Settled, settle_item};
pub use deaths::{DEATHS_MAX, Death, DeathReason};
pub use envelope::{EnvelopeError, Header, HeaderValue, Message, property};
pub use error::{AdminError, CallError, ConsumeError, PublishError, QueueCallError, Refused};
pub use exchanges::{Binding, BindingList, ExchangeError, NewExchange, arguments_of};
pub use key_from::KeyFrom;
pub use mailbox::Pending;
pub use mover::DeadLetterCounts;
pub use owners::Owner;
pub use partitioner::partition_for_key;
pub use policy::{CleanupPolicy, SettingError, SettingInfo, SettingSource, SettingType, TopicPolicy};
pub use publish::{NewMessage, PublishOutcome, PublishOutcomes, PublishRefusal, Publishing, RefusedBatch};
pub use queue_settings::{DeadLetter, QueueSettings};
pub use queues::{Declared, NewQueue};
pub use redrive::{Redrive, Redriven, Redriving};
pub use redrive_tasks::{
    REDRIVES_OF_QUEUE_MAX, REDRIVES_RUNNING_MAX, RedriveError, RedriveFailure, RedriveState, RedriveTask,
};
pub use routing::{
    Names, ROUTE_EXCHANGES_MAX, ROUTE_KEYS_MAX, ROUTE_TARGETS_MAX, RouteError, RouteRequest, RouteScratch,
    RouteTarget, Routes,
};
pub use send::{SendError, Sent};
pub use session::{Session, SessionOptions};
pub use streams::{Content, StreamBatch, StreamEntry, StreamRead, Streams};
pub use subscription::{Begin, BeginError, Subscription, SubscriptionError};
pub use tasks::{NewTask, TaskAlter, TaskCallError, TaskQuery};
pub use transaction::{NotPublished, Transaction, TransactionError, TransactionOutcome};
pub use users::{
    PASSWORD_BYTES_MAX, PATTERN_BYTES_MAX, Permissions, USER_NAME_BYTES_MAX, USERS_MAX, UserError, UserInfo,
    Users,
};

pub use millstream_engine::catalogue::{
    CatalogueError, Change, PARTITIONS_MAX, PARTITIONS_TOTAL_MAX, Snapshot, Topic, TopicDef,
};
pub use millstream_engine::exchange::{
    ARGUMENTS_BYTES_MAX, BINDINGS_MAX, BindingsFrom, BindingsOf, ExchangeDef, ExchangeType,
    ROUTING_KEY_BYTES_MAX, RoutingError, Target, TargetKind, predeclared,
};
pub use millstream_engine::group;
pub use millstream_engine::op::{
    AppendError, AppendItem, AppendKind, Appended, BatchMeta, Op, ProducerInfo, Reply, TRANSACT_BYTES_MAX,
    TRANSACT_OPS_MAX, Ticket, Tolerance, Transact, TransactError, Transacted,
};
pub use millstream_engine::partition::PartitionView;
pub use millstream_engine::queue;
pub use millstream_engine::task;
pub use millstream_log::{Class, LogStats, Marks, OpenError, OpenReport, Permit, ReadError, Room};
