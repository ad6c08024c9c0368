#!/usr/bin/env python3
"""A Celery application over kombu's SQS transport, with Redis for results: no task is lost.

run.py --bootstrap HOST:PORT [--peer elasticmq|millstream] [--only SUBSTRING]
Starts a Redis and workers of its own; they and the queues go at the end."""

import argparse
import collections
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid

HERE = os.path.dirname(os.path.abspath(__file__))
WITHIN_S = 25
STOPS_WITHIN_S = 12
TASKS = 60
checks = []


def check(name):
    def register(function):
        checks.append((name, function))
        return function
    return register


def until(what, condition):
    deadline = time.monotonic() + WITHIN_S
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError("not within %d s: %s" % (WITHIN_S, what))
        time.sleep(0.02)  # tidy: pacing


def equal(got, want, what):
    if got != want:
        raise AssertionError(("%s: got %r, want %r" % (what, got, want))[:500])


class Workers:
    """Celery's own command line, as people start it."""

    def __init__(self, directory):
        self.directory, self.running, self.number = directory, [], 0

    def start(self, processes, queue=None):
        self.number += 1
        queue = queue or os.environ["CELERY_CHECK_QUEUE"]
        log = open(os.path.join(self.directory, "worker-%d.log" % self.number), "wb")
        worker = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "tasks", "worker", "-c", str(processes), "-Q", queue, "-n", "w%d@%%h" % self.number,
             "-l", "WARNING", "--without-gossip", "--without-mingle"],
            cwd=HERE, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        log.close()
        self.running.append(worker)
        return worker

    def kill(self, worker):
        """The end of the worker and its children without a word."""
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()
        self.running.remove(worker)

    def stop(self, worker):
        """As an operator does it: what runs is finished, and a worker that does not end is killed.
        True if it ended by itself."""
        worker.send_signal(signal.SIGTERM)
        try:
            worker.wait(STOPS_WITHIN_S)
            self.running.remove(worker)
            return True
        except subprocess.TimeoutExpired:
            print("the worker was told to stop and did not", file=sys.stderr)
            self.kill(worker)
            return False

    def end(self):
        for worker in list(self.running):
            self.kill(worker)


class World:
    """What the checks work with."""

    def __init__(self, workers, address):
        import tasks
        self.tasks, self.workers, self.address, self.worker = tasks, workers, address, None

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

    def noted(self, key):
        return [int(n) for n in self.tasks.book.lrange(key, 0, -1)]


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
    if world.workers.stop(world.worker):
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


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def clean_up(world):
    """Takes away the application's queues."""
    for queue in (world.tasks.QUEUE, world.tasks.FIFO):
        try:
            world.sqs().delete_queue(QueueUrl=world.url(queue))
        except Exception:  # never made, by --only
            pass


def main():
    parser = argparse.ArgumentParser(description="a Celery application over SQS")
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--peer", choices=["elasticmq", "millstream"], default="millstream")
    parser.add_argument("--only", default="", help="run only the checks whose name contains this, and those before it that it needs")
    arguments = parser.parse_args()
    directory = tempfile.mkdtemp(prefix="celery-")
    port = free_port()
    redis = subprocess.Popen(["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", directory, "--save", "", "--daemonize", "no"],
                             stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    os.environ.update(CELERY_CHECK_BROKER="sqs://test:test@%s" % arguments.bootstrap, CELERY_CHECK_REDIS="redis://127.0.0.1:%d/0" % port,
                      CELERY_CHECK_QUEUE="celery-" + uuid.uuid4().hex[:10])
    workers = Workers(directory)
    passed = failed = 0
    try:
        world = World(workers, arguments.bootstrap)
        until("Redis answers", lambda: _answers(world.tasks.book))
        for name, function in checks:
            if arguments.only and arguments.only not in name and function is not plain:
                continue
            try:
                function(world)
                passed += 1
                print("ok %s" % name, flush=True)
            except Exception as error:  # a check may fail in any way; the others go on
                failed += 1
                print("FAIL %s: %s: %s" % (name, type(error).__name__, str(error).replace("\n", " ")), flush=True)
        workers.end()
        clean_up(world)
    finally:
        workers.end()
        redis.terminate()
        redis.wait()
    if failed:
        print("kept for a look: %s" % directory, file=sys.stderr)
    else:
        shutil.rmtree(directory)
    print("%d passed, %d failed" % (passed, failed), flush=True)
    return 1 if failed or not passed else 0


def _answers(book):
    try:
        return book.ping()
    except Exception:  # not up yet
        return False


if __name__ == "__main__":
    sys.exit(main())
