"""The reference's background job with dead-letter handling."""

import json

import pika

from .harness import bodies, check, deliveries, equal, take, that, unique


class TransientError(Exception):
    """Worth another try."""


class PermanentError(Exception):
    """Never to succeed."""


@check("a failing job is tried again and then found in its dead-letter queue")
def dead_letter_handling(context):
    jobs, dlx, dead = unique("email_jobs"), unique("dlx"), unique("dead")
    with context.connect() as connection:
        channel = connection.channel()
        channel.exchange_declare(dlx, "topic", durable=True)
        channel.queue_declare(dead, durable=True)
        channel.queue_bind(dead, dlx, "#.dead")
        channel.queue_declare(queue=jobs, durable=True, arguments={
            "x-dead-letter-exchange": dlx,
            "x-dead-letter-routing-key": "email_jobs.dead",
            "x-message-ttl": 60000,
            "x-max-length": 100000,
        })
        for to in ["good@example.com", "slow@example.com", "bad@example.com"]:
            channel.basic_publish(exchange="", routing_key=jobs, body=json.dumps({"to": to, "template": "welcome"}),
                                  properties=pika.BasicProperties(delivery_mode=2, content_type="application/json"))
        seen, sent = [], []

        def send(job, redelivered):
            if job["to"].startswith("bad"):
                raise PermanentError
            if job["to"].startswith("slow") and not redelivered:
                raise TransientError
            sent.append(job["to"])

        def process(ch, method, properties, body):
            seen.append(method.redelivered)
            that(properties.content_type == "application/json", "content type")
            try:
                send(json.loads(body), method.redelivered)
                ch.basic_ack(delivery_tag=method.delivery_tag)
            except TransientError:
                ch.basic_nack(delivery_tag=method.delivery_tag, requeue=True)
            except PermanentError:
                ch.basic_nack(delivery_tag=method.delivery_tag, requeue=False)

        channel.basic_qos(prefetch_count=10)
        channel.basic_consume(queue=jobs, on_message_callback=process)
        deliveries(connection, seen, 4)
        equal(sorted(sent), ["good@example.com", "slow@example.com"])
        method, properties, body = take(channel, dead)
        equal(json.loads(body)["to"], "bad@example.com")
        equal((method.exchange, method.routing_key), (dlx, "email_jobs.dead"))
        [death] = properties.headers["x-death"]
        equal((death["reason"], death["queue"], death["count"], death["exchange"], death["routing-keys"]),
              ("rejected", jobs, 1, "", [jobs]))
        equal(properties.headers["x-first-death-queue"], jobs)
        for queue in [jobs, dead]:
            channel.queue_delete(queue)
        channel.exchange_delete(dlx)


@check("properties and headers of many types come back as they were sent")
def properties_come_back(context):
    queue = unique("props")
    headers = {"text": "ä", "yes": True, "small": 5, "large": 1 << 40, "minus": -3, "none": None,
               "list": [1, "two", [3]], "table": {"in": {"deeper": "x"}}, "bytes": b"\x00\xff"}
    sent = pika.BasicProperties(content_type="text/plain", content_encoding="gzip", headers=headers, delivery_mode=1, priority=3,
                                correlation_id="c", reply_to="r", message_id="m", timestamp=1_700_000_000, type="t",
                                user_id="guest", app_id="a", cluster_id="k")
    with context.connect() as connection:
        channel = connection.channel()
        channel.queue_declare(queue, durable=True)
        channel.basic_publish("", queue, b"x", sent)
        _, got, _ = take(channel, queue)
        for name in ["content_type", "content_encoding", "delivery_mode", "priority", "correlation_id", "reply_to", "message_id",
                     "timestamp", "type", "user_id", "app_id", "cluster_id"]:
            equal(getattr(got, name), getattr(sent, name), name)
        for name, value in headers.items():
            equal(got.headers[name], value, name)
        channel.queue_delete(queue)


@check("bodies of all sizes come back, whole and in order")
def sizes(context):
    queue = unique("sizes")
    sent = [bytes([n % 251]) * n for n in [0, 1, 4_087, 4_088, 4_089, 131_063, 131_064, 131_065, 3_000_000]]
    with context.connect() as connection:
        channel = connection.channel()
        channel.queue_declare(queue, durable=True)
        for body in sent:
            channel.basic_publish("", queue, body)
        got = bodies(channel, queue, len(sent))
        that(got == sent, f"sizes {[len(b) for b in got]}")
        channel.queue_delete(queue)
