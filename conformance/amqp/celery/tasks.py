"""The application: what workers run. Each run of a task is written down in Redis, so that lost and doubled ones show."""

import os
import time

import redis
from celery import Celery

QUEUE = os.environ["CELERY_CHECK_QUEUE"]
REDIS = os.environ["CELERY_CHECK_REDIS"]

app = Celery("checks", broker=os.environ["CELERY_CHECK_BROKER"], backend=REDIS)
app.conf.update(
    task_default_queue=QUEUE, task_default_exchange=QUEUE, task_default_routing_key=QUEUE, task_queue_max_priority=10,
    task_acks_late=True, task_reject_on_worker_lost=True, worker_prefetch_multiplier=1, broker_transport_options={"confirm_publish": True},
    broker_connection_retry_on_startup=True, event_queue_prefix=QUEUE + "-events", control_exchange=QUEUE + "-control", event_exchange=QUEUE + "-events")
book = redis.Redis.from_url(REDIS)


def began(kind, n):
    book.rpush("%s began" % kind, n)


def ended(kind, n):
    book.rpush("%s ended" % kind, n)


@app.task
def plain(n):
    began("plain", n)
    return n * n


@app.task
def slow(n):
    began("slow", n)
    time.sleep(0.3)  # tidy: pacing
    ended("slow", n)
    return n


@app.task(bind=True, max_retries=5)
def flaky(self, n):
    began("flaky", n)
    if self.request.retries < 2:
        raise self.retry(countdown=0.1)
    return self.request.retries


@app.task
def when(_n):
    return time.time()


@app.task
def ordered(n):
    began("ordered", n)


@app.task
def total(numbers):
    return sum(numbers)
