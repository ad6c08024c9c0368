"""Deduplication ids, which are ours: RabbitMQ has none."""

import pika

from .harness import bodies, check, refused, unique


@check("a deduplication id is a string of 1 to 255 bytes", peer="millstream")
def _(context):
    for wrong in ("", "x" * 256, 7, ["a"]):
        with context.connect() as connection:
            channel = connection.channel()
            channel.basic_publish("", "nowhere", b"", pika.BasicProperties(headers={"x-deduplication-id": wrong}))
            refused(406, "PRECONDITION_FAILED - invalid 'x-deduplication-id' header", lambda channel=channel: channel.queue_declare("", exclusive=True))


@check("a queue without an id window takes every message, whatever its id", peer="millstream")
def _(context):
    with context.connect() as connection:
        channel = connection.channel()
        queue = unique("ids")
        channel.queue_declare(queue, exclusive=True)
        for body in (b"1", b"2"):
            channel.basic_publish("", queue, body, pika.BasicProperties(headers={"x-deduplication-id": "a"}))
        assert bodies(channel, queue, 2) == [b"1", b"2"]
