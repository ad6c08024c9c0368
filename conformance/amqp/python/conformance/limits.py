"""Length limits."""

import pika

from .harness import bodies, check, count, deliveries, equal, take, unique, until


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


@check("what is given back to a full queue counts again: the oldest go, and are dead-lettered")
def requeued(context):
    for n in (1, 2, 3):
        queue, dead = unique("q"), unique("dead")
        with context.connect() as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            channel.queue_declare(dead)
            channel.queue_declare(queue, arguments={"x-max-length": n, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead})
            for i in range(n):
                channel.basic_publish("", queue, b"old %d" % i)
            tags = [take(channel, queue)[0].delivery_tag for _ in range(n)]
            for i in range(n):
                channel.basic_publish("", queue, b"new %d" % i)
            channel.basic_nack(tags[0])
            if n > 1:
                channel.basic_nack(tags[-1], multiple=True)
            until("as many as came back are dead", lambda: count(channel, dead) == n)
            equal(bodies(channel, queue, n), [b"new %d" % i for i in range(n)])
            equal(bodies(channel, dead, n), [b"old %d" % i for i in range(n)])
            for name in (queue, dead):
                channel.queue_delete(name)


def burst(channel, connection, n, prefetch, **arguments):
    """Publishes `n` messages at once to a queue whose consumer takes `prefetch` of them. The queue, and what the consumer got."""
    queue, received = unique("burst"), []
    channel.queue_declare(queue, arguments={name.replace("_", "-"): value for name, value in arguments.items()})
    channel.basic_qos(prefetch_count=prefetch)
    tag = channel.basic_consume(queue, lambda _c, method, _p, body: received.append(body))
    publishing = connection.channel()
    for i in range(n):
        publishing.basic_publish("", queue, b"%d" % i)
    deliveries(connection, received, min(n, prefetch))
    channel.basic_cancel(tag)
    return queue, received


@check("a burst goes to the consumer that waits for it before the queue's limit counts")
def burst_is_delivered(context):
    with context.connect() as connection:
        for limit in (0, 1, 5):
            channel = connection.channel()
            queue, received = burst(channel, connection, 200, 150, x_max_length=limit)
            equal(received, [b"%d" % i for i in range(150)])
            equal(bodies(channel, queue, limit), [b"%d" % i for i in range(200 - limit, 200)])
            channel.queue_delete(queue)


@check("a burst that a consumer waits for is not refused for the queue's limit")
def burst_is_taken(context):
    queue, received = unique("burst"), []
    with context.connect() as connection, context.connect() as other:
        channel = connection.channel()
        channel.queue_declare(queue, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
        channel.basic_qos(prefetch_count=100)
        channel.basic_consume(queue, lambda _c, method, _p, body: received.append(body))
        publishing = other.channel()
        for i in range(120):
            publishing.basic_publish("", queue, b"%d" % i)
        deliveries(connection, received, 100)
        equal(received, [b"%d" % i for i in range(100)])
        until("one is left of the others", lambda: count(channel, queue) == 1)
        channel.queue_delete(queue)
