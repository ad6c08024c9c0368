"""One message through everything: in by AMQP, timed out by SQS, nacked by AMQP, its dead letter read by Kafka, and the broker killed at each step."""

import hashlib
import json

import pika

from clients import SMALL, Sqs, amqp, become, plain, records, take
from harness import check, equal

LIMIT = 4
BODY = bytes(range(256)) * 300


@check("a binary message of AMQP leased by SQS until it times out, nacked by AMQP to its limit, is read whole by Kafka, with one count, through kills")
def _(place):
    server = place.serve(*SMALL)

    def killed():
        nonlocal server
        server.kill()
        server = place.serve(*SMALL)

    server.ok("topic", "create", "graves")
    sqs = Sqs(server)
    sqs.create("dead")
    sqs.create("jobs", RedrivePolicy=sqs.redrive("dead", LIMIT))
    server.ok("bridge", "create", "b", "--from-dead-letters-of", "jobs", "--to-topic", "graves")
    amqp(server).basic_publish("", "jobs", BODY, pika.BasicProperties(
        delivery_mode=2, content_type="application/octet-stream", correlation_id="c", headers={"raw": b"\x00\xff", "n": 7}))

    killed()
    sqs = Sqs(server)
    first = sqs.take("jobs", VisibilityTimeout=3)
    equal((plain(first["MessageAttributes"])["millstream.encoding"][1], first["Attributes"]["ApproximateReceiveCount"]), ("base64", "1"))
    killed()  # the lease holds over it, and runs out by itself
    equal(Sqs(server).counts("jobs"), [0, 1, 0])
    become(server, "jobs", ready=1)

    def nacked_by_amqp():
        channel = amqp(server)
        method, properties, body = take(channel, "jobs")
        equal((method.redelivered, hashlib.sha256(body).digest()), (True, hashlib.sha256(BODY).digest()))
        equal((properties.content_type, properties.correlation_id, properties.headers), ("application/octet-stream", "c", {"raw": b"\x00\xff", "n": 7}))
        channel.basic_nack(method.delivery_tag)
        channel.connection.close()  # what was settled before is durable when this is answered

    nacked_by_amqp()
    killed()
    sqs = Sqs(server)
    third = sqs.take("jobs")
    equal(third["Attributes"]["ApproximateReceiveCount"], "3")
    sqs.visible_again("jobs", third)
    killed()
    nacked_by_amqp()
    killed()
    become(server, "jobs")
    become(server, "dead")
    [record] = records(server, "graves", 1)
    headers = dict(record.headers())
    equal(record.value(), BODY)
    wanted = {"amqp.content_type": b"application/octet-stream", "amqp.correlation_id": b"c", "raw": b"\x00\xff", "n": b"7",
              "millstream.death.1.queue": b"jobs", "millstream.death.1.reason": b"delivery_limit", "millstream.death.1.count": b"1"}
    equal({k: headers.get(k) for k in wanted}, wanted)
    equal(json.loads(headers["millstream.death.1.routing_keys"]), ["jobs"])
    # Once, and nothing behind it.
    equal(server.ok("consume", "graves", "--json").out.count("\n"), 1)
