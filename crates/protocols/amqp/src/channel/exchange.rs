//! Class exchange: declare, delete, bind, unbind.

use amq_protocol::protocol::{AMQPClass, exchange as x};
use millstream_broker::{
    Action, Binding, ExchangeError, ExchangeType, Header, HeaderValue, NewExchange, Resource, RoutingError,
    Target, TargetKind, predeclared,
};
use millstream_types::Namespace;

use crate::arguments;
use crate::channel::Channel;
use crate::channel::queue::resource;
use crate::error::ReplyCode;
use crate::exception::Exception;
use crate::text;

/// Names that begin so are the broker's own.
pub(super) const RESERVED_PREFIX: &str = "amq.";
/// The argument that says how headers are matched.
const MATCH: &str = "x-match";
const MATCHES: [&str; 4] = ["all", "any", "all-with-x", "any-with-x"];
/// The argument that names the exchange for what an exchange routes nowhere.
const ALTERNATE: &str = "alternate-exchange";

impl Channel {
    pub(super) async fn exchange(
        &mut self,
        method: x::AMQPMethod,
        table: Vec<Header>,
    ) -> Result<(), Exception> {
        use x::AMQPMethod as M;
        let (ok, nowait) = match method {
            M::Declare(mut m) => {
                m.exchange = text::one_line(&m.exchange);
                self.declare_exchange(&m, table).await?;
                (M::DeclareOk(x::DeclareOk {}), m.nowait)
            }
            M::Delete(mut m) => {
                m.exchange = text::one_line(&m.exchange);
                self.delete_exchange(&m).await?;
                (M::DeleteOk(x::DeleteOk {}), m.nowait)
            }
            M::Bind(m) => {
                let target = Target { kind: TargetKind::Exchange, name: m.destination.to_string() };
                self.change_binding(m.source.as_str(), target, m.routing_key.as_str(), table, true).await?;
                (M::BindOk(x::BindOk {}), m.nowait)
            }
            M::Unbind(m) => {
                let target = Target { kind: TargetKind::Exchange, name: m.destination.to_string() };
                self.change_binding(m.source.as_str(), target, m.routing_key.as_str(), table, false).await?;
                (M::UnbindOk(x::UnbindOk {}), m.nowait)
            }
            _ => return Err(Exception::new(ReplyCode::CommandInvalid, "not for clients to call")),
        };
        if !nowait {
            self.send(AMQPClass::Exchange(ok));
        }
        Ok(())
    }

    async fn declare_exchange(&mut self, m: &x::Declare, mut table: Vec<Header>) -> Result<(), Exception> {
        let name = m.exchange.as_str();
        not_default(name)?;
        let known = self.session.broker().routes().exchange(Namespace::DEFAULT, name);
        if m.passive {
            return known.map(drop).ok_or_else(|| Exception::not_found_exchange(name));
        }
        self.allow(Action::Configure, &Resource::Exchange(Namespace::DEFAULT, name.to_owned()))?;
        let Some(kind) = ExchangeType::from_name(m.kind.as_str()) else {
            let what = if m.kind.as_str().is_empty() { "invalid" } else { "unknown" };
            return Err(Exception::precondition(format!("{what} exchange type '{}'", m.kind.as_str())));
        };
        if known.is_none() && name.starts_with(RESERVED_PREFIX) {
            return Err(reserved("exchange", name));
        }
        let alternate = match table.iter().position(|h| h.name == ALTERNATE).map(|at| table.remove(at).value)
        {
            None => None,
            Some(HeaderValue::Str(name)) => Some(name),
            Some(other) => {
                return Err(arguments::wrong_type(ALTERNATE, &other, "exchange", name));
            }
        };
        if let Some(known) = &known
            && predeclared(name).is_some()
        {
            return same_as_predeclared(name, known.kind, kind, m, alternate.as_deref());
        }
        if known.is_none()
            && let Some(alternate) = &alternate
        {
            let exchange = |name: &str| Resource::Exchange(Namespace::DEFAULT, name.to_owned());
            self.allow(Action::Read, &exchange(name))?;
            self.allow(Action::Write, &exchange(alternate))?;
        }
        let new = NewExchange {
            name: name.to_owned(),
            kind,
            durable: m.durable,
            auto_delete: m.auto_delete,
            internal: m.internal,
            alternate,
            arguments: table,
        };
        self.session.declare_exchange(new).await.map(drop).map_err(|e| exception(&e))
    }

    async fn delete_exchange(&mut self, m: &x::Delete) -> Result<(), Exception> {
        let name = m.exchange.as_str();
        not_default(name)?;
        if name.starts_with(RESERVED_PREFIX) {
            let text = format!("deletion of system exchange '{name}' in vhost '/' not allowed");
            return Err(Exception::new(ReplyCode::AccessRefused, text));
        }
        self.allow(Action::Configure, &Resource::Exchange(Namespace::DEFAULT, name.to_owned()))?;
        match self.session.delete_exchange(name, m.if_unused).await {
            Ok(()) | Err(ExchangeError::Routing(RoutingError::NotFound { .. })) => Ok(()),
            Err(e) => Err(exception(&e)),
        }
    }

    /// Binds or unbinds. What is not there needs no unbinding.
    pub(super) async fn change_binding(
        &mut self,
        source: &str,
        target: Target,
        key: &str,
        arguments: Vec<Header>,
        bind: bool,
    ) -> Result<(), Exception> {
        not_default(source)?;
        if target.kind == TargetKind::Exchange {
            not_default(&target.name)?;
            self.allow(Action::Write, &Resource::Exchange(Namespace::DEFAULT, target.name.clone()))?;
        } else {
            self.allow(Action::Write, &resource(&target.name))?;
        }
        self.allow(Action::Read, &Resource::Exchange(Namespace::DEFAULT, source.to_owned()))?;
        let exchange = |name: &str| self.session.broker().routes().exchange(Namespace::DEFAULT, name);
        // If neither is there, the source is what is missing.
        let Some(from) = exchange(source) else {
            return if bind { Err(Exception::not_found_exchange(source)) } else { Ok(()) };
        };
        let is_queue = target.kind == TargetKind::Queue;
        let missing = match is_queue {
            true if self.session.queue(&target.name).is_none() => {
                Some(Exception::not_found_queue(&target.name))
            }
            false if exchange(&target.name).is_none() => Some(Exception::not_found_exchange(&target.name)),
            _ => None,
        };
        if let Some(missing) = missing {
            return if bind { Err(missing) } else { Ok(()) };
        }
        if bind && from.kind == ExchangeType::Headers {
            known_match(&arguments)?;
        }
        if is_queue {
            self.usable(&target.name)?;
        }
        let binding = Binding { source: source.to_owned(), target, key: key.to_owned(), arguments };
        if bind {
            return self.session.bind(&binding).await.map(drop).map_err(|e| exception(&e));
        }
        match self.session.unbind(&binding).await {
            Ok(_) | Err(ExchangeError::Routing(RoutingError::NotFound { .. })) => Ok(()),
            Err(e) => Err(exception(&e)),
        }
    }
}

/// The default exchange is not to be declared, deleted or bound.
fn not_default(name: &str) -> Result<(), Exception> {
    if name.is_empty() {
        let text = "operation not permitted on the default exchange";
        return Err(Exception::new(ReplyCode::AccessRefused, text));
    }
    Ok(())
}

/// A name that clients may not make.
pub(super) fn reserved(what: &str, name: &str) -> Exception {
    let text = format!("{what} name '{name}' contains reserved prefix '{RESERVED_PREFIX}*'");
    Exception::new(ReplyCode::AccessRefused, text)
}

fn inequivalent(name: &str, arg: &str, received: &str, current: &str) -> Exception {
    Exception::precondition(format!(
        "inequivalent arg '{arg}' for exchange '{name}' in vhost '/': received {received} but current is {current}"
    ))
}

/// One that is always there can be declared as it is.
fn same_as_predeclared(
    name: &str,
    current: ExchangeType,
    asked: ExchangeType,
    m: &x::Declare,
    asked_alternate: Option<&str>,
) -> Result<(), Exception> {
    if current != asked {
        let (received, current) = (format!("'{}'", asked.name()), format!("'{}'", current.name()));
        return Err(inequivalent(name, "type", &received, &current));
    }
    let flags = [
        ("durable", m.durable, true),
        ("auto_delete", m.auto_delete, false),
        ("internal", m.internal, false),
    ];
    match flags.iter().find(|(_, asked, is)| asked != is) {
        Some((arg, asked, is)) => Err(inequivalent(name, arg, &format!("'{asked}'"), &format!("'{is}'"))),
        None => asked_alternate.map_or(Ok(()), |asked| {
            Err(inequivalent(name, ALTERNATE, &format!("the value '{asked}' of type 'longstr'"), "none"))
        }),
    }
}

/// What the client is told of a call about exchanges that failed.
fn exception(e: &ExchangeError) -> Exception {
    match e {
        ExchangeError::Routing(RoutingError::NotFound { what, name }) => {
            Exception::new(ReplyCode::NotFound, format!("no {what} '{name}' in vhost '/'"))
        }
        ExchangeError::Routing(RoutingError::Differs { name, arg, current, asked }) if *arg == ALTERNATE => {
            match (alternate(asked), alternate(current)) {
                (Some(asked), Some(current)) => inequivalent(name, arg, &asked, &current),
                (a, c) => inequivalent(name, arg, &typed(a, asked), &typed(c, current)),
            }
        }
        ExchangeError::Routing(RoutingError::Differs { name, arg, current, asked }) => {
            inequivalent(name, arg, &format!("'{asked}'"), &format!("'{current}'"))
        }
        ExchangeError::Routing(RoutingError::InUse { name }) => {
            Exception::precondition(format!("exchange '{name}' in vhost '/' in use"))
        }
        ExchangeError::Routing(RoutingError::Reserved { name }) => reserved("exchange", name),
        ExchangeError::Call(e) => Exception::internal(e),
        e => Exception::precondition(e.to_string()),
    }
}

/// Whether it is known how headers are to be matched.
fn known_match(arguments: &[Header]) -> Result<(), Exception> {
    let Some(said) = arguments.iter().find(|h| h.name == MATCH) else { return Ok(()) };
    let value = arguments::term(&said.value);
    Err(Exception::precondition(match &said.value {
        HeaderValue::Str(how) if MATCHES.contains(&how.as_str()) => return Ok(()),
        HeaderValue::Str(_) => {
            format!("Invalid x-match field value {value}; expected all, any, all-with-x, or any-with-x")
        }
        other => {
            let kind = arguments::type_name(other);
            format!("Invalid x-match field type {kind} (value {value}); expected longstr")
        }
    }))
}

/// The exchange that `the exchange "x"` names, as `RabbitMQ` quotes it; `None`: there is none.
fn alternate(said: &str) -> Option<String> {
    said.strip_prefix("the exchange ").map(|name| name.replace('"', "'"))
}

/// A name beside what is none.
fn typed(name: Option<String>, said: &str) -> String {
    name.map_or_else(|| said.to_owned(), |name| format!("the value {name} of type 'longstr'"))
}
