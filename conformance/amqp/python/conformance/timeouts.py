"""`x-consumer-timeout`: a delivery that is not settled in time closes its channel."""

import pika

from .harness import check, deliveries, equal, that, unique, until


@check("a delivery that is not settled within x-consumer-timeout closes its channel with 406, and comes again", peer="millstream")
def _(context):
    with context.connect() as connection:
        queue = unique("slow")
        setup = connection.channel()
        setup.queue_declare(queue, durable=True, arguments={"x-consumer-timeout": 1000})
        setup.basic_publish("", queue, b"late")
        channel, received = connection.channel(), []
        channel.basic_consume(queue, lambda *delivery: received.append(delivery))
        deliveries(connection, received, 1)
        that(not received[0][1].redelivered, "redelivered at once")

        def closed():
            try:
                connection.process_data_events(time_limit=0.05)
            except pika.exceptions.ChannelClosedByBroker:
                pass
            return channel.is_closed

        until("the channel's end", closed)
        reason = channel._impl._closing_reason if not hasattr(channel, "_closing_reason") else channel._closing_reason
        equal(reason.reply_code, 406, "reply code")
        that("PRECONDITION_FAILED - delivery acknowledgement on channel" in reason.reply_text, reason.reply_text)
        that("timed out" in reason.reply_text, reason.reply_text)
        method, _, body = until("the message back", lambda: (lambda got: got if got[0] else None)(setup.basic_get(queue)))
        equal((method.redelivered, body), (True, b"late"))
        setup.basic_ack(method.delivery_tag)
        setup.queue_delete(queue)
