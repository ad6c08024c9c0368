//! Patterns of names: regular expressions, found anywhere in a name unless they say `^` and `$`. Without look-around and back-references,
//! so that matching takes time in proportion to the name.

use std::sync::OnceLock;

use regex::{Regex, RegexBuilder};

use super::PATTERN_BYTES_MAX;

/// Memory of one compiled pattern, bytes.
const COMPILED_BYTES_MAX: usize = 256 << 10;

/// A pattern. The common ones are known by sight; others are compiled when they are first asked.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    text: String,
    compiled: OnceLock<Option<Regex>>,
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}
impl Eq for Pattern {}

fn compile(text: &str) -> Result<Regex, String> {
    RegexBuilder::new(text).size_limit(COMPILED_BYTES_MAX).build().map_err(|e| match e {
        regex::Error::Syntax(why) => why.lines().last().unwrap_or_default().trim().to_owned(),
        e => e.to_string(),
    })
}

impl Pattern {
    /// Reads one; says why it is none.
    pub(super) fn new(text: &str) -> Result<Self, String> {
        if text.len() > PATTERN_BYTES_MAX {
            return Err(format!("longer than {PATTERN_BYTES_MAX} bytes"));
        }
        compile(text)?;
        Ok(Self::known(text.to_owned()))
    }

    /// One that was read before.
    pub(super) fn known(text: String) -> Self {
        Self { text, compiled: OnceLock::new() }
    }

    pub(super) fn everything() -> Self {
        Self::known(".*".to_owned())
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn matches(&self, name: &str) -> bool {
        match self.text.as_str() {
            ".*" => true,
            // As `^$`: names are not empty.
            "" | "^$" => name.is_empty(),
            text => {
                self.compiled.get_or_init(|| compile(text).ok()).as_ref().is_some_and(|r| r.is_match(name))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_found_anywhere_unless_it_says_where() {
        let matches = |pattern: &str, name| Pattern::new(pattern).unwrap().matches(name);
        assert!(matches("job", "my-jobs") && !matches("^job", "my-jobs") && matches("^(a|b)$", "b"));
        assert!(!matches("", "q") && !matches("^$", "q") && matches(".*", "q") && matches("", ""));
    }

    #[test]
    fn what_would_take_long_or_much_is_no_pattern() {
        assert!(Pattern::new("(").is_err() && Pattern::new("(?=a)").is_err());
        assert!(Pattern::new("((a{100}){100}){100}").is_err());
        assert!(Pattern::new(&"a".repeat(PATTERN_BYTES_MAX + 1)).is_err());
    }
}
