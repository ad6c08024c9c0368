#!/usr/bin/env python3
"""kill -9 in the middle of a message move task of SQS, many times: the task goes on by itself, counts what it moved once, and each message is
where it is to go exactly once, in order.

kill9_moves.py --binary PATH [--rounds N] [--seed N]"""

import argparse
import json
import random
import sys
import threading
import time

import program
from killing import Killing
from sqs_clients import client, left

MESSAGES = 5_000  # more than are moved until the last kill
PER_SECOND = 200
DONE_WITHIN_S = 120


class Test(Killing):
    def __init__(self, binary, directory, seed):
        super().__init__(binary, directory, seed, aws=True)
        self.faults, self.told = [], []

    def begin(self):
        self.start()
        self.sqs = client(self.broker.aws)
        create = lambda name, **more: self.sqs.create_queue(QueueName=name, Attributes=more)["QueueUrl"]
        self.graves, self.back = create("graves"), create("back")
        self.source = self.sqs.get_queue_attributes(QueueUrl=self.graves, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        create("work", RedrivePolicy=json.dumps({"deadLetterTargetArn": self.source, "maxReceiveCount": 1}))
        self.to = self.source.replace("graves", "back")
        self.fill()
        self.start_task()

    def fill(self):
        for first in range(0, MESSAGES, 10):
            entries = [{"Id": str(n), "MessageBody": str(n)} for n in range(first, first + 10)]
            self.sqs.send_message_batch(QueueUrl=self.graves, Entries=entries)

    def start_task(self):
        self.handle = self.sqs.start_message_move_task(
            SourceArn=self.source, DestinationArn=self.to, MaxNumberOfMessagesPerSecond=PER_SECOND)["TaskHandle"]

    def task(self):
        """The latest task, held against what it said before."""
        task = self.sqs.list_message_move_tasks(SourceArn=self.source)["Results"][0]
        moved = task["ApproximateNumberOfMessagesMoved"]
        if self.told and moved < self.told[-1]:
            self.faults.append("%d moved, and %d before" % (moved, self.told[-1]))
        if task["Status"] == "RUNNING" and task["TaskHandle"] != self.handle:
            self.faults.append("another handle")
        self.told.append(moved)
        return task

    def round(self, number):
        """Until the task has moved more; a random moment; the kill; the restart."""
        before = self.task()["ApproximateNumberOfMessagesMoved"]
        self.until(lambda: self.task()["ApproximateNumberOfMessagesMoved"] > before or self.task()["Status"] != "RUNNING",
                   "round %d: the task goes on" % number)
        self.a_while()
        self.kill()
        self.start_again()
        self.sqs = client(self.broker.aws)

    def until(self, condition, what):
        deadline = time.monotonic() + DONE_WITHIN_S
        while not condition():
            if time.monotonic() > deadline:
                raise RuntimeError("%s: not in %d s: %s\n%s" % (what, DONE_WITHIN_S, self.task(), self.broker.tail()))
            threading.Event().wait(0.02)

    def bodies(self, url, n):
        got = []
        while len(got) < n:
            more = self.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=900).get("Messages", [])
            if not more:
                break
            got += [int(m["Body"]) for m in more]
        return got


def killed(arguments, seed, checks, directory, started):
    test = Test(arguments.binary, directory, seed)
    started(test.broker)
    test.begin()
    for number in range(arguments.rounds):
        test.round(number)
    if test.task()["Status"] != "RUNNING":
        test.faults.append("it was over before the last kill")
    test.until(lambda: test.task()["Status"] != "RUNNING", "the task ends")
    task = test.task()
    there, rest = left(test.sqs, test.back), left(test.sqs, test.graves)
    got = test.bodies(test.back, MESSAGES + 1)
    checks.that("kill -9, move tasks: a task goes on after each of %d kills" % test.kills, test.faults,
                "%d looks" % len(test.told))
    checks.that("kill -9, move tasks: it counts what it moved", [
        *([] if task["Status"] == "COMPLETED" else [str(task)]),
        *([] if task["ApproximateNumberOfMessagesMoved"] == MESSAGES else ["%d moved" % task["ApproximateNumberOfMessagesMoved"]]),
        *([] if task["ApproximateNumberOfMessagesToMove"] == MESSAGES else ["%d to move" % task["ApproximateNumberOfMessagesToMove"]]),
    ], "%d messages" % MESSAGES)
    checks.that("kill -9, move tasks: each message is there once, in order, and none is left", [
        *([] if got == list(range(MESSAGES)) else ["%d received, %d different" % (len(got), len(set(got)))]),
        *([] if (there, rest) == ([MESSAGES, 0], [0, 0]) else ["%s there, %s left" % (there, rest)]),
    ])
    cancelled(test, checks)
    status = test.broker.stop()
    checks.that("kill -9, move tasks: the broker still stops cleanly", [] if status == 0 else ["exit status %s" % status])


def cancelled(test, checks):
    """A task that was cancelled before a kill is not taken up again, and what it said then is so."""
    test.fill()
    test.told.clear()
    test.start_task()
    test.until(lambda: test.task()["ApproximateNumberOfMessagesMoved"] > 0, "a second task begins")
    moved = test.sqs.cancel_message_move_task(TaskHandle=test.handle)["ApproximateNumberOfMessagesMoved"]
    test.kill()
    test.start()
    test.sqs = client(test.broker.aws)
    test.until(lambda: left(test.sqs, test.graves) == [MESSAGES - moved, 0], "what it held is back")
    task = test.task()
    again = [t["Status"] for t in test.sqs.list_message_move_tasks(SourceArn=test.source, MaxResults=10)["Results"]]
    got = test.bodies(test.graves, MESSAGES)
    checks.that("kill -9, move tasks: a cancelled task stays so, and the rest is in its place", [
        *([] if (task["Status"], task["ApproximateNumberOfMessagesMoved"]) == ("CANCELLED", moved) else [str(task)]),
        *([] if again == ["CANCELLED", "COMPLETED"] else [str(again)]),
        *([] if got == list(range(moved, MESSAGES)) else ["%d are left, %d different" % (len(got), len(set(got)))]),
    ], "%d moved before" % moved)


def main():
    parser = argparse.ArgumentParser(description="kill -9 while a message move task of SQS is at work")
    parser.add_argument("--binary", required=True)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seed", type=int, default=None, help="of the kill moments")
    arguments = parser.parse_args()
    seed = arguments.seed if arguments.seed is not None else random.randrange(1 << 32)
    print("seed %d" % seed, flush=True)
    return program.run("kill -9, move tasks", "kill9-moves-",
                       lambda checks, directory, started: killed(arguments, seed, checks, directory, started))


if __name__ == "__main__":
    sys.exit(main())
