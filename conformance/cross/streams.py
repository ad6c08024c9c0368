"""AMQP into topics that Kafka's clients read, and topics that a bridge takes to AMQP's consumers."""

import json

import pika
from confluent_kafka import Producer

from clients import KAFKA, SMALL, amqp, records
from harness import check, equal, until


@check("a message published over AMQP to a topic's name comes to a Kafka consumer with its fields as headers")
def _(place):
    server = place.serve(*SMALL)
    server.ok("topic", "create", "t")
    channel = amqp(server)
    channel.confirm_delivery()
    channel.basic_publish("", "t", b"\x00\xffbody", pika.BasicProperties(
        content_type="text/plain", content_encoding="utf-8", delivery_mode=2, priority=7, correlation_id="c", reply_to="r", expiration="60000",
        message_id="m", type="kind", app_id="app", timestamp=1_700_000_000,
        headers={"text": "a", "number": -5, "flag": True, "amqp.type": "forged"}))
    [record] = records(server, "t", 1)
    equal(record.value(), b"\x00\xffbody")
    equal(record.key(), None)
    equal(record.timestamp()[1], 1_700_000_000_000)
    headers = dict(record.headers())
    wanted = {"amqp.content_type": b"text/plain", "amqp.content_encoding": b"utf-8", "amqp.delivery_mode": b"2", "millstream.priority": b"7",
              "amqp.correlation_id": b"c", "amqp.reply_to": b"r", "millstream.expiration_ms": b"60000", "amqp.message_id": b"m", "amqp.type": b"kind",
              "amqp.app_id": b"app", "text": b"a", "number": b"-5", "flag": b"true", "amqp.type.flag": b"bool", "_amqp.type": b"forged"}
    equal({k: v for k, v in headers.items() if k in wanted}, wanted)
    assert headers["amqp.type.number"].startswith(b"i"), headers
    assert "amqp.exchange" not in headers, headers
    # Read again, it has the same bytes.
    equal([(m.value(), m.headers()) for m in records(server, "t", 1)], [(record.value(), record.headers())])


@check("through an exchange a message comes to a topic with the exchange's name, and to a queue too")
def _(place):
    server = place.serve(*SMALL)
    server.ok("topic", "create", "t")
    channel = amqp(server)
    channel.confirm_delivery()
    channel.exchange_declare("x", "topic")
    channel.queue_declare("q", durable=True)
    channel.queue_bind("q", "x", "a.#")
    server.ok("binding", "create", "x", "t", "--kind", "topic", "--key", "a.*")
    channel.basic_publish("x", "a.b", b"both")
    [record] = records(server, "t", 1)
    equal((record.value(), dict(record.headers())["amqp.exchange"], dict(record.headers())["amqp.routing_key"]), (b"both", b"x", b"a.b"))
    equal(channel.basic_get("q")[2], b"both")


@check("of one partition key all messages go to one partition, which is the one that Kafka's Java clients choose")
def _(place):
    server = place.serve(*SMALL)
    server.ok("topic", "create", "t", "--partitions", "6")
    channel = amqp(server)
    channel.confirm_delivery()
    for n in range(4):
        channel.basic_publish("", "t", b"%d" % n, pika.BasicProperties(headers={"x-partition-key": "customer-1"}))
    producer = Producer({"bootstrap.servers": server.kafka, "partitioner": "murmur2_random", **KAFKA})
    where = []
    producer.produce("t", key="customer-1", value="4", on_delivery=lambda error, message: where.append((error, message.partition())))
    producer.flush(30)
    equal(where[0][0], None)
    got = records(server, "t", 5, where[0][1])
    equal([(m.key(), m.value()) for m in got], [(b"customer-1", b"%d" % n) for n in range(5)])


@check("a Kafka record that a bridge takes to a queue comes to an AMQP consumer whole: fields set, types kept, order by partition")
def _(place):
    server = place.serve(*SMALL)
    server.ok("topic", "create", "t")
    server.ok("queue", "create", "q", "--max-priority", "9")
    server.ok("bridge", "create", "b", "--from-topic", "t", "--to-queue", "q", "--header", "at=offset")
    producer = Producer({"bootstrap.servers": server.kafka, "compression.type": "zstd", **KAFKA})
    producer.produce("t", key="k", value=b"\x00\xff", timestamp=1_700_000_000_000, headers=[
        ("amqp.content_type", b"text/plain"), ("millstream.priority", b"7"), ("amqp.user_id", b"root"), ("plain", b"a"),
        ("amqp.type.number", b"i32"), ("number", b"-5"), ("_amqp.own", b"b")])
    producer.flush(30)
    until(lambda: server.ok("bridge", "describe", "b", "--json").json()["passed"] == 1, "passed on")
    method, properties, body = amqp(server).basic_get("q")
    equal(body, b"\x00\xff")
    equal((properties.content_type, properties.priority, properties.user_id, properties.timestamp), ("text/plain", 7, None, 1_700_000_000))
    wanted = {"plain": "a", "number": -5, "at": 0, "amqp.user_id": "root", "amqp.own": "b"}
    equal({k: properties.headers.get(k) for k in wanted}, wanted)
    equal(method.redelivered, False)


@check("a dead letter goes by a bridge from its queue to a topic, with the same body and with how it died, through a kill")
def _(place):
    server = place.serve(*SMALL)
    server.ok("topic", "create", "dead")
    server.ok("queue", "create", "jobs.dead")
    server.ok("queue", "create", "jobs", "--attempts", "2", "--dead-letter-exchange", "", "--dead-letter-routing-key", "jobs.dead")
    channel = amqp(server)
    channel.confirm_delivery()
    channel.basic_publish("", "jobs", b"\x00\x01binary", pika.BasicProperties(delivery_mode=2, headers={"n": 1}))
    method, _, _ = channel.basic_get("jobs")
    channel.basic_nack(method.delivery_tag)
    until(lambda: server.ok("queue", "describe", "jobs", "--json", "--span", "0").json()["ready"] == 1, "given back")
    server.kill()
    server = place.serve(*SMALL)
    channel = amqp(server)
    method, _, body = channel.basic_get("jobs")
    equal((method.redelivered, body), (True, b"\x00\x01binary"))
    channel.basic_nack(method.delivery_tag)
    server.ok("bridge", "create", "b", "--from-dead-letters-of", "jobs", "--to-topic", "dead")
    [record] = records(server, "dead", 1)
    headers = dict(record.headers())
    equal(record.value(), b"\x00\x01binary")
    equal((headers["n"], headers["millstream.death.1.queue"], headers["millstream.death.1.reason"]), (b"1", b"jobs", b"delivery_limit"))
    equal(json.loads(headers["millstream.death.1.routing_keys"]), ["jobs"])
    equal((headers["millstream.death.1.count"], headers["millstream.death.1.exchange"]), (b"1", b""))
    assert abs(int(headers["millstream.death.1.time_ms"]) - record.timestamp()[1]) < 60_000, headers
