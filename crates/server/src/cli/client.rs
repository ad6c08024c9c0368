//! Speaks to a running broker over HTTP.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};

use anyhow::{Context, bail};
use serde_json::Value;
use ureq::Agent;
use ureq::http::Response;

/// Largest answer read whole, bytes.
const ANSWER_BYTES_MAX: u64 = 256 << 20;

/// A client of one broker.
pub struct Client {
    base: String,
    agent: Agent,
}

impl Client {
    /// For the broker whose HTTP listener is at `server` (HOST:PORT).
    pub fn new(server: &str) -> Self {
        let config = Agent::config_builder().http_status_as_error(false).build();
        Self { base: format!("http://{server}/api/v1"), agent: config.into() }
    }

    /// GET, as JSON.
    ///
    /// # Errors
    /// No connection, or what the broker says.
    pub fn get(&self, path: &str) -> anyhow::Result<Value> {
        let answer = self.agent.get(self.url(path)).call();
        self.json(answer)
    }

    /// POST of a body, as JSON.
    ///
    /// # Errors
    /// No connection, or what the broker says.
    pub fn post(&self, path: &str, body: &[u8]) -> anyhow::Result<Value> {
        let answer = self.agent.post(self.url(path)).header("content-type", "application/json").send(body);
        self.json(answer)
    }

    /// PATCH with a JSON body.
    ///
    /// # Errors
    /// No connection, or what the broker says.
    pub fn patch(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let body = body.to_string();
        let answer = self.agent.patch(self.url(path)).header("content-type", "application/json").send(body);
        self.json(answer)
    }

    /// DELETE.
    ///
    /// # Errors
    /// No connection, or what the broker says.
    pub fn delete(&self, path: &str) -> anyhow::Result<Value> {
        let answer = self.agent.delete(self.url(path)).call();
        self.json(answer)
    }

    /// DELETE with a JSON body.
    ///
    /// # Errors
    /// No connection, or what the broker says.
    pub fn delete_with(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let request = self.agent.delete(self.url(path)).header("content-type", "application/json");
        let answer = request.force_send_body().send(body.to_string());
        self.json(answer)
    }

    /// GET, line by line as they come.
    ///
    /// # Errors
    /// No connection, or what the broker says.
    pub fn lines(&self, path: &str) -> anyhow::Result<impl Iterator<Item = anyhow::Result<Value>>> {
        let answer = self.agent.get(self.url(path)).call();
        let answer = self.check(answer)?;
        let lines = BufReader::new(answer.into_body().into_reader()).lines();
        Ok(lines.map(|l| Ok(serde_json::from_str(&l.context("the broker's answer was cut off")?)?)))
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    fn check(
        &self,
        answer: Result<Response<ureq::Body>, ureq::Error>,
    ) -> anyhow::Result<Response<ureq::Body>> {
        let mut answer = answer.with_context(|| {
            format!(
                "no broker answers at {} (start one with `millstream serve`, or say --server HOST:PORT)",
                self.base
            )
        })?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status();
        let text = answer.body_mut().read_to_string().unwrap_or_default();
        let parsed: Option<Value> = serde_json::from_str(&text).ok();
        match parsed.as_ref().and_then(|v| v.get("error")).and_then(Value::as_str) {
            Some(e) => bail!("{e}"),
            None => bail!("{status}: {}", text.trim()),
        }
    }

    fn json(&self, answer: Result<Response<ureq::Body>, ureq::Error>) -> anyhow::Result<Value> {
        let mut answer = self.check(answer)?;
        let text = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string()?;
        if text.is_empty() { Ok(Value::Null) } else { Ok(serde_json::from_str(&text)?) }
    }
}

/// A name as part of a path: percent-encoded.
pub fn escape(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for b in name.bytes() {
        if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(b));
        } else {
            let _ = write!(out, "%{b:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_are_escaped_for_paths() {
        assert_eq!(super::escape("a b/ü-1._~"), "a%20b%2F%C3%BC-1._~");
    }
}
