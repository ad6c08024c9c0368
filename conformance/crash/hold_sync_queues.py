#!/usr/bin/env python3
"""Every fdatasync is held back: no AMQP confirm, tx.commit-ok or barrier, and no delivery, before the sync that covers it has returned.

hold_sync_queues.py --binary PATH [--hold-ms N]
As `hold_sync.py`, for AMQP: an ack has no answer of its own, so what is looked at is the next answer that promises it."""

import argparse
import os
import sys
import threading
import time

import pika

import program
from broker import Broker
from queue_clients import BROKEN, connect
from sync_trace import WITHIN_S, Operation, SideBySide, Trace, held_back, uncovered

WATCHED, STOCK, FANOUT, MIXED, TRANSIENT = "watched", "stock", "fanout", "mixed", "transient"


class Clients(SideBySide):
    """Each operation is sent when the one before it is answered; the kinds have a connection and a queue each."""

    def __init__(self, address):
        super().__init__(BROKEN)
        self.address = address

    def prepare(self, kinds):
        connection = connect(self.address)
        channel = connection.channel()
        channel.confirm_delivery()
        channel.exchange_declare(FANOUT, "fanout", durable=True)
        for n in range(3):
            channel.queue_declare("fanout %d" % n, durable=True)
            channel.queue_bind("fanout %d" % n, FANOUT)
        channel.exchange_declare(MIXED, "fanout", durable=True)
        channel.queue_declare(WATCHED, durable=True)
        channel.queue_declare(TRANSIENT, durable=False)
        for queue in (WATCHED, TRANSIENT):
            channel.queue_bind(queue, MIXED)
        for kind in kinds:
            channel.queue_declare("%s %s" % (STOCK, kind), durable=True)
            for n in range(2 * self.TIMES):
                channel.basic_publish("", "%s %s" % (STOCK, kind), b"%d" % n, pika.BasicProperties(delivery_mode=2))
        connection.close()

    def one(self, title, name, kind, n):
        connection = connect(self.address)
        channel = connection.channel()
        begin = kind(connection, channel, "%s %d" % (name, n), "%s %s" % (STOCK, name))  # what needs no looking at
        self.measured(Operation(title, b"%s %d" % (name.encode(), n)), begin)
        if connection.is_open:
            connection.close()


def confirm(delivery_mode, exchange="", key=WATCHED):
    def kind(_connection, channel, name, _stock):
        channel.confirm_delivery()
        return lambda: channel.basic_publish(exchange, key, name.encode(), pika.BasicProperties(delivery_mode=delivery_mode))
    return kind


def commit(publishes, acks):
    def kind(_connection, channel, name, stock):
        channel.tx_select()
        method, _, _ = channel.basic_get(stock)
        if publishes:
            channel.basic_publish("", WATCHED, name.encode(), pika.BasicProperties(delivery_mode=2))
        if acks:
            channel.basic_ack(method.delivery_tag)
        return channel.tx_commit
    return kind


def settled(settle, barrier):
    """An ack or reject, and what stands behind it."""
    def kind(connection, channel, _name, stock):
        if barrier in ("confirm", "transient"):
            channel.confirm_delivery()
        method, _, _ = channel.basic_get(stock)

        def begin():
            settle(channel, method.delivery_tag)
            if barrier == "confirm":
                channel.basic_publish("amq.direct", "nowhere", b"")
            elif barrier == "transient":
                channel.basic_publish("", TRANSIENT, b"")
            elif barrier == "channel":
                channel.close()
            else:
                connection.close()
        return begin
    return kind


def ack(channel, tag):
    channel.basic_ack(tag)


def reject(channel, tag):
    channel.basic_reject(tag, requeue=False)


KINDS = {
    "confirm": confirm(2),
    "confirm of a transient message": confirm(1),
    "confirm of three queues": confirm(2, FANOUT, ""),
    "confirm of a durable and a transient queue": confirm(2, MIXED, ""),
    "commit of a publish": commit(True, False),
    "commit of an ack": commit(False, True),
    "commit of both": commit(True, True),
    "ack, confirm to nowhere": settled(ack, "confirm"),
    "ack, confirm of a transient queue": settled(ack, "transient"),
    "ack, channel.close-ok": settled(ack, "channel"),
    "ack, connection.close-ok": settled(ack, "connection"),
    "reject, channel.close-ok": settled(reject, "channel"),
    "queue.declare-ok": lambda _connection, channel, name, _stock: lambda: channel.queue_declare(name, durable=True),
    "queue.bind-ok": lambda _connection, channel, name, stock: lambda: channel.queue_bind(stock, "amq.direct", name),
    "queue.purge-ok": lambda _connection, channel, _name, stock: lambda: (channel.basic_publish("", stock, b"x"), channel.queue_purge(stock)),
    "exchange.declare-ok": lambda _connection, channel, name, _stock: lambda: channel.exchange_declare(name, durable=True),
}
SEEN = ("confirm,", "confirm of a transient", "confirm of a durable and", "commit of a publish", "commit of both")  # these put a message into the watched queue


class Watcher(threading.Thread):
    """Notes the first moment at which each message is delivered."""

    def __init__(self, address):
        super().__init__(daemon=True)
        self.address, self.seen, self.over = address, {}, threading.Event()

    def run(self):
        connection = connect(self.address)
        channel = connection.channel()
        channel.basic_consume(WATCHED, lambda _channel, _method, _properties, content: self.seen.setdefault(content, time.time()), auto_ack=True)
        while not self.over.is_set():
            connection.process_data_events(0.02)
        connection.close()


def judge(checks, operations, seen, syncs, hold_ms):
    checks.that("held sync, queues: no answer before the sync that covers it returned",
                uncovered([(operation, operation.answered) for operation in operations], "answered", syncs),
                "%d operations of %d kinds" % (len(operations), len(KINDS)))
    delivered = [operation for operation in operations if operation.name.startswith(SEEN)]
    checks.that("held sync, queues: no message is delivered before its sync returned",
                uncovered([(operation, seen.get(operation.key)) for operation in delivered], "delivered", syncs), "%d messages" % len(delivered))
    held_back(checks, syncs, hold_ms)


def held(arguments, checks, directory, started):
    broker = Broker(arguments.binary, directory, amqp=True)
    started(broker)
    broker.start()
    clients = Clients(broker.amqp)
    clients.prepare(KINDS)
    trace = Trace(broker.process.pid, os.path.join(directory, "strace.txt"), arguments.hold_ms)
    try:
        watcher = Watcher(broker.amqp)
        watcher.start()
        operations = clients.run(KINDS)
        wanted = {operation.key for operation in operations if operation.name.startswith(SEEN)}
        deadline = time.monotonic() + WITHIN_S
        while not wanted <= set(watcher.seen) and time.monotonic() < deadline:
            watcher.over.wait(0.01)
        watcher.over.set()
        watcher.join()
    finally:
        trace.stop()
    judge(checks, operations, watcher.seen, trace.syncs(), arguments.hold_ms)
    status = broker.stop()
    checks.that("held sync, queues: the broker still stops cleanly", [] if status == 0 else ["exit status %s" % status])


def main():
    parser = argparse.ArgumentParser(description="AMQP's answers wait for the disk")
    parser.add_argument("--binary", required=True)
    parser.add_argument("--hold-ms", type=int, default=400)
    arguments = parser.parse_args()
    return program.run("held sync, queues", "hold-sync-queues-",
                       lambda checks, directory, started: held(arguments, checks, directory, started))


if __name__ == "__main__":
    sys.exit(main())
