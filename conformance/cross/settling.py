"""What is leased, settled and dead-lettered by one protocol, as another sees it: one set of leases, one attempt counter, one dead-letter path."""

import json

import pika
from confluent_kafka import Consumer

from clients import KAFKA, SMALL, Sqs, amqp, become, bodies, passed, plain, produce, records, take, text
from harness import check, equal, until


def started(place):
    server = place.serve(*SMALL)
    return server, amqp(server), Sqs(server)


def death(headers):
    """The latest of `x-death`."""
    first = headers["x-death"][0]
    return first["queue"], first["reason"], first["count"]


@check("what SQS has in flight AMQP does not get, and what SQS deletes is gone for AMQP")
def _(place):
    server, channel, sqs = started(place)
    channel.queue_declare("q", durable=True)
    for body in (b"1", b"2"):
        channel.basic_publish("", "q", body)
    one = sqs.take("q")
    equal((one["Body"], bodies(channel, "q", 1)), ("1", [b"2"]))
    equal(channel.basic_get("q")[0], None)
    sqs.delete("q", one)
    channel.basic_publish("", "q", b"barrier")
    equal(bodies(channel, "q", 1), [b"barrier"])
    become(server, "q")


@check("what an AMQP consumer has not acknowledged is in flight in SQS; acknowledged it is gone, and with the channel it comes back counted")
def _(place):
    _, channel, sqs = started(place)
    sqs.create("q")
    for body in ("1", "2"):
        sqs.send("q", body)
    one, two = take(channel, "q")[0], take(channel, "q")[0]
    equal((sqs.counts("q"), sqs.receive("q")), ([0, 2, 0], []))
    channel.basic_ack(one.delivery_tag)
    assert two.delivery_tag != one.delivery_tag
    channel.connection.close()
    message = sqs.take("q")
    equal((message["Body"], message["Attributes"]["ApproximateReceiveCount"]), ("2", "2"))
    equal(sqs.counts("q"), [0, 1, 0])


@check("a visibility timeout of SQS that runs out gives the message to AMQP, marked as redelivered, and its old handle then deletes nothing")
def _(place):
    _, channel, sqs = started(place)
    sqs.create("q")
    sqs.send("q", "body")
    message = sqs.take("q", VisibilityTimeout=1)
    method, _, body = take(channel, "q")
    equal((body, method.redelivered), (b"body", True))
    sqs.delete("q", message)
    channel.basic_nack(method.delivery_tag)
    equal(sqs.take("q")["Attributes"]["ApproximateReceiveCount"], "3")


@check("settling what a bridge took from a topic, by AMQP and by SQS, leaves the topic's records where they are")
def _(place):
    server, channel, sqs = started(place)
    server.ok("topic", "create", "t")
    server.ok("queue", "create", "q")
    server.ok("bridge", "create", "b", "--from-topic", "t", "--to-queue", "q")
    produce(server, "t", {"value": "1"}, {"value": "2"})
    passed(server, "b", 2)
    equal(bodies(channel, "q", 1), [b"1"])
    sqs.delete("q", sqs.take("q"))
    become(server, "q")
    equal([r.value() for r in records(server, "t", 2)], [b"1", b"2"])


@check("a group's committed offset settles what AMQP published to a topic and what a bridge took there from SQS, through a kill")
def _(place):
    server, channel, sqs = started(place)
    server.ok("topic", "create", "t")
    sqs.create("q")
    server.ok("bridge", "create", "b", "--from-queue", "q", "--to-topic", "t")
    channel.basic_publish("", "t", b"by AMQP")
    sqs.send("q", "by SQS")
    passed(server, "b", 1)
    channel.basic_publish("", "t", b"after")

    def consumed(server, n):
        consumer = Consumer({"bootstrap.servers": server.kafka, "group.id": "g", "auto.offset.reset": "earliest", "enable.auto.commit": False, **KAFKA})
        consumer.subscribe(["t"])
        got = []
        for _ in range(n):
            message = until(lambda: consumer.poll(1), "a record")
            assert message.error() is None, message.error()
            got.append(message.value())
            consumer.commit(message, asynchronous=False)
        consumer.close()
        return got
    equal(consumed(server, 2), [b"by AMQP", b"by SQS"])
    server.kill()
    equal(consumed(place.serve(*SMALL), 1), [b"after"])


@check("what AMQP rejects is read by SQS in the dead-letter queue, with where it comes from and how it died")
def _(place):
    _, channel, sqs = started(place)
    channel.queue_declare("dead", durable=True)
    channel.queue_declare("q", durable=True, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"})
    channel.basic_publish("", "q", b"body", pika.BasicProperties(headers={"n": "1"}))
    channel.basic_reject(take(channel, "q")[0].delivery_tag, requeue=False)
    message = sqs.take("dead", MessageAttributeNames=["All", "millstream.death"])
    equal((message["Body"], message["Attributes"]["DeadLetterQueueSourceArn"]), ("body", sqs.arn("q")))
    got = plain(message["MessageAttributes"])
    [told] = json.loads(got["millstream.death"][1])
    equal((told["queue"], told["reason"], told["count"], told["routing-keys"], got["n"]), ("q", "rejected", 1, ["q"], ("String", "1")))


@check("what SQS received too often is read by AMQP in the dead-letter queue with x-death, by timeout and by ChangeMessageVisibility")
def _(place):
    _, channel, sqs = started(place)
    sqs.create("dead")
    sqs.create("q", RedrivePolicy=sqs.redrive("dead", 2))
    sqs.send("q", "body", {"n": text("1", "Number")})
    sqs.visible_again("q", sqs.take("q"))
    sqs.take("q", VisibilityTimeout=1)
    _, properties, body = take(channel, "dead")
    equal((body, properties.headers["n"], death(properties.headers)), (b"body", 1, ("q", "delivery_limit", 1)))
    equal(properties.headers["x-first-death-queue"], "q")


@check("timeouts of SQS and nacks of AMQP add up to one limit, whichever protocol set it")
def _(place):
    _, channel, sqs = started(place)
    sqs.create("dead")
    sqs.create("by-sqs", RedrivePolicy=sqs.redrive("dead", 3))
    channel.queue_declare("by-amqp", durable=True, arguments={
        "x-queue-type": "quorum", "x-delivery-limit": 2, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"})
    for queue in ("by-sqs", "by-amqp"):
        sqs.send(queue, queue)
        sqs.take(queue, VisibilityTimeout=1)
        method, properties, _ = take(channel, queue)
        if queue == "by-amqp":
            # The attempts that failed, by whatever protocol; SQS counts receives.
            equal(properties.headers["x-delivery-count"], 1)
        channel.basic_nack(method.delivery_tag)
        third = sqs.take(queue)
        equal(third["Attributes"]["ApproximateReceiveCount"], "3", queue)
        sqs.visible_again(queue, third)
        method, properties, body = take(channel, "dead")
        equal((body, death(properties.headers)), (queue.encode(), (queue, "delivery_limit", 1)))
        channel.basic_ack(method.delivery_tag)
        equal(sqs.counts(queue), [0, 0, 0])


@check("a record that a bridge took to a queue dies there by AMQP and by SQS, and tells of it in either")
def _(place):
    server, channel, sqs = started(place)
    server.ok("topic", "create", "t")
    sqs.create("dead")
    sqs.create("q", RedrivePolicy=sqs.redrive("dead", 1))
    server.ok("bridge", "create", "b", "--from-topic", "t", "--to-queue", "q")
    produce(server, "t", {"key": "k", "value": b"\xff1"}, {"key": "k", "value": "2"})
    passed(server, "b", 2)
    channel.basic_reject(take(channel, "q")[0].delivery_tag, requeue=False)
    become(server, "dead", ready=1)
    sqs.visible_again("q", sqs.take("q"))
    become(server, "dead", ready=2)
    _, properties, body = take(channel, "dead")
    equal((body, death(properties.headers)), (b"\xff1", ("q", "rejected", 1)))
    message = sqs.take("dead")
    equal((message["Body"], message["Attributes"]["DeadLetterQueueSourceArn"]), ("2", sqs.arn("q")))


@check("a dead letter of SQS goes by a bridge to a topic, and a Kafka consumer reads how it died")
def _(place):
    server, _, sqs = started(place)
    server.ok("topic", "create", "t")
    sqs.create("dead")
    sqs.create("q", RedrivePolicy=sqs.redrive("dead", 1))
    server.ok("bridge", "create", "b", "--from-dead-letters-of", "q", "--to-topic", "t")
    sqs.send("q", "body", {"n": text("1", "Number")})
    sqs.visible_again("q", sqs.take("q"))
    [record] = records(server, "t", 1)
    headers = dict(record.headers())
    equal((record.value(), headers["n"], headers["millstream.death.1.queue"], headers["millstream.death.1.reason"]),
          (b"body", b"1", b"q", b"delivery_limit"))
