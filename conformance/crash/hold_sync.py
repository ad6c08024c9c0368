#!/usr/bin/env python3
"""Every fdatasync is held back: no answer, and nothing to read, before the sync that covers it has returned.

hold_sync.py --binary PATH [--hold-ms N]
strace delays each sync of the running broker and writes down when it began and returned. A client notes when it sent and when it
was answered. An answer was covered if a sync began after the sending and returned before it; the same for the first moment at which
another client could read what was sent."""

import argparse
import os
import sys
import threading
import time

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

import program
from broker import Broker
from sync_trace import WITHIN_S, Operation, Trace, covered, held_back

TOPIC = "held"
PARTITIONS = 3
OPERATIONS = 4


class Watcher(threading.Thread):
    """Notes the first moment at which each record can be read, and each committed offset be asked for."""

    def __init__(self, address):
        super().__init__(daemon=True)
        self.records = Consumer({"bootstrap.servers": address, "group.id": "watcher", "enable.auto.commit": False,
                                 "fetch.wait.max.ms": 10, "auto.offset.reset": "earliest"})
        self.records.assign([TopicPartition(TOPIC, partition, 0) for partition in range(PARTITIONS)])
        self.offsets = Consumer({"bootstrap.servers": address, "group.id": "held-group", "enable.auto.commit": False})
        self.address = address
        self.seen = {}
        self.over = threading.Event()
        self.asking = threading.Thread(target=self._ask, daemon=True)

    def run(self):
        self.asking.start()
        while not self.over.is_set():
            message = self.records.poll(0.05)
            if message is not None and message.error() is None:
                self.seen.setdefault(message.value(), time.time())

    def _ask(self):
        """An OffsetFetch may itself wait for what it shows; each is one question after another."""
        while not self.over.is_set():
            try:
                place = self.offsets.committed([TopicPartition(TOPIC, 0)], timeout=WITHIN_S)[0]
                self.seen.setdefault(("offset", place.offset), time.time())
            except Exception:
                pass  # not answered this time: nothing was seen
            self.over.wait(0.01)

    def finish(self):
        self.over.set()
        self.join()
        self.asking.join()
        self.records.close()
        self.offsets.close()


def produce(address, name, acks, idempotent, operations, lock):
    """One client's records, one after another, each waiting for its answer."""
    producer = Producer({"bootstrap.servers": address, "acks": acks, "linger.ms": 0, "enable.idempotence": idempotent})
    producer.list_topics(TOPIC, timeout=WITHIN_S)
    for count in range(OPERATIONS):
        value = ("%s %d" % (name, count)).encode()
        answered = []

        def told(error, _message):
            answered.append((time.time(), error))

        operation = Operation("%s, record %d" % (name, count), value)
        producer.produce(TOPIC, value, partition=count % PARTITIONS, on_delivery=told)
        deadline = time.monotonic() + WITHIN_S
        while not answered and time.monotonic() < deadline:
            producer.poll(0.05)
        with lock:
            operations.append(operation)
        if not answered or answered[0][1] is not None:
            operation.error = "no answer" if not answered else str(answered[0][1])
        else:
            operation.answered = answered[0][0]


def commit(address, operations, lock):
    """One group's commits, one after another."""
    consumer = Consumer({"bootstrap.servers": address, "group.id": "held-group", "enable.auto.commit": False})
    for count in range(1, OPERATIONS + 1):
        operation = Operation("OffsetCommit %d" % count, ("offset", count))
        try:
            place = consumer.commit(offsets=[TopicPartition(TOPIC, 0, count)], asynchronous=False)[0]
            operation.answered = time.time()
            operation.error = place.error and str(place.error)
        except Exception as error:
            operation.error = str(error)
        with lock:
            operations.append(operation)
    consumer.close()


def load(address):
    """All clients at once; their operations when each is answered."""
    operations, lock = [], threading.Lock()
    clients = [threading.Thread(target=produce, args=(address, name, acks, idempotent, operations, lock))
               for name, acks, idempotent in [("acks=1", 1, False), ("acks=all", "all", False), ("idempotent", "all", True)]]
    clients.append(threading.Thread(target=commit, args=(address, operations, lock)))
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    return operations


def judge(checks, operations, watcher, syncs, hold_ms):
    def faults(kind, moment_of, word):
        for operation in operations:
            if kind(operation):
                moment = moment_of(operation)
                if operation.error:
                    yield "%s: %s" % (operation.name, operation.error)
                elif moment is not None and not covered(operation, moment, syncs):
                    yield "%s was %s %.1f ms after it was sent, before a sync of it returned" % (
                        operation.name, word, (moment - operation.sent) * 1000)

    def is_commit(operation):
        return operation.name.startswith("OffsetCommit")

    def answered(operation):
        return operation.answered

    def seen(operation):
        return watcher.seen.get(operation.key)

    for name in ["acks=1", "acks=all", "idempotent"]:
        checks.that("held sync: no Produce (%s) is answered before its sync returned" % name,
                    faults(lambda operation, name=name: operation.name.startswith(name + ","), answered, "answered"),
                    "%d records" % OPERATIONS)
    checks.that("held sync: no OffsetCommit is answered before its sync returned", faults(is_commit, answered, "answered"),
                "%d commits" % OPERATIONS)
    records = [operation for operation in operations if not is_commit(operation)]
    unseen = ["%s was never read" % operation.name for operation in records if seen(operation) is None]
    checks.that("held sync: no record can be fetched before its sync returned",
                unseen + list(faults(lambda operation: not is_commit(operation), seen, "read")), "%d records" % len(records))
    checks.that("held sync: no offset commit can be fetched before its sync returned", faults(is_commit, seen, "seen"))
    held_back(checks, syncs, hold_ms)


def held(arguments, checks, directory, started):
    broker = Broker(arguments.binary, directory)
    started(broker)
    broker.start()
    admin = AdminClient({"bootstrap.servers": broker.address})
    admin.create_topics([NewTopic(TOPIC, PARTITIONS, 1)])[TOPIC].result(WITHIN_S)
    trace = Trace(broker.process.pid, os.path.join(directory, "strace.txt"), arguments.hold_ms)
    try:
        watcher = Watcher(broker.address)
        watcher.start()
        operations = load(broker.address)
        wanted = {operation.key for operation in operations if not operation.error and isinstance(operation.key, bytes)}
        deadline = time.monotonic() + WITHIN_S
        while not wanted <= set(watcher.seen) and time.monotonic() < deadline:
            threading.Event().wait(0.01)
        watcher.finish()
    finally:
        trace.stop()
    judge(checks, operations, watcher, trace.syncs(), arguments.hold_ms)
    status = broker.stop()
    checks.that("held sync: the broker still stops cleanly", [] if status == 0 else ["exit status %s" % status])


def main():
    parser = argparse.ArgumentParser(description="answers wait for the disk")
    parser.add_argument("--binary", required=True)
    parser.add_argument("--hold-ms", type=int, default=400)
    arguments = parser.parse_args()
    return program.run("held sync", "hold-sync-", lambda checks, directory, started: held(arguments, checks, directory, started))


if __name__ == "__main__":
    sys.exit(main())
