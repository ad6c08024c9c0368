"""The table of a message's parts, row by row: AMQP to SQS and back, Kafka to SQS, SQS to Kafka."""

import datetime
import decimal
import json

import pika

from base64 import b64decode, b64encode
from clients import SMALL, Sqs, amqp, become, binary, passed, plain, produce, records, take, text
from harness import check, equal

LARGE = b"\xff" * (1 << 20)
BINARY = b"\x00\xff\xfebytes\x00"


def queues(place, *names):
    """A server with queues, and its clients of AMQP and SQS."""
    server = place.serve(*SMALL)
    channel = amqp(server)
    for name in names:
        channel.queue_declare(name, durable=True)
    return server, channel, Sqs(server)


@check("a text published over AMQP is a body in SQS, its properties and headers are attributes with their types")
def _(place):
    _, channel, sqs = queues(place, "q")
    channel.basic_publish("", "q", "grüß dich".encode(), pika.BasicProperties(
        content_type="text/plain", delivery_mode=2, correlation_id="c", priority=3,
        headers={"text": "a", "number": -5, "flag": True, "raw": b"\x01\x02", "amqp.type": "forged"}))
    message = sqs.take("q")
    equal(message["Body"], "grüß dich")
    got = plain(message["MessageAttributes"])
    wanted = {"amqp.content_type": ("String", "text/plain"), "amqp.delivery_mode": ("Number", "2"), "amqp.correlation_id": ("String", "c"),
              "millstream.priority": ("Number", "3"), "text": ("String", "a"), "flag": ("String.bool", "true"),
              "raw": ("Binary", b"\x01\x02"), "_amqp.type": ("String", "forged")}
    equal({k: got.get(k) for k in wanted}, wanted)
    equal(got["number"][1], "-5")
    assert got["number"][0].startswith("Number"), got
    equal(message["Attributes"]["ApproximateReceiveCount"], "1")


@check("a binary body published over AMQP is base64 in SQS and says so; sent back as it was received, it is whole again in AMQP")
def _(place):
    _, channel, sqs = queues(place, "q", "back")
    channel.basic_publish("", "q", BINARY, pika.BasicProperties(headers={"n": 7}))
    message = sqs.take("q")
    equal(b64decode(message["Body"]), BINARY)
    equal(plain(message["MessageAttributes"])["millstream.encoding"], ("String", "base64"))
    sqs.send("back", message["Body"], message["MessageAttributes"])
    _, properties, body = take(channel, "back")
    equal((body, properties.headers), (BINARY, {"n": 7}))


@check("an empty body of AMQP comes to SQS as an empty body")
def _(place):
    _, channel, sqs = queues(place, "q")
    channel.basic_publish("", "q", b"", pika.BasicProperties(headers={"n": 7}))
    equal(sqs.take("q")["Body"], "")


@check("more than SQS has attributes for goes through it in one, and comes back into AMQP whole, every type of header")
def _(place):
    _, channel, sqs = queues(place, "q", "back")
    headers = {"text": "a", "number": -5, "big": 1 << 40, "flag": True, "raw": b"\xff", "nothing": None,
               "price": decimal.Decimal("12.34"), "list": [1, "two", [b"\x03"]], "table": {"deep": {"er": 1}},
               "when": datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc), "no attribute's name!": "x", "amqp.type": "own", "_amqp.type": "own too", "": "empty"}
    sent = pika.BasicProperties(
        content_type="text/plain", content_encoding="utf-8", delivery_mode=2, priority=7, correlation_id="c", reply_to="r",
        message_id="m", type="kind", app_id="app", timestamp=1_700_000_000, headers=headers)
    channel.basic_publish("", "q", BINARY, sent)
    message = sqs.take("q")
    assert len(message["MessageAttributes"]) <= 10, list(message["MessageAttributes"])
    assert "millstream.headers" in message["MessageAttributes"], list(message["MessageAttributes"])
    sqs.send("back", message["Body"], message["MessageAttributes"])
    _, properties, body = take(channel, "back")
    equal(body, BINARY)
    equal(properties.headers, headers)
    equal({k: v for k, v in vars(properties).items() if k != "headers"}, {k: v for k, v in vars(sent).items() if k != "headers"})


@check("attributes of SQS are headers in AMQP with their types, and properties where they name them; sent on by AMQP, SQS has them again")
def _(place):
    _, channel, sqs = queues(place, "back")
    sqs.create("q")
    attributes = {"text": text("a"), "count": text("-5", "Number"), "price": text("12.340", "Number"), "raw": binary(b"\xff\x00"),
                  "own": text("x", "String.mine"), "amqp.content_type": text("text/plain"), "amqp.type": text("kind"),
                  "millstream.priority": text("4", "Number"), "_amqp.app_id": text("forged")}
    sqs.send("q", "body", attributes)
    method, properties, body = take(channel, "q")
    equal((method.exchange, method.routing_key, body), ("", "q", b"body"))
    equal((properties.content_type, properties.type, properties.priority, properties.app_id), ("text/plain", "kind", 4, None))
    wanted = {"text": "a", "count": -5, "price": "12.340", "raw": b"\xff\x00", "own": "x", "amqp.app_id": "forged"}
    equal({k: properties.headers.get(k) for k in wanted}, wanted)
    channel.basic_publish("", "back", body, properties)
    equal(plain(sqs.take("back")["MessageAttributes"]), plain(attributes))


@check("an attribute in a namespace of ours that sets nothing is refused, and nothing is in the queue for AMQP")
def _(place):
    server, _, sqs = queues(place)
    sqs.create("q")
    for name, value in [("amqp.colour", text("red")), ("millstream.death", text("[]")), ("millstream.encoding", text("rot13")),
                        ("amqp.user_id", text("root")), ("millstream.priority", text("many"))]:
        try:
            sqs.send("q", "body", {name: value})
        except sqs.api.exceptions.ClientError as error:
            assert name in error.response["Error"]["Message"], error
        else:
            raise AssertionError("%s was taken" % name)
    become(server, "q")


@check("what a message's exchange and routing key were is told in SQS")
def _(place):
    _, channel, sqs = queues(place, "q")
    channel.exchange_declare("x", "topic")
    channel.queue_bind("q", "x", "a.#")
    channel.basic_publish("x", "a.b", b"body")
    got = plain(sqs.take("q")["MessageAttributes"])
    equal((got["amqp.exchange"], got["amqp.routing_key"]), (("String", "x"), ("String", "a.b")))


@check("an exchange and a routing key that SQS names are set in AMQP, and are not routed by; the user that AMQP names is SQS's SenderId")
def _(place):
    server, channel, sqs = queues(place, "other")
    sqs.create("q")
    channel.exchange_declare("x", "fanout")
    channel.queue_bind("other", "x")
    sqs.send("q", "body", {"amqp.exchange": text("x"), "amqp.routing_key": text("a.b"), "amqp.delivery_mode": text("1", "Number")})
    method, properties, _ = take(channel, "q")
    equal((method.exchange, method.routing_key, properties.delivery_mode), ("x", "a.b", 1))
    become(server, "other")
    channel.basic_publish("", "q", b"body", pika.BasicProperties(user_id="guest"))
    message = sqs.take("q")
    equal((message["Attributes"]["SenderId"], plain(message["MessageAttributes"])["amqp.user_id"]), ("guest", ("String", "guest")))


@check("a null of Kafka stays null through SQS and back into a topic, and a body beside it is not needed")
def _(place):
    server, _, sqs = queues(place, "q", "back")
    for topic in ("in", "out"):
        server.ok("topic", "create", topic)
    server.ok("bridge", "create", "b", "--from-topic", "in", "--to-queue", "q")
    server.ok("bridge", "create", "c", "--from-queue", "back", "--to-topic", "out")
    produce(server, "in", {"key": "k", "value": None}, {"key": b"\xff", "value": BINARY})
    passed(server, "b", 2)
    for null in (True, False):
        message = sqs.take("q")
        equal("kafka.null" in message["MessageAttributes"], null)
        sqs.send("back", message.get("Body", ""), message["MessageAttributes"], MessageGroupId=message["Attributes"]["MessageGroupId"])
    equal([(r.key(), r.value()) for r in records(server, "out", 2)], [(b"k", None), (b"\xff", BINARY)])


@check("an expiration set over AMQP counts for SQS and is told there; one set by SQS counts for AMQP")
def _(place):
    server, channel, sqs = queues(place, "q")
    channel.basic_publish("", "q", b"long", pika.BasicProperties(expiration="3600000"))
    told = int(plain(sqs.take("q")["MessageAttributes"])["millstream.expiration_ms"][1])
    assert 0 < told <= 3_600_000, told
    channel.basic_publish("", "q", b"short", pika.BasicProperties(expiration="1"))
    become(server, "q", leased=1)
    equal(sqs.receive("q"), [])
    sqs.send("q", "short", {"millstream.expiration_ms": text("1", "Number")})
    become(server, "q", leased=1)
    equal(channel.basic_get("q")[0], None)


@check("the header x-partition-key of AMQP is SQS's MessageGroupId, and a MessageGroupId is that header")
def _(place):
    _, channel, sqs = queues(place, "q", "back")
    channel.basic_publish("", "q", b"text", pika.BasicProperties(headers={"x-partition-key": "customer-1"}))
    channel.basic_publish("", "q", b"odd", pika.BasicProperties(headers={"x-partition-key": b"\xff key"}))
    equal(sqs.take("q")["Attributes"]["MessageGroupId"], "customer-1")
    odd = sqs.take("q")
    equal(plain(odd["MessageAttributes"])["kafka.key"], ("Binary", b"\xff key"))
    sqs.send("back", odd["Body"], {"kafka.key": odd["MessageAttributes"]["kafka.key"]}, MessageGroupId=odd["Attributes"]["MessageGroupId"])
    equal(take(channel, "back")[1].headers, {"x-partition-key": b"\xff key"})
    sqs.send("back", "grouped", MessageGroupId="g")
    equal(take(channel, "back")[1].headers, {"x-partition-key": "g"})


@check("a body that base64 makes larger than SQS carries rests unseen by SQS, is whole in AMQP, and is in the queue when its rest is over")
def _(place):
    server = place.serve("--set", "log.segment_bytes=8388608")
    channel, sqs = amqp(server), Sqs(server)
    for queue in ("q", "whole"):
        channel.queue_declare(queue, durable=True)
        channel.basic_publish("", queue, LARGE)
    equal(sqs.receive("q"), [])
    become(server, "q", scheduled=1)
    equal(take(channel, "whole")[2], LARGE)


@check("a queue whose name SQS cannot spell is there for it all the same")
def _(place):
    _, channel, sqs = queues(place, "my queue/ö")
    url = next(u for u in sqs.api.list_queues()["QueueUrls"] if u.endswith("my%20queue%2F%C3%B6"))
    sqs.api.send_message(QueueUrl=url, MessageBody="body")
    equal(take(channel, "my queue/ö")[2], b"body")


@check("a Kafka record that a bridge takes to a queue comes to an SQS receiver with key, headers and fields, a null and binary values too")
def _(place):
    server, _, sqs = queues(place, "q")
    server.ok("topic", "create", "t")
    server.ok("bridge", "create", "b", "--from-topic", "t", "--to-queue", "q")
    produce(server, "t",
            {"key": "k", "value": "text", "headers": [("plain", b"a"), ("amqp.content_type", b"text/plain"), ("_amqp.own", b"b")]},
            {"key": b"\xff", "value": BINARY},
            {"key": "k", "value": None},
            {"value": "twice", "headers": [("h", b"1"), ("h", b"2")]})
    passed(server, "b", 4)
    one = sqs.take("q")
    equal((one["Body"], one["Attributes"]["MessageGroupId"]), ("text", "k"))
    got = plain(one["MessageAttributes"])
    equal(got["amqp.content_type"], ("String", "text/plain"))
    equal((got["plain"][1], got["_amqp.own"][1]), ("a", "b"))
    two = sqs.take("q")
    equal((b64decode(two["Body"]), plain(two["MessageAttributes"])["kafka.key"]), (BINARY, ("Binary", b"\xff")))
    three = sqs.take("q")
    equal((three.get("Body", ""), plain(three["MessageAttributes"])["kafka.null"]), ("", ("String", "true")))
    four = plain(sqs.take("q")["MessageAttributes"])
    equal([h["name"] for h in json.loads(four["millstream.headers"][1]) if h.get("name") == "h"], ["h", "h"])


@check("a message of SQS that a bridge takes to a topic comes to a Kafka consumer with group, attributes and binary body")
def _(place):
    server, _, sqs = queues(place)
    sqs.create("q")
    server.ok("topic", "create", "t")
    server.ok("bridge", "create", "b", "--from-queue", "q", "--to-topic", "t")
    sqs.send("q", b64encode(BINARY).decode(), {
        "millstream.encoding": text("base64"), "text": text("a"), "count": text("-5", "Number"), "raw": binary(b"\xff"),
        "amqp.content_type": text("image/png"), "millstream.priority": text("4", "Number")}, MessageGroupId="g")
    [record] = records(server, "t", 1)
    headers = dict(record.headers())
    equal((record.key(), record.value()), (b"g", BINARY))
    wanted = {"text": b"a", "count": b"-5", "raw": b"\xff", "amqp.content_type": b"image/png", "millstream.priority": b"4"}
    equal({k: headers.get(k) for k in wanted}, wanted)
    assert "millstream.encoding" not in headers, headers
    become(server, "q")


@check("a MessageId of SQS stays the same when AMQP rejects the message into a dead-letter queue")
def _(place):
    server, channel, sqs = queues(place, "dead")
    channel.queue_declare("q", durable=True, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"})
    sent = sqs.send("q", "body")
    channel.basic_reject(take(channel, "q")[0].delivery_tag, requeue=False)
    become(server, "dead", ready=1)
    equal(sqs.take("dead")["MessageId"], sent["MessageId"])
