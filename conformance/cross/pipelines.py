"""Bridges at work with clients on both sides, through kills of the broker."""

import collections
import threading

import botocore.exceptions
import pika
from confluent_kafka import Producer

from clients import KAFKA, SMALL, Sqs, amqp, become, counts, passed
from harness import check, equal, until
from program import free_port

ORDERS = 600
KILLS = 3
BROKEN = (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError, pika.exceptions.AMQPError, OSError)


class Worker(threading.Thread):
    """Takes messages and settles them until it is told to stop, whatever becomes of the broker. `settled` are those of which it knows."""

    def __init__(self, connect, turn):
        super().__init__(daemon=True)
        self.connect, self.turn, self.settled, self.over = connect, turn, [], threading.Event()

    def run(self):
        client = None
        while not self.over.is_set():
            try:
                client = client or self.connect()
                self.settled += self.turn(client)
            except BROKEN:
                client = None
                self.over.wait(0.05)

    def finish(self):
        self.over.set()
        self.join()


def by_sqs(sqs):
    got = sqs.receive("once.fifo", n=10, WaitTimeSeconds=1, VisibilityTimeout=5)
    for message in got:
        sqs.delete("once.fifo", message)
    return [(m["Body"], int(m["Attributes"]["SequenceNumber"])) for m in got]


def by_amqp(channel):
    method, _, body = channel.basic_get("all")
    if method is None:
        channel.connection.sleep(0.02)
        return []
    channel.basic_ack(method.delivery_tag)
    return [body.decode()] if not method.redelivered else []


@check("two bridges at once over one topic, two producers that send the same orders, two workers at each queue: through kills each id is "
       "in the FIFO queue once, and each record in the other queue once")
def _(place):
    ports = ["127.0.0.1:%d" % free_port() for _ in range(3)]
    start = lambda: place.serve(*SMALL, kafka=ports[0], amqp=ports[1], aws=ports[2])
    server = start()
    server.ok("topic", "create", "orders", "--partitions", "3")
    Sqs(server).create("once.fifo", FifoQueue="true")
    server.ok("queue", "create", "all")
    server.ok("bridge", "create", "ids", "--from-topic", "orders", "--to-queue", "once.fifo", "--dedup", "key", "--group", "key")
    server.ok("bridge", "create", "all", "--from-topic", "orders", "--to-queue", "all")
    workers = [Worker(lambda: Sqs(server), by_sqs) for _ in range(2)] + [Worker(lambda: amqp(server), by_amqp) for _ in range(2)]
    for worker in workers:
        worker.start()
    producers = [Producer({"bootstrap.servers": ports[0], "enable.idempotence": True, "linger.ms": 5, "message.timeout.ms": 120_000,
                           "reconnect.backoff.max.ms": 200, **KAFKA}) for _ in range(2)]
    errors = []
    for n in range(ORDERS):
        for producer in producers:
            producer.produce("orders", key="o-%d" % n, value="o-%d" % n, on_delivery=lambda error, _: error and errors.append(str(error)))
            producer.poll(0)
        if n % (ORDERS // KILLS) == ORDERS // KILLS // 2:
            for producer in producers:
                producer.flush(5)
            server.kill()
            server = start()
    equal(([producer.flush(60) for producer in producers], errors), ([0, 0], []))
    passed(server, "ids", 2 * ORDERS)
    passed(server, "all", 2 * ORDERS)
    for queue in ("once.fifo", "all"):
        until(lambda: counts(server, queue) == {}, "%s is empty: %s" % (queue, counts(server, queue)), 60)
    for worker in workers:
        worker.finish()
    # What was settled while the broker went is known to the broker alone.
    once = [one for worker in workers[:2] for one in worker.settled]
    equal((len(set(once)), len({body for body, _ in once}), len({number for _, number in once})), (len(once),) * 3, "ids and numbers, settled once")
    assert len(once) >= ORDERS * 0.9, "%d of %d" % (len(once), ORDERS)
    # Numbers are given as messages are appended: no further one was.
    sent = Sqs(server).send("once.fifo", "last", MessageGroupId="g", MessageDeduplicationId="last")
    equal(int(sent["SequenceNumber"]), ORDERS + 1)
    new = collections.Counter(body for worker in workers[2:] for body in worker.settled)
    equal(max(new.values()), 2, "deliveries that were no redeliveries")
