//! What a connection promises: durability before the answer, and no client disturbed by another.
#![allow(clippy::pedantic, clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::time::Duration;

use millstream_amqp::AmqpConfig;
use millstream_amqp::frame::FrameKind;
use millstream_amqp::methods::{AMQPClass, basic, channel, connection, queue};
use millstream_testkit::log::mem::Commit;
use millstream_types::{Lsn, Namespace};
use support::Server;
use tokio::io::AsyncWriteExt;

fn close_channel() -> AMQPClass {
    AMQPClass::Channel(channel::AMQPMethod::Close(channel::Close {
        reply_code: 200,
        reply_text: "".into(),
        class_id: 0,
        method_id: 0,
    }))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_is_declared_only_once_it_is_durable() {
    let server = Server::start(Commit::ByHand).await;
    let mut client = server.client().await;
    let before = server.broker.marks().sequenced;
    client.declare("q").await;
    server.sequenced_behind(before).await;
    client.hears_nothing("answered before it was durable").await;
    server.log.commit_to(Lsn(u64::MAX));
    assert!(matches!(client.method().await.1, AMQPClass::Queue(queue::AMQPMethod::DeclareOk(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_confirmed_only_once_it_is_durable() {
    let server = Server::start(Commit::ByHand).await;
    let mut client = server.client().await;
    client.declare("q").await;
    server.committing(client.method()).await;
    client.select_confirms().await;
    let before = server.broker.marks().sequenced;
    client.publish("q", b"x").await;
    server.sequenced_behind(before).await;
    client.hears_nothing("confirmed before it was durable").await;
    server.log.commit_to(Lsn(u64::MAX));
    let AMQPClass::Basic(basic::AMQPMethod::Ack(ack)) = client.method().await.1 else { panic!("no confirm") };
    assert_eq!(ack.delivery_tag, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_is_closed_only_once_its_acks_are_durable() {
    let server = Server::start(Commit::ByHand).await;
    let mut client = server.client().await;
    client.declare("q").await;
    server.committing(client.method()).await;
    client.publish("q", b"x").await;
    client.select_confirms().await;
    client.publish("q", b"y").await;
    server.committing(client.method()).await;
    let tag = server.committing(client.get("q")).await;
    server.log.commit_to(Lsn(u64::MAX));
    let before = server.broker.marks().sequenced;
    client.ack(tag).await;
    client.send(1, close_channel()).await;
    server.sequenced_behind(before).await;
    client.hears_nothing("closed before the ack was durable").await;
    server.log.commit_to(Lsn(u64::MAX));
    assert!(matches!(
        server.committing(client.method()).await,
        (1, AMQPClass::Channel(channel::AMQPMethod::CloseOk(_)))
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_closed_with_320_when_the_listener_stops() {
    let mut server = Server::start(Commit::AtOnce).await;
    let mut client = server.client().await;
    server.stop.take().unwrap().send(()).unwrap();
    let AMQPClass::Connection(connection::AMQPMethod::Close(close)) = client.method().await.1 else {
        panic!("not closed")
    };
    assert_eq!(close.reply_code, 320);
    let ok = connection::AMQPMethod::CloseOk(connection::CloseOk {});
    client.send(0, AMQPClass::Connection(ok)).await;
    server.serving.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_may_still_be_writing_when_its_close_is_answered() {
    let server = Server::start(Commit::AtOnce).await;
    let mut client = server.client().await;
    let close = connection::Close { reply_code: 200, reply_text: "".into(), class_id: 0, method_id: 0 };
    client.send(0, AMQPClass::Connection(connection::AMQPMethod::Close(close))).await;
    // More than the sockets hold: it goes through only if it is read.
    let body = vec![0; 128 << 10];
    for _ in 0..128 {
        client.publish("q", &body).await;
    }
    assert!(matches!(client.method().await, (0, AMQPClass::Connection(connection::AMQPMethod::CloseOk(_)))));
    assert!(client.frame().await.is_none());
    client.publish("q", &body).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn noise_ends_its_own_connection_and_no_other() {
    let server = Server::start(Commit::AtOnce).await;
    let mut good = server.client().await;
    let mut seed = 7_u64;
    for _ in 0..50 {
        let mut noisy = server.client().await;
        let noise: Vec<u8> = (0..200)
            .map(|_| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                seed.to_be_bytes()[0] % 12
            })
            .collect();
        noisy.stream.write_all(&noise).await.unwrap();
        noisy.stream.shutdown().await.unwrap();
        while noisy.frame().await.is_some() {}
    }
    good.declare("q").await;
    assert!(matches!(good.method().await.1, AMQPClass::Queue(queue::AMQPMethod::DeclareOk(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_channel_ignores_what_comes_until_it_is_closed_and_opens_again() {
    let server = Server::start(Commit::AtOnce).await;
    let mut client = server.client().await;
    client.ack(7).await;
    client.declare("ignored").await;
    let AMQPClass::Channel(channel::AMQPMethod::Close(close)) = client.method().await.1 else {
        panic!("not closed")
    };
    assert_eq!((close.reply_code, close.class_id, close.method_id), (406, 60, 80));
    client.publish("ignored", b"x").await;
    client.send(1, AMQPClass::Channel(channel::AMQPMethod::CloseOk(channel::CloseOk {}))).await;
    client.send(1, AMQPClass::Channel(channel::AMQPMethod::Open(channel::Open {}))).await;
    assert!(matches!(client.method().await.1, AMQPClass::Channel(channel::AMQPMethod::OpenOk(_))));
    client.declare("q").await;
    assert!(matches!(client.method().await.1, AMQPClass::Queue(queue::AMQPMethod::DeclareOk(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_is_not_settled_in_time_closes_its_channel_and_comes_again() {
    let cfg = AmqpConfig { consumer_timeout: Some(Duration::from_millis(300)), ..AmqpConfig::default() };
    let server = Server::start_with(Commit::AtOnce, cfg).await;
    let mut client = server.client().await;
    client.declare("q").await;
    client.method().await;
    client.publish("q", b"x").await;
    client.select_confirms().await;
    client.publish("q", b"y").await;
    client.method().await;
    let tag = client.get("q").await;
    client.ack(tag).await;
    client.get("q").await;
    let (code, text) = client.channel_closed().await;
    assert_eq!(code, 406);
    assert!(
        text.starts_with("PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. Timeout value used: 300 ms."),
        "{text}"
    );
    client.open_channel(1).await;
    client.get("q").await;
    assert!(server.broker.queue(Namespace::DEFAULT, "q").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_disk_is_full_who_publishes_is_held_and_told_and_not_taken_for_dead_and_who_takes_goes_on()
{
    let server = Server::start(Commit::AtOnce).await;
    let mut taker = server.client().await;
    taker.declare("q").await;
    taker.method().await;
    let mut publisher = server.stranger().await;
    publisher.open_with_heartbeat(1).await;
    publisher.open_channel(1).await;
    publisher.select_confirms().await;
    for _ in 0..2 {
        publisher.publish("q", b"before").await;
        assert!(matches!(heard(&mut publisher).await, AMQPClass::Basic(basic::AMQPMethod::Ack(_))));
    }
    server.log.set_full(true);
    // More than is read from a client whose publishing is held: what it says after that is not heard.
    let n = 52;
    for _ in 0..n {
        publisher.publish("q", &[7; 100_000]).await;
    }
    let AMQPClass::Connection(connection::AMQPMethod::Blocked(why)) = heard(&mut publisher).await else {
        panic!("not told")
    };
    assert_eq!(why.reason.as_str(), "low on disk");
    for _ in 0..2 {
        let tag = taker.get("q").await;
        taker.ack(tag).await;
    }
    // That takes longer than a client that is read from may be silent.
    let mut beats = 0;
    while beats < 6 {
        let frame = publisher.frame().await.expect("the connection is open");
        assert_eq!(frame.kind, FrameKind::Heartbeat, "it is held");
        beats += 1;
    }
    taker.get_nothing("q").await;
    server.log.set_full(false);
    let (mut unblocked, mut confirmed) = (false, false);
    while !(unblocked && confirmed) {
        match heard(&mut publisher).await {
            AMQPClass::Connection(connection::AMQPMethod::Unblocked(_)) => unblocked = true,
            AMQPClass::Basic(basic::AMQPMethod::Ack(ack)) => confirmed = ack.delivery_tag == 2 + n,
            other => panic!("{other:?}"),
        }
    }
    taker.get("q").await;
}

/// The next method, past heartbeats.
async fn heard(client: &mut support::Client) -> AMQPClass {
    loop {
        let frame = client.frame().await.expect("the connection is open");
        if frame.kind == FrameKind::Method {
            return millstream_amqp::method::decode(&frame.payload).unwrap().class;
        }
        assert_eq!(frame.kind, FrameKind::Heartbeat);
    }
}
