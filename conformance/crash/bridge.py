#!/usr/bin/env python3
"""kill -9 in the middle of bridging, many times: each high-value order is in the queue exactly once, and each order that went through a
queue into another topic is there exactly once.

bridge.py --binary PATH [--rounds N] [--seed N]
The orders are those of a producer that lives through it all, with idempotence: so each stands once in its topic, and once is what must come out."""

import argparse
import collections
import json
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time

from confluent_kafka import Producer

from broker import Broker, free_address
from checks import Checks
from clients import RECONNECT

HIGH = json.dumps({"body": {"event": ["order.placed"], "total": [{"numeric": [">", 10000]}]}})
PARTITIONS = 3
PER_SECOND = 1_500
PROGRESS_WITHIN_S = 60
KILL_WHILE_STARTING = 0.2  # of all rounds


class Orders(threading.Thread):
    """Publishes orders until it is told to stop; every third is of high value."""

    def __init__(self, address):
        super().__init__(daemon=True)
        self.producer = Producer({"bootstrap.servers": address, "acks": "all", "enable.idempotence": True, "linger.ms": 5,
                                  "compression.type": "lz4", "message.timeout.ms": 600_000, **RECONNECT})
        self.sent = 0
        self.acknowledged = 0
        self.errors = []
        self.over = threading.Event()

    @staticmethod
    def is_high(number):
        return number % 3 == 0

    def told(self, error, _message):
        if error is None:
            self.acknowledged += 1
        else:
            self.errors.append(str(error))

    def run(self):
        began = time.monotonic()
        while not self.over.is_set():
            if self.sent > (time.monotonic() - began) * PER_SECOND:
                self.producer.poll(0.005)
                continue
            number = self.sent
            order = {"event": "order.placed", "order_id": "o-%d" % number, "customer_id": "c-%d" % (number % 50),
                     "total": 20_000 if self.is_high(number) else 50}
            try:
                self.producer.produce("orders", key=order["customer_id"], value=json.dumps(order), on_delivery=self.told)
            except BufferError:
                self.producer.poll(0.05)
                continue
            self.sent += 1
            self.producer.poll(0)

    def finish(self):
        self.over.set()
        self.join()
        left = self.producer.flush(120)
        if left:
            self.errors.append("%d orders without an answer" % left)


class Test:
    def __init__(self, binary, directory, seed):
        self.random = random.Random(seed)
        self.binary = binary
        self.http = free_address()
        self.broker = Broker(binary, directory, http=self.http)
        self.kills = 0

    def cli(self, *words):
        ended = subprocess.run([self.binary, *words, "--server", self.http], capture_output=True, text=True, timeout=120, check=False)
        if ended.returncode != 0:
            raise RuntimeError("%s: %s" % (" ".join(words), ended.stderr))
        return ended.stdout

    def bridges(self):
        return {b["name"]: b for b in json.loads(self.cli("bridge", "list", "--json"))["bridges"]}

    def begin(self):
        self.broker.start()
        self.cli("topic", "create", "orders", "--partitions", str(PARTITIONS))
        self.cli("topic", "create", "copy", "--partitions", "2")
        self.cli("queue", "create", "high-value-orders")
        self.cli("queue", "create", "all")
        self.cli("bridge", "create", "high", "--from-topic", "orders", "--to-queue", "high-value-orders", "--filter", HIGH,
                 "--group", "body:/customer_id", "--dedup", "body:/order_id", "--header", "OrderId=body:/order_id")
        self.cli("bridge", "create", "through", "--from-topic", "orders", "--to-queue", "all")
        self.cli("bridge", "create", "back", "--from-queue", "all", "--to-topic", "copy")
        self.orders = Orders(self.broker.address)
        self.orders.start()

    def round(self, number):
        """Load until everyone goes on, a random moment more, the kill, the restart."""
        def now():
            passed = {name: b["passed"] for name, b in self.bridges().items()}
            return [self.orders.acknowledged, *(passed[name] for name in ("high", "through", "back"))]
        before, deadline = now(), time.monotonic() + PROGRESS_WITHIN_S
        while not all(after > earlier for earlier, after in zip(before, now())):
            if time.monotonic() > deadline:
                raise RuntimeError("round %d: no progress since %s: %s\n%s" % (number, before, self.bridges(), self.broker.tail()))
            threading.Event().wait(0.01)
        threading.Event().wait(self.random.uniform(0, 0.5))  # the moment of the kill is random
        self.kill()
        if self.random.random() < KILL_WHILE_STARTING:
            self.broker.spawn()
            threading.Event().wait(self.random.uniform(0, 0.2))  # so is this one, in the middle of recovery
            self.kill()
        self.broker.start()

    def kill(self):
        if not self.broker.alive():
            raise RuntimeError("the broker ended by itself:\n" + self.broker.tail())
        self.broker.kill9()
        self.kills += 1

    def finish(self, checks, rounds, took):
        self.orders.finish()
        deadline = time.monotonic() + PROGRESS_WITHIN_S
        wanted = {"high": sum(1 for n in range(self.orders.sent) if Orders.is_high(n)), "through": self.orders.sent, "back": self.orders.sent}
        last = None
        while (now := {name: b["passed"] for name, b in self.bridges().items()}) != wanted and time.monotonic() < deadline:
            if now != last:
                last, deadline = now, time.monotonic() + PROGRESS_WITHIN_S
            threading.Event().wait(0.05)
        bridges = self.bridges()
        high = self.found("high-value-orders")
        copied = self.found("copy")
        status = self.broker.stop()
        checks.that("kill -9 while bridging: %d rounds under load" % rounds, self.orders.errors,
                    "%d kills, %.0f s, %d orders" % (self.kills, took, self.orders.sent))
        all_ids = ["o-%d" % n for n in range(self.orders.sent)]
        checks.that("kill -9 while bridging: each high-value order is in the queue exactly once",
                    faults(high, [i for n, i in enumerate(all_ids) if Orders.is_high(n)]), "%d orders" % len(high))
        checks.that("kill -9 while bridging: each order that went through a queue is in the other topic exactly once",
                    faults(copied, all_ids), "%d orders" % len(copied))
        said = {name: b["passed"] for name, b in bridges.items()}
        checks.that("kill -9 while bridging: what the bridges say that they passed on is so", [] if said == wanted else ["%s, not %s" % (said, wanted)])
        checks.that("kill -9 while bridging: the broker still stops cleanly", [] if status == 0 else ["exit status %s" % status])

    def found(self, name):
        lines = self.cli("consume", name, "--from", "earliest", "--json") if name == "copy" else self.cli("consume", name, "--json")
        return collections.Counter(json.loads(json.loads(line)["value"])["order_id"] for line in lines.splitlines())


def faults(found, wanted):
    """What is missing, there more than once, or should not be there."""
    wanted = set(wanted)
    missing = ["%s is missing" % i for i in sorted(wanted - set(found))]
    doubled = ["%s is there %d times" % (i, n) for i, n in sorted(found.items()) if n > 1]
    return missing + doubled + ["%s does not belong there" % i for i in sorted(set(found) - wanted)]


def unnoticed():
    """What the judge does not notice."""
    cases = {"a loss": ({"a": 1}, ["a", "b"]), "a double": ({"a": 2}, ["a"]), "a stranger": ({"a": 1, "b": 1}, ["a"])}
    return [name for name, (found, wanted) in cases.items() if not faults(found, wanted)]


def main():
    parser = argparse.ArgumentParser(description="kill -9 while bridging")
    parser.add_argument("--binary", required=True)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=None, help="of the kill moments")
    arguments = parser.parse_args()
    seed = arguments.seed if arguments.seed is not None else random.randrange(1 << 32)
    print("seed %d" % seed, flush=True)
    directory = tempfile.mkdtemp(prefix="bridge-")
    checks = Checks()
    checks.that("kill -9 while bridging: the judge notices what is lost, doubled and strange", unnoticed())
    test = Test(arguments.binary, directory, seed)
    began = time.monotonic()
    try:
        test.begin()
        for number in range(arguments.rounds):
            test.round(number)
            if (number + 1) % 10 == 0:
                print("%d rounds, %.0f s" % (number + 1, time.monotonic() - began), flush=True)
        test.finish(checks, arguments.rounds, time.monotonic() - began)
    except Exception as error:  # whatever stops the test is its failure
        checks.that("kill -9 while bridging: the test runs to its end", ["%s: %s" % (type(error).__name__, error)])
    finally:
        test.broker.end()
    status = checks.close()
    if checks.failed:
        print("kept for a look: %s" % directory, file=sys.stderr)
    else:
        shutil.rmtree(directory)
    return status


if __name__ == "__main__":
    sys.exit(main())
