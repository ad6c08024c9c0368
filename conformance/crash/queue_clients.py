"""The AMQP clients of the kill -9 test: publishers with confirms, consumers whose acks stand behind barriers, a mover with transactions.

Each lives through the crashes: it connects again and goes on. What was unanswered when a connection broke stays of unknown fate."""

import random
import threading
import time

import pika
from pika.adapters.utils.connection_workflow import AMQPConnectorException

from ledger import body, name_of

BOTH = "both"
WORK, KEPT, FEED, OUT, BARRIER, COPIES = "work", "kept", "feed", "out", "barrier", "copies"
RETRY_S = 0.02
OUTSTANDING_MAX = 300
PREFETCH = 60
BROKEN = (pika.exceptions.AMQPError, AMQPConnectorException, OSError)


def connect(address):
    host, port = address.rsplit(":", 1)
    return pika.BlockingConnection(pika.ConnectionParameters(
        host, int(port), heartbeat=0, socket_timeout=5, stack_timeout=10, blocked_connection_timeout=60))


def declare(address):
    """What the clients work with."""
    connection = connect(address)
    channel = connection.channel()
    channel.exchange_declare(BOTH, "fanout", durable=True)
    for queue in (WORK, KEPT, FEED, OUT):
        channel.queue_declare(queue, durable=True)
    channel.queue_declare(BARRIER, durable=True, arguments={"x-max-length": 5})
    for queue in (WORK, KEPT):
        channel.queue_bind(queue, BOTH)
    connection.close()


def ready(channel, queue):
    return channel.queue_declare(queue, passive=True).method.message_count


def drained(address, queue):
    """The names of all messages of a queue, in order; they are taken."""
    connection = connect(address)
    channel = connection.channel()
    left, names = ready(channel, queue), []
    for _, _, content in channel.consume(queue, auto_ack=True, inactivity_timeout=30):
        if content is None:
            break
        names.append(name_of(content))
        if len(names) == left:
            break
    if left == 0:
        names = []
    connection.close()
    return names


class Client(threading.Thread):
    """Works in sessions, one connection each, until it is to end. `progress` counts what was answered."""

    def __init__(self, address, ledger, seed):
        super().__init__(daemon=True)
        self.address, self.ledger, self.random = address, ledger, random.Random(seed)
        self.progress = 0
        self.errors = []
        self.over = threading.Event()

    def run(self):
        while not self.over.is_set():
            try:
                self.session()
            except BROKEN as error:
                if isinstance(error, (pika.exceptions.ChannelClosedByBroker,)):
                    self.errors.append("%s: %s" % (type(self).__name__, error))
                self.over.wait(RETRY_S)  # tidy: pacing

    def finish(self):
        self.over.set()
        self.join(60)
        if self.is_alive():
            self.errors.append("%s does not end" % type(self).__name__)


class Publisher(Client):
    """Publishes at a steady rate, many messages on their way at once, each confirmed."""

    def __init__(self, name, address, ledger, seed, exchange, key, rate, sizes):
        super().__init__(address, ledger, seed)
        self.publisher, self.exchange, self.key, self.rate, self.sizes = name, exchange, key, rate, sizes
        self.count = 0

    def session(self):
        connection = connect(self.address)
        channel = connection.channel()
        if self.exchange == BOTH:
            # Gone with each crash. What is published goes to a queue in memory too, which its record leaves out.
            channel.queue_declare(COPIES, durable=False, arguments={"x-max-length": 100})
            channel.queue_bind(COPIES, BOTH)
        waiting, told = {}, []
        impl = channel._impl  # pika's blocking channel waits for each confirm: this is the one beneath
        impl.confirm_delivery(lambda frame: told.append(frame.method))
        while not told and impl._state is None:
            connection.process_data_events(0.01)
        tag, began, sent = 0, time.monotonic(), 0
        properties = pika.BasicProperties(delivery_mode=2)
        while waiting or not self.over.is_set():
            ahead = sent > self.rate * (time.monotonic() - began) or len(waiting) >= OUTSTANDING_MAX
            if not ahead and not self.over.is_set():
                content = body(self.publisher, self.count, self.random.randint(*self.sizes))
                tag, sent = tag + 1, sent + 1
                waiting[tag] = (self.publisher, self.count)
                self.count += 1
                channel.basic_publish(self.exchange, self.key, content, properties)
            connection.process_data_events(0.01 if ahead else 0)
            for method in told:
                self.answered(method, waiting)
            told.clear()
        connection.close()

    def answered(self, method, waiting):
        tags = [t for t in waiting if t <= method.delivery_tag] if method.multiple else [method.delivery_tag]
        for tag in tags:
            name = waiting.pop(tag)
            if isinstance(method, pika.spec.Basic.Ack):
                self.ledger.confirm(name)
                self.progress += 1
            else:
                self.errors.append("%s %d was refused" % name)


class Consumer(Client):
    """Acknowledges in all ways, and puts barriers behind its acks: what stood before one that was answered is settled."""

    BARRIERS = ["confirm", "confirm to nowhere", "channel close", "connection close", "tx"]

    def __init__(self, name, address, ledger, seed):
        super().__init__(address, ledger, seed)
        self.consumer = name
        self.barriers = dict.fromkeys(self.BARRIERS, 0)

    def session(self):
        connection = connect(self.address)
        while not self.over.is_set():
            barrier = self.random.choice(self.BARRIERS)
            channel = connection.channel()
            held, acked = [], []
            if barrier == "tx":
                channel.tx_select()
            elif barrier.startswith("confirm"):
                channel.confirm_delivery()
            channel.basic_qos(prefetch_count=PREFETCH)

            def came(_channel, method, _properties, content):
                name = name_of(content)
                self.ledger.deliver(name, method.redelivered, self.consumer)
                held.append((method.delivery_tag, name))

            channel.basic_consume(WORK, came)
            wanted, deadline = self.random.randint(1, 150), time.monotonic() + 0.5
            while len(acked) < wanted and time.monotonic() < deadline and not self.over.is_set():
                connection.process_data_events(0.01)
                self.settle_some(channel, held, acked)
            if not acked:
                channel.close()
                continue
            if barrier == "tx":
                channel.tx_commit()
            elif barrier == "confirm":
                channel.basic_publish("", BARRIER, b"barrier", pika.BasicProperties(delivery_mode=2))
            elif barrier == "confirm to nowhere":
                channel.basic_publish("amq.direct", "nowhere", b"barrier")
            elif barrier == "channel close":
                channel.close()
            else:
                connection.close()
            self.ledger.settle(acked)
            self.barriers[barrier] += 1
            self.progress += 1
            if not connection.is_open:
                return
            if channel.is_open:
                channel.close()
        connection.close()

    def settle_some(self, channel, held, acked):
        while held:
            way = self.random.random()
            if way < 0.05:  # given back: it comes again
                tag, _ = held.pop(0)
                channel.basic_nack(tag, requeue=True)
            elif way < 0.3:  # all up to some
                upto = self.random.randrange(len(held)) + 1
                channel.basic_ack(held[upto - 1][0], multiple=True)
                acked += [name for _, name in held[:upto]]
                del held[:upto]
            elif way < 0.9:
                tag, name = held.pop(self.random.randrange(len(held)))
                channel.basic_ack(tag)
                acked.append(name)
            else:  # the rest stays unacknowledged for now
                return


class Mover(Client):
    """Takes messages from one queue and publishes them to another, in transactions: each must be moved once, whatever happens."""

    def session(self):
        connection = connect(self.address)
        channel = connection.channel()
        channel.tx_select()
        channel.basic_qos(prefetch_count=20)
        held = []
        channel.basic_consume(FEED, lambda _channel, method, _properties, content: held.append((method.delivery_tag, content)))
        properties = pika.BasicProperties(delivery_mode=2)
        while not self.over.is_set():
            connection.process_data_events(0.01)
            while held:
                part = held[:self.random.randint(1, 8)]
                rolled_back = self.random.random() < 0.1
                for _ in range(2 if rolled_back else 1):
                    for tag, content in part:
                        channel.basic_publish("", OUT, content, properties)
                        channel.basic_ack(tag)
                    if rolled_back:
                        channel.tx_rollback()
                        rolled_back = False
                    else:
                        channel.tx_commit()
                del held[:len(part)]
                self.ledger.move([name_of(content) for _, content in part])
                self.progress += 1
        connection.close()
