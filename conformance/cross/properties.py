"""Every field that has a name of its own, one by one, each way: AMQP's properties, SQS's attributes, the headers of Kafka's records."""

import datetime
import json

import pika
from confluent_kafka import TIMESTAMP_CREATE_TIME

from clients import SMALL, Sqs, amqp, passed, plain, produce, records, take, text
from harness import check, equal

# Name: (its type in SQS, its value there, pika's property, its value there). As many as SQS has attributes for.
PROPERTIES = {
    "amqp.content_type": ("String", "text/plain", "content_type", "text/plain"),
    "amqp.content_encoding": ("String", "utf-8", "content_encoding", "utf-8"),
    "amqp.correlation_id": ("String", "c", "correlation_id", "c"),
    "amqp.reply_to": ("String", "r", "reply_to", "r"),
    "amqp.message_id": ("String", "m", "message_id", "m"),
    "amqp.type": ("String", "kind", "type", "kind"),
    "amqp.app_id": ("String", "app", "app_id", "app"),
    "amqp.cluster_id": ("String", "west", "cluster_id", "west"),
    "amqp.timestamp": ("Number", "1700000000000", "timestamp", 1_700_000_000),
    "amqp.delivery_mode": ("Number", "1", "delivery_mode", 1),
}
# As headers of a record; its timestamp is the message's.
AS_HEADERS = {name: value.encode() for name, (_, value, _, _) in PROPERTIES.items() if name != "amqp.timestamp"}


def of_amqp():
    """All of them, as AMQP sends them."""
    return pika.BasicProperties(**{name: value for _, _, name, value in PROPERTIES.values()})


def told(properties):
    """Those of a message that AMQP took, by their names."""
    return {name: getattr(properties, own) for name, (_, _, own, _) in PROPERTIES.items()}


def started(place):
    server = place.serve(*SMALL)
    channel = amqp(server)
    channel.queue_declare("q", durable=True)
    return server, channel, Sqs(server)


@check("each property of AMQP is an attribute in SQS")
def _(place):
    _, channel, sqs = started(place)
    channel.basic_publish("", "q", b"body", of_amqp())
    equal(plain(sqs.take("q")["MessageAttributes"]), {name: (kind, value) for name, (kind, value, _, _) in PROPERTIES.items()})


@check("each attribute of SQS that has a property's name is that property in AMQP")
def _(place):
    _, channel, sqs = started(place)
    sqs.send("q", "body", {name: text(value, kind) for name, (kind, value, _, _) in PROPERTIES.items()})
    _, properties, _ = take(channel, "q")
    equal(told(properties), {name: value for name, (_, _, _, value) in PROPERTIES.items()})
    equal(properties.headers, None)


@check("each property of AMQP is a header of its record in a topic, the user too, and the timestamp is the record's")
def _(place):
    server, channel, _ = started(place)
    server.ok("topic", "create", "t")
    properties = of_amqp()
    properties.user_id = "guest"
    channel.basic_publish("", "t", b"body", properties)
    [record] = records(server, "t", 1)
    equal(dict(record.headers()), {**AS_HEADERS, "amqp.user_id": b"guest"})
    equal(record.timestamp(), (TIMESTAMP_CREATE_TIME, 1_700_000_000_000))


@check("each header of a record that has a field's name sets that field, in the queue that a bridge takes it to and in a subscription, for AMQP and SQS")
def _(place):
    server, channel, sqs = started(place)
    server.ok("topic", "create", "t")
    server.ok("bridge", "create", "b", "--from-topic", "t", "--to-queue", "q")
    headers = [*AS_HEADERS.items(), ("amqp.exchange", b"x"), ("amqp.routing_key", b"a.b"), ("millstream.priority", b"3"),
               ("millstream.expiration_ms", b"3600000"), ("sqs.trace_header", b"Root=1-5e4-a"), ("sqs.deduplication_id", b"one"),
               ("amqp.user_id", b"root"), ("sqs.sender_id", b"root"), ("millstream.death.1.queue", b"forged")]
    produce(server, "t", *({"value": value, "headers": headers, "timestamp": 1_700_000_000_000} for value in ("1", "2")))
    passed(server, "b", 2)
    server.ok("queue", "create", "subscribed", "--topic", "t")
    method, properties, _ = take(channel, "subscribed")
    equal((method.exchange, method.routing_key), ("x", "a.b"))
    equal(told(properties), {name: value for name, (_, _, _, value) in PROPERTIES.items()})
    # A bridge publishes it anew.
    method, properties, body = take(channel, "q")
    equal((method.exchange, method.routing_key, body), ("", "q", b"1"))
    equal(told(properties), {name: value for name, (_, _, _, value) in PROPERTIES.items()})
    equal((properties.priority, properties.expiration, properties.user_id), (3, "3600000", None))
    # What nobody vouches for stays a header, and sets nothing.
    forged = {"amqp.user_id": "root", "sqs.sender_id": "root", "millstream.death.1.queue": "forged"}
    equal({name: properties.headers.get(name) for name in forged}, forged)
    assert "x-death" not in properties.headers, properties.headers
    message = sqs.take("q")
    system = message["Attributes"]
    equal((system["AWSTraceHeader"], system["MessageDeduplicationId"]), ("Root=1-5e4-a", "one"))
    assert system["SenderId"] != "root" and "DeadLetterQueueSourceArn" not in system, system
    in_one = {h.get("name") or h.get("attribute") for h in json.loads(plain(message["MessageAttributes"])["millstream.headers"][1])}
    assert set(PROPERTIES) <= in_one | set(message["MessageAttributes"]), in_one


@check("what SQS knows of who sent a message, its trace header and its id are headers of its record in a topic")
def _(place):
    server, _, sqs = started(place)
    server.ok("topic", "create", "t")
    sqs.create("q.fifo", FifoQueue="true")
    server.ok("bridge", "create", "b", "--from-queue", "q.fifo", "--to-topic", "t")
    trace = {"AWSTraceHeader": {"DataType": "String", "StringValue": "Root=1-5e4-a"}}
    sqs.send("q.fifo", "body", MessageGroupId="g", MessageDeduplicationId="one", MessageSystemAttributes=trace)
    [record] = records(server, "t", 1)
    headers = dict(record.headers())
    equal((headers["sqs.trace_header"], headers["sqs.deduplication_id"]), (b"Root=1-5e4-a", b"one"))
    # Nobody signed it, so that nobody is named; AMQP's user has a name of its own.
    assert "sqs.sender_id" not in headers, headers


@check("an own header with a name in one of our namespaces has an underscore before it in a topic and in SQS, and none in AMQP")
def _(place):
    server, channel, sqs = started(place)
    server.ok("topic", "create", "t")
    own = {"amqp.type": "a", "sqs.own": "b", "kafka.own": "c", "millstream.own": "d"}
    for where in ("t", "q"):
        channel.basic_publish("", where, b"body", pika.BasicProperties(headers=own))
    [record] = records(server, "t", 1)
    equal(dict(record.headers()), {"_amqp.type": b"a", "_sqs.own": b"b", "_kafka.own": b"c", "_millstream.own": b"d"})
    message = sqs.take("q")
    equal({name: value for name, (_, value) in plain(message["MessageAttributes"]).items()},
          {"_amqp.type": "a", "_sqs.own": "b", "_kafka.own": "c", "_millstream.own": "d"})
    server.ok("queue", "create", "back")
    server.ok("bridge", "create", "b", "--from-topic", "t", "--to-queue", "back")
    passed(server, "b", 1)
    equal(take(channel, "back")[1].headers, own)


@check("numbers, truths and times of AMQP have their types in SQS by a label, and a type that no header has stays with its attribute")
def _(place):
    _, channel, sqs = started(place)
    when = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)
    channel.basic_publish("", "q", b"body", pika.BasicProperties(headers={"flag": True, "when": when, "n": -5, "big": 1 << 40}))
    got = plain(sqs.take("q")["MessageAttributes"])
    equal(got, {"flag": ("String.bool", "true"), "when": ("Number.timestamp", str(int(when.timestamp()) * 1_000)),
                "n": ("Number.i32", "-5"), "big": ("Number", str(1 << 40))})
    sqs.send("q", "body", {"own": text("x", "String.mine"), "flag": text("true", "String.bool"), "n": text("-5", "Number.i32"),
                           "when": text(got["when"][1], "Number.timestamp")})
    _, properties, _ = take(channel, "q")
    equal(properties.headers, {"own": "x", "sqs.type.own": "String.mine", "flag": True, "n": -5, "when": when})


@check("a dead letter tells SQS how often it was received in all, and when it was first sent, as on AWS, through a kill")
def _(place):
    server, channel, sqs = started(place)
    sqs.create("dead")
    sqs.create("work", RedrivePolicy=sqs.redrive("dead", 2))
    sqs.send("work", "body")
    first = sqs.take("work")
    server.kill()
    server = place.serve(*SMALL)
    channel, sqs = amqp(server), Sqs(server)
    sqs.visible_again("work", first)
    again = sqs.take("work")
    told = [(m["Attributes"]["ApproximateReceiveCount"], m["Attributes"]["ApproximateFirstReceiveTimestamp"]) for m in (first, again)]
    equal(told, [("1", told[0][1]), ("2", told[0][1])])
    server.kill()
    server = place.serve(*SMALL)
    channel, sqs = amqp(server), Sqs(server)
    sqs.visible_again("work", again)
    method, properties, _ = take(channel, "dead")
    equal((method.redelivered, properties.headers["x-death"][0]["count"]), (False, 1))
    channel.basic_nack(method.delivery_tag)
    dead = sqs.take("dead")["Attributes"]
    equal((dead["ApproximateReceiveCount"], dead["SentTimestamp"]), ("4", first["Attributes"]["SentTimestamp"]))
    assert dead["ApproximateFirstReceiveTimestamp"] >= told[0][1], dead
