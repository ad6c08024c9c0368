//! What a request says, whichever form it has: JSON objects or the tree of the Query form.
//!
//! Start at [`Params`]. Names differ between the forms: where two are given, the first is JSON's.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Map, Value};

use crate::error::{AwsError, Kind};
use crate::query::Node;

/// The parameters of a request, or of one member of it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Params<'a> {
    /// JSON.
    Json(&'a Map<String, Value>),
    /// Query.
    Query(&'a Node),
}

fn wrong_type(name: &str, wanted: &str) -> AwsError {
    AwsError::new(Kind::MalformedInput, format!("{name} must be {wanted}."))
}

impl<'a> Params<'a> {
    fn json(map: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
        map.get(name).filter(|v| !v.is_null())
    }

    /// A text.
    pub(crate) fn text(self, name: &str) -> Result<Option<&'a str>, AwsError> {
        match self {
            Self::Json(map) => match Self::json(map, name) {
                None => Ok(None),
                Some(Value::String(s)) => Ok(Some(s)),
                Some(_) => Err(wrong_type(name, "a string")),
            },
            Self::Query(node) => Ok(node.child(name).and_then(|n| n.value.as_deref())),
        }
    }

    /// A text that must be there. An empty one is none.
    pub(crate) fn needed(self, name: &str) -> Result<&'a str, AwsError> {
        self.text(name)?.filter(|t| !t.is_empty()).ok_or_else(|| AwsError::missing(name))
    }

    /// A whole number.
    pub(crate) fn int(self, name: &str) -> Result<Option<i64>, AwsError> {
        match self {
            Self::Json(map) => match Self::json(map, name) {
                None => Ok(None),
                Some(v) => v.as_i64().map(Some).ok_or_else(|| wrong_type(name, "a whole number")),
            },
            Self::Query(node) => match node.child(name).and_then(|n| n.value.as_deref()) {
                None | Some("") => Ok(None),
                Some(text) => text.parse().map(Some).map_err(|_| wrong_type(name, "a whole number")),
            },
        }
    }

    /// Bytes, as base64.
    pub(crate) fn blob(self, name: &str) -> Result<Option<Bytes>, AwsError> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let bytes = STANDARD.decode(text).map_err(|_| wrong_type(name, "bytes in base64"))?;
        Ok(Some(Bytes::from(bytes)))
    }

    /// A list of texts.
    pub(crate) fn texts(self, json: &str, query: &str) -> Result<Vec<&'a str>, AwsError> {
        match self {
            Self::Json(map) => match Self::json(map, json) {
                None => Ok(Vec::new()),
                Some(Value::Array(all)) => all
                    .iter()
                    .map(|v| v.as_str().ok_or_else(|| wrong_type(json, "a list of strings")))
                    .collect(),
                Some(_) => Err(wrong_type(json, "a list of strings")),
            },
            Self::Query(node) => {
                Ok(node.list(query).into_iter().filter_map(|n| n.value.as_deref()).collect())
            }
        }
    }

    /// A list of structures.
    pub(crate) fn structs(self, json: &str, query: &str) -> Result<Vec<Params<'a>>, AwsError> {
        let wrong = || wrong_type(json, "a list of structures");
        match self {
            Self::Json(map) => match Self::json(map, json) {
                None => Ok(Vec::new()),
                Some(Value::Array(all)) => {
                    all.iter().map(|v| v.as_object().map(Params::Json).ok_or_else(wrong)).collect()
                }
                Some(_) => Err(wrong()),
            },
            Self::Query(node) => Ok(node.list(query).into_iter().map(Params::Query).collect()),
        }
    }

    /// A map of texts to texts; in the Query form a list of `key` and `value`.
    pub(crate) fn text_map(
        self,
        json: &str,
        query: &str,
        key: &str,
        value: &str,
    ) -> Result<Vec<(&'a str, &'a str)>, AwsError> {
        match self {
            Self::Json(map) => match Self::json(map, json) {
                None => Ok(Vec::new()),
                Some(Value::Object(all)) => all
                    .iter()
                    .map(|(k, v)| {
                        v.as_str()
                            .map(|v| (k.as_str(), v))
                            .ok_or_else(|| wrong_type(json, "a map of strings"))
                    })
                    .collect(),
                Some(_) => Err(wrong_type(json, "a map of strings")),
            },
            Self::Query(node) => node
                .list(query)
                .into_iter()
                .map(|n| {
                    let member = Params::Query(n);
                    Ok((member.needed(key)?, member.text(value)?.unwrap_or_default()))
                })
                .collect(),
        }
    }

    /// A map of texts to structures; in the Query form a list of `Name` and `Value`.
    pub(crate) fn struct_map(self, json: &str, query: &str) -> Result<Vec<(&'a str, Params<'a>)>, AwsError> {
        let wrong = || wrong_type(json, "a map of structures");
        match self {
            Self::Json(map) => match Self::json(map, json) {
                None => Ok(Vec::new()),
                Some(Value::Object(all)) => all
                    .iter()
                    .map(|(k, v)| Ok((k.as_str(), Params::Json(v.as_object().ok_or_else(wrong)?))))
                    .collect(),
                Some(_) => Err(wrong()),
            },
            Self::Query(node) => node
                .list(query)
                .into_iter()
                .map(|n| {
                    let name = Params::Query(n).needed("Name")?;
                    Ok((name, Params::Query(n.child("Value").ok_or_else(wrong)?)))
                })
                .collect(),
        }
    }
}
