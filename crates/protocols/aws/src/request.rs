//! A request taken apart: which form, which action, what it says.
//!
//! Start at [`Call::of`].

use hyper::http::request::Parts;
use serde_json::{Map, Value};

use crate::answer::Form;
use crate::error::{AwsError, Kind};
use crate::params::Params;
use crate::query::Node;

/// In front of the action in `X-Amz-Target`.
const TARGET_PREFIX: &str = "AmazonSQS.";

/// What a request asks for.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) action: String,
    said: Said,
}

#[derive(Debug)]
enum Said {
    Json(Map<String, Value>),
    Query(Node),
}

/// The form that a request has, and so its answer.
pub(crate) fn form_of(parts: &Parts) -> Form {
    if parts.headers.contains_key("x-amz-target") { Form::Json } else { Form::Query }
}

impl Call {
    /// Reads it. JSON nested deeper than 127 is refused by its parser.
    pub(crate) fn of(parts: &Parts, body: &[u8]) -> Result<Self, AwsError> {
        match form_of(parts) {
            Form::Json => {
                let target =
                    parts.headers.get("x-amz-target").and_then(|t| t.to_str().ok()).unwrap_or_default();
                let action = target.strip_prefix(TARGET_PREFIX).ok_or_else(|| unknown(target))?;
                let said = match serde_json::from_slice::<Value>(if body.is_empty() { b"{}" } else { body }) {
                    Ok(Value::Object(map)) => map,
                    Ok(_) => {
                        return Err(AwsError::new(Kind::MalformedInput, "The body must be a JSON object."));
                    }
                    Err(e) => {
                        return Err(AwsError::new(
                            Kind::MalformedInput,
                            format!("The body is no JSON: {e}."),
                        ));
                    }
                };
                Ok(Self { action: action.to_owned(), said: Said::Json(said) })
            }
            Form::Query => {
                let mut node = Node::default();
                node.parse(parts.uri.query().unwrap_or_default().as_bytes())?;
                node.parse(body)?;
                let action = node.child("Action").and_then(|a| a.value.clone()).unwrap_or_default();
                if action.is_empty() {
                    return Err(AwsError::new(
                        Kind::InvalidAction,
                        "The request must name an action: by X-Amz-Target, or by the parameter Action.",
                    ));
                }
                // A queue's own URL may be all that names it.
                let path = parts.uri.path();
                if node.child("QueueUrl").is_none() && path.len() > 1 {
                    let url = node.children.entry("QueueUrl".to_owned()).or_default();
                    url.value = Some(path.to_owned());
                }
                Ok(Self { action, said: Said::Query(node) })
            }
        }
    }

    pub(crate) fn params(&self) -> Params<'_> {
        match &self.said {
            Said::Json(map) => Params::Json(map),
            Said::Query(node) => Params::Query(node),
        }
    }
}

/// There is no such action.
pub(crate) fn unknown(action: &str) -> AwsError {
    let action = crate::error::shown(action);
    AwsError::new(Kind::InvalidAction, format!("The action {action} is not valid for this endpoint."))
}

#[cfg(test)]
mod tests {
    use hyper::Request;
    use proptest::prelude::*;

    use super::*;

    fn parts(target: Option<&str>, uri: &str) -> Parts {
        let mut r = Request::builder().uri(uri);
        if let Some(target) = target {
            r = r.header("x-amz-target", target);
        }
        r.body(()).unwrap().into_parts().0
    }

    #[test]
    fn a_queue_may_be_named_by_the_path_alone() {
        let call = Call::of(&parts(None, "/1/q?Action=PurgeQueue"), b"Version=2012-11-05").unwrap();
        assert_eq!(
            (call.action.as_str(), call.params().text("QueueUrl").unwrap()),
            ("PurgeQueue", Some("/1/q"))
        );
    }

    #[test]
    fn deep_json_is_refused() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        let e = Call::of(&parts(Some("AmazonSQS.SendMessage"), "/"), deep.as_bytes()).unwrap_err();
        assert_eq!(e.kind, Kind::MalformedInput);
    }

    proptest! {
        #[test]
        fn hostile_bodies_are_an_error_or_a_call(body: Vec<u8>, json: bool) {
            let target = json.then_some("AmazonSQS.SendMessage");
            if let Ok(call) = Call::of(&parts(target, "/"), &body) {
                let p = call.params();
                let _ = (p.text("a"), p.int("a"), p.blob("a"), p.texts("a", "a"));
                let _ = (p.structs("a", "a"), p.text_map("a", "a", "k", "v"), p.struct_map("a", "a"));
            }
        }
        #[test]
        fn hostile_queries_are_an_error_or_a_call(body in "([a.]|[0-9&=%+]){0,60}") {
            let _ = Call::of(&parts(None, "/"), format!("Action=X&{body}").as_bytes());
        }
    }
}
