//! Patterns that say which messages are meant, in the style of `EventBridge`: an object with the fields that matter, at their leaves lists of what a
//! field may be.
//!
//! `{"key": [{"prefix": "eu-"}], "headers": {"kind": ["order"]}, "body": {"total": [{"numeric": [">", 10000]}]}}`
//!
//! All fields must match; of a list one entry suffices. A field that holds a list matches if one of its elements does, and a pattern of an object
//! matches a list of objects if one of them matches it whole. Entries: a text, number, boolean or null (equal to it); `prefix`, `suffix`
//! (text, or `{"equals-ignore-case": text}`), `equals-ignore-case`, `wildcard` (`*` is any text, `\` escapes), `anything-but` (values, or one of
//! the four before with a text or a list), `numeric` (one or two comparisons), `exists`, `cidr`. `$or` is a list of patterns of which one must
//! match. A field that is not there matches `exists: false` and nothing else.
//!
//! Start at [`Pattern::compile`] and [`Pattern::matches`]. A compiled pattern is bounded, and so is the work of matching: its entries times the
//! event's values.

mod compile;
mod test;

use serde_json::Value;
use thiserror::Error;

pub(crate) use compile::compile;
use test::Test;

/// Largest pattern as JSON text, bytes.
pub const PATTERN_BYTES_MAX: usize = 16 << 10;
/// Deepest nesting of a pattern's objects.
pub const PATTERN_DEPTH_MAX: usize = 16;
/// Most entries of a pattern in all.
pub const PATTERN_ENTRIES_MAX: usize = 1_024;

/// Why a text is no pattern.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("in the pattern, {at}: {what}")]
pub struct PatternError {
    /// Where: the field's names, with dots.
    pub at: String,
    /// What is wrong there, and what to write instead.
    pub what: String,
}

/// What a pattern looks at: the fields at the top, each when it is needed.
pub trait Event {
    /// Why a field cannot be had.
    type Error;
    /// The field of that name.
    ///
    /// # Errors
    /// It is there and cannot be read.
    fn field(&self, name: &str) -> Result<Option<&Value>, Self::Error>;
}

/// A pattern, ready to be matched.
#[derive(Clone, Debug)]
pub struct Pattern(pub(crate) Fields);

/// An object of a pattern: all of it must match.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fields {
    pub(crate) fields: Vec<(String, Node)>,
    /// Of each of these one must match.
    pub(crate) any_of: Vec<Vec<Fields>>,
}

#[derive(Clone, Debug)]
pub(crate) enum Node {
    Object(Fields),
    Leaf(Vec<Test>),
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// [`PatternError`].
    pub fn compile(pattern: &Value) -> Result<Self, PatternError> {
        compile(pattern).map(Self)
    }

    /// Whether an event is meant. What comes first in the pattern is looked at first, and nothing more once it is decided.
    ///
    /// # Errors
    /// A field that is needed cannot be read.
    pub fn matches<E: Event>(&self, event: &E) -> Result<bool, E::Error> {
        top(&self.0, event)
    }
}

fn top<E: Event>(fields: &Fields, event: &E) -> Result<bool, E::Error> {
    for (name, node) in &fields.fields {
        if !node.matches(event.field(name)?) {
            return Ok(false);
        }
    }
    for any in &fields.any_of {
        let mut matched = false;
        for one in any {
            if top(one, event)? {
                matched = true;
                break;
            }
        }
        if !matched {
            return Ok(false);
        }
    }
    Ok(true)
}

impl Fields {
    fn matches(&self, event: Option<&Value>) -> bool {
        match event {
            Some(Value::Array(all)) => all.iter().any(|one| self.matches(Some(one))),
            _ => {
                self.fields.iter().all(|(name, node)| node.matches(event.and_then(|e| e.get(name))))
                    && self.any_of.iter().all(|any| any.iter().any(|one| one.matches(event)))
            }
        }
    }
}

impl Node {
    fn matches(&self, value: Option<&Value>) -> bool {
        match (self, value) {
            (Self::Object(fields), _) => fields.matches(value),
            (Self::Leaf(tests), None) => tests.iter().any(Test::matches_nothing),
            (Self::Leaf(tests), Some(value)) => tests.iter().any(|t| t.matches(value)),
        }
    }
}

#[cfg(test)]
mod tests;
