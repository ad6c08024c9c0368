"""What closes a channel and what closes the connection; logging in."""

import pika

from .harness import check, equal, refused, that, unique


@check("a channel's error leaves the connection and its other channels alone")
def soft(context):
    with context.connect() as connection:
        bad, good = connection.channel(), connection.channel()
        refused(404, "no queue", lambda: bad.queue_declare(unique("no"), passive=True))
        queue = good.queue_declare("", exclusive=True).method.queue
        again = connection.channel(bad.channel_number)
        equal(again.queue_declare(queue, passive=True).method.queue, queue)


@check("an unknown type of exchange is refused")
def exchange_type(context):
    connection = context.connect()
    channel = connection.channel()
    try:
        channel.exchange_declare(unique("x"), "x-no-such")
    except pika.exceptions.ChannelClosedByBroker as error:
        equal((error.reply_code, error.reply_text), (406, "PRECONDITION_FAILED - unknown exchange type 'x-no-such'"))
        that(connection.is_open, "the connection goes on")
        connection.close()
        return
    except pika.exceptions.ConnectionClosedByBroker as error:
        # RabbitMQ until 3.11.
        equal((error.reply_code, context.peer), (503, "rabbitmq"))
        return
    raise AssertionError("not refused")


@check("immediate is not served")
def immediate(context):
    connection = context.connect()
    channel = connection.channel()
    channel._impl._send_method(pika.spec.Basic.Publish(exchange="", routing_key="q", immediate=True), (pika.BasicProperties(), b"x"))
    refused(540, "NOT_IMPLEMENTED - immediate=true", lambda: channel.queue_declare("", exclusive=True))


@check("another virtual host is refused")
def vhost(context):
    try:
        context.connect(virtual_host="elsewhere")
    except pika.exceptions.ConnectionClosedByBroker as error:
        equal(error.reply_code, 530)
        that("vhost elsewhere not found" in error.reply_text, error.reply_text)
        return
    except pika.exceptions.ProbableAccessDeniedError as error:
        that("530" in repr(error) and "vhost elsewhere not found" in repr(error), repr(error))
        return
    raise AssertionError("not refused")


@check("a wrong password is refused, and told to clients that ask")
def password(context):
    try:
        context.connect(credentials=pika.PlainCredentials("guest", "guess"))
    except pika.exceptions.ProbableAuthenticationError as error:
        that("ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN" in repr(error), repr(error))
        return
    raise AssertionError("not refused")


@check("heartbeats keep an idle connection")
def heartbeats(context):
    with context.connect(heartbeat=1) as connection:
        channel = connection.channel()
        for _ in range(70):
            connection.process_data_events(time_limit=0.05)
        channel.queue_declare("", exclusive=True)
