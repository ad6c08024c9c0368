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


@check("a commit of which a queue refuses something closes the channel with 406")
def refused_commit(context):
    queue, other, source = unique("full"), unique("tx-out"), unique("tx-in")
    with context.connect() as connection:
        channel, watcher = connection.channel(), connection.channel()
        watcher.confirm_delivery()
        watcher.queue_declare(queue, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
        for name in [other, source]:
            watcher.queue_declare(name)
        watcher.basic_publish("", source, b"in")
        watcher.basic_publish("", queue, b"there")
        channel.tx_select()
        method, _, _ = take(channel, source)
        channel.basic_ack(method.delivery_tag)
        channel.basic_publish("", other, b"out")
        channel.basic_publish("", queue, b"refused")
        refused(406, "PRECONDITION_FAILED", channel.tx_commit)
        equal(count(watcher, queue), 1)
        if context.peer == "millstream":  # RabbitMQ keeps what was not refused
            until("what was acknowledged is back", lambda: count(watcher, source) == 1)
            equal(count(watcher, other), 0)
        for name in [queue, other, source]:
            watcher.queue_delete(name)


@check("what a transaction routes nowhere comes back before its commit is answered, and the rest stands")
def returned(context):
    queue = unique("tx")
    with context.connect() as connection:
        channel = connection.channel()
        channel.queue_declare(queue)
        back = []
        channel.add_on_return_callback(lambda channel, method, properties, body: back.append((method.reply_code, body)))
        channel.tx_select()
        channel.basic_publish("", unique("nowhere"), b"lost", mandatory=True)
        channel.basic_publish("", unique("nowhere"), b"dropped")
        channel.basic_publish("", queue, b"kept")
        equal(back, [])
        channel.tx_commit()
        until("it comes back", lambda: connection.process_data_events(0) or back)
        equal((back, take(channel, queue)[2]), ([(312, b"lost")], b"kept"))
        channel.queue_delete(queue)


@check("a transaction does not publish to an exchange that has gone since its channel last published there")
def exchange_gone(context):
    exchange = unique("tx")
    with context.connect() as connection:
        channel = connection.channel()
        channel.exchange_declare(exchange)
        channel.tx_select()
        channel.basic_publish(exchange, "k", b"")
        channel.tx_commit()
        connection.channel().exchange_delete(exchange)
        channel.basic_publish(exchange, "k", b"")
        refused(404, f"no exchange '{exchange}' in vhost '/'", lambda: channel.queue_declare("", exclusive=True))
