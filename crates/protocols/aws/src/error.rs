//! What a request gets that cannot be done: a code and a shape that SDKs know, a status, and a text that says what to change.
//!
//! Start at [`AwsError`]. The names are those of the service's API reference.

use millstream_broker::{CallError, QueueCallError, Refused};

/// An error of an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AwsError {
    pub(crate) kind: Kind,
    pub(crate) message: String,
}

macro_rules! kinds {
    ($( $name:ident = $shape:literal, $code:literal, $status:literal; )*) => {
        /// Which error.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Kind { $( $name ),* }

        impl Kind {
            /// All there are.
            pub(crate) const ALL: &[Self] = &[ $( Self::$name ),* ];

            /// Its name here.
            pub(crate) fn name(self) -> &'static str {
                match self { $( Self::$name => stringify!($name) ),* }
            }
            /// Its name in JSON, with its namespace.
            pub(crate) fn shape(self) -> &'static str {
                match self { $( Self::$name => $shape ),* }
            }
            /// Its name in Query answers and in the header `x-amzn-query-error`.
            pub(crate) fn code(self) -> &'static str {
                match self { $( Self::$name => $code ),* }
            }
            /// Its HTTP status.
            pub(crate) fn status(self) -> u16 {
                match self { $( Self::$name => $status ),* }
            }
        }
    };
}

kinds! {
    AccessDenied = "com.amazon.coral.service#AccessDeniedException", "AccessDenied", 403;
    BatchEntryIdsNotDistinct = "com.amazonaws.sqs#BatchEntryIdsNotDistinct", "AWS.SimpleQueueService.BatchEntryIdsNotDistinct", 400;
    BatchRequestTooLong = "com.amazonaws.sqs#BatchRequestTooLong", "AWS.SimpleQueueService.BatchRequestTooLong", 400;
    EmptyBatchRequest = "com.amazonaws.sqs#EmptyBatchRequest", "AWS.SimpleQueueService.EmptyBatchRequest", 400;
    IncompleteSignature = "com.amazon.coral.service#IncompleteSignatureException", "IncompleteSignature", 400;
    InternalFailure = "com.amazon.coral.service#InternalFailure", "InternalFailure", 500;
    InvalidAction = "com.amazon.coral.service#UnknownOperationException", "InvalidAction", 400;
    InvalidAddress = "com.amazonaws.sqs#InvalidAddress", "InvalidAddress", 404;
    InvalidAttributeName = "com.amazonaws.sqs#InvalidAttributeName", "InvalidAttributeName", 400;
    InvalidAttributeValue = "com.amazonaws.sqs#InvalidAttributeValue", "InvalidAttributeValue", 400;
    InvalidBatchEntryId = "com.amazonaws.sqs#InvalidBatchEntryId", "AWS.SimpleQueueService.InvalidBatchEntryId", 400;
    InvalidClientTokenId = "com.amazon.coral.service#UnrecognizedClientException", "InvalidClientTokenId", 403;
    InvalidMessageContents = "com.amazonaws.sqs#InvalidMessageContents", "InvalidMessageContents", 400;
    InvalidParameterValue = "com.amazon.coral.service#InvalidParameterValueException", "InvalidParameterValue", 400;
    MalformedInput = "com.amazon.coral.service#SerializationException", "MalformedInput", 400;
    MessageNotInflight = "com.amazonaws.sqs#MessageNotInflight", "AWS.SimpleQueueService.MessageNotInflight", 400;
    MissingAuthenticationToken = "com.amazon.coral.service#MissingAuthenticationTokenException", "MissingAuthenticationToken", 403;
    MissingParameter = "com.amazon.coral.service#MissingRequiredParameterException", "MissingParameter", 400;
    OverLimit = "com.amazonaws.sqs#OverLimit", "OverLimit", 403;
    PurgeQueueInProgress = "com.amazonaws.sqs#PurgeQueueInProgress", "AWS.SimpleQueueService.PurgeQueueInProgress", 403;
    QueueDeletedRecently = "com.amazonaws.sqs#QueueDeletedRecently", "AWS.SimpleQueueService.QueueDeletedRecently", 400;
    QueueDoesNotExist = "com.amazonaws.sqs#QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue", 400;
    QueueNameExists = "com.amazonaws.sqs#QueueNameExists", "QueueAlreadyExists", 400;
    ReceiptHandleIsInvalid = "com.amazonaws.sqs#ReceiptHandleIsInvalid", "ReceiptHandleIsInvalid", 400;
    RequestTooLarge = "com.amazon.coral.service#RequestEntityTooLargeException", "RequestEntityTooLarge", 413;
    ResourceNotFound = "com.amazonaws.sqs#ResourceNotFoundException", "ResourceNotFoundException", 404;
    ServiceUnavailable = "com.amazon.coral.service#ServiceUnavailableException", "ServiceUnavailable", 503;
    SignatureDoesNotMatch = "com.amazon.coral.service#InvalidSignatureException", "SignatureDoesNotMatch", 403;
    TooManyEntries = "com.amazonaws.sqs#TooManyEntriesInBatchRequest", "AWS.SimpleQueueService.TooManyEntriesInBatchRequest", 400;
    UnsupportedOperation = "com.amazonaws.sqs#UnsupportedOperation", "AWS.SimpleQueueService.UnsupportedOperation", 400;
}

impl Kind {
    /// Whether the client is to blame.
    pub(crate) fn is_sender(self) -> bool {
        self.status() < 500
    }
}

impl AwsError {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// A parameter that is needed is not there.
    pub(crate) fn missing(parameter: &str) -> Self {
        Self::new(Kind::MissingParameter, format!("The request must contain the parameter {parameter}."))
    }

    /// A parameter has a value that it cannot have.
    pub(crate) fn value(parameter: &str, value: impl std::fmt::Display, reason: &str) -> Self {
        let value = shown(&value.to_string());
        let text = format!("Value {value} for parameter {parameter} is invalid. Reason: {reason}");
        Self::new(Kind::InvalidParameterValue, text)
    }

    /// Several parameters together are wrong.
    pub(crate) fn invalid(reason: &str) -> Self {
        Self::new(Kind::InvalidParameterValue, reason)
    }

    pub(crate) fn no_queue() -> Self {
        Self::new(Kind::QueueDoesNotExist, "The specified queue does not exist.")
    }
}

/// A client's value as far as an error shows it.
pub(crate) fn shown(value: &str) -> String {
    const CHARS_MAX: usize = 256;
    match value.char_indices().nth(CHARS_MAX) {
        Some((at, _)) => format!("{}...", value.get(..at).unwrap_or_default()),
        None => value.to_owned(),
    }
}

impl From<Refused> for AwsError {
    fn from(e: Refused) -> Self {
        match e {
            Refused::DiskFull => Self::new(
                Kind::ServiceUnavailable,
                "The disk is full: sending goes on when there is room again.",
            ),
            Refused::TooLarge { max, .. } => Self::new(
                Kind::InvalidParameterValue,
                format!(
                    "One or more parameters are invalid. Reason: the request must be shorter than {max} bytes."
                ),
            ),
            Refused::MemoryFull | Refused::Overloaded | Refused::Closed => {
                Self::new(Kind::ServiceUnavailable, format!("Try again later: {e}."))
            }
        }
    }
}

impl From<CallError> for AwsError {
    fn from(e: CallError) -> Self {
        match e {
            CallError::Refused(refused) => refused.into(),
            CallError::FateUnknown => Self::new(Kind::InternalFailure, e.to_string()),
        }
    }
}

impl From<QueueCallError> for AwsError {
    fn from(e: QueueCallError) -> Self {
        use millstream_broker::queue::api::QueueError;
        match e {
            QueueCallError::Queue(QueueError::NotFound) | QueueCallError::Locked => Self::no_queue(),
            QueueCallError::Queue(QueueError::WrongKind { name }) => Self::new(
                Kind::QueueNameExists,
                format!("{name} is the name of a topic: topics and queues share their names."),
            ),
            QueueCallError::Queue(QueueError::TooMany { max }) => {
                Self::new(Kind::OverLimit, format!("There are {max} queues, and no more can be made."))
            }
            QueueCallError::Call(e) => e.into(),
            e => Self::new(Kind::InvalidParameterValue, e.to_string()),
        }
    }
}
