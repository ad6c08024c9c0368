#!/usr/bin/env python3
"""A Celery application against one broker, with Redis for results: no task is lost, none runs twice without need.

run.py --bootstrap HOST:PORT [--peer rabbitmq|millstream] [--only SUBSTRING]
Starts a Redis and workers of its own; they and the queues go at the end."""

import collections
import pathlib
import random
import sys
import time

sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / "common"))

import celery_app  # noqa: E402
from celery_app import WITHIN_S, check, equal, main, until  # noqa: E402

TASKS = 100


class World(celery_app.World):
    """What the checks work with."""

    def clean_up(self):
        """Takes away what the application has declared and its workers left."""
        name = self.tasks.QUEUE
        with self.tasks.app.connection_for_write() as connection:
            channel = connection.default_channel
            channel.queue_delete(name)
            for exchange in (name, name + "-events", name + "-control.pidbox", "reply." + name + "-control.pidbox"):
                channel.exchange_delete(exchange)


@check("every task runs once and has its result")
def plain(world):
    worker = world.workers.start(2)
    results = [world.tasks.plain.delay(n) for n in range(TASKS)]
    equal([result.get(timeout=WITHIN_S) for result in results], [n * n for n in range(TASKS)], "results")
    equal(sorted(world.noted("plain began")), list(range(TASKS)), "runs")
    world.worker = worker


@check("a task that fails is tried again, and no more often than it asks")
def retries(world):
    results = [world.tasks.flaky.delay(n) for n in range(10)]
    equal([result.get(timeout=WITHIN_S) for result in results], [2] * 10, "results")
    equal(collections.Counter(world.noted("flaky began")), collections.Counter({n: 3 for n in range(10)}), "runs")


@check("a countdown holds a task back, and then it runs")
def countdown(world):
    sent = time.time()
    results = [world.tasks.when.apply_async((n,), countdown=1) for n in range(5)]
    for result in results:
        ran = result.get(timeout=WITHIN_S)
        if ran < sent + 1:
            raise AssertionError("it ran %.2f s after it was sent" % (ran - sent))


@check("a chord's end runs once with all its parts")
def chord(world):
    from celery import chord as chord_of
    results = [chord_of(world.tasks.plain.s(1_000 + n) for n in range(12))(world.tasks.total.s()) for _ in range(3)]
    want = sum((1_000 + n) ** 2 for n in range(12))
    equal([result.get(timeout=WITHIN_S) for result in results], [want] * 3, "sums")


@check("a worker that is told to stop leaves nothing behind")
def stop(world):
    results = [world.tasks.slow.delay(1_000 + n) for n in range(6)]
    until("one runs", lambda: world.noted("slow began"))
    equal(world.workers.stop(world.worker), True, "the worker ended by itself")
    began, ended = world.noted("slow began"), world.noted("slow ended")
    equal(sorted(began), sorted(ended), "what began has ended")
    worker = world.workers.start(2)
    equal([result.get(timeout=WITHIN_S) for result in results], [1_000 + n for n in range(6)], "results")
    equal(sorted(world.noted("slow began")), [1_000 + n for n in range(6)], "runs")
    equal(world.workers.stop(worker), True, "the worker ended by itself")


@check("of waiting tasks those of a higher priority run first")
def priorities(world):
    order = list(range(10))
    random.shuffle(order)
    for n in order:
        world.tasks.ordered.apply_async((n,), priority=n)
    worker = world.workers.start(1)
    until("all ran", lambda: len(world.noted("ordered began")) == 10)
    equal(world.noted("ordered began"), list(range(9, -1, -1)), "order")
    equal(world.workers.stop(worker), True, "the worker ended by itself")


@check("a worker killed in the middle loses no task, and only what it had begun runs again")
def killed(world):
    worker = world.workers.start(4)
    results = [world.tasks.slow.delay(n) for n in range(24)]
    until("some have ended and others run", lambda: len(world.noted("slow ended")) >= 10)
    world.workers.kill(worker)
    begun = set(world.noted("slow began"))
    ended_before = set(world.noted("slow ended"))
    other = world.workers.start(4)
    equal([result.get(timeout=WITHIN_S) for result in results], list(range(24)), "results")
    runs = collections.Counter(n for n in world.noted("slow began") if n < 1_000)
    equal(sorted(runs), list(range(24)), "tasks that ran")
    twice = {n for n, times in runs.items() if times > 1}
    equal(sorted(twice - begun), [], "ran twice though the killed worker had not begun them")
    equal(max(runs.values()) <= 2, True, "runs of one task")
    # Four could end and not be acknowledged yet; what ended before those is settled.
    equal(len(twice & ended_before) <= 4, True, "of what had ended, ran again: %s" % sorted(twice & ended_before))
    equal(world.workers.stop(other), True, "the worker ended by itself")


if __name__ == "__main__":
    sys.exit(main("a Celery application", "rabbitmq", "amqp://guest:guest@%s//", World))
