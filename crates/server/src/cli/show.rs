//! Messages for people and for programs.

use std::io::Write;

use anyhow::Context;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

/// How messages are printed.
pub struct Shown<'a> {
    /// As JSON.
    pub as_json: bool,
    /// The key, and this, before the value.
    pub key_separator: Option<&'a str>,
    /// With what else is known of it, on a line of its own before it.
    pub whole: bool,
}

/// Prints one message; false if nobody reads any more.
pub fn print_message(out: &mut impl Write, how: &Shown<'_>, m: &Value) -> anyhow::Result<bool> {
    let printed = if how.as_json { writeln!(out, "{m}") } else { print(out, how, m) };
    match printed {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        other => other.map(|()| true).context("writing to standard output"),
    }
}

fn print(out: &mut impl Write, how: &Shown<'_>, m: &Value) -> std::io::Result<()> {
    if how.whole {
        let known = ["exchange", "routing_key", "priority", "properties", "headers", "deaths", "error"];
        let there = |n: &&str| m.get(*n).is_some_and(|v| !v.is_null() && *v != "");
        let told: Vec<String> = known.iter().filter(|n| there(n)).map(|n| format!("{n}={}", m[*n])).collect();
        writeln!(out, "# {}", told.join(" "))?;
    }
    if let Some(sep) = how.key_separator {
        out.write_all(&bytes(m, "key"))?;
        out.write_all(sep.as_bytes())?;
    }
    out.write_all(&bytes(m, "value"))?;
    out.write_all(b"\n")
}

fn bytes(m: &Value, name: &str) -> Vec<u8> {
    match m.get(name).and_then(Value::as_str) {
        Some(text) => text.as_bytes().to_vec(),
        None => m
            .get(format!("{name}_base64"))
            .and_then(Value::as_str)
            .and_then(|b| BASE64_STANDARD.decode(b).ok())
            .unwrap_or_default(),
    }
}
