"""Mandatory messages."""

import pika

from .harness import check, equal, refused, unique


@check("a mandatory message that goes nowhere comes back before its confirm")
def returned(context):
    key = unique("nowhere")
    with context.connect() as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        try:
            channel.basic_publish("amq.direct", key, b"back" * 50_000, pika.BasicProperties(headers={"h": 1}, message_id="m"), mandatory=True)
        except pika.exceptions.UnroutableError as error:
            [message] = error.messages
            equal((message.method.reply_code, message.method.reply_text, message.method.exchange, message.method.routing_key),
                  (312, "NO_ROUTE", "amq.direct", key))
            equal((message.properties.headers, message.properties.message_id, message.body), ({"h": 1}, "m", b"back" * 50_000))
            return
        raise AssertionError("it did not come back")


@check("a mandatory message that is routed does not come back")
def routed(context):
    with context.connect() as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        queue = channel.queue_declare("", exclusive=True).method.queue
        channel.basic_publish("", queue, b"x", mandatory=True)


@check("a message may only say whose it is if it is so")
def user_id(context):
    with context.connect() as connection:
        channel = connection.channel()
        channel.basic_publish("amq.direct", "k", b"x", pika.BasicProperties(user_id="somebody"))
        refused(406, "user_id property set to 'somebody' but authenticated user was 'guest'", lambda: channel.queue_declare("", exclusive=True))


@check("a message that comes back has lost its BCC, and kept its CC")
def without_bcc(context):
    with context.connect() as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        try:
            channel.basic_publish("amq.direct", unique("nowhere"), b"", pika.BasicProperties(headers={"CC": ["a"], "BCC": ["b"]}), mandatory=True)
        except pika.exceptions.UnroutableError as error:
            equal(error.messages[0].properties.headers, {"CC": ["a"]})
            return
        raise AssertionError("it did not come back")
