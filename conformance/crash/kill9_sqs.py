#!/usr/bin/env python3
"""kill -9 in the middle of sending, receiving and deleting over SQS, many times: nothing sent is lost, nothing deleted comes again, and
leases and receipt handles hold.

kill9_sqs.py --binary PATH [--rounds N] [--seed N]
A kill leaves the page cache, so this shows that recovery is right; `hold_sync_sqs.py` shows that answers wait for the disk."""

import argparse
import random
import sys
import time

import program
from killing import Killing
from sqs_clients import FIFO, HELD, WORK, Consumer, FifoConsumer, FifoSender, Holder, Sender, client, declare, left
from sqs_ledger import FifoLedger, SqsLedger, lost, unnoticed

EMPTY_WITHIN_S = 60


class Test(Killing):
    def __init__(self, binary, directory, seed):
        super().__init__(binary, directory, seed, aws=True)
        self.work, self.held, self.fifo = SqsLedger(), SqsLedger(), FifoLedger()

    def begin(self):
        self.start()
        address, seed = self.broker.aws, self.random.random
        self.urls = declare(address)
        self.senders = [
            Sender("single", address, self.urls[WORK], self.work, seed(), 1, (0, 20_000), rest=0.01),
            Sender("batch", address, self.urls[WORK], self.work, seed(), 10, (0, 300), rest=0.05),
            Sender("held", address, self.urls[HELD], self.held, seed(), 5, (0, 100), rest=0.2),
            *(FifoSender("group-%d" % n, address, self.urls[FIFO], self.fifo, seed()) for n in range(2)),
        ]
        self.consumers = [Consumer(address, self.urls[WORK], self.work, seed()) for _ in range(2)]
        self.holder = Holder(address, self.urls[HELD], self.held, seed(), lambda: self.kills)
        self.fifo_consumer = FifoConsumer(address, self.urls[FIFO], self.fifo, seed())
        self.receivers = [*self.consumers, self.holder, self.fifo_consumer]
        self.clients = [*self.senders, *self.receivers]
        for each in self.clients:
            each.start()

    def round(self, number):
        """Load until everyone gets answers, a random moment more, the kill, the restart."""
        self.wait_for_progress(lambda: [each.progress for each in self.clients], "round %d" % number)
        self.a_while()
        self.kill()
        self.start_again()

    def finish(self, checks, rounds, took):
        for each in self.senders:
            each.finish()
        sqs = client(self.broker.aws)
        deadline = time.monotonic() + EMPTY_WITHIN_S
        while any(left(sqs, self.urls[WORK]) + left(sqs, self.urls[FIFO])) and time.monotonic() < deadline:
            time.sleep(0.05)  # tidy: pacing
        for each in self.receivers:
            each.finish()
        empty = left(sqs, self.urls[WORK]) + left(sqs, self.urls[FIFO])
        had, came = self.holder.give_back()
        resting = left(sqs, self.urls[HELD])[1] - len(came)  # received, and the answer went down with the broker
        status = self.broker.stop()
        self.judge(checks, rounds, took, empty, had, came, resting)
        checks.that("kill -9, SQS: the broker still stops cleanly", [] if status == 0 else ["exit status %s" % status])

    def judge(self, checks, rounds, took, empty, had, came, resting):
        work, held, fifo = self.work, self.held, self.fifo
        unseen = list(lost(held.delivered, held.told))
        checks.that("kill -9, SQS: %d rounds under load" % rounds, [error for each in self.clients for error in each.errors],
                    "%d kills, %.0f s, slowest restart %.2f s" % (self.kills, took, max(self.ready_s)))
        checks.that("kill -9, SQS: every message that was sent is received", lost(work.delivered, work.told), "%d messages" % len(work.told))
        checks.that("kill -9, SQS: no lease is cut short, nothing deleted comes again, every receive is counted",
                    [*work.broken, *held.broken], "%d received, %d deleted" % (
                        work.delivered.total() + held.delivered.total(), len(work.deleted) + len(held.deleted)))
        checks.that("kill -9, SQS: what was received and deleted is gone", ["%s are left, ready and in flight" % empty] if any(empty) else [])
        checks.that("kill -9, SQS: receipt handles delete and give back after restarts", [
            *("%s %d was given back and did not come" % name for name in sorted(had - came)),
            *(unseen if len(unseen) > resting else []),
            *(["no handle outlived a kill"] if rounds > 5 and not self.holder.deleted_later else []),
        ], "%d deleted after a kill, %d given back" % (self.holder.deleted_later, len(had)))
        checks.that("kill -9, SQS: a FIFO queue gives each group's messages once, in order, whatever was sent again", [
            *fifo.broken, *lost(fifo.delivered, fifo.told), *self.numbers()], "%d messages" % len(fifo.told))

    def numbers(self):
        """Faults: sequence numbers that were given twice."""
        numbers = [number for each in self.senders if isinstance(each, FifoSender) for number in each.numbers]
        return ["%d sequence numbers for %d messages" % (len(set(numbers)), len(numbers))] if len(set(numbers)) < len(numbers) else []


def killed(arguments, seed, checks, directory, started):
    checks.that("kill -9, SQS: the judge notices what is lost, early, uncounted, reordered, torn and deleted", unnoticed())
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
    parser = argparse.ArgumentParser(description="kill -9 under load over SQS")
    parser.add_argument("--binary", required=True)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=None, help="of the kill moments and sizes")
    arguments = parser.parse_args()
    seed = arguments.seed if arguments.seed is not None else random.randrange(1 << 32)
    print("seed %d" % seed, flush=True)
    return program.run("kill -9, SQS", "kill9-sqs-",
                       lambda checks, directory, started: killed(arguments, seed, checks, directory, started))


if __name__ == "__main__":
    sys.exit(main())
