"""Direct reply-to."""

import pika

from .harness import check, deliveries, equal, refused, that, unique

REPLY_TO = "amq.rabbitmq.reply-to"


@check("an answer comes straight to who asked, without a queue of its own")
def asked(context):
    queue = unique("questions")
    with context.connect() as connection, context.connect() as other:
        channel, server = connection.channel(), other.channel()
        server.queue_declare(queue)
        answers = []
        channel.basic_consume(REPLY_TO, lambda ch, method, properties, body: answers.append((properties.correlation_id, body)), auto_ack=True)

        def answer(ch, method, properties, body):
            that(properties.reply_to.startswith(REPLY_TO) and properties.reply_to != REPLY_TO, properties.reply_to)
            ch.basic_publish("", properties.reply_to, body.upper(), pika.BasicProperties(correlation_id=properties.correlation_id))
            seen.append(properties.reply_to)

        seen = []
        server.basic_consume(queue, answer, auto_ack=True)
        for n in range(5):
            channel.basic_publish("", queue, b"question", pika.BasicProperties(reply_to=REPLY_TO, correlation_id=str(n)))
        deliveries(other, seen, 5)
        deliveries(connection, answers, 5)
        equal(answers, [(str(n), b"QUESTION") for n in range(5)])
        equal(len(set(seen)), 1)
        server.queue_delete(queue)


@check("answers cannot be acknowledged, nor asked for before there is a consumer")
def rules(context):
    with context.connect() as connection:
        channel = connection.channel()
        refused(406, "reply consumer cannot acknowledge", lambda: channel.basic_consume(REPLY_TO, lambda *_: None))
        channel = connection.channel()
        channel.basic_publish("", "q", b"x", pika.BasicProperties(reply_to=REPLY_TO))
        refused(406, "fast reply consumer does not exist", lambda: channel.queue_declare("", exclusive=True))
        connection.channel().queue_declare(REPLY_TO, passive=True)
