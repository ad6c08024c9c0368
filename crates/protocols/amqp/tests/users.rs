//! Who may log in, and what each may do: `RabbitMQ`'s codes and texts.
#![allow(clippy::pedantic, clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use millstream_amqp::AmqpConfig;
use millstream_amqp::methods::{AMQPClass, basic, connection, exchange, queue};
use millstream_broker::Permissions;
use millstream_testkit::log::mem::Commit;
use support::{Client, Server};

fn permissions(configure: &str, write: &str, read: &str) -> Option<Permissions> {
    Some(Permissions { configure: configure.into(), write: write.into(), read: read.into() })
}

/// Of `connection.close`.
fn closed(told: Option<AMQPClass>) -> (u16, String) {
    let Some(AMQPClass::Connection(connection::AMQPMethod::Close(close))) = told else { panic!("{told:?}") };
    (close.reply_code, close.reply_text.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_login_is_told_to_clients_that_want_to_hear_of_it_and_others_just_end() {
    let server = Server::start(Commit::AtOnce).await;
    server.broker.users().add("ann", "secret", Vec::new()).await.unwrap();
    for (user, password) in [("ann", "wrong"), ("nobody", "secret"), ("guest", "wrong")] {
        let told = server.stranger().await.log_in(user, password, true).await;
        let text = "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker logfile.";
        assert_eq!(closed(told), (403, text.to_owned()));
    }
    assert!(server.stranger().await.log_in("ann", "wrong", false).await.is_none());
    let mut ann = server.stranger().await;
    assert!(matches!(
        ann.log_in("ann", "secret", true).await,
        Some(AMQPClass::Connection(connection::AMQPMethod::Tune(_)))
    ));
    let refused = (530, "NOT_ALLOWED - access to vhost '/' refused for user 'ann'".to_owned());
    assert_eq!(closed(Some(ann.enter().await)), refused);
}

/// An address of this machine that is not its loopback; none where it has no network. Nothing is sent.
fn own_address() -> Option<std::net::IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("198.51.100.1:9").ok()?;
    socket.local_addr().ok().map(|a| a.ip()).filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
}

/// As `RabbitMQ` was seen to answer on such an address.
#[tokio::test(flavor = "multi_thread")]
async fn guest_is_refused_from_another_address_like_a_wrong_password_and_other_users_are_not() {
    let Some(ip) = own_address() else { return println!("not checked: this machine has no other address") };
    let server = Server::start_on(ip, Commit::AtOnce, AmqpConfig::default()).await;
    server.broker.users().add("ann", "secret", Vec::new()).await.unwrap();
    let told = server.stranger().await.log_in("guest", "guest", true).await;
    let text = "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker logfile.";
    assert_eq!(closed(told), (403, text.to_owned()));
    assert!(server.stranger().await.log_in("guest", "guest", false).await.is_none());
    let told = server.stranger().await.log_in("ann", "secret", true).await;
    assert!(matches!(told, Some(AMQPClass::Connection(connection::AMQPMethod::Tune(_)))));
}

async fn ann(server: &Server) -> Client {
    let mut ann = server.stranger().await;
    ann.log_in("ann", "secret", true).await.unwrap();
    assert!(matches!(ann.enter().await, AMQPClass::Connection(connection::AMQPMethod::OpenOk(_))));
    ann.open_channel(1).await;
    ann
}

fn bind(queue: &str, exchange: &str) -> AMQPClass {
    AMQPClass::Queue(queue::AMQPMethod::Bind(queue::Bind {
        queue: queue.into(),
        exchange: exchange.into(),
        routing_key: "k".into(),
        nowait: false,
        arguments: Default::default(),
    }))
}

fn consume(queue: &str) -> AMQPClass {
    AMQPClass::Basic(basic::AMQPMethod::Consume(basic::Consume {
        queue: queue.into(),
        consumer_tag: "c".into(),
        no_local: false,
        no_ack: true,
        exclusive: false,
        nowait: false,
        arguments: Default::default(),
    }))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_user_may_not_do_closes_the_channel_with_403_and_names_it() {
    let server = Server::start(Commit::AtOnce).await;
    let users = server.broker.users();
    users.add("ann", "secret", Vec::new()).await.unwrap();
    users.permit("ann", "/", permissions("^mine", "^mine", "^mine")).await.unwrap();
    let mut guest = server.client().await;
    guest.declare("theirs").await;
    guest.method().await;
    let mut ann = ann(&server).await;
    ann.declare("mine").await;
    assert!(matches!(ann.method().await.1, AMQPClass::Queue(queue::AMQPMethod::DeclareOk(_))));
    let refused =
        |what: &str| (403, format!("ACCESS_REFUSED - access to {what} in vhost '/' refused for user 'ann'"));
    ann.declare("theirs").await;
    assert_eq!(ann.channel_closed().await, refused("queue 'theirs'"));
    ann.open_channel(1).await;
    ann.publish("mine", b"x").await;
    assert_eq!(ann.channel_closed().await, refused("exchange 'amq.default'"));
    for (class, what) in [
        (consume("theirs"), "queue 'theirs'"),
        (
            AMQPClass::Basic(basic::AMQPMethod::Get(basic::Get { queue: "theirs".into(), no_ack: true })),
            "queue 'theirs'",
        ),
        (bind("theirs", "amq.direct"), "queue 'theirs'"),
        (bind("mine", "amq.direct"), "exchange 'amq.direct'"),
        (
            AMQPClass::Queue(queue::AMQPMethod::Purge(queue::Purge {
                queue: "theirs".into(),
                nowait: false,
            })),
            "queue 'theirs'",
        ),
        (
            AMQPClass::Queue(queue::AMQPMethod::Delete(queue::Delete {
                queue: "theirs".into(),
                if_unused: false,
                if_empty: false,
                nowait: false,
            })),
            "queue 'theirs'",
        ),
        (
            AMQPClass::Exchange(exchange::AMQPMethod::Delete(exchange::Delete {
                exchange: "theirs".into(),
                if_unused: false,
                nowait: false,
            })),
            "exchange 'theirs'",
        ),
    ] {
        ann.open_channel(1).await;
        ann.send(1, class).await;
        assert_eq!(ann.channel_closed().await, refused(what));
    }
    users.permit("ann", "/", permissions("", "^amq.default$", "")).await.unwrap();
    ann.open_channel(1).await;
    ann.select_confirms().await;
    ann.publish("theirs", b"x").await;
    assert!(matches!(ann.method().await.1, AMQPClass::Basic(basic::AMQPMethod::Ack(_))));
    users.delete("ann").await.unwrap();
    ann.publish("theirs", b"x").await;
    assert_eq!(ann.channel_closed().await, refused("exchange 'amq.default'"));
}
