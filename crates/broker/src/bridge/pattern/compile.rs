//! From JSON to a pattern, with words for what is wrong.

use std::net::IpAddr;

use serde_json::{Map, Value};

use super::test::{Comparison, Test, TextTest};
use super::{Fields, Node, PATTERN_BYTES_MAX, PATTERN_DEPTH_MAX, PATTERN_ENTRIES_MAX, PatternError};

const ANY_OF: &str = "$or";

/// Reads a pattern.
pub(crate) fn compile(pattern: &Value) -> Result<Fields, PatternError> {
    let mut compiler = Compiler { path: Vec::new(), entries: 0 };
    if pattern.to_string().len() > PATTERN_BYTES_MAX {
        return Err(compiler.wrong(format!("it is longer than {PATTERN_BYTES_MAX} bytes")));
    }
    let Value::Object(fields) = pattern else { return Err(compiler.wrong("it must be an object")) };
    compiler.fields(fields)
}

struct Compiler {
    path: Vec<String>,
    entries: usize,
}

impl Compiler {
    fn wrong(&self, what: impl Into<String>) -> PatternError {
        let at = if self.path.is_empty() {
            "at the top".to_owned()
        } else {
            format!("at {}", self.path.join("."))
        };
        PatternError { at, what: what.into() }
    }

    fn fields(&mut self, fields: &Map<String, Value>) -> Result<Fields, PatternError> {
        if self.path.len() >= PATTERN_DEPTH_MAX {
            return Err(self.wrong(format!("it is nested deeper than {PATTERN_DEPTH_MAX}")));
        }
        if fields.is_empty() {
            return Err(self.wrong("an empty object matches nothing one could mean; leave the field out"));
        }
        let mut out = Fields::default();
        for (name, value) in fields {
            self.path.push(name.clone());
            if name == ANY_OF {
                out.any_of.push(self.any_of(value)?);
            } else {
                let node = match value {
                    Value::Object(fields) => Node::Object(self.fields(fields)?),
                    Value::Array(entries) => Node::Leaf(self.leaf(entries)?),
                    _ => return Err(self.wrong(format!("must be a list: [{value}]"))),
                };
                out.fields.push((name.clone(), node));
            }
            self.path.pop();
        }
        // A body is read last, and only where the rest matches.
        out.fields.sort_by_key(|(name, _)| self.path.is_empty() && name == "body");
        Ok(out)
    }

    fn any_of(&mut self, value: &Value) -> Result<Vec<Fields>, PatternError> {
        let all = value.as_array().filter(|a| !a.is_empty());
        let Some(all) = all else { return Err(self.wrong("must be a list of patterns")) };
        // Its patterns stand where it does.
        let here = self.path.pop();
        let mut out = Vec::with_capacity(all.len());
        for one in all {
            let Value::Object(fields) = one else { return Err(self.wrong("$or must be a list of patterns")) };
            self.count()?;
            out.push(self.fields(fields)?);
        }
        self.path.extend(here);
        Ok(out)
    }

    fn count(&mut self) -> Result<(), PatternError> {
        self.entries += 1;
        if self.entries > PATTERN_ENTRIES_MAX {
            return Err(self.wrong(format!("it has more than {PATTERN_ENTRIES_MAX} entries")));
        }
        Ok(())
    }

    fn leaf(&mut self, entries: &[Value]) -> Result<Vec<Test>, PatternError> {
        if entries.is_empty() {
            return Err(self.wrong("an empty list matches nothing"));
        }
        entries.iter().map(|e| self.entry(e)).collect()
    }

    fn entry(&mut self, entry: &Value) -> Result<Test, PatternError> {
        self.count()?;
        let Value::Object(o) = entry else {
            return if entry.is_array() {
                Err(self.wrong("a list in a list"))
            } else {
                Ok(Test::Equals(entry.clone()))
            };
        };
        let mut parts = o.iter();
        let (Some((name, value)), None) = (parts.next(), parts.next()) else {
            return Err(self.wrong("an entry has one name, as in {\"prefix\": \"a\"}"));
        };
        match name.as_str() {
            "exists" => match value {
                Value::Bool(there) => Ok(Test::Exists(*there)),
                _ => Err(self.wrong("exists is true or false")),
            },
            "anything-but" => self.anything_but(value),
            "numeric" => self.numeric(value),
            "cidr" => self.cidr(value),
            _ => Ok(Test::Text(self.text(name, value)?)),
        }
    }

    fn text(&self, name: &str, value: &Value) -> Result<TextTest, PatternError> {
        let folded = || {
            let o = value.as_object().filter(|o| o.len() == 1)?;
            o.get("equals-ignore-case")?.as_str().map(str::to_owned)
        };
        let text = value.as_str().map(str::to_owned);
        Ok(match (name, text) {
            ("prefix", Some(text)) => TextTest::Prefix(text),
            ("suffix", Some(text)) => TextTest::Suffix(text),
            ("equals-ignore-case", Some(text)) => TextTest::EqualsFolded(text),
            ("wildcard", Some(text)) => TextTest::Wildcard(self.wildcard(&text)?),
            ("prefix", None) => {
                TextTest::PrefixFolded(folded().ok_or_else(|| self.wrong("prefix is a text"))?)
            }
            ("suffix", None) => {
                TextTest::SuffixFolded(folded().ok_or_else(|| self.wrong("suffix is a text"))?)
            }
            ("equals-ignore-case" | "wildcard", None) => return Err(self.wrong(format!("{name} is a text"))),
            _ => {
                return Err(self.wrong(format!(
                    "{name:?} is not one of prefix, suffix, equals-ignore-case, wildcard, anything-but, numeric, exists, cidr"
                )));
            }
        })
    }

    fn wildcard(&self, text: &str) -> Result<Vec<String>, PatternError> {
        let mut parts = vec![String::new()];
        let mut chars = text.chars();
        let mut star_before = false;
        while let Some(c) = chars.next() {
            let star = c == '*';
            if star && star_before {
                return Err(self.wrong("two stars in a row are one"));
            }
            star_before = star;
            if star {
                parts.push(String::new());
                continue;
            }
            let plain = match c {
                '\\' => chars
                    .next()
                    .filter(|c| matches!(c, '*' | '\\'))
                    .ok_or_else(|| self.wrong("behind a backslash comes a star or a backslash"))?,
                c => c,
            };
            if let Some(part) = parts.last_mut() {
                part.push(plain);
            }
        }
        Ok(parts)
    }

    fn anything_but(&mut self, value: &Value) -> Result<Test, PatternError> {
        let scalar = |v: &Value| v.is_string() || v.is_number() || v.is_boolean() || v.is_null();
        let tests = match value {
            Value::Array(all) if !all.is_empty() && all.iter().all(scalar) => {
                all.iter().cloned().map(Test::Equals).collect()
            }
            Value::Object(o) => {
                let mut parts = o.iter();
                let (Some((name, value)), None) = (parts.next(), parts.next()) else {
                    return Err(self
                        .wrong("anything-but has one name, as in {\"anything-but\": {\"prefix\": \"a\"}}"));
                };
                if !matches!(name.as_str(), "prefix" | "suffix" | "equals-ignore-case" | "wildcard") {
                    return Err(self.wrong(format!("anything-but does not go with {name:?}")));
                }
                let arguments = match value {
                    Value::Array(all) if !all.is_empty() => all.as_slice(),
                    one => std::slice::from_ref(one),
                };
                let mut tests = Vec::with_capacity(arguments.len());
                for argument in arguments {
                    self.count()?;
                    tests.push(Test::Text(self.text(name, argument)?));
                }
                tests
            }
            one if scalar(one) => vec![Test::Equals(one.clone())],
            _ => return Err(self.wrong("anything-but takes a value or a list of values")),
        };
        Ok(Test::AnythingBut(tests))
    }

    fn numeric(&self, value: &Value) -> Result<Test, PatternError> {
        let wrong = || self.wrong("numeric is as [\">\", 0] or [\">=\", 0, \"<\", 10]");
        let all = value.as_array().filter(|a| matches!(a.len(), 2 | 4)).ok_or_else(wrong)?;
        let (pairs, _) = all.as_chunks::<2>();
        let pair = |[how, bound]: &[Value; 2]| {
            let how = match how.as_str()? {
                "=" => Comparison::Equal,
                "<" => Comparison::Less,
                "<=" => Comparison::LessOrEqual,
                ">" => Comparison::More,
                ">=" => Comparison::MoreOrEqual,
                _ => return None,
            };
            Some((how, bound.as_f64()?))
        };
        pairs.iter().map(pair).collect::<Option<_>>().map(Test::Numeric).ok_or_else(wrong)
    }

    fn cidr(&self, value: &Value) -> Result<Test, PatternError> {
        let parsed = || {
            let (net, bits) = value.as_str()?.split_once('/')?;
            let (net, bits): (IpAddr, u8) = (net.parse().ok()?, bits.parse().ok()?);
            (bits <= if net.is_ipv4() { 32 } else { 128 }).then_some(Test::Cidr { net, bits })
        };
        parsed().ok_or_else(|| self.wrong("cidr is as \"10.0.0.0/8\""))
    }
}
