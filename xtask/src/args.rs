//! The command line: words, flags, and flags with a value. Nothing is ignored: what nobody asked for is an error.

use anyhow::{Context, Result, bail};

/// What is left of the command line.
pub struct Args {
    left: Vec<String>,
}

impl Args {
    /// This program's own command line.
    pub fn from_env() -> Self {
        Self { left: std::env::args().skip(1).collect() }
    }

    /// Takes the first argument, if there is one.
    pub fn word(&mut self) -> Option<String> {
        (!self.left.is_empty()).then(|| self.left.remove(0))
    }

    /// Takes `name`; says whether it was there.
    pub fn flag(&mut self, name: &str) -> bool {
        let place = self.left.iter().position(|argument| argument == name);
        place.map(|place| self.left.remove(place)).is_some()
    }

    /// Takes `name VALUE` or `name=VALUE`.
    pub fn value(&mut self, name: &str) -> Result<Option<String>> {
        if let Some(place) = self.left.iter().position(|argument| argument == name) {
            self.left.remove(place);
            if place == self.left.len() {
                bail!("{name} needs a value");
            }
            return Ok(Some(self.left.remove(place)));
        }
        let prefix = format!("{name}=");
        let place = self.left.iter().position(|argument| argument.starts_with(&prefix));
        Ok(place.map(|place| self.left.remove(place).split_off(prefix.len())))
    }

    /// Takes `name NUMBER`, or gives `default`.
    pub fn number(&mut self, name: &str, default: u64) -> Result<u64> {
        match self.value(name)? {
            Some(text) => text.parse().with_context(|| format!("{name} wants a number, not {text:?}")),
            None => Ok(default),
        }
    }

    /// Everything that is left, for another program.
    pub fn rest(self) -> Vec<String> {
        self.left.into_iter().skip_while(|argument| argument == "--").collect()
    }

    /// Nothing may be left.
    pub fn finish(self) -> Result<()> {
        match self.left.first() {
            Some(argument) => bail!("what is {argument:?}? (`cargo xtask help`)"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str) -> Args {
        Args { left: line.split_whitespace().map(str::to_owned).collect() }
    }

    #[test]
    fn flags_and_values_are_taken_wherever_they_stand() {
        let mut a = args("kafka --only go --quick --seconds=7");
        assert!(a.flag("--quick"));
        assert_eq!(a.number("--seconds", 20).unwrap(), 7);
        assert_eq!(a.value("--only").unwrap().as_deref(), Some("go"));
        assert_eq!(a.word().as_deref(), Some("kafka"));
        a.finish().unwrap();
    }

    #[test]
    fn what_nobody_asked_for_is_an_error() {
        assert!(args("--fast").finish().is_err());
        assert!(args("--only").value("--only").is_err());
        assert!(args("--seconds soon").number("--seconds", 1).is_err());
    }
}
