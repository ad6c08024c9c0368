//! Errors of the administration: a status and a JSON body `{"error": "..."}`.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use millstream_broker::bridge::BridgeError;
use millstream_broker::group::GroupError;
use millstream_broker::queue::api::{QueueError, ReceiveError, SubscribeError};
use millstream_broker::task::TaskError;
use millstream_broker::{
    AdminError, CallError, CatalogueError, ConsumeError, EnvelopeError, ExchangeError, PublishError,
    QueueCallError, ReadError, RedriveError, Refused, RoutingError, SubscriptionError, TaskCallError,
    UserError,
};

/// What a request gets that could not be done.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    text: String,
}

impl ApiError {
    /// The request itself is wrong.
    pub fn bad(text: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, text: text.into() }
    }
    /// What it names is not there.
    pub fn not_found(text: impl Into<String>) -> Self {
        Self { status: StatusCode::NOT_FOUND, text: text.into() }
    }
    /// Not now.
    pub fn unavailable(text: impl Into<String>) -> Self {
        Self { status: StatusCode::SERVICE_UNAVAILABLE, text: text.into() }
    }
    /// It cannot be done as things are.
    pub fn conflict(text: impl Into<String>) -> Self {
        Self { status: StatusCode::CONFLICT, text: text.into() }
    }
    fn internal(text: impl Into<String>) -> Self {
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, text: text.into() }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, Json(serde_json::json!({ "error": self.text }))).into_response()
    }
}

impl From<AdminError> for ApiError {
    fn from(e: AdminError) -> Self {
        let text = e.to_string();
        match e {
            AdminError::Catalogue(CatalogueError::NotFound) => Self::not_found(text),
            AdminError::Catalogue(_) => Self::conflict(text),
            AdminError::Call(e) => e.into(),
            AdminError::InvalidName { .. }
            | AdminError::InvalidPartitions { .. }
            | AdminError::Setting(_) => Self::bad(text),
        }
    }
}

impl From<CallError> for ApiError {
    fn from(e: CallError) -> Self {
        match e {
            CallError::Refused(r) => r.into(),
            CallError::FateUnknown => Self::internal(e.to_string()),
        }
    }
}

impl From<Refused> for ApiError {
    fn from(e: Refused) -> Self {
        match e {
            Refused::TooLarge { .. } => Self::bad(e.to_string()),
            _ => Self::unavailable(e.to_string()),
        }
    }
}

impl From<ReadError> for ApiError {
    fn from(e: ReadError) -> Self {
        match e {
            ReadError::Trimmed { .. } => Self::conflict(e.to_string()),
            ReadError::Overloaded | ReadError::Closed => Self::unavailable(e.to_string()),
            _ => Self::internal(e.to_string()),
        }
    }
}

impl From<EnvelopeError> for ApiError {
    fn from(e: EnvelopeError) -> Self {
        Self::bad(e.to_string())
    }
}

impl From<GroupError> for ApiError {
    fn from(e: GroupError) -> Self {
        match e {
            GroupError::NotFound => Self::not_found(e.to_string()),
            GroupError::NotEmpty | GroupError::UnknownMember | GroupError::Rebalancing => {
                Self::conflict(format!("{e}: stop its consumers first"))
            }
            _ => Self::bad(e.to_string()),
        }
    }
}

impl From<QueueCallError> for ApiError {
    fn from(e: QueueCallError) -> Self {
        match e {
            QueueCallError::Queue(QueueError::NotFound | QueueError::NoTopic)
            | QueueCallError::Subscription(SubscriptionError::NoTopic(_)) => Self::not_found(e.to_string()),
            QueueCallError::Queue(QueueError::InvalidName | QueueError::Policy { .. })
            | QueueCallError::Subscription(SubscriptionError::Filter(_))
            | QueueCallError::Arguments(_) => Self::bad(e.to_string()),
            QueueCallError::Call(e) => e.into(),
            e => Self::conflict(e.to_string()),
        }
    }
}

impl From<BridgeError> for ApiError {
    fn from(e: BridgeError) -> Self {
        match e {
            BridgeError::NotFound(_) | BridgeError::Absent { .. } => Self::not_found(e.to_string()),
            BridgeError::Exists => Self::conflict(e.to_string()),
            BridgeError::Task(TaskCallError::Call(e)) => e.into(),
            BridgeError::Task(TaskCallError::Task(TaskError::TooMany { .. } | TaskError::Version { .. })) => {
                Self::conflict(e.to_string())
            }
            BridgeError::Def(_) | BridgeError::Task(_) => Self::bad(e.to_string()),
        }
    }
}

impl From<RedriveError> for ApiError {
    fn from(e: RedriveError) -> Self {
        match e {
            RedriveError::NotFound => Self::not_found(e.to_string()),
            RedriveError::Running | RedriveError::TooMany | RedriveError::Ended => {
                Self::conflict(e.to_string())
            }
            RedriveError::Queue(e) => e.into(),
            RedriveError::Task(TaskCallError::Call(e)) => e.into(),
            RedriveError::Task(e) => Self::conflict(e.to_string()),
        }
    }
}

impl From<ConsumeError> for ApiError {
    fn from(e: ConsumeError) -> Self {
        match e {
            ConsumeError::Subscribe(SubscribeError::NotFound)
            | ConsumeError::Receive(ReceiveError::NotFound) => Self::not_found(e.to_string()),
            ConsumeError::Call(e) => e.into(),
            e => Self::conflict(e.to_string()),
        }
    }
}

impl From<ExchangeError> for ApiError {
    fn from(e: ExchangeError) -> Self {
        match e {
            ExchangeError::Routing(RoutingError::NotFound { .. }) => Self::not_found(e.to_string()),
            ExchangeError::Routing(
                RoutingError::Differs { .. } | RoutingError::InUse { .. } | RoutingError::Reserved { .. },
            ) => Self::conflict(e.to_string()),
            ExchangeError::Call(e) => e.into(),
            e => Self::bad(e.to_string()),
        }
    }
}

impl From<PublishError> for ApiError {
    fn from(e: PublishError) -> Self {
        Self::bad(e.to_string())
    }
}

impl From<UserError> for ApiError {
    fn from(e: UserError) -> Self {
        match e {
            UserError::NotFound(_) => Self::not_found(e.to_string()),
            UserError::Exists(_) | UserError::TooMany => Self::conflict(e.to_string()),
            UserError::Invalid { .. } => Self::bad(e.to_string()),
            UserError::Write(_) | UserError::Stopping => Self::unavailable(e.to_string()),
        }
    }
}
