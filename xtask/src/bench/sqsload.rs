//! A load tool for SQS: JSON 1.0 over HTTP/1.1 on blocking sockets, one thread a connection, requests made once. It reads of an answer what it needs
//! and no more, so that on two shared cores most of the time is the broker's.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::clock::{Moment, pause};

/// One message.
const MESSAGE_BYTES: usize = 1024;
/// No answer takes longer.
const ANSWERED_WITHIN: Duration = Duration::from_secs(30);
/// An answer is read in steps of this.
const READ_BYTES: usize = 64 * 1024;
/// Between an answer to a long poll and the next send: the poll is idle by then.
const IDLE_FOR: Duration = Duration::from_millis(15);

/// A queue at a broker.
pub struct Queue {
    address: String,
    url: String,
}

/// What a load of sending, receiving and deleting came to.
pub struct Through {
    /// Messages that were sent, received and deleted.
    pub messages: f64,
    /// The same, a second.
    pub per_second: f64,
    /// Each request's time in ms, ascending.
    pub send_ms: Vec<f64>,
    /// Likewise.
    pub receive_ms: Vec<f64>,
    /// Likewise.
    pub delete_ms: Vec<f64>,
}

/// What one connection did.
#[derive(Default)]
struct Done {
    messages: usize,
    send_ms: Vec<f64>,
    receive_ms: Vec<f64>,
    delete_ms: Vec<f64>,
}

impl Queue {
    /// Makes the queue `name`.
    pub fn create(address: &str, name: &str) -> Result<Self> {
        let mut connection = Connection::open(address)?;
        let answer =
            connection.call(&request(address, "CreateQueue", &format!(r#"{{"QueueName":"{name}"}}"#)))?;
        let url = values(answer, "QueueUrl").next().context("CreateQueue gave no QueueUrl")?.to_owned();
        Ok(Self { address: address.to_owned(), url })
    }

    /// Each of `connections` sends, receives and deletes in turn, `batch` messages a request, for so many seconds.
    pub fn through(&self, connections: usize, batch: usize, seconds: u64) -> Result<Through> {
        let started = Moment::now();
        let until = Duration::from_secs(seconds);
        let all = thread::scope(|scope| {
            let threads: Vec<_> = (0..connections)
                .map(|_| scope.spawn(|| self.turns(batch, || started.elapsed() < until)))
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().ok().context("a connection's thread panicked")?)
                .collect::<Result<Vec<Done>>>()
        })?;
        let took = started.elapsed().as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        let messages = all.iter().map(|done| done.messages).sum::<usize>() as f64;
        let sorted = |of: fn(&Done) -> &[f64]| {
            let mut times: Vec<f64> = all.iter().flat_map(of).copied().collect();
            times.sort_by(f64::total_cmp);
            times
        };
        Ok(Through {
            messages,
            per_second: messages / took,
            send_ms: sorted(|done| &done.send_ms),
            receive_ms: sorted(|done| &done.receive_ms),
            delete_ms: sorted(|done| &done.delete_ms),
        })
    }

    fn turns(&self, batch: usize, go_on: impl Fn() -> bool) -> Result<Done> {
        let mut connection = Connection::open(&self.address)?;
        let (send, receive) = (self.send(batch), self.receive(batch, 0));
        let mut done = Done::default();
        while go_on() {
            let at = Moment::now();
            whole(connection.call(&send)?)?;
            done.send_ms.push(ms(at.elapsed()));
            let at = Moment::now();
            let answer = connection.call(&receive)?;
            done.receive_ms.push(ms(at.elapsed()));
            let handles: Vec<String> = values(answer, "ReceiptHandle").map(str::to_owned).collect();
            if handles.is_empty() {
                continue;
            }
            let delete = self.delete(&handles);
            let at = Moment::now();
            whole(connection.call(&delete)?)?;
            done.delete_ms.push(ms(at.elapsed()));
            done.messages += handles.len();
        }
        Ok(done)
    }

    /// From a send to its message at a long poll that was idle, so many times: in ms, ascending.
    pub fn wake_ups(&self, times: usize) -> Result<Vec<f64>> {
        let (polling, came) = sync_channel(1);
        let mut woken = Vec::with_capacity(times);
        thread::scope(|scope| {
            let poller = scope.spawn(move || -> Result<()> {
                let mut connection = Connection::open(&self.address)?;
                let receive = self.receive(1, 20);
                for _ in 0..times {
                    let answer = connection.call(&receive)?;
                    let at = Moment::now();
                    let handles: Vec<String> = values(answer, "ReceiptHandle").map(str::to_owned).collect();
                    ensure!(handles.len() == 1, "a long poll gave {} messages", handles.len());
                    whole(connection.call(&self.delete(&handles))?)?;
                    polling.send(at).context("nobody waits for the long poll")?;
                }
                Ok(())
            });
            let mut connection = Connection::open(&self.address)?;
            let request = self.send(1);
            for _ in 0..times {
                pause(IDLE_FOR);
                let sent = Moment::now();
                connection.call(&request)?;
                let Ok(at) = came.recv() else { break };
                woken.push(ms(at.since(sent)));
            }
            poller.join().ok().context("the long poll's thread panicked")?
        })?;
        woken.sort_by(f64::total_cmp);
        Ok(woken)
    }

    fn send(&self, batch: usize) -> Vec<u8> {
        let (url, body) = (&self.url, "m".repeat(MESSAGE_BYTES));
        if batch == 1 {
            let text = format!(r#"{{"QueueUrl":"{url}","MessageBody":"{body}"}}"#);
            return request(&self.address, "SendMessage", &text);
        }
        let entries = (0..batch).map(|n| format!(r#"{{"Id":"{n}","MessageBody":"{body}"}}"#));
        self.entries("SendMessageBatch", entries)
    }

    fn receive(&self, batch: usize, wait_s: u64) -> Vec<u8> {
        let text = format!(
            r#"{{"QueueUrl":"{}","MaxNumberOfMessages":{batch},"WaitTimeSeconds":{wait_s}}}"#,
            self.url
        );
        request(&self.address, "ReceiveMessage", &text)
    }

    fn delete(&self, handles: &[String]) -> Vec<u8> {
        if let [handle] = handles {
            let text = format!(r#"{{"QueueUrl":"{}","ReceiptHandle":"{handle}"}}"#, self.url);
            return request(&self.address, "DeleteMessage", &text);
        }
        let entries = handles
            .iter()
            .enumerate()
            .map(|(n, handle)| format!(r#"{{"Id":"{n}","ReceiptHandle":"{handle}"}}"#));
        self.entries("DeleteMessageBatch", entries)
    }

    fn entries(&self, action: &str, entries: impl Iterator<Item = String>) -> Vec<u8> {
        let entries: Vec<String> = entries.collect();
        let text = format!(r#"{{"QueueUrl":"{}","Entries":[{}]}}"#, self.url, entries.join(","));
        request(&self.address, action, &text)
    }
}

/// A request's bytes.
fn request(address: &str, action: &str, body: &str) -> Vec<u8> {
    let mut text = String::with_capacity(body.len() + 256);
    let _ = write!(
        text,
        "POST / HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/x-amz-json-1.0\r\nX-Amz-Target: AmazonSQS.{action}\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    text.into_bytes()
}

/// A kept connection.
struct Connection {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Connection {
    fn open(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).with_context(|| format!("connecting to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWERED_WITHIN))?;
        Ok(Self { stream, answer: Vec::new() })
    }

    /// Sends a request, and gives the body of its answer, which must be a good one.
    fn call(&mut self, request: &[u8]) -> Result<&str> {
        self.stream.write_all(request)?;
        self.answer.clear();
        let (head, length) = loop {
            if let Some(head) = end_of_head(&self.answer) {
                let text = std::str::from_utf8(self.answer.get(..head).unwrap_or_default())?;
                break (head, content_length(text)?);
            }
            self.more()?;
        };
        while self.answer.len() < head + length {
            self.more()?;
        }
        let body = std::str::from_utf8(self.answer.get(head..head + length).unwrap_or_default())?;
        ensure!(self.answer.starts_with(b"HTTP/1.1 200 "), "an error for an answer: {body}");
        Ok(body)
    }

    fn more(&mut self) -> Result<()> {
        let had = self.answer.len();
        self.answer.resize(had + READ_BYTES, 0);
        let read = self.stream.read(self.answer.get_mut(had..).unwrap_or_default())?;
        self.answer.truncate(had + read);
        ensure!(read > 0, "the broker closed the connection");
        Ok(())
    }
}

fn end_of_head(answer: &[u8]) -> Option<usize> {
    answer.windows(4).position(|four| four == b"\r\n\r\n").map(|place| place + 4)
}

fn content_length(head: &str) -> Result<usize> {
    for line in head.lines() {
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            return value.trim().parse().with_context(|| format!("a length of {value:?}"));
        }
    }
    bail!("an answer without a length:\n{head}")
}

/// The texts of all members `name` of a JSON text; such as need no escapes.
fn values<'a>(json: &'a str, name: &'static str) -> impl Iterator<Item = &'a str> {
    let mut left = json;
    std::iter::from_fn(move || {
        loop {
            let (_, after) = left.split_once(name)?;
            left = after;
            let Some(value) = after.strip_prefix('"').map(str::trim_start) else { continue };
            let Some(value) = value.strip_prefix(':').map(str::trim_start) else { continue };
            let (value, after) = value.strip_prefix('"')?.split_once('"')?;
            left = after;
            return Some(value);
        }
    })
}

/// An answer to a batch must not have failed entries.
fn whole(answer: &str) -> Result<()> {
    ensure!(!answer.contains(r#""Code""#), "failed entries: {answer}");
    Ok(())
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The value below which so many percent of `ascending` are.
pub fn percentile(ascending: &[f64], percent: usize) -> Option<f64> {
    let place = (ascending.len() * percent / 100).min(ascending.len().checked_sub(1)?);
    ascending.get(place).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_found_whatever_stands_between() {
        let json = r#"{"Messages":[{"ReceiptHandle":"a b","Body":"x"},{"ReceiptHandle" : "c"}],"NotAReceiptHandle":1}"#;
        assert_eq!(values(json, "ReceiptHandle").collect::<Vec<_>>(), ["a b", "c"]);
        assert_eq!(values("{}", "ReceiptHandle").count(), 0);
    }

    #[test]
    fn an_answers_length_is_read() {
        let head = "HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n";
        assert_eq!(end_of_head(head.as_bytes()), Some(head.len()));
        assert_eq!(content_length(head).unwrap(), 12);
        assert!(content_length("HTTP/1.1 200 OK\r\n\r\n").is_err());
    }

    #[test]
    fn percentiles_stay_within() {
        let times: Vec<f64> = (0..200).map(f64::from).collect();
        assert_eq!(percentile(&times, 50), Some(100.0));
        assert_eq!(percentile(&times, 99), Some(198.0));
        assert_eq!(percentile(&[7.0], 99), Some(7.0));
        assert_eq!(percentile(&[], 50), None);
    }
}
