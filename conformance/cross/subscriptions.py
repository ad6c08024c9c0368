"""Queues that are subscribed to a topic: what Kafka's producers wrote, in compressed batches too, is worked off by AMQP and SQS, message by message,
while a Kafka group reads the same records."""

import collections

import pika
from confluent_kafka import Consumer, Producer

from clients import KAFKA, SMALL, Sqs, amqp, become, counts, plain, produce, records, take
from harness import check, equal, until

N = 200


def compressed(server, topic, n, codec="zstd"):
    """Records 0 to n - 1 in few large compressed batches, keys and headers with them."""
    producer = Producer({"bootstrap.servers": server.kafka, "compression.type": codec, "linger.ms": 200, **KAFKA})
    errors = []
    for i in range(n):
        producer.produce(topic, key="k%d" % (i % 7), value="record %d" % i, headers=[("n", str(i))], timestamp=1_700_000_000_000 + i,
                         on_delivery=lambda error, _: errors.append(error))
    producer.flush(30)
    equal(errors, [None] * n)


def group(server, topic, name, n):
    """What a consumer group reads."""
    consumer = Consumer({"bootstrap.servers": server.kafka, "group.id": name, "auto.offset.reset": "earliest", **KAFKA})
    consumer.subscribe([topic])
    got = []
    try:
        while len(got) < n:
            message = until(lambda: consumer.poll(1), "a record")
            assert message.error() is None, message.error()
            got.append(message.value().decode())
    finally:
        consumer.close()
    return got


@check("a topic's compressed records are worked off by AMQP and SQS with one attempt counter, through a kill, and a Kafka group reads them all")
def _(place):
    server = place.serve(*SMALL)
    channel, sqs = amqp(server), Sqs(server)
    server.ok("topic", "create", "t", "--partitions", "3")
    channel.queue_declare("dead", durable=True)
    channel.queue_declare("q", durable=True, arguments={
        "x-topic": "t", "x-queue-type": "quorum", "x-delivery-limit": 2, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"})
    compressed(server, "t", N)
    become(server, "q", ready=N)

    done, poison, nacks = set(), set(), collections.Counter()
    while len(done) < N // 2:
        method, properties, body = take(channel, "q")
        n = int(properties.headers["n"])
        equal((body.decode(), properties.headers["x-partition-key"], method.routing_key), ("record %d" % n, "k%d" % (n % 7), "t"))
        equal(properties.timestamp, 1_700_000_000)
        if n % 20 == 3:
            # Handed out three times, each nacked: two redeliveries are allowed.
            equal((properties.headers.get("x-delivery-count", 0), method.redelivered), (nacks[n], nacks[n] > 0))
            nacks[n] += 1
            poison.add(n)
            channel.basic_nack(method.delivery_tag)
            continue
        channel.basic_ack(method.delivery_tag)
        done.add(n)
    poison = {n for n in poison if nacks[n] == 3}
    # A barrier: the acknowledgements are durable with it.
    channel.basic_publish("", "dead", b"barrier")

    server.kill()
    server = place.serve(*SMALL)
    sqs = Sqs(server)
    while True:
        got = sqs.receive("q", 10, VisibilityTimeout=30)
        if not got:
            break
        for message in got:
            n = int(plain(message["MessageAttributes"])["n"][1])
            equal(message["Body"], "record %d" % n)
            if n % 20 == 3:
                # What AMQP counted counts on; after a kill a delivery that was out counts too.
                nacks[n] += 1
                assert int(message["Attributes"]["ApproximateReceiveCount"]) >= nacks[n], (message["Attributes"], nacks[n])
                sqs.visible_again("q", message)
            else:
                sqs.delete("q", message)
                assert n not in done, "record %d was acknowledged and came again" % n
                done.add(n)
    equal(done, {n for n in range(N) if n % 20 != 3})
    become(server, "q")

    # Each that failed three times is a dead letter, once, and tells where it died.
    dead = []
    channel = amqp(server)
    become(server, "dead", ready=N // 20 + 1)
    for _ in range(N // 20 + 1):
        method, properties, body = take(channel, "dead")
        channel.basic_ack(method.delivery_tag)
        if body == b"barrier":
            continue
        first = properties.headers["x-death"][0]
        equal((first["queue"], first["reason"], first["routing-keys"]), ("q", "delivery_limit", ["t"]))
        dead.append(int(properties.headers["n"]))
    equal(sorted(dead), [n for n in range(N) if n % 20 == 3])
    assert poison <= set(dead)

    equal(sorted(group(server, "t", "g", N)), sorted("record %d" % i for i in range(N)))


@check("two subscriptions each hand out every record, the same message by the same id, and one made late begins late")
def _(place):
    server = place.serve(*SMALL)
    channel, sqs = amqp(server), Sqs(server)
    server.ok("topic", "create", "t")
    server.ok("queue", "create", "a", "--topic", "t")
    server.ok("queue", "create", "b", "--topic", "t", "--from", "earliest")
    produce(server, "t", {"value": "1"}, {"value": "2"})
    server.ok("queue", "create", "late", "--topic", "t", "--from", "latest")
    server.ok("queue", "create", "second", "--topic", "t", "--from", "offset:1")
    produce(server, "t", {"value": "3"})
    ids = {}
    for queue in ("a", "b"):
        got = [sqs.take(queue) for _ in range(3)]
        equal([m["Body"] for m in got], ["1", "2", "3"])
        ids[queue] = [m["MessageId"] for m in got]
    equal(ids["a"], ids["b"])
    equal([counts(server, q) for q in ("late", "second")], [{"ready": 1}, {"ready": 2}])
    equal(take(channel, "late")[2], b"3")
    equal(server.ok("consume", "second").lines(), ["2", "3"])
    become(server, "second")
    equal([r.value() for r in records(server, "t", 3)], [b"1", b"2", b"3"])


@check("a filter leaves out what does not match, and it is counted; what AMQP published to the topic passes it too")
def _(place):
    server = place.serve(*SMALL)
    channel = amqp(server)
    server.ok("topic", "create", "t")
    server.ok("queue", "create", "q", "--topic", "t", "--filter", '{"body": {"total": [{"numeric": [">", 10]}]}}')
    produce(server, "t", {"value": '{"total": 5}'}, {"value": "no JSON"}, {"value": '{"total": 50}'})
    channel.basic_publish("", "t", b'{"total": 11}', pika.BasicProperties(correlation_id="c"))
    got = []
    for _ in range(2):
        method, properties, body = take(channel, "q")
        channel.basic_ack(method.delivery_tag)
        got.append((body, properties.correlation_id))
    equal(got, [(b'{"total": 50}', None), (b'{"total": 11}', "c")])
    become(server, "q")
    told = lambda: server.ok("queue", "describe", "q", "--json", "--span", "0").json()["topic"]
    until(lambda: told()["skipped"] == 2, "two records are skipped")
    equal((told()["lost_to_retention"], told()["unreadable"]), (0, 0))


@check("what retention takes before it is settled is counted and told, and the rest goes on")
def _(place):
    server = place.serve(*SMALL, "--set", "topics.retention_check_ms=50")
    server.ok("topic", "create", "t")
    server.ok("queue", "create", "q", "--topic", "t")
    produce(server, "t", *({"value": str(i)} for i in range(5)))
    become(server, "q", ready=5)
    server.ok("topic", "alter", "t", "--set", "retention.ms=1")
    until(lambda: counts(server, "q") == {}, "retention passes")
    told = server.ok("queue", "describe", "q", "--json", "--span", "0").json()["topic"]
    equal(told["lost_to_retention"], 5)
    assert "LOST TO RETENTION" in server.ok("queue", "describe", "q", "--span", "0").out


@check("publishing and binding to a subscription is refused by each protocol, as are other arguments, and it goes with its topic")
def _(place):
    server = place.serve(*SMALL)
    channel, sqs = amqp(server), Sqs(server)
    server.ok("topic", "create", "t")
    declare = {"x-topic": "t", "x-topic-from": "latest"}
    channel.queue_declare("q", durable=True, arguments=declare)
    channel.queue_declare("q", durable=True, arguments=declare)

    def closed(code, call):
        nonlocal channel
        try:
            call()
        except pika.exceptions.ChannelClosedByBroker as e:
            equal(e.reply_code, code, e.reply_text)
            channel = amqp(server)
            return e.reply_text
        raise AssertionError("not refused")

    text = closed(406, lambda: channel.queue_declare("q", durable=True, arguments={"x-topic": "t"}))
    assert "x-topic-from" in text, text
    for argument, value in (("x-max-length", 5), ("x-max-priority", 3), ("x-overflow", "reject-publish")):
        text = closed(406, lambda: channel.queue_declare("r", durable=True, arguments={"x-topic": "t", argument: value}))
        assert argument in text, text
    closed(406, lambda: channel.queue_declare("r", durable=True, arguments={"x-topic": "none"}))
    closed(406, lambda: channel.queue_declare("r", durable=True, arguments={"x-topic-from": "latest"}))
    closed(406, lambda: channel.queue_declare("r", durable=True, arguments={"x-topic": "t", "x-topic-from": "yesterday"}))
    closed(403, lambda: channel.basic_publish("", "q", b"x"))
    closed(406, lambda: channel.queue_bind("q", "amq.fanout"))
    try:
        sqs.send("q", "x")
    except sqs.api.exceptions.ClientError as e:
        assert "UnsupportedOperation" in e.response["Error"]["Code"], e.response
    else:
        raise AssertionError("SQS is not refused")
    server.refused("queue", "publish", "q", "x")
    equal(counts(server, "q"), {})

    cancelled = []
    channel.add_on_cancel_callback(lambda frame: cancelled.append(frame.method.consumer_tag))
    tag = channel.basic_consume("q", lambda *_: None)
    server.ok("topic", "delete", "t")

    def told():
        channel.connection.process_data_events(0.1)
        return cancelled
    equal(until(told, "the consumer is told"), [tag])
    closed(404, lambda: channel.queue_declare("q", passive=True))
