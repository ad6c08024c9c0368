#!/usr/bin/env python3
"""kill -9 in the middle of a load, many times: nothing acknowledged is lost, nothing is there twice, nothing seen has vanished.

kill9.py --binary PATH [--rounds N] [--seed N]
A kill leaves the page cache, so this shows that recovery is right; `hold_sync.py` shows that answers wait for the disk."""

import argparse
import random
import sys
import time

from confluent_kafka.admin import AdminClient, NewTopic

import program
from clients import RECONNECT, Along, Committer, Writer, look_back
from controls import unnoticed
from killing import Killing
from ledger import Ledger, missing, out_of_order

TOPIC = "kill9"
PARTITIONS = 4
LOOK_BACK_RECORDS = 300

LASTING = {
    "large": dict(rate=1500, sizes=(500, 4000), options={"linger.ms": 10, "batch.size": 262_144, "compression.type": "lz4"}),
    "small": dict(rate=1000, sizes=(0, 60), options={"linger.ms": 0, "batch.num.messages": 3}),
}
MORTAL = dict(rate=300, sizes=(10, 200), options={"linger.ms": 0})


class Test(Killing):
    def __init__(self, binary, directory, seed):
        super().__init__(binary, directory, seed)
        self.ledger = Ledger()
        self.faults = {"acknowledged": [], "seen": [], "committed": [], "answers": []}
        self.verified = [0] * PARTITIONS

    def begin(self):
        self.start()
        admin = AdminClient({"bootstrap.servers": self.broker.address, **RECONNECT})
        admin.create_topics([NewTopic(TOPIC, PARTITIONS, 1)])[TOPIC].result(30)
        self.lasting = [self.writer(name, load) for name, load in LASTING.items()]
        self.along = Along(self.broker.address, TOPIC, PARTITIONS, self.ledger)
        self.committer = Committer(self.broker.address, TOPIC, PARTITIONS)
        for client in [*self.lasting, self.along, self.committer]:
            client.start()

    def writer(self, name, load):
        return Writer(name, self.broker.address, TOPIC, PARTITIONS, self.ledger, seed=self.random.random(), **load)

    def round(self, number):
        """Load until everyone gets answers, a random moment more, the kill, the restart, and a look at what is there."""
        mortal = self.writer("mortal-%d" % number, MORTAL)
        mortal.start()
        writers = [*self.lasting, mortal]
        self.wait_for_progress(
            lambda: [writer.acknowledged for writer in writers] + [self.along.read, self.committer.commits], "round %d" % number)
        self.a_while()
        self.kill()
        mortal.abandon()
        self.faults["answers"] += mortal.errors
        self.start_again()
        for partition in range(PARTITIONS):
            self.compare(partition, max(0, self.verified[partition] - LOOK_BACK_RECORDS))
        self.faults["committed"] += self.committer.faults(self.broker.address)

    def compare(self, partition, start):
        """Everything told of a partition from `start` on, against what a fresh reader finds there."""
        acknowledged, seen = self.ledger.snapshot(partition, start)
        there, faults = look_back(self.broker.address, TOPIC, partition, start)
        where = "partition %d " % partition
        self.faults["seen"] += faults
        self.faults["acknowledged"] += [where + fault for fault in missing(there, acknowledged)]
        self.faults["seen"] += [where + fault for fault in missing(there, seen)]
        self.verified[partition] = max(there, default=-1) + 1
        return there

    def finish(self, checks, rounds, took):
        for writer in self.lasting:
            writer.finish()
            self.faults["answers"] += writer.errors
        self.along.finish()
        self.committer.finish()
        order, records, lost = [], 0, []
        for partition in range(PARTITIONS):
            there = self.compare(partition, 0)
            records += len(there)
            order += ["partition %d %s" % (partition, fault) for fault in out_of_order(there, set(LASTING))]
            for writer in self.lasting:
                found = sum(1 for name, _ in there.values() if name == writer.writer)
                if found != writer.counts[partition]:
                    lost.append("partition %d: %s sent %d, %d there" % (
                        partition, writer.writer, writer.counts[partition], found))
        self.faults["committed"] += self.committer.faults(self.broker.address)
        status = self.broker.stop()
        slowest = max(self.ready_s)
        checks.that("kill -9: %d rounds under load" % rounds, [], "%d kills, %.0f s, slowest restart %.2f s" % (self.kills, took, slowest))
        checks.that("kill -9: every acknowledged record is there with its offset", self.faults["acknowledged"],
                    "%d acknowledged" % self.ledger.acknowledgements)
        checks.that("kill -9: every record is there once, in the order of its producer and partition", order, "%d records" % records)
        checks.that("kill -9: a producer that lives through it all loses nothing", lost + self.faults["answers"])
        checks.that("kill -9: no record that a consumer saw has vanished or changed", self.faults["seen"] + self.along.errors + self.ledger.broken,
                    "%d seen" % self.along.read)
        checks.that("kill -9: no acknowledged offset commit is lost", self.faults["committed"], "%d commits" % self.committer.commits)
        checks.that("kill -9: the broker still stops cleanly", [] if status == 0 else ["exit status %s" % status])


def killed(arguments, seed, checks, directory, started):
    checks.that("kill -9: the judge notices what is lost, doubled, reordered and torn", unnoticed())
    test = Test(arguments.binary, directory, seed)
    started(test.broker)
    began = time.monotonic()
    try:
        test.begin()
        for number in range(arguments.rounds):
            test.round(number)
            if (number + 1) % 10 == 0:
                print("%d rounds, %.0f s" % (number + 1, time.monotonic() - began), flush=True)
    except Exception:
        for what, faults in test.faults.items():
            for fault in faults[:3]:
                print("  %s: %s" % (what, fault))
        raise
    test.finish(checks, arguments.rounds, time.monotonic() - began)


def main():
    parser = argparse.ArgumentParser(description="kill -9 under load")
    parser.add_argument("--binary", required=True)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=None, help="of the kill moments and sizes")
    arguments = parser.parse_args()
    seed = arguments.seed if arguments.seed is not None else random.randrange(1 << 32)
    print("seed %d" % seed, flush=True)
    return program.run("kill -9", "kill9-", lambda checks, directory, started: killed(arguments, seed, checks, directory, started))


if __name__ == "__main__":
    sys.exit(main())
