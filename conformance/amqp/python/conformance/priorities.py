"""Priorities of messages and of consumers; a single active consumer."""

import pika

from .harness import bodies, check, deliveries, equal, quiet, refused, take, unique


@check("higher priorities come first, and what is too high counts as the highest")
def of_messages(context):
    queue = unique("priority")
    with context.connect() as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.queue_declare(queue, arguments={"x-max-priority": 5})
        for body, priority in [(b"none", None), (b"1", 1), (b"5", 5), (b"9", 9), (b"3", 3), (b"0", 0)]:
            channel.basic_publish("", queue, body, pika.BasicProperties(priority=priority))
        equal(bodies(channel, queue, 6), [b"5", b"9", b"3", b"1", b"none", b"0"])
        channel.queue_delete(queue)


@check("consumers of a higher priority are served first")
def of_consumers(context):
    queue = unique("consumers")
    with context.connect() as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.queue_declare(queue)
        channel.basic_qos(prefetch_count=2)
        low, high = [], []
        channel.basic_consume(queue, lambda ch, method, properties, body: low.append(body))
        channel.basic_consume(queue, lambda ch, method, properties, body: high.append(body), arguments={"x-priority": 10})
        for n in range(3):
            channel.basic_publish("", queue, b"%d" % n)
        deliveries(connection, high, 2)
        deliveries(connection, low, 1)
        equal((high, low), ([b"0", b"1"], [b"2"]))
        channel.queue_delete(queue)


@check("of several consumers a single active one gets all, and the next follows it")
def single_active(context):
    queue = unique("single")
    with context.connect() as connection:
        channel, other = connection.channel(), connection.channel()
        channel.queue_declare(queue, arguments={"x-single-active-consumer": True})
        first, second = [], []
        tag = channel.basic_consume(queue, lambda ch, method, properties, body: first.append(body), auto_ack=True)
        other.basic_consume(queue, lambda ch, method, properties, body: second.append(body), auto_ack=True)
        for n in range(4):
            channel.basic_publish("", queue, b"%d" % n)
        deliveries(connection, first, 4)
        quiet(connection, second, 0)
        channel.basic_cancel(tag)
        channel.basic_publish("", queue, b"last")
        deliveries(connection, second, 1)
        channel.queue_delete(queue)


@check("a queue with a single active consumer takes no exclusive one, and messages can be got from it, but not if it is a quorum queue")
def single_active_and_others(context):
    with context.connect() as connection:
        channel = connection.channel()
        for kind in ["classic", "quorum"]:
            queue = unique("single")
            channel.queue_declare(queue, durable=True, arguments={"x-single-active-consumer": True, "x-queue-type": kind})
            if kind == "classic":  # RabbitMQ 3.10 ends the connection if it is a quorum queue
                alone = connection.channel()
                refused(403, f"queue '{queue}' in vhost '/' in exclusive use", lambda: alone.basic_consume(queue, lambda *_: None, exclusive=True))
            active, got = connection.channel(), []
            active.basic_qos(prefetch_count=1)
            active.basic_consume(queue, lambda ch, method, properties, body: got.append(body))
            for body in [b"1", b"2"]:
                channel.basic_publish("", queue, body)
            equal(deliveries(connection, got, 1), [b"1"])
            if kind == "classic":
                equal(take(channel, queue)[2], b"2")
            else:
                getting = connection.channel()
                refused(405, f"cannot obtain access to locked queue '{queue}' in vhost '/'. basic.get operations are not supported", lambda: getting.basic_get(queue))
            channel.queue_delete(queue)
