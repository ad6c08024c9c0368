//! How long messages are kept, from when on, and what is told of their times: through dead-letter queues, and over a restart.
#![allow(clippy::pedantic, clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::{Server, url};

/// 100 s of retention, and a dead-letter queue after the first receive.
async fn queues(server: &Server, end: &str, more: Value) {
    let with = |name: &str, value: &str| {
        let mut all = more.as_object().unwrap().clone();
        all.insert("MessageRetentionPeriod".to_owned(), json!("100"));
        all.insert(name.to_owned(), json!(value));
        Value::Object(all)
    };
    server.create(&format!("dead{end}"), with("VisibilityTimeout", "30")).await;
    let arn = format!("arn:aws:sqs:us-east-1:000000000000:dead{end}");
    let redrive = json!({"deadLetterTargetArn": arn, "maxReceiveCount": 1}).to_string();
    server.create(&format!("work{end}"), with("RedrivePolicy", &redrive)).await;
}

/// A message that is received once, 60 s after it was sent, and given back: it is dead then. Its id, and when it was sent.
async fn died(server: &Server, end: &str, more: Value) -> (Value, u64) {
    let (work, dead) = (format!("work{end}"), format!("dead{end}"));
    let mut send = more.as_object().unwrap().clone();
    send.insert("QueueUrl".to_owned(), json!(url(&work)));
    send.insert("MessageBody".to_owned(), json!("b"));
    let id = server.done("SendMessage", Value::Object(send)).await["MessageId"].clone();
    server.clock.advance(Duration::from_secs(60));
    let got = server.receive(&work, 0).await.1["Messages"][0].clone();
    let sent_ms = got["Attributes"]["SentTimestamp"].as_str().unwrap().parse().unwrap();
    let change =
        json!({"QueueUrl": url(&work), "ReceiptHandle": got["ReceiptHandle"], "VisibilityTimeout": 0});
    server.done("ChangeMessageVisibility", change).await;
    server.until(&dead, (1, 0)).await;
    (id, sent_ms)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_kept_as_long_as_its_queue_says_also_over_a_restart() {
    let server = Server::start().await;
    server.create("q", json!({"MessageRetentionPeriod": "100"})).await;
    for body in ["old", "young"] {
        server.done("SendMessage", json!({"QueueUrl": url("q"), "MessageBody": body})).await;
        server.clock.advance(Duration::from_secs(60));
    }
    let server = server.again().await;
    server.until("q", (1, 0)).await;
    let got = server.receive("q", 0).await.1;
    assert_eq!(got["Messages"][0]["Body"], "young");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dead_letters_of_a_standard_queue_are_kept_from_when_they_were_sent() {
    let server = Server::start().await;
    queues(&server, "", json!({})).await;
    let (id, sent_ms) = died(&server, "", json!({})).await;
    server.clock.advance(Duration::from_secs(20));
    let server = server.again().await;
    let got = server.receive("dead", 0).await.1["Messages"][0].clone();
    assert_eq!(got["MessageId"], id);
    assert_eq!(got["Attributes"]["SentTimestamp"], sent_ms.to_string());
    // What is left of its retention is nothing that was said of the message.
    assert_eq!(got["MessageAttributes"], Value::Null);
    let back =
        json!({"QueueUrl": url("dead"), "ReceiptHandle": got["ReceiptHandle"], "VisibilityTimeout": 0});
    server.done("ChangeMessageVisibility", back).await;
    server.clock.advance(Duration::from_secs(30));
    assert_eq!(server.receive("dead", 0).await.1, json!({}));
    server.until("dead", (0, 0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dead_letters_of_a_fifo_queue_are_kept_from_when_they_died() {
    let server = Server::start().await;
    queues(&server, ".fifo", json!({"FifoQueue": "true"})).await;
    let more = json!({"MessageGroupId": "g", "MessageDeduplicationId": "d"});
    let (id, sent_ms) = died(&server, ".fifo", more).await;
    server.clock.advance(Duration::from_secs(90));
    let server = server.again().await;
    let got = server.receive("dead.fifo", 0).await.1["Messages"][0].clone();
    assert_eq!(got["MessageId"], id);
    let died_ms: u64 = got["Attributes"]["SentTimestamp"].as_str().unwrap().parse().unwrap();
    assert!(died_ms >= sent_ms + 60_000, "{died_ms} {sent_ms}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_move_task_takes_back_is_kept_anew() {
    let server = Server::start().await;
    queues(&server, "", json!({})).await;
    died(&server, "", json!({})).await;
    let source = "arn:aws:sqs:us-east-1:000000000000:dead";
    server.done("StartMessageMoveTask", json!({"SourceArn": source})).await;
    server.until("work", (1, 0)).await;
    server.clock.advance(Duration::from_secs(90));
    assert_eq!(server.receive("work", 0).await.1["Messages"][0]["Body"], "b");
}

#[tokio::test(flavor = "multi_thread")]
async fn later_receives_tell_when_the_first_was() {
    let server = Server::start().await;
    server.create("q", json!({"VisibilityTimeout": "30"})).await;
    server.done("SendMessage", json!({"QueueUrl": url("q"), "MessageBody": "b"})).await;
    server.clock.advance(Duration::from_secs(5));
    let told = |answer: (u16, Value)| answer.1["Messages"][0]["Attributes"].clone();
    let first = told(server.receive("q", 0).await);
    // The row tells, and the lease holds, over a restart.
    let server = server.again().await;
    server.until("q", (0, 1)).await;
    server.clock.advance(Duration::from_secs(31));
    server.until("q", (1, 0)).await;
    let second = told(server.receive("q", 0).await);
    let ms = |v: &Value, name: &str| v[name].as_str().unwrap().parse::<u64>().unwrap();
    let name = "ApproximateFirstReceiveTimestamp";
    assert!(ms(&first, name) >= ms(&first, "SentTimestamp") + 5_000);
    assert_eq!(ms(&second, name), ms(&first, name));
    assert_eq!(
        (&first["ApproximateReceiveCount"], &second["ApproximateReceiveCount"]),
        (&json!("1"), &json!("2"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_goes_on_counting_receives_and_a_move_task_begins_anew() {
    let server = Server::start().await;
    queues(&server, "", json!({})).await;
    died(&server, "", json!({})).await;
    server.clock.advance(Duration::from_secs(5));
    let server = server.again().await;
    let got = server.receive("dead", 0).await.1["Messages"][0].clone();
    assert_eq!(got["Attributes"]["ApproximateReceiveCount"], "2");
    // When this queue first handed it out.
    let ms = |name: &str| got["Attributes"][name].as_str().unwrap().parse::<u64>().unwrap();
    assert!(ms("ApproximateFirstReceiveTimestamp") >= ms("SentTimestamp") + 65_000);
    let back =
        json!({"QueueUrl": url("dead"), "ReceiptHandle": got["ReceiptHandle"], "VisibilityTimeout": 0});
    server.done("ChangeMessageVisibility", back).await;
    server.until("dead", (1, 0)).await;
    let source = "arn:aws:sqs:us-east-1:000000000000:dead";
    server.done("StartMessageMoveTask", json!({"SourceArn": source})).await;
    server.until("work", (1, 0)).await;
    let got = server.receive("work", 0).await.1["Messages"][0].clone();
    assert_eq!(got["Attributes"]["ApproximateReceiveCount"], "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_json_request_without_a_body_is_one_that_says_nothing() {
    let server = Server::start().await;
    server.create("q", json!({})).await;
    let (status, error) = server.ask_with("ReceiveMessage", "").await;
    let wanted = "com.amazon.coral.service#MissingRequiredParameterException";
    assert_eq!((status, &error["__type"]), (400, &json!(wanted)));
    assert_eq!(error["message"], "The request must contain the parameter QueueUrl.");
    let (status, listed) = server.ask_with("ListQueues", "").await;
    assert_eq!((status, listed["QueueUrls"].as_array().map(Vec::len)), (200, Some(1)));
    let (status, error) = server.ask_with("ReceiveMessage", "null").await;
    assert_eq!((status, &error["__type"]), (400, &json!("com.amazon.coral.service#SerializationException")));
}
