#!/usr/bin/env python3
"""A real disk that fills under a Kafka load, on tmpfs and on ext4: who is refused, who goes on, and how it goes on again.

full_disk.py --binary PATH [--only tmpfs|ext4] [--mib N]
Writers that retry, a consumer that reads along and a committer live through all of it: the disk fills, the broker is killed and opened
again while it is full, a deleted topic and then retention give room back, another program takes all of it. At no time is the broker restarted to get going. Needs root,
for a file system of its own; where none can be mounted that is said, and counted as skipped."""

import http.client
import os
import subprocess
import sys
import threading
import time

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic, ResourceType

from broker import Broker, free_address
from clients import RECONNECT, Along, Committer, Writer, look_back
from ledger import Ledger, missing, out_of_order
from mounts import MIB, Eater, on_each

TOPIC = "kept"
PARTITIONS = 2
WASTE = ("deleted", "trimmed")
WASTE_BYTES = 200_000
WIDE, WIDE_PARTITIONS, WIDE_METADATA_BYTES, WIDE_COMMITS = "wide", 100, 4_000, 300
WITHIN_S = 90
MORE_COMMITS = 20
SERVED_RECORDS = 1_000  # before the disk fills
STORAGE_ERROR = KafkaError.KAFKA_STORAGE_ERROR
LASTING = {
    "large": dict(rate=60, sizes=(4_000, 16_000), options={"linger.ms": 5}),
    "small": dict(rate=200, sizes=(0, 60), options={"linger.ms": 0, "batch.num.messages": 3}),
}


class Test:
    """One file system."""

    def __init__(self, kind, binary, directory, checks):
        self.kind, self.binary, self.checks = kind, binary, checks
        self.http = free_address()
        # Retention is looked at often, so that nobody waits for it.
        self.broker = Broker(binary, directory, http=self.http, options=("--set", "topics.retention_check_ms=200"))
        self.ledger = Ledger()
        self.clients = []

    def that(self, name, faults, ok=""):
        self.checks.that("full disk, %s: %s" % (self.kind, name), faults, ok)

    def until(self, what, condition):
        deadline = time.monotonic() + WITHIN_S
        while True:
            found = condition()
            if found:
                return found
            if time.monotonic() > deadline:
                raise RuntimeError("not in %d s: %s\n%s" % (WITHIN_S, what, self.broker.tail()))
            if not self.broker.alive():
                raise RuntimeError("the broker ended by itself:\n" + self.broker.tail())
            threading.Event().wait(0.05)  # between two looks

    def get(self, path):
        connection = http.client.HTTPConnection(self.http, timeout=10)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def held(self):
        return self.get("/readyz")[0] == 503

    def metric(self, name):
        lines = [line for line in self.get("/metrics")[1].splitlines() if line.startswith("millstream_%s " % name)]
        return float(lines[0].split()[1])

    def lines(self, text):
        """How often the broker's log says so."""
        with open(self.broker.log_path, encoding="utf-8", errors="replace") as log:
            return log.read().count(text)

    def begin(self):
        self.broker.start()
        self.admin = AdminClient({"bootstrap.servers": self.broker.address, **RECONNECT})
        topics = [NewTopic(TOPIC, PARTITIONS, 1)] + [NewTopic(name, 1, 1) for name in WASTE] + [NewTopic(WIDE, WIDE_PARTITIONS, 1)]
        for made in self.admin.create_topics(topics).values():
            made.result(30)
        self.lasting = [Writer(name, self.broker.address, TOPIC, PARTITIONS, self.ledger, seed=7, **load)
                        for name, load in LASTING.items()]
        self.along = Along(self.broker.address, TOPIC, PARTITIONS, self.ledger)
        self.committer = Committer(self.broker.address, TOPIC, PARTITIONS)
        self.clients = [*self.lasting, self.along, self.committer]
        for client in self.clients:
            client.start()
        self.until("everybody is served", lambda: self.along.read > SERVED_RECORDS and self.committer.commits > 5)

    def fill(self, topic):
        """Produces without retries until the disk is full; the errors that were told."""
        errors = []
        # A file in which a record of theirs lives is not freed with the topic: only what this fills is to be given back.
        for writer in self.lasting:
            writer.quiet.set()
        producer = Producer({"bootstrap.servers": self.broker.address, "acks": "all", "message.send.max.retries": 0,
                             "linger.ms": 0, **RECONNECT})

        def told(error, _):
            if error is not None:
                errors.append(error)

        deadline = time.monotonic() + WITHIN_S
        while not (errors and self.held()):
            if time.monotonic() > deadline:
                raise RuntimeError("the disk never became full\n" + self.broker.tail())
            if len(producer) < 40:
                producer.produce(topic, os.urandom(WASTE_BYTES), on_delivery=told)
            producer.poll(0.002)
        producer.flush(30)
        for writer in self.lasting:
            writer.quiet.clear()
        return errors

    def readable(self):
        """Faults: what was acknowledged, or seen, and is not there."""
        faults = []
        for partition in range(PARTITIONS):
            acknowledged, seen = self.ledger.snapshot(partition, 0)
            there, found = look_back(self.broker.address, TOPIC, partition, 0)
            faults += found + list(missing(there, acknowledged)) + list(missing(there, seen))
        return faults

    def goes_on(self):
        """Faults: commits, joining a group and reading in it, on a full disk."""
        before = self.committer.commits
        self.until("offsets are committed", lambda: self.committer.commits > before + MORE_COMMITS)
        group = "joined-%d" % time.monotonic_ns()
        member = Consumer({"bootstrap.servers": self.broker.address, "group.id": group, "auto.offset.reset": "earliest",
                           "enable.auto.commit": False, **RECONNECT})
        try:
            member.subscribe([TOPIC])
            message = self.until("a new member reads", lambda: member.poll(0.2))
            member.commit(message=message, asynchronous=False)
        finally:
            member.close()
        return [str(message.error())] if message.error() else []

    def commits_much(self):
        """Faults: commits that fill all the files kept back, and the state store's journal, several times over."""
        consumer = Consumer({"bootstrap.servers": self.broker.address, "group.id": "wide", "enable.auto.commit": False, **RECONNECT})
        faults = []
        try:
            for number in range(WIDE_COMMITS):
                offsets = [TopicPartition(WIDE, partition, number, "m" * WIDE_METADATA_BYTES) for partition in range(WIDE_PARTITIONS)]
                committed = consumer.commit(offsets=offsets, asynchronous=False)
                faults += [str(place.error) for place in committed if place.error is not None]
            asked = [TopicPartition(WIDE, partition) for partition in range(WIDE_PARTITIONS)]
            last = {place.offset for place in consumer.committed(asked, timeout=30)}
            faults += [] if last == {WIDE_COMMITS - 1} else ["committed: %s" % last]
        finally:
            consumer.close()
        return faults

    def command(self, *arguments):
        return subprocess.run([self.binary, *arguments, "--server", self.http], capture_output=True, text=True, timeout=30, check=False)

    def while_full(self, errors):
        wrong = ["error %s" % error for error in errors if error.code() != STORAGE_ERROR]
        self.that("producers are refused with an error that they try again", wrong, "%d refused" % len(errors))
        status, text = self.get("/readyz")
        words = ("held: publish", "disk is full", "free_bytes: ", "needed_bytes: ")
        self.that("/readyz says what is held and why", [] if status == 503 and all(w in text for w in words) else [text])
        gauges = {name: self.metric(name) for name in ("disk_full", "disk_free_bytes", "disk_reserve_bytes", "disk_needed_bytes",
                                                       "refused_full_disk_total")}
        wrong = ["%s is %s" % (name, value) for name, value in gauges.items() if value <= 0]
        self.that("metrics say it", wrong, "%d MiB free" % (gauges["disk_free_bytes"] / (1 << 20)))
        said = self.until("it is logged", lambda: self.lines("the disk is full: publishing is held"))
        self.that("one line in the log says it", [] if said == 1 else ["%d lines" % said])
        listed, refused = self.command("topic", "list"), self.command("produce", TOPIC, "more")
        wrong = [] if listed.returncode == 0 and TOPIC in listed.stdout else [listed.stderr]
        wrong += [] if refused.returncode != 0 and "disk is full" in refused.stderr else ["produce: " + refused.stderr]
        self.that("commands work", wrong)
        self.that("offsets are committed and groups joined", self.goes_on())
        many = WIDE_COMMITS * WIDE_PARTITIONS * WIDE_METADATA_BYTES / MIB
        self.that("more offsets are committed than the files kept back hold", self.commits_much(), "%d MiB of them" % many)
        self.that("everything acknowledged is readable", self.readable(), "%d acknowledged" % self.ledger.acknowledgements)

    def killed_while_full(self):
        faults, took = [], []
        for _ in range(3):
            self.broker.kill9()
            took.append(self.broker.start())
            free, reserve = self.metric("disk_free_bytes"), self.metric("disk_reserve_bytes")
            # An opening may give back enough (the state store begins a new journal): then publishing goes on, and rightly.
            if not self.held() and free < reserve:
                faults.append("it did not start in the full state with %d of %d bytes free" % (free, reserve))
            faults += self.goes_on()
        faults += self.readable() + list(self.committer.faults(self.broker.address))
        self.that("killed and opened again while full, it goes on", faults, "slowest restart %.2f s" % max(took))

    def room_by(self, what, give):
        """Room is given back, and producing goes on by itself."""
        before, process = self.ledger.acknowledgements, self.broker.process.pid
        began = time.monotonic()
        give()
        self.until("publishing goes on", lambda: not self.held())
        self.until("producers are served", lambda: self.ledger.acknowledgements > before + 100)
        self.that("%s gives room back, without a restart" % what, [] if self.broker.process.pid == process else ["restarted"],
                  "%.1f s" % (time.monotonic() - began))

    def delete(self):
        self.admin.delete_topics([WASTE[0]])[WASTE[0]].result(30)

    def shorten(self):
        entry = ConfigEntry("retention.bytes", "1000000", incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.TOPIC, WASTE[1], incremental_configs=[entry])
        for altered in self.admin.incremental_alter_configs([resource]).values():
            altered.result(30)

    def eaten(self):
        """Another program takes all that is free, the reserve too, and gives it back."""
        eater, faults = Eater(os.path.join(self.broker.data, "another-program")), []
        eater.eat()
        self.until("publishing is held", self.held)
        faults += self.goes_on() + self.readable()
        self.that("with nothing left at all, offsets are committed and groups joined", faults)
        self.room_by("another program", eater.leave)

    def finish(self):
        faults = []
        for writer in self.lasting:
            writer.finish()
            faults += writer.errors
        self.along.finish()
        self.committer.finish()
        records, order = 0, []
        for partition in range(PARTITIONS):
            there, found = look_back(self.broker.address, TOPIC, partition, 0)
            records += len(there)
            order += found + ["partition %d %s" % (partition, fault) for fault in out_of_order(there, set(LASTING))]
            for writer in self.lasting:
                count = sum(1 for name, _ in there.values() if name == writer.writer)
                if count != writer.counts[partition]:
                    faults.append("partition %d: %s sent %d, %d there" % (partition, writer.writer, writer.counts[partition], count))
        self.that("a producer that lives through it all loses nothing", faults)
        self.that("every record is there once, in order", order, "%d records" % records)
        self.that("no record that a consumer saw has vanished", self.readable() + self.along.errors + self.ledger.broken,
                  "%d seen" % self.along.read)
        self.that("no acknowledged offset commit is lost", self.committer.faults(self.broker.address), "%d commits" % self.committer.commits)
        status = self.broker.stop()
        self.that("the broker still stops cleanly", [] if status == 0 else ["exit status %s\n%s" % (status, self.broker.tail())])

    def run(self):
        self.begin()
        self.while_full(self.fill(WASTE[0]))
        self.killed_while_full()
        self.room_by("deleting a topic", self.delete)
        self.fill(WASTE[1])
        self.room_by("retention", self.shorten)
        self.eaten()
        self.finish()

    def end(self):
        for client in self.clients:
            client.over.set()
        self.broker.end()


def run(kind, binary, directory, checks):
    test = Test(kind, binary, directory, checks)
    try:
        test.run()
    except Exception as error:  # whatever stops the test is its failure
        test.that("the test runs to its end", ["%s: %s" % (type(error).__name__, error)])
    finally:
        test.end()


if __name__ == "__main__":
    sys.exit(on_each("full disk", "a full disk under load", 256, run))
