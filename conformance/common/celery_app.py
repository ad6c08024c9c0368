"""A Celery application as a test: a Redis for its results, its workers, the checks one after another. Start at `check` and `main`.

The program that calls it stands in a folder with the application, `tasks.py`, which reads its settings from the environment."""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid

from ports import free_port

WITHIN_S = 40
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

    def __init__(self, directory, options):
        self.directory, self.options, self.running, self.number = directory, options, [], 0

    def start(self, processes, queue=None):
        self.number += 1
        log = open(os.path.join(self.directory, "worker-%d.log" % self.number), "wb")
        worker = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "tasks", "worker", "-c", str(processes), "-Q", queue or os.environ["CELERY_CHECK_QUEUE"],
             "-n", "w%d@%%h" % self.number, "-l", "WARNING", *self.options],
            cwd=sys.path[0], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        log.close()
        self.running.append(worker)
        return worker

    def kill(self, worker):
        """The end of the worker and its children without a word."""
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()
        self.running.remove(worker)

    def stop(self, worker, within_s=WITHIN_S):
        """As an operator does it: what runs is finished. A worker that does not end is killed. True if it ended by itself."""
        worker.send_signal(signal.SIGTERM)
        try:
            worker.wait(within_s)
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

    def noted(self, key):
        """The numbers that tasks wrote down under a key, in their order."""
        return [int(n) for n in self.tasks.book.lrange(key, 0, -1)]

    def clean_up(self):
        """Takes away what the application has declared and its workers left."""


def main(title, original, scheme, world_of, worker_options=()):
    """The whole program: its arguments, Redis, the checks of one `World`, and the closing line; gives the exit status. The first check
    runs whatever `--only` says. `scheme` makes the address of the broker an address for Celery."""
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--bootstrap", required=True, help="the broker's address, HOST:PORT")
    parser.add_argument("--peer", choices=[original, "millstream"], default="millstream")
    parser.add_argument("--only", default="", help="run only the checks whose name contains this, and the first")
    arguments = parser.parse_args()
    directory = tempfile.mkdtemp(prefix="celery-")
    port = free_port()
    redis = subprocess.Popen(["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", directory, "--save", "", "--daemonize", "no"],
                             stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    os.environ.update(CELERY_CHECK_BROKER=scheme % arguments.bootstrap, CELERY_CHECK_REDIS="redis://127.0.0.1:%d/0" % port,
                      CELERY_CHECK_QUEUE="celery-" + uuid.uuid4().hex[:10])
    workers = Workers(directory, worker_options)
    passed = failed = 0
    try:
        world = world_of(workers, arguments.bootstrap)
        until("Redis answers", lambda: _answers(world.tasks.book))
        for number, (name, function) in enumerate(checks):
            if arguments.only not in name and number > 0:
                continue
            try:
                function(world)
                passed += 1
                print("ok %s" % name, flush=True)
            except Exception as error:  # a check may fail in any way; the others go on
                failed += 1
                print("FAIL %s: %s: %s" % (name, type(error).__name__, str(error).replace("\n", " ")), flush=True)
        workers.end()
        world.clean_up()
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
