//! Making, removing, binding and listing exchanges.

use std::sync::Arc;

use millstream_engine::exchange::{
    BindingDef, BindingsFrom, BindingsOf, ExchangeChange, ExchangeDef, ExchangeType, RoutingError, Target,
};
use millstream_engine::op::{Op, Reply};
use millstream_log::Class;
use thiserror::Error;

use crate::broker::Broker;
use crate::envelope::{EnvelopeError, Header, decode_arguments, encode_arguments};
use crate::error::{CallError, Refused};
use crate::routing::{MATCH_ARGUMENT, MatchKind, Routes};
use crate::session::Session;

/// An exchange to be made.
#[derive(Clone, Debug, PartialEq)]
pub struct NewExchange {
    /// Name.
    pub name: String,
    /// How it routes.
    pub kind: ExchangeType,
    /// Asked to survive a restart. All exchanges do so far.
    pub durable: bool,
    /// Goes when its last binding goes.
    pub auto_delete: bool,
    /// Takes messages from other exchanges only.
    pub internal: bool,
    /// Where messages go that it routes nowhere: an exchange, which need not exist.
    pub alternate: Option<String>,
    /// Other arguments: kept, and not compared when it is made again.
    pub arguments: Vec<Header>,
}

/// A binding, in the session's namespace.
#[derive(Clone, Debug, PartialEq)]
pub struct Binding {
    /// The exchange whose messages it takes.
    pub source: String,
    /// Where they go.
    pub target: Target,
    /// Routing key, or pattern.
    pub key: String,
    /// Arguments.
    pub arguments: Vec<Header>,
}

/// A page of bindings.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BindingList {
    /// The bindings.
    pub bindings: Vec<Binding>,
    /// Where the next page begins; `None`: there are no more.
    pub next: Option<BindingsFrom>,
}

/// Why a call about exchanges was refused; nothing was changed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ExchangeError {
    /// The catalogue refused.
    #[error(transparent)]
    Routing(#[from] RoutingError),
    /// The arguments cannot be kept.
    #[error("arguments: {0}")]
    Arguments(#[from] EnvelopeError),
    /// The argument that says how headers are matched says nothing known.
    #[error("{MATCH_ARGUMENT} is none of all, any, all-with-x, any-with-x")]
    UnknownMatch,
    /// The call gave no answer.
    #[error(transparent)]
    Call(#[from] CallError),
}

impl From<Refused> for ExchangeError {
    fn from(e: Refused) -> Self {
        Self::Call(CallError::Refused(e))
    }
}

/// Room for one change, arguments aside; a change that removes more asks for more.
const CHANGE_ROOM_BYTES: usize = 4_096;

impl Broker {
    /// Exchanges and bindings at this moment.
    #[must_use]
    pub fn routes(&self) -> Arc<Routes> {
        self.shared().routes()
    }
}

impl Session {
    /// Makes an exchange; false: it was there, made alike. Routes have it when this returns.
    ///
    /// # Durability
    /// What is answered with success survives a crash.
    ///
    /// # Errors
    /// [`RoutingError::Differs`] if it is there and made otherwise; `Reserved`, `InvalidName`; see [`ExchangeError`].
    pub async fn declare_exchange(&self, new: NewExchange) -> Result<bool, ExchangeError> {
        let arguments = if new.arguments.is_empty() { Vec::new() } else { encode_arguments(&new.arguments)? };
        let def = ExchangeDef {
            ns: self.namespace(),
            name: new.name,
            kind: new.kind,
            durable: new.durable,
            auto_delete: new.auto_delete,
            internal: new.internal,
            alternate: new.alternate,
            arguments,
            created_ms: 0,
        };
        let room = CHANGE_ROOM_BYTES + def.arguments.len();
        self.change_routes(ExchangeChange::Create(def), room).await
    }

    /// Removes an exchange with all bindings from it and to it.
    ///
    /// # Durability
    /// As [`Session::declare_exchange`].
    ///
    /// # Errors
    /// `NotFound`, `InUse`, `Reserved`; see [`ExchangeError`].
    pub async fn delete_exchange(&self, name: &str, if_unused: bool) -> Result<(), ExchangeError> {
        let change = ExchangeChange::Delete { ns: self.namespace(), name: name.to_owned(), if_unused };
        self.change_routes(change, CHANGE_ROOM_BYTES).await.map(drop)
    }

    /// Binds; false: the same binding was there.
    ///
    /// # Durability
    /// As [`Session::declare_exchange`].
    ///
    /// # Errors
    /// `NotFound`, `Reserved`, `TooLarge`, `TooMany`; see [`ExchangeError`].
    pub async fn bind(&self, binding: &Binding) -> Result<bool, ExchangeError> {
        let def = self.binding_def(binding)?;
        if self
            .broker()
            .routes()
            .exchange(def.ns, &def.source)
            .is_some_and(|e| e.kind == ExchangeType::Headers)
            && MatchKind::of(&binding.arguments).is_none()
        {
            return Err(ExchangeError::UnknownMatch);
        }
        let room = CHANGE_ROOM_BYTES + def.arguments.len();
        self.change_routes(ExchangeChange::Bind(def), room).await
    }

    /// Removes a binding; false: it was not there.
    ///
    /// # Durability
    /// As [`Session::declare_exchange`].
    ///
    /// # Errors
    /// See [`ExchangeError`].
    pub async fn unbind(&self, binding: &Binding) -> Result<bool, ExchangeError> {
        let def = self.binding_def(binding)?;
        self.change_routes(ExchangeChange::Unbind(def), CHANGE_ROOM_BYTES).await
    }

    /// A page of the bindings from an exchange or to something.
    ///
    /// # Errors
    /// See [`ExchangeError`].
    pub async fn list_bindings(
        &self,
        of: BindingsOf,
        from: Option<BindingsFrom>,
    ) -> Result<BindingList, ExchangeError> {
        let op = Op::ListBindings { ns: self.namespace(), of, from };
        let Reply::Bindings(page) = self.submit(None, op).await else {
            return Err(CallError::FateUnknown.into());
        };
        let mut bindings = Vec::with_capacity(page.bindings.len());
        for def in page.bindings {
            let arguments = arguments_of(&def.arguments)?;
            bindings.push(Binding { source: def.source, target: def.target, key: def.key, arguments });
        }
        Ok(BindingList { bindings, next: page.next })
    }

    fn binding_def(&self, binding: &Binding) -> Result<BindingDef, ExchangeError> {
        let arguments =
            if binding.arguments.is_empty() { Vec::new() } else { encode_arguments(&binding.arguments)? };
        Ok(BindingDef {
            ns: self.namespace(),
            source: binding.source.clone(),
            target: binding.target.clone(),
            key: binding.key.clone(),
            arguments,
        })
    }

    async fn change_routes(&self, change: ExchangeChange, mut room: usize) -> Result<bool, ExchangeError> {
        loop {
            let permit = self.admit(Class::Settle, room).await?;
            match self.submit(Some(permit), Op::Routing(vec![change.clone()])).await {
                Reply::Routing(Err(RoutingError::Room { bytes })) if bytes > room => room = bytes,
                Reply::Routing(result) => return Ok(result?.first().copied().unwrap_or(false)),
                _ => return Err(CallError::FateUnknown.into()),
            }
        }
    }
}

/// The arguments that a definition holds.
///
/// # Errors
/// If they were not encoded by this broker or one before it.
pub fn arguments_of(encoded: &[u8]) -> Result<Vec<Header>, EnvelopeError> {
    if encoded.is_empty() { Ok(Vec::new()) } else { decode_arguments(encoded) }
}
