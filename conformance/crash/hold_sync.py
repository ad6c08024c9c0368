#!/usr/bin/env python3
"""Every fdatasync is held back: no answer, and nothing to read, before the sync that covers it has returned.

hold_sync.py --binary PATH [--hold-ms N]
strace delays each sync of the running broker and writes down when it began and returned. A client notes when it sent and when it
was answered. An operation was covered if a sync *began after it was sent* and *returned before it was answered*; the same for the
first moment at which another client could read it. The clocks are one clock, so nothing here depends on a sleep being long enough."""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from broker import Broker
from checks import Checks

TOPIC = "held"
PARTITIONS = 3
OPERATIONS = 4
WITHIN_S = 30
SYNCS = "fdatasync,fsync,sync_file_range,syncfs,sync,msync"
LINE = re.compile(r"^(?P<pid>\d+)\s+(?P<at>\d+\.\d+) (?P<rest>.*)$")
TOOK = re.compile(r"<(?P<seconds>\d+\.\d+)>$")


class Trace:
    """strace on the broker: holds its syncs back, and knows them afterwards."""

    def __init__(self, pid, path, hold_ms):
        self.path = path
        micros = hold_ms * 1000
        self.process = subprocess.Popen(
            ["strace", "-f", "-ttt", "-T", "-e", "trace=" + SYNCS, "-e", "inject=%s:delay_enter=%d" % (SYNCS, micros),
             "-o", path, "-p", str(pid)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        said = self.process.stderr.readline()
        if "attached" not in said:
            raise RuntimeError("strace did not attach: %s" % said)
        threading.Thread(target=self.process.stderr.read, daemon=True).start()

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        self.process.wait(timeout=WITHIN_S)

    def syncs(self):
        """[(began, returned)] of the syncs that succeeded."""
        began, found = {}, []
        with open(self.path, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                match = LINE.match(line.strip())
                if not match or not match["rest"].split("(")[0].replace("<... ", "").split(" ")[0] in SYNCS.split(","):
                    continue
                pid, at, rest = match["pid"], float(match["at"]), match["rest"]
                if rest.endswith("<unfinished ...>"):
                    began[pid] = at
                    continue
                took = TOOK.search(rest)
                if not took or "= 0" not in rest:
                    continue
                seconds = float(took["seconds"])
                # a resumed line carries the moment of return, a whole line the moment it began
                found.append((began.pop(pid), at) if rest.startswith("<...") and pid in began else (at, at + seconds))
        return sorted(found)


class Operation:
    """Something that the broker must make durable: when it was sent, answered, and first seen by another client."""

    def __init__(self, name, key):
        self.name, self.key = name, key
        self.sent = time.time()
        self.answered = None
        self.seen = None
        self.error = None


def covered(operation, moment, syncs):
    return any(operation.sent <= began and returned <= moment for began, returned in syncs)


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
    late = [returned - began for began, returned in syncs if returned - began >= hold_ms / 1000]
    checks.that("held sync: the syncs were really held back", [] if late else ["none of %d took %d ms" % (len(syncs), hold_ms)],
                "%d syncs, each %d ms longer" % (len(late), hold_ms))


def main():
    parser = argparse.ArgumentParser(description="answers wait for the disk")
    parser.add_argument("--binary", required=True)
    parser.add_argument("--hold-ms", type=int, default=400)
    arguments = parser.parse_args()
    directory = tempfile.mkdtemp(prefix="hold-sync-")
    checks = Checks()
    broker = Broker(arguments.binary, directory)
    try:
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
    except Exception as error:  # whatever stops the test is its failure
        checks.that("held sync: the test runs to its end", ["%s: %s\n%s" % (type(error).__name__, error, broker.tail())])
    finally:
        broker.end()
    status = checks.close()
    if checks.failed:
        print("kept for a look: %s" % directory, file=sys.stderr)
    else:
        shutil.rmtree(directory)
    return status


if __name__ == "__main__":
    sys.exit(main())
