"""Class tx."""

import pika

from .harness import bodies, check, count, equal, refused, take, unique, until


@check("nothing of a transaction happens before its commit, and all of it then")
def commit(context):
    queue, other = unique("tx"), unique("tx-out")
    with context.connect() as connection, context.connect() as watching:
        channel, watcher = connection.channel(), watching.channel()
        for name in [queue, other]:
            channel.queue_declare(name, durable=True)
        channel.basic_publish("", queue, b"in")
        take_ready = until("it is there", lambda: count(watcher, queue) == 1)
        equal(take_ready, True)
        channel.tx_select()
        method, _, body = take(channel, queue)
        channel.basic_publish("", other, body, pika.BasicProperties(delivery_mode=2))
        channel.basic_publish("", other, b"more")
        channel.basic_ack(method.delivery_tag)
        channel.queue_declare(other, passive=True, durable=True)
        equal(count(watcher, other), 0)
        channel.tx_commit()
        equal(count(watcher, other), 2)
        equal(bodies(watcher, other, 2), [b"in", b"more"])
    with context.connect() as connection:
        channel = connection.channel()
        equal(count(channel, queue), 0)
        for name in [queue, other]:
            channel.queue_delete(name)


@check("a rollback undoes publishes and acks")
def rollback(context):
    queue = unique("tx")
    with context.connect() as connection:
        channel = connection.channel()
        channel.queue_declare(queue)
        channel.basic_publish("", queue, b"in")
        method, _, _ = take(channel, queue)
        channel.tx_select()
        channel.basic_publish("", queue, b"never")
        channel.basic_ack(method.delivery_tag)
        channel.tx_rollback()
        equal(count(channel, queue), 0)
        channel.basic_nack(method.delivery_tag, requeue=True)
        channel.tx_commit()
        until("it is back", lambda: count(channel, queue) == 1)
        equal(take(channel, queue)[2], b"in")
        channel.queue_delete(queue)


@check("confirms and transactions do not go together")
def modes(context):
    with context.connect() as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        refused(406, "cannot switch from confirm to tx mode", channel.tx_select)
        channel = connection.channel()
        channel.tx_select()
        refused(406, "cannot switch from tx to confirm mode", channel.confirm_delivery)
        channel = connection.channel()
        refused(406, "channel is not transactional", channel.tx_commit)
