"""The application: what workers run. Each run of a task is written down in Redis, so that lost and doubled ones show."""

import os
import time

import redis
from celery import Celery
from kombu import Queue

QUEUE = os.environ["CELERY_CHECK_QUEUE"]
FIFO = QUEUE + ".fifo"
REDIS = os.environ["CELERY_CHECK_REDIS"]
VISIBILITY_S = 4

app = Celery("checks", broker=os.environ["CELERY_CHECK_BROKER"], backend=REDIS)
app.conf.update(
    task_default_queue=QUEUE, task_queues=[Queue(QUEUE), Queue(FIFO)], task_acks_late=True, worker_prefetch_multiplier=1,
    # The transport has no fanout.
    worker_enable_remote_control=False, worker_send_task_events=False, broker_connection_retry_on_startup=True,
    broker_transport_options={"region": "us-east-1", "visibility_timeout": VISIBILITY_S, "wait_time_seconds": 1, "polling_interval": 0.05, "is_secure": False})
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
def echo(value):
    return value


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
    return n


@app.task
def total(numbers):
    return sum(numbers)
