//! Amazon SQS over the broker's API: one HTTP listener that serves both of its wire forms, JSON 1.0 and Query with XML answers.
//!
//! Start at [`serve()`]. A request is taken apart in [`request`] and [`params`], proved in [`signature`], and answered by one of the
//! actions in [`sqs`], which write into an [`answer::Answer`] that knows the form. What a message looks like in SQS, and what becomes of
//! what SQS says, is in [`sqs::mapping`] alone. What is supported is said in `docs/protocols.md`.
#![forbid(unsafe_code)]

mod answer;
mod config;
mod error;
mod hex;
mod params;
mod query;
mod recent;
mod request;
mod serve;
mod server;
mod signature;
mod sqs;
mod stats;
mod time;

pub use config::{AccessKey, AwsConfig};
pub use serve::serve;
pub use stats::{AwsStats, Count};
