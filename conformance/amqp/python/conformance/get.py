"""`basic.get`."""

import pika

from .harness import bodies, check, count, deliveries, equal, refused, take, that, unique, until


@check("get gives messages in order with how many are left, and then nothing")
def in_order(context):
    queue = unique("get")
    with context.connect() as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.queue_declare(queue)
        for n in range(3):
            channel.basic_publish("", queue, b"%d" % n)
        for n in range(3):
            method, _, body = channel.basic_get(queue)
            equal((body, method.message_count, method.redelivered, method.delivery_tag), (b"%d" % n, 2 - n, False, n + 1))
        equal(channel.basic_get(queue), (None, None, None))
        channel.queue_delete(queue)


@check("what a channel has published, it can get at once, unconfirmed")
def own(context):
    queue = unique("own")
    with context.connect() as connection:
        channel = connection.channel()
        channel.queue_declare(queue, durable=True)
        for n in range(200):
            channel.basic_publish("", queue, b"%d" % n, pika.BasicProperties(delivery_mode=2))
            equal(channel.basic_get(queue, auto_ack=True)[2], b"%d" % n)
        channel.queue_delete(queue)


@check("what was got and not acknowledged is back when the channel is closed, and marked")
def back(context):
    queue = unique("back")
    with context.connect() as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.queue_declare(queue)
        for n in range(3):
            channel.basic_publish("", queue, b"%d" % n)
        channel.basic_get(queue)
        channel.basic_get(queue, auto_ack=True)
        channel.close()
        channel = connection.channel()
        until("it is back", lambda: count(channel, queue) == 2)
        method, _, body = channel.basic_get(queue)
        equal((body, method.redelivered), (b"0", True))
        method, _, body = channel.basic_get(queue)
        equal((body, method.redelivered), (b"2", False))
        channel.queue_delete(queue)


@check("get from a queue that is not there closes the channel")
def absent(context):
    with context.connect() as connection:
        channel = connection.channel()
        refused(404, "no queue", lambda: channel.basic_get(unique("absent")))


@check("acks of a closed connection stay")
def acks_stay(context):
    queue = unique("stay")
    with context.connect() as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.queue_declare(queue, durable=True)
        for n in range(20):
            channel.basic_publish("", queue, b"%d" % n)
        for n in range(10):
            method, _, _ = channel.basic_get(queue)
            channel.basic_ack(method.delivery_tag)
    with context.connect() as connection:
        channel = connection.channel()
        equal(count(channel, queue), 10)
        that(bodies(channel, queue, 10) == [b"%d" % n for n in range(10, 20)], "the others in order")
        channel.queue_delete(queue)


@check("a get takes beside a single active consumer")
def beside(context):
    with context.connect() as connection, context.connect() as other:
        queue = unique("beside")
        channel, second = connection.channel(), other.channel()
        channel.queue_declare(queue, arguments={"x-single-active-consumer": True})
        channel.basic_qos(prefetch_count=1)
        received = []
        channel.basic_consume(queue, lambda *got: received.append(got))
        second.confirm_delivery()
        second.basic_publish("", queue, b"first")
        deliveries(connection, received, 1)
        second.basic_publish("", queue, b"second")
        equal(take(second, queue)[2], b"second")
        second.queue_delete(queue)


@check("a quorum queue with a single active consumer is not for get")
def quorum_single(context):
    with context.connect() as connection:
        channel, queue = connection.channel(), unique("q")
        channel.queue_declare(queue, durable=True, arguments={"x-queue-type": "quorum", "x-single-active-consumer": True})
        refused(405, "basic.get operations are not supported by quorum queues with single active consumer", lambda: channel.basic_get(queue))
        connection.channel().queue_delete(queue)


@check("an empty table of headers is not none")
def empty_headers(context):
    with context.connect() as connection:
        channel = connection.channel()
        queue = channel.queue_declare("", exclusive=True).method.queue
        for properties in [pika.BasicProperties(headers={}), pika.BasicProperties(headers={"BCC": []}), pika.BasicProperties()]:
            channel.basic_publish("", queue, b"x", properties)
        equal([take(channel, queue)[1].headers for _ in range(3)], [{}, {}, None])
