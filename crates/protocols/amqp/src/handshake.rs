//! From the greeting to `connection.open-ok` (sections 1.4.2 and 4.2.2).
//!
//! Start at [`shake`]. Whoever does not get through is told only what he may know, and late if he guessed a password.

use std::net::IpAddr;
use std::time::Duration;

use amq_protocol::protocol::{AMQPClass, connection};
use amq_protocol::types::{AMQPValue, FieldTable};
use millstream_broker::{Header, HeaderValue, Principal};
use millstream_types::Namespace;
use thiserror::Error;
use tokio::io::AsyncRead;
use tokio::time::Instant;

use crate::auth::{self, LoginError, MECHANISMS};
use crate::config::AmqpConfig;
use crate::error::ReplyCode;
use crate::exception::Exception;
use crate::frame::{FRAME_BYTES_MIN, FrameKind};
use crate::greeting::{AMQP_0_9_1, Greeting};
use crate::input::{Input, InputError};
use crate::link::Server;
use crate::method::{self, Method};
use crate::outbox::Outbox;

/// Largest frame before one is agreed. A token as a password may need more than the specification's 4096.
pub(crate) const FRAME_BYTES_FIRST: u32 = 8_192;
/// A failed login is answered no sooner.
const REFUSAL_REST: Duration = Duration::from_secs(1);

/// What a server says that it can do.
const CAPABILITIES: [&str; 9] = [
    "publisher_confirms",
    "exchange_exchange_bindings",
    "basic.nack",
    "consumer_cancel_notify",
    "connection.blocked",
    "consumer_priorities",
    "authentication_failure_close",
    "per_consumer_qos",
    "direct_reply_to",
];

/// What a client said of itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Client {
    /// Its user.
    pub(crate) user: String,
    /// Its own name for the connection.
    pub(crate) name: String,
    /// It wants to hear of consumers that the server cancelled.
    pub(crate) cancel_notify: bool,
    /// It wants to hear when it is blocked.
    pub(crate) hears_blocked: bool,
    /// It wants to hear why a login failed.
    pub(crate) hears_refusal: bool,
}

/// What was agreed.
#[derive(Debug)]
pub(crate) struct Agreed {
    pub(crate) client: Client,
    pub(crate) channels_max: u16,
    pub(crate) frame_bytes_max: u32,
    /// `None`: no heartbeats.
    pub(crate) heartbeat: Option<Duration>,
}

/// Why a client did not get through.
#[derive(Debug, Error)]
pub(crate) enum Refusal {
    /// Nothing more can be said to it.
    #[error(transparent)]
    Input(#[from] InputError),
    /// It speaks something else; it was told what we speak.
    #[error("the client speaks something else")]
    Greeting,
    /// It broke the rules before it was known who it is: it is not answered.
    #[error("{0}")]
    Silent(String),
    /// It is told.
    #[error("{}", .0.reply_text())]
    Told(Exception),
}

/// Takes a client through the handshake.
pub(crate) async fn shake<R: AsyncRead + Unpin>(
    input: &mut Input<R>,
    outbox: &Outbox,
    server: &Server,
    from: IpAddr,
) -> Result<Agreed, Refusal> {
    let (cfg, users) = (&server.cfg, server.broker.users());
    if input.greeting().await? != Greeting::Amqp091 {
        outbox.raw(&AMQP_0_9_1);
        return Err(Refusal::Greeting);
    }
    outbox.method(0, &start(server.broker.cluster_id()));
    let said = next(input).await?;
    let AMQPClass::Connection(connection::AMQPMethod::StartOk(ok)) = said.class else {
        return Err(Refusal::Silent("no connection.start-ok".to_owned()));
    };
    let mut client = client(&said.table);
    let (mechanism, response) = (ok.mechanism.as_str(), ok.response.as_bytes());
    let refused_at = Instant::now() + REFUSAL_REST;
    match auth::log_in(users, &cfg.loopback_users, mechanism, response, from).await {
        Ok(user) => client.user = user,
        Err(LoginError::Mechanism) => {
            return Err(Refusal::Silent(format!("unknown authentication mechanism {mechanism:?}")));
        }
        Err(LoginError::Syntax(e)) => return Err(Refusal::Silent(e.to_string())),
        Err(LoginError::Refused { user, far }) => {
            let why = if far {
                "it may log in from this machine only"
            } else {
                "no such user, or another password"
            };
            tracing::warn!(%user, %from, why, "an AMQP login was refused");
            cfg.stats.logins_refused.add(1);
            // However long it took to tell: that says nothing of which users there are.
            tokio::time::sleep_until(refused_at).await;
            let text = format!(
                "Login was refused using authentication mechanism {mechanism}. For details see the broker logfile."
            );
            return Err(if client.hears_refusal {
                Refusal::Told(Exception::new(ReplyCode::AccessRefused, text))
            } else {
                Refusal::Silent(text)
            });
        }
    }
    let tune = connection::Tune {
        channel_max: cfg.channels_max,
        frame_max: cfg.frame_bytes_max,
        heartbeat: cfg.heartbeat_s,
    };
    outbox.method(0, &AMQPClass::Connection(connection::AMQPMethod::Tune(tune)));
    let said = next(input).await?;
    let AMQPClass::Connection(connection::AMQPMethod::TuneOk(ok)) = said.class else {
        return Err(Refusal::Silent("no connection.tune-ok".to_owned()));
    };
    let agreed = tuned(client, &ok, cfg).map_err(Refusal::Told)?;
    input.frame_bytes_max = agreed.frame_bytes_max;
    outbox.set_frame_bytes_max(agreed.frame_bytes_max);
    let said = next(input).await?;
    let AMQPClass::Connection(connection::AMQPMethod::Open(open)) = said.class else {
        return Err(Refusal::Silent("no connection.open".to_owned()));
    };
    if open.virtual_host.as_str() != "/" {
        let text = format!("vhost {} not found", open.virtual_host.as_str());
        return Err(Refusal::Told(Exception::new(ReplyCode::NotAllowed, text).on((10, 40))));
    }
    if !users.may_enter(&Principal::user(agreed.client.user.clone()), Namespace::DEFAULT) {
        let text = format!("access to vhost '/' refused for user '{}'", agreed.client.user);
        return Err(Refusal::Told(Exception::new(ReplyCode::NotAllowed, text).on((10, 40))));
    }
    outbox.method(0, &AMQPClass::Connection(connection::AMQPMethod::OpenOk(connection::OpenOk {})));
    Ok(agreed)
}

/// The next method on channel 0.
async fn next<R: AsyncRead + Unpin>(input: &mut Input<R>) -> Result<Method, Refusal> {
    loop {
        let frame = input.next().await?;
        match frame.kind {
            FrameKind::Heartbeat => {}
            FrameKind::Method if frame.channel == 0 => {
                return method::decode(&frame.payload).map_err(|e| Refusal::Input(e.into()));
            }
            kind => {
                return Err(Refusal::Silent(format!(
                    "a {} frame on channel {} before the connection is open",
                    kind.name(),
                    frame.channel
                )));
            }
        }
    }
}

fn start(cluster: &str) -> AMQPClass {
    let text = |s: &str| AMQPValue::LongString(s.into());
    let mut capabilities = FieldTable::default();
    for name in CAPABILITIES {
        capabilities.insert(name.into(), AMQPValue::Boolean(true));
    }
    let mut properties = FieldTable::default();
    properties.insert("capabilities".into(), AMQPValue::FieldTable(capabilities));
    properties.insert("cluster_name".into(), text(cluster));
    properties.insert("product".into(), text("Millstream"));
    properties.insert("version".into(), text(env!("CARGO_PKG_VERSION")));
    properties.insert("platform".into(), text("Rust"));
    properties.insert("copyright".into(), text("The authors of Millstream"));
    properties.insert("information".into(), text("Licensed under the Apache License 2.0"));
    AMQPClass::Connection(connection::AMQPMethod::Start(connection::Start {
        version_major: 0,
        version_minor: 9,
        server_properties: properties,
        mechanisms: MECHANISMS.into(),
        locales: "en_US".into(),
    }))
}

fn client(properties: &[Header]) -> Client {
    let capability = |name: &str| {
        properties.iter().any(|h| {
            h.name == "capabilities"
                && matches!(&h.value, HeaderValue::Table(t) if t.iter().any(|h| h.name == name && h.value == HeaderValue::Bool(true)))
        })
    };
    let name = properties.iter().find_map(|h| match &h.value {
        HeaderValue::Str(text) if h.name == "connection_name" => Some(text.clone()),
        _ => None,
    });
    Client {
        user: String::new(),
        name: name.unwrap_or_default(),
        cancel_notify: capability("consumer_cancel_notify"),
        hears_blocked: capability("connection.blocked"),
        hears_refusal: capability("authentication_failure_close"),
    }
}

/// A client may ask for less than was proposed, never for more; 0 stands for "no limit".
fn tuned(client: Client, ok: &connection::TuneOk, cfg: &AmqpConfig) -> Result<Agreed, Exception> {
    let refuse = |text| Err(Exception::new(ReplyCode::NotAllowed, text).on((10, 31)));
    let above = |what: &str, asked: String, max: String| {
        refuse(format!("negotiated {what} = {asked} is higher than the maximum allowed value ({max})"))
    };
    let no_limit = |n: u32| if n == 0 { "no limit (0)".to_owned() } else { n.to_string() };
    if ok.frame_max != 0 && ok.frame_max < FRAME_BYTES_MIN {
        return refuse(format!(
            "negotiated frame_max = {} is lower than the minimum allowed value ({FRAME_BYTES_MIN})",
            ok.frame_max
        ));
    }
    if ok.frame_max == 0 || ok.frame_max > cfg.frame_bytes_max {
        return above("frame_max", no_limit(ok.frame_max), cfg.frame_bytes_max.to_string());
    }
    if ok.channel_max == 0 || ok.channel_max > cfg.channels_max {
        return above("channel_max", no_limit(ok.channel_max.into()), cfg.channels_max.to_string());
    }
    let heartbeat = (ok.heartbeat > 0).then(|| Duration::from_secs(ok.heartbeat.into()));
    Ok(Agreed { client, channels_max: ok.channel_max, frame_bytes_max: ok.frame_max, heartbeat })
}
