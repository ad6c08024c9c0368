"""Time to live."""

import pika

from .harness import bodies, check, count, deliveries, equal, quiet, refused, take, unique, until


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


@check("without time to live a message goes to a consumer that waits with credit, and is expired otherwise")
def at_once(context):
    for own, arguments in [("0", {}), (None, {"x-message-ttl": 0})]:
        dead, queue = unique("dead"), unique("ttl")
        with context.connect() as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            channel.queue_declare(dead)
            to_dead = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead}
            channel.queue_declare(queue, arguments={**arguments, **to_dead})
            publish = lambda body: channel.basic_publish("", queue, body, pika.BasicProperties(expiration=own))
            received = []
            taking = connection.channel()
            taking.basic_qos(prefetch_count=1)
            taking.basic_consume(queue, lambda *m: received.append(m))
            publish(b"first")
            deliveries(connection, received, 1)
            # The consumer has as many as it wants: nobody waits.
            publish(b"second")
            method, properties, body = take(channel, dead)
            channel.basic_ack(method.delivery_tag)
            equal(body, b"second")
            equal(properties.headers["x-death"][0]["reason"], "expired")
            equal(properties.headers["x-death"][0].get("original-expiration"), own)
            # What is given back finds nobody waiting either.
            taking.basic_nack(received[0][1].delivery_tag, requeue=True)
            equal(take(channel, dead)[2], b"first")
            quiet(connection, received, 1, 0.1)
            channel.queue_delete(queue)
            channel.queue_delete(dead)


@check("an expiration that is no number closes the channel")
def no_number(context):
    with context.connect() as connection:
        for text, why in [("soon", "no_integer"), ("", "no_integer"), ("-1", "{value_negative,-1}"), ("1.5", '{leftover_string,".5"}'),
                          ("1 ", '{leftover_string," "}'), ("315360000001", "{value_too_large,315360000001}")]:
            channel = connection.channel()
            channel.basic_publish("", "q", b"x", pika.BasicProperties(expiration=text))
            refused(406, f"invalid expiration '{text}': {why}", lambda channel=channel: channel.queue_declare("", exclusive=True))
        channel = connection.channel()
        channel.confirm_delivery()
        for text in ["+1", "315360000000"]:
            channel.basic_publish("", "q", b"x", pika.BasicProperties(expiration=text))
