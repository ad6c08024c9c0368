"""When a message comes and after which, as one protocol says it and another sees it: delay, priority, order by key, duplicates."""

import time

import pika

from clients import SMALL, Sqs, amqp, become, bodies, not_before, passed, produce, records, take, text
from harness import check, equal, until

DELAY_S = 2


def started(place):
    server = place.serve(*SMALL)
    return server, amqp(server), Sqs(server)


@check("DelaySeconds of SQS holds a message back from AMQP")
def _(place):
    server, channel, sqs = started(place)
    sqs.create("q")
    at = time.time() + DELAY_S
    sqs.send("q", "later", DelaySeconds=DELAY_S)
    sqs.send("q", "now")
    equal(bodies(channel, "q", 2), [b"now", b"later"])
    not_before(at)
    become(server, "q")


@check("the header x-delay of AMQP holds a message back from SQS, also through an exchange, and stays in the message")
def _(place):
    _, channel, sqs = started(place)
    channel.queue_declare("q", durable=True)
    channel.exchange_declare("x", "fanout")
    channel.queue_bind("q", "x")
    at = time.time() + DELAY_S
    channel.basic_publish("x", "", b"later", pika.BasicProperties(headers={"x-delay": DELAY_S * 1_000}))
    equal(sqs.counts("q"), [0, 0, 1])
    channel.basic_publish("", "q", b"now", pika.BasicProperties(headers={"x-delay": 0}))
    equal(sqs.take("q")["Body"], "now")
    message = sqs.take("q")
    not_before(at)
    equal((message["Body"], message["MessageAttributes"]["x-delay"]["StringValue"]), ("later", str(DELAY_S * 1_000)))


@check("a delay that a Kafka record asks for counts in the queue that a bridge takes it to, for AMQP and for SQS")
def _(place):
    server, channel, sqs = started(place)
    server.ok("topic", "create", "t")
    for name in ("a", "s"):
        server.ok("queue", "create", name)
        server.ok("bridge", "create", name, "--from-topic", "t", "--to-queue", name)
    at = time.time() + DELAY_S
    produce(server, "t", {"value": "later", "headers": [("millstream.delay_ms", b"%d" % (DELAY_S * 1_000))]}, {"value": "now"})
    equal(bodies(channel, "a", 2), [b"now", b"later"])
    not_before(at)
    equal([sqs.take("s")["Body"] for _ in range(2)], ["now", "later"])


@check("what AMQP and SQS delay, a bridge takes to a topic when it is due")
def _(place):
    server, channel, sqs = started(place)
    server.ok("topic", "create", "t")
    sqs.create("q")
    server.ok("bridge", "create", "b", "--from-queue", "q", "--to-topic", "t")
    at = time.time() + DELAY_S
    channel.basic_publish("", "q", b"AMQP", pika.BasicProperties(headers={"x-delay": DELAY_S * 1_000}))
    sqs.send("q", "SQS", DelaySeconds=DELAY_S)
    sqs.send("q", "now")
    got = [r.value() for r in records(server, "t", 3)]
    not_before(at)
    equal((got[0], sorted(got[1:])), (b"now", [b"AMQP", b"SQS"]))


@check("priorities set over AMQP, SQS and Kafka are one order, for SQS, AMQP and Kafka")
def _(place):
    server, channel, sqs = started(place)
    server.ok("topic", "create", "in")
    server.ok("topic", "create", "out")
    channel.exchange_declare("x", "fanout")
    for queue in ("a", "s", "k"):
        channel.queue_declare(queue, durable=True, arguments={"x-max-priority": 9})
        channel.queue_bind(queue, "x")
        server.ok("bridge", "create", queue, "--from-topic", "in", "--to-queue", queue)
        sqs.send(queue, "S5", {"millstream.priority": text("5", "Number")})
    channel.basic_publish("x", "", b"A1", pika.BasicProperties(priority=1))
    channel.basic_publish("x", "", b"A9", pika.BasicProperties(priority=9))
    produce(server, "in", *({"value": "K%d" % n, "headers": [("millstream.priority", b"%d" % n)]} for n in (3, 7)))
    for queue in ("a", "s", "k"):
        become(server, queue, ready=5)
    wanted = [b"A9", b"K7", b"S5", b"K3", b"A1"]
    equal(bodies(channel, "a", 5), wanted)
    equal([sqs.take("s")["Body"].encode() for _ in range(5)], wanted)
    server.ok("bridge", "create", "back", "--from-queue", "k", "--to-topic", "out")
    equal([r.value() for r in records(server, "out", 5)], wanted)


@check("AMQP's partition keys, SQS's groups and Kafka's keys are one order: a key that one protocol works on rests for the others")
def _(place):
    server, channel, sqs = started(place)
    server.ok("topic", "create", "t")
    sqs.create("q.fifo", FifoQueue="true")
    server.ok("bridge", "create", "b", "--from-topic", "t", "--to-queue", "q.fifo")
    key = pika.BasicProperties(headers={"x-partition-key": "k"})
    channel.basic_publish("", "q.fifo", b"1 by AMQP", key)
    sqs.send("q.fifo", "2 by SQS", MessageGroupId="k", MessageDeduplicationId="2")
    produce(server, "t", {"key": "k", "value": "3 by Kafka"}, {"key": "other", "value": "free"})
    become(server, "q.fifo", ready=4)
    one = sqs.take("q.fifo")
    equal((one["Body"], one["Attributes"]["MessageGroupId"]), ("1 by AMQP", "k"))
    free, _, body = take(channel, "q.fifo")
    equal(body, b"free")
    channel.basic_ack(free.delivery_tag)
    equal(channel.basic_get("q.fifo")[0], None)
    sqs.delete("q.fifo", one)
    two, _, body = take(channel, "q.fifo")
    equal(body, b"2 by SQS")
    equal(sqs.receive("q.fifo"), [])
    channel.basic_ack(two.delivery_tag)
    equal(sqs.take("q.fifo")["Body"], "3 by Kafka")


@check("x-partition-key orders AMQP consumers by key: what follows of a key comes to its holder, and after a nack before anything later")
def _(place):
    server, channel, _ = started(place)
    server.ok("queue", "create", "q", "--ordering", "key")
    other = amqp(server)
    for body, key in (("a1", "a"), ("b1", "b"), ("a2", "a"), ("b2", "b")):
        channel.basic_publish("", "q", body, pika.BasicProperties(headers={"x-partition-key": key}))
    a1, _, body = take(channel, "q")
    equal(body, b"a1")
    b1, _, body = take(other, "q")
    equal(body, b"b1")
    channel.basic_nack(a1.delivery_tag)
    again, _, body = take(channel, "q")
    equal((body, again.redelivered), (b"a1", True))
    equal(other.basic_get("q")[0], None)
    other.basic_ack(b1.delivery_tag)
    equal(bodies(other, "q", 1), [b"b2"])
    channel.basic_ack(again.delivery_tag)
    equal(bodies(other, "q", 1), [b"a2"])
    become(server, "q")


@check("an id that SQS sent, a bridge takes from Kafka, or the command line gives is one and the same: whatever comes second is not taken")
def _(place):
    server, channel, sqs = started(place)
    server.ok("topic", "create", "in")
    server.ok("topic", "create", "out")
    sqs.create("q.fifo", FifoQueue="true")
    server.ok("bridge", "create", "b", "--from-topic", "in", "--to-queue", "q.fifo", "--dedup", "header:id", "--group", "literal:g")

    def by_sqs(body, its_id):
        return sqs.send("q.fifo", body, MessageGroupId="g", MessageDeduplicationId=its_id)
    by_sqs("1", "one")
    produce(server, "in", {"value": "1 again", "headers": [("id", b"one")]}, {"value": "2", "headers": [("id", b"two")]},
            {"value": "2 again", "headers": [("id", b"two")]})
    until(lambda: server.ok("bridge", "describe", "b", "--json").json()["lag"] == 0, "the bridge has read it all")
    two = by_sqs("2 again", "two")
    server.ok("queue", "publish", "q.fifo", "2 again", "--id", "two")
    server.ok("queue", "publish", "q.fifo", "3", "--id", "three")
    by_sqs("3 again", "three")
    server.kill()
    server = place.serve(*SMALL)
    channel, sqs = amqp(server), Sqs(server)
    equal(by_sqs("2 again", "two")["SequenceNumber"], two["SequenceNumber"])
    [first, *_] = got = sqs.receive("q.fifo", n=10)
    equal([m["Body"] for m in got], ["1", "2", "3"])
    equal((first["Attributes"]["MessageDeduplicationId"], got[1]["Attributes"]["SequenceNumber"]), ("one", two["SequenceNumber"]))
    for message in got:
        sqs.visible_again("q.fifo", message)
    equal(bodies(channel, "q.fifo", 1), [b"1"])
    server.ok("bridge", "create", "back", "--from-queue", "q.fifo", "--to-topic", "out")
    equal([r.value() for r in records(server, "out", 2)], [b"2", b"3"])
    become(server, "q.fifo")
    passed(server, "back", 2)


@check("AMQP's x-deduplication-id is the id that SQS and the command line give; a message id is none")
def _(place):
    server, channel, sqs = started(place)
    sqs.create("q.fifo", FifoQueue="true")
    sqs.send("q.fifo", "1", MessageGroupId="g", MessageDeduplicationId="one")

    def by_amqp(body, **headers):
        channel.basic_publish("", "q.fifo", body, pika.BasicProperties(message_id="one", headers={"x-partition-key": "g", **headers}))
    by_amqp("1 again", **{"x-deduplication-id": "one"})
    by_amqp("2", **{"x-deduplication-id": "two"})
    sqs.send("q.fifo", "2 again", MessageGroupId="g", MessageDeduplicationId="two")
    server.ok("queue", "publish", "q.fifo", "2 again", "--id", "two")
    by_amqp("3")
    by_amqp("4")
    got = sqs.receive("q.fifo", n=10)
    equal([m["Body"] for m in got], ["1", "2", "3", "4"])
    equal([m["Attributes"].get("MessageDeduplicationId") for m in got], ["one", "two", None, None])
    become(server, "q.fifo", leased=4)


@check("a queue that SQS made is declared over AMQP by what it is or by nothing, and not as another; one of AMQP's is FIFO for SQS")
def _(place):
    server, channel, sqs = started(place)
    sqs.create("dead.fifo", FifoQueue="true")
    sqs.create("q.fifo", FifoQueue="true", RedrivePolicy=sqs.redrive("dead.fifo", 3))
    is_ = {"x-ordering": "key", "x-message-ttl": 345_600_000, "x-delivery-limit": 2, "x-dead-letter-exchange": "",
           "x-dead-letter-routing-key": "dead.fifo"}
    channel.queue_declare("q.fifo", passive=True)
    for arguments in (None, {"x-ordering": "key"}, is_):
        channel.queue_declare("q.fifo", durable=True, arguments=arguments)
    for wrong in ({"x-ordering": "none"}, {"x-message-ttl": 1}, {**is_, "x-delivery-limit": 3}, {"x-queue-type": "quorum"}):
        try:
            amqp(server).queue_declare("q.fifo", durable=True, arguments=wrong)
        except pika.exceptions.ChannelClosedByBroker as closed:
            equal(closed.reply_code, 406)
        else:
            raise AssertionError("%r was taken" % wrong)
    # The other way round: what AMQP made is what SQS asks for.
    channel.queue_declare("own.fifo", durable=True, arguments={"x-ordering": "key"})
    sqs.create("own.fifo", FifoQueue="true")
    sqs.send("own.fifo", "body", MessageGroupId="g", MessageDeduplicationId="1")
    sqs.api.set_queue_attributes(QueueUrl=sqs.url("own.fifo"), Attributes={"MessageRetentionPeriod": "600"})
    for arguments in ({"x-ordering": "key"}, {"x-ordering": "key", "x-message-ttl": 600_000}):
        channel.queue_declare("own.fifo", durable=True, arguments=arguments)


@check("an attribute of SQS whose name is longer than AMQP has names reaches AMQP with its message, and the connection lives on")
def _(place):
    server, channel, sqs = started(place)
    sqs.create("q")
    long, kept = "n" * 256, "k" * 250
    sqs.send("q", "1", attributes={
        long: {"DataType": "String", "StringValue": "a"}, kept: {"DataType": "Number.own", "StringValue": "1.50"}})
    method, properties, body = take(channel, "q")
    equal(body, b"1")
    equal(properties.headers[kept], "1.50")
    equal({entry["name"]: entry["value"] for entry in properties.headers["millstream.headers"]}, {long: "a", "sqs.type." + kept: "Number.own"})
    channel.basic_ack(method.delivery_tag)
    channel.basic_publish("", "q", b"2")
    equal(bodies(channel, "q", 1), [b"2"])
