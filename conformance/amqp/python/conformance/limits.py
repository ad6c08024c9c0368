"""Length limits."""

import pika

from .harness import bodies, check, count, equal, take, unique, until


def filled(channel, n, size=1, **arguments):
    queue = unique("limits")
    channel.queue_declare(queue, arguments={name.replace("_", "-"): value for name, value in arguments.items()})
    channel.confirm_delivery()
    for i in range(n):
        channel.basic_publish("", queue, b"%d" % i * size)
    return queue


@check("the oldest go when a queue is too long")
def drop_head(context):
    with context.connect() as connection:
        channel = connection.channel()
        queue = filled(channel, 10, x_max_length=4)
        until("four are left", lambda: count(channel, queue) == 4)
        equal(bodies(channel, queue, 4), [b"6", b"7", b"8", b"9"])
        channel.queue_delete(queue)


@check("bytes are limited too")
def in_bytes(context):
    with context.connect() as connection:
        channel = connection.channel()
        queue = filled(channel, 9, size=10, x_max_length_bytes=30)
        until("three are left", lambda: count(channel, queue) == 3)
        equal(bodies(channel, queue, 3), [b"6" * 10, b"7" * 10, b"8" * 10])
        channel.queue_delete(queue)


@check("what is out does not count")
def out(context):
    with context.connect() as connection:
        channel = connection.channel()
        queue = filled(channel, 2, x_max_length=2)
        for _ in range(2):
            channel.basic_get(queue)
        for body in [b"a", b"b"]:
            channel.basic_publish("", queue, body)
        equal(count(channel, queue), 2)
        channel.queue_delete(queue)


@check("a full queue that refuses and dead-letters does both")
def refused_and_dead(context):
    queue, dead = unique("q"), unique("dead")
    with context.connect() as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.queue_declare(dead)
        channel.queue_declare(queue, arguments={"x-max-length": 1, "x-overflow": "reject-publish-dlx",
                                                "x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead})
        channel.basic_publish("", queue, b"first")
        try:
            channel.basic_publish("", queue, b"second")
            raise AssertionError("confirmed")
        except pika.exceptions.NackError:
            pass
        _, properties, body = take(channel, dead)
        equal((body, properties.headers["x-death"][0]["reason"]), (b"second", "maxlen"))
        equal(count(channel, queue), 1)
        channel.queue_delete(queue)
        channel.queue_delete(dead)
