#!/usr/bin/env python3
"""kill -9 in the middle of publishing and consuming over AMQP, many times: nothing confirmed is lost, nothing settled comes again.

kill9_queues.py --binary PATH [--rounds N] [--seed N]
A kill leaves the page cache, so this shows that recovery is right; `hold_sync_queues.py` shows that answers wait for the disk."""

import argparse
import random
import sys
import time

import program
from killing import Killing
from queue_clients import BOTH, FEED, KEPT, OUT, WORK, Consumer, Mover, Publisher, connect, declare, drained, ready
from queue_ledger import QueueLedger, disordered, doubled, lost, unlike, unnoticed

EMPTY_WITHIN_S = 60


class Test(Killing):
    def __init__(self, binary, directory, seed):
        super().__init__(binary, directory, seed, amqp=True)
        self.ledger, self.moves = QueueLedger(), QueueLedger()

    def begin(self):
        self.start()
        address, seed = self.broker.amqp, self.random.random
        declare(address)
        self.publishers = [
            Publisher("small", address, self.ledger, seed(), BOTH, "", rate=400, sizes=(0, 60)),
            Publisher("large", address, self.ledger, seed(), BOTH, "", rate=100, sizes=(500, 150_000)),
        ]
        self.feeder = Publisher("fed", address, self.moves, seed(), "", FEED, rate=150, sizes=(10, 300))
        self.consumers = [Consumer("consumer %d" % n, address, self.ledger, seed()) for n in range(3)]
        self.mover = Mover(address, self.moves, seed())
        self.clients = [*self.publishers, self.feeder, *self.consumers, self.mover]
        for client in self.clients:
            client.start()

    def round(self, number):
        """Load until everyone gets answers, a random moment more, the kill, the restart."""
        self.wait_for_progress(lambda: [client.progress for client in self.clients], "round %d" % number)
        self.a_while()
        self.kill()
        self.start_again()

    def finish(self, checks, rounds, took):
        for client in [*self.publishers, self.feeder]:
            client.finish()
        connection = connect(self.broker.amqp)
        channel = connection.channel()
        deadline = time.monotonic() + EMPTY_WITHIN_S
        while ready(channel, FEED) + ready(channel, WORK) and time.monotonic() < deadline:
            connection.sleep(0.05)  # tidy: pacing
        connection.close()
        for client in [*self.consumers, self.mover]:
            client.finish()
        address = self.broker.amqp
        kept, moved = drained(address, KEPT), drained(address, OUT)
        left = drained(address, FEED)
        delivered = set(self.ledger.delivered) | set(drained(address, WORK))
        errors = [error for client in self.clients for error in client.errors]
        barriers = {kind: sum(consumer.barriers[kind] for consumer in self.consumers) for kind in Consumer.BARRIERS}
        status = self.broker.stop()
        checks.that("kill -9, queues: %d rounds under load" % rounds, errors,
                    "%d kills, %.0f s, slowest restart %.2f s" % (self.kills, took, max(self.ready_s)))
        checks.that("kill -9, queues: every confirmed message is delivered", lost(delivered, self.ledger.confirmed, "confirmed"),
                    "%d confirmed" % len(self.ledger.confirmed))
        checks.that("kill -9, queues: every ack behind a barrier stays settled, and what comes again is marked", self.ledger.broken,
                    "%d settled; barriers: %s" % (len(self.ledger.settled), ", ".join("%d %s" % (n, k) for k, n in barriers.items())))
        checks.that("kill -9, queues: an untouched queue holds what was confirmed, once, in order",
                    [*lost(kept, self.ledger.confirmed, "confirmed"), *disordered(kept)], "%d messages" % len(kept))
        checks.that("kill -9, queues: a message that goes to two queues is in both or in none", unlike(kept, delivered))
        checks.that("kill -9, queues: a message that is moved in a transaction is there once", [
            *lost(moved, self.moves.moved, "moved"), *lost([*moved, *left], self.moves.confirmed, "confirmed"), *doubled([*moved, *left])],
            "%d moved, %d left" % (len(moved), len(left)))
        checks.that("kill -9, queues: all barriers were used", [kind for kind, times in barriers.items() if not times] if rounds > 5 else [])
        checks.that("kill -9, queues: the broker still stops cleanly", [] if status == 0 else ["exit status %s" % status])


def killed(arguments, seed, checks, directory, started):
    checks.that("kill -9, queues: the judge notices what is lost, doubled, reordered, torn and settled", unnoticed())
    test = Test(arguments.binary, directory, seed)
    started(test.broker)
    began = time.monotonic()
    test.begin()
    for number in range(arguments.rounds):
        test.round(number)
        if (number + 1) % 10 == 0:
            print("%d rounds, %.0f s" % (number + 1, time.monotonic() - began), flush=True)
    test.finish(checks, arguments.rounds, time.monotonic() - began)


def main():
    parser = argparse.ArgumentParser(description="kill -9 under load over AMQP")
    parser.add_argument("--binary", required=True)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=None, help="of the kill moments and sizes")
    arguments = parser.parse_args()
    seed = arguments.seed if arguments.seed is not None else random.randrange(1 << 32)
    print("seed %d" % seed, flush=True)
    return program.run("kill -9, queues", "kill9-queues-",
                       lambda checks, directory, started: killed(arguments, seed, checks, directory, started))


if __name__ == "__main__":
    sys.exit(main())
