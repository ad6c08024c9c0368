"""Time to live."""

import pika

from .harness import bodies, check, count, equal, refused, unique, until


@check("messages go when their queue's time to live is over")
def of_queue(context):
    queue = unique("ttl")
    with context.connect() as connection:
        channel = connection.channel()
        channel.queue_declare(queue, arguments={"x-message-ttl": 150})
        for _ in range(3):
            channel.basic_publish("", queue, b"x")
        until("they are gone", lambda: count(channel, queue) == 0)
        channel.queue_delete(queue)


@check("the shorter of two times counts")
def shorter(context):
    queue = unique("ttl")
    with context.connect() as connection:
        channel = connection.channel()
        channel.queue_declare(queue, arguments={"x-message-ttl": 600_000})
        channel.basic_publish("", queue, b"short", pika.BasicProperties(expiration="30"))
        channel.basic_publish("", queue, b"long", pika.BasicProperties(expiration="6000000"))
        until("one is gone", lambda: count(channel, queue) == 1)
        equal(bodies(channel, queue, 1), [b"long"])
        channel.queue_delete(queue)


@check("an expiration of 0 is gone unless somebody waits for it")
def zero(context):
    queue = unique("ttl")
    with context.connect() as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.queue_declare(queue)
        channel.basic_publish("", queue, b"x", pika.BasicProperties(expiration="0"))
        equal(channel.basic_get(queue)[0], None)
        channel.queue_delete(queue)


@check("an expiration that is no number closes the channel")
def no_number(context):
    with context.connect() as connection:
        for text in ["soon", "-1", "1.5"]:
            channel = connection.channel()
            channel.basic_publish("", "q", b"x", pika.BasicProperties(expiration=text))
            refused(406, f"invalid expiration '{text}'", lambda channel=channel: channel.queue_declare("", exclusive=True))
