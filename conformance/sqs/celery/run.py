#!/usr/bin/env python3
"""A Celery application over kombu's SQS transport, with Redis for results: no task is lost.

run.py --bootstrap HOST:PORT [--peer elasticmq|millstream] [--only SUBSTRING]
Starts a Redis and workers of its own; they and the queues go at the end."""

import collections
import pathlib
import sys
import time

sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / "common"))

import celery_app  # noqa: E402
from celery_app import WITHIN_S, check, equal, main, until  # noqa: E402

TASKS = 60
STOPS_WITHIN_S = 12


class World(celery_app.World):
    """What the checks work with."""

    def sqs(self):
        import boto3
        return boto3.client("sqs", endpoint_url="http://" + self.address, region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test")

    def url(self, queue):
        """A queue's URL."""
        return self.sqs().get_queue_url(QueueName=queue)["QueueUrl"]

    def counts(self):
        """Tasks ready, in flight and delayed."""
        got = self.sqs().get_queue_attributes(QueueUrl=self.url(self.tasks.QUEUE), AttributeNames=["All"])["Attributes"]
        return [got["ApproximateNumberOfMessages" + end] for end in ("", "NotVisible", "Delayed")]

    def clean_up(self):
        """Takes away the application's queues."""
        for queue in (self.tasks.QUEUE, self.tasks.FIFO):
            try:
                self.sqs().delete_queue(QueueUrl=self.url(queue))
            except Exception:  # never made, by --only
                pass


@check("every task runs and has its result")
def plain(world):
    world.worker = world.workers.start(2)
    results = [world.tasks.plain.delay(n) for n in range(TASKS)]
    equal([result.get(timeout=WITHIN_S) for result in results], [n * n for n in range(TASKS)], "results")
    equal(sorted(world.noted("plain began")), list(range(TASKS)), "runs")


@check("arguments of any kind come as they were")
def arguments(world):
    for value in ["a <&> \"b\" \u00e9\u4e16\U0001f600\n\t\u0000", {"list": [1, 2.5, None, True], "deep": {"er": "x"}}, "x" * 100_000]:
        equal(world.tasks.echo.delay(value).get(timeout=WITHIN_S), value, "value")


@check("a task that fails is tried again, and no more often than it asks")
def retries(world):
    results = [world.tasks.flaky.delay(n) for n in range(5)]
    equal([result.get(timeout=WITHIN_S) for result in results], [2] * 5, "results")
    equal(collections.Counter(world.noted("flaky began")), collections.Counter({n: 3 for n in range(5)}), "runs")


@check("a countdown holds a task back, and then it runs")
def countdown(world):
    sent = time.time()
    results = [world.tasks.when.apply_async((n,), countdown=1) for n in range(4)]
    for result in results:
        ran = result.get(timeout=WITHIN_S)
        if ran < sent + 1:
            raise AssertionError("it ran %.2f s after it was sent" % (ran - sent))


@check("a delay is kept by the queue")
def delay(world):
    sent = time.time()
    result = world.tasks.when.apply_async((0,), delay_seconds=2)
    until("it is delayed", lambda: world.counts()[2] == "1")
    if result.get(timeout=WITHIN_S) < sent + 1.9:  # the broker's clock is its own
        raise AssertionError("it ran too early")


@check("a chord's end runs once with all its parts")
def chord(world):
    from celery import chord as chord_of
    result = chord_of(world.tasks.plain.s(1_000 + n) for n in range(8))(world.tasks.total.s())
    equal(result.get(timeout=WITHIN_S), sum((1_000 + n) ** 2 for n in range(8)), "sum")


@check("a worker killed in the middle loses no task, and none of what had ended before runs again")
def killed(world):
    results = [world.tasks.slow.delay(n) for n in range(12)]
    until("some have ended", lambda: len(world.noted("slow ended")) >= 4)
    world.workers.kill(world.worker)
    begun, ended_before = set(world.noted("slow began")), set(world.noted("slow ended"))
    world.worker = world.workers.start(2)
    equal([result.get(timeout=WITHIN_S) for result in results], list(range(12)), "results")
    runs = collections.Counter(world.noted("slow began"))
    equal(sorted(runs), list(range(12)), "tasks that ran")
    twice = {n for n, times in runs.items() if times > 1}
    equal(sorted(twice - begun), [], "ran twice though the killed worker had not begun them")
    # Two could end and not be acknowledged yet; what ended before those is settled.
    equal(len(twice & ended_before) <= 2, True, "of what had ended, ran again: %s" % sorted(twice & ended_before))


@check("a worker that is told to stop leaves nothing behind")
def stop(world):
    results = [world.tasks.slow.delay(1_000 + n) for n in range(4)]
    until("one runs", lambda: any(n >= 1_000 for n in world.noted("slow began")))
    if world.workers.stop(world.worker, STOPS_WITHIN_S):
        began, ended = [{n for n in world.noted("slow " + what) if n >= 1_000} for what in ("began", "ended")]
        equal(began, ended, "what began has ended")
    world.worker = world.workers.start(2)
    equal([result.get(timeout=WITHIN_S) for result in results], [1_000 + n for n in range(4)], "results")


@check("tasks of a FIFO queue run in their order")
def ordered(world):
    results = [world.tasks.ordered.apply_async((n,), queue=world.tasks.FIFO) for n in range(8)]
    worker = world.workers.start(1, world.tasks.FIFO)
    equal([result.get(timeout=WITHIN_S) for result in results], list(range(8)), "results")
    equal(world.noted("ordered began"), list(range(8)), "order")
    world.workers.kill(worker)


@check("what was done is gone from the queue")
def empty(world):
    until("it is empty", lambda: world.counts() == ["0", "0", "0"])


if __name__ == "__main__":
    # The transport has no fanout.
    options = ["--without-gossip", "--without-mingle"]
    sys.exit(main("a Celery application over SQS", "elasticmq", "sqs://test:test@%s", World, options))
