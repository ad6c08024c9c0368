"""Cancelling consumers, from both sides."""

from .harness import check, count, deliveries, equal, quiet, refused, that, unique, until


@check("a cancelled consumer gets nothing more, and what it has stays its channel's")
def by_client(context):
    queue = unique("cancel")
    with context.connect() as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.queue_declare(queue)
        got = []
        channel.basic_qos(prefetch_count=1)
        tag = channel.basic_consume(queue, lambda ch, method, properties, body: got.append(method), consumer_tag="mine")
        equal(tag, "mine")
        for _ in range(2):
            channel.basic_publish("", queue, b"x")
        deliveries(connection, got, 1)
        channel.basic_cancel(tag)
        quiet(connection, got, 1)
        equal(count(channel, queue), 1)
        channel.basic_ack(got[0].delivery_tag)
        equal(count(channel, queue), 1)
        channel.queue_delete(queue)


@check("a consumer hears that its queue is gone")
def by_server(context):
    queue = unique("gone")
    with context.connect() as connection, context.connect() as other:
        channel = connection.channel()
        channel.queue_declare(queue)
        heard = []
        channel.add_on_cancel_callback(lambda frame: heard.append(frame.method.consumer_tag))
        tag = channel.basic_consume(queue, lambda *_: None)
        other.channel().queue_delete(queue)
        deliveries(connection, heard, 1)
        equal(heard, [tag])
        channel.queue_declare(queue)
        channel.queue_delete(queue)


@check("a tag is used once at a time, and made up if there is none")
def tags(context):
    queue = unique("tags")
    connection = context.connect()
    channel = connection.channel()
    channel.queue_declare(queue)
    channel.basic_consume(queue, lambda *_: None, consumer_tag="t")
    channel._impl._consumers.clear()  # pika itself refuses a tag twice
    channel._consumer_infos.clear()
    refused(530, "attempt to reuse consumer tag 't'", lambda: channel.basic_consume(queue, lambda *_: None, consumer_tag="t"))
    with context.connect() as connection:
        connection.channel().queue_delete(queue)


@check("a consumer of a queue that is not there is refused")
def absent(context):
    with context.connect() as connection:
        channel = connection.channel()
        refused(404, "no queue", lambda: channel.basic_consume(unique("absent"), lambda *_: None))
