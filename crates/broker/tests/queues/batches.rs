//! Messages that are published, or read, together: each counts on its own.

use millstream_broker::{Header, HeaderValue};

use super::*;

async fn bind(s: &Session, source: &str, queue: &str, arguments: Vec<Header>) {
    let target = Target { kind: TargetKind::Queue, name: queue.to_owned() };
    let binding = Binding { source: source.to_owned(), target, key: "k".to_owned(), arguments };
    s.bind(&binding).await.unwrap();
}

fn header(value: &str) -> Header {
    Header { name: "colour".to_owned(), value: HeaderValue::Str(value.to_owned()) }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_message_of_a_batch_goes_where_its_own_exchange_key_and_headers_lead() {
    let place = Place::new(61);
    let broker = place.open();
    let s = session(&broker);
    let (a, b) = (queue(&s, "a").await, queue(&s, "b").await);
    for (name, kind) in [("by-key", ExchangeType::Direct), ("by-header", ExchangeType::Headers)] {
        let exchange = NewExchange {
            name: name.to_owned(),
            kind,
            durable: true,
            auto_delete: false,
            internal: false,
            alternate: None,
            arguments: Vec::new(),
        };
        s.declare_exchange(exchange).await.unwrap();
    }
    bind(&s, "by-key", "b", Vec::new()).await;
    bind(&s, "by-header", "a", vec![header("red")]).await;
    bind(&s, "by-header", "b", vec![header("blue")]).await;
    let to = |exchange: &str, key: &str, colour: Option<&str>, payload: &str| {
        let mut new = text(key, payload);
        new.message.exchange = exchange.to_owned();
        new.message.headers = colour.map(header).into_iter().collect();
        new
    };
    let mut copied = to("", "a", None, "8");
    copied.message.keys = vec!["b".to_owned()];
    let batch = vec![
        to("", "a", None, "0"),
        to("", "a", None, "1"),
        to("", "b", None, "2"),
        to("by-key", "k", None, "3"),
        to("by-key", "nowhere", None, "4"),
        to("by-header", "k", Some("red"), "5"),
        to("by-header", "k", Some("blue"), "6"),
        to("by-header", "k", None, "7"),
        copied,
        to("", "a", None, "9"),
    ];
    let outcomes = s.publish(batch).await.unwrap().await.unwrap();
    let accepted: Vec<u32> = outcomes.iter().map(|o| o.as_ref().unwrap().accepted).collect();
    assert_eq!(accepted, [1, 1, 1, 1, 0, 1, 1, 0, 2, 1]);
    assert_eq!(bodies(&broker, &get(&s, &a).await).await, ["0", "1", "5", "8", "9"]);
    assert_eq!(bodies(&broker, &get(&s, &b).await).await, ["2", "3", "6", "8"]);
    close(broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_come_in_the_order_in_which_they_were_asked_for_however_they_lie() {
    let place = Place::new(62);
    let broker = place.open();
    let s = session(&broker);
    let (a, b) = (queue(&s, "a").await, queue(&s, "b").await);
    for n in 0..4 {
        publish(&s, text("a", &format!("a{n}"))).await;
        publish(&s, text("b", &format!("b{n}"))).await;
    }
    let (of_a, of_b) = (get(&s, &a).await, get(&s, &b).await);
    let asked = [of_b[2], of_a[3], of_a[0], of_b[2], of_b[0], of_a[1], of_a[2]];
    assert_eq!(bodies(&broker, &asked).await, ["b2", "a3", "a0", "b2", "b0", "a1", "a2"]);
    let mut gone = of_a[1];
    gone.pos += 1_000;
    let read = broker.read_bodies(&[of_a[2], gone, of_a[1]]).await;
    assert!(read[0].is_ok() && read[1].is_err() && read[2].is_ok(), "{read:?}");
    assert_eq!(bodies(&broker, &[]).await, [""; 0]);
    close(broker).await;
}
