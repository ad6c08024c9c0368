"""Registers checks, runs them side by side and prints one line for each. Start at `check` and `run_all`."""

import concurrent.futures
import os
import shlex
import subprocess
import time
import traceback
import uuid

import pika

CHECK_SECONDS_MAX = 60.0

_checks = []


class Context:
    """What a check is told: the broker's address and which broker it is."""

    def __init__(self, bootstrap, peer, admin=None):
        self.peer, self.admin = peer, admin
        host, port = bootstrap.rsplit(":", 1)
        self.address = (host, int(port))

    def command(self, *arguments):
        """Has the broker's own command line do something; fails the check if it does not."""
        done = subprocess.run([*shlex.split(self.admin), *arguments], capture_output=True, text=True, timeout=60)
        equal(done.returncode, 0, f"{arguments}: {done.stdout}{done.stderr}")

    def connect(self, **more):
        """A connection; `with` closes it."""
        host, port = self.address
        return pika.BlockingConnection(pika.ConnectionParameters(host, port, **more))


def check(name, peer=None, admin=False):
    """Registers the decorated function as the check `name`; for one peer only where `peer` is given, and, with `admin`, where the broker's own
    command line is known."""

    def register(function):
        _checks.append((name, peer, admin, function))
        return function

    return register


def unique(prefix):
    """A name that no other check or run uses."""
    return f"{prefix}-{uuid.uuid4().hex[:10]}"


def equal(got, want, what="value"):
    """Fails the check unless both are equal."""
    if got != want:
        raise AssertionError(f"{what}: got {got!r}, want {want!r}"[:600])


def that(condition, what):
    """Fails the check with `what` unless the condition holds."""
    if not condition:
        raise AssertionError(what)


def until(what, condition, seconds=20.0, pause=0.02):
    """Asks `condition` until it gives something true, and returns that; fails the check after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(pause)  # tidy: pacing


def refused(code, text, action):
    """Fails the check unless `action` makes the broker close the channel or the connection with this code and text within."""
    try:
        action()
    except (pika.exceptions.ChannelClosedByBroker, pika.exceptions.ConnectionClosedByBroker) as error:
        equal(error.reply_code, code, "reply code")
        that(text in error.reply_text, f"reply text {error.reply_text!r} has no {text!r}")
        return error
    raise AssertionError(f"not refused with {code}")


def count(channel, queue):
    """Messages ready in a queue."""
    return channel.queue_declare(queue, passive=True).method.message_count


def take(channel, queue, seconds=20.0):
    """The next message by `basic.get`, waiting for it: method, properties, body. It stays unacknowledged."""
    return until(f"a message in {queue}", lambda: _got(channel.basic_get(queue)), seconds)


def _got(message):
    return message if message[0] else None


def bodies(channel, queue, n):
    """The bodies of the next `n` messages, acknowledged."""
    got = []
    for _ in range(n):
        method, _, body = take(channel, queue)
        channel.basic_ack(method.delivery_tag)
        got.append(body)
    return got


def deliveries(connection, received, n, seconds=20.0):
    """Lets a connection work until `received` has `n` entries."""
    deadline = time.monotonic() + seconds
    while len(received) < n:
        that(time.monotonic() < deadline, f"{len(received)} of {n} deliveries after {seconds:g} s")
        connection.process_data_events(time_limit=0.05)
    return received


def quiet(connection, received, n, seconds=0.3):
    """Fails the check if more than `n` entries come within a while."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        connection.process_data_events(time_limit=0.05)
    equal(len(received), n, "deliveries")


def _reason(error):
    where = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in where if "conformance" in frame.filename] or where
    place = f" ({os.path.basename(ours[-1].filename)}:{ours[-1].lineno})" if ours else ""
    return f"{type(error).__name__}: {error}".replace("\n", " ")[:700] + place


def run_all(context, only, jobs):
    """Runs every check whose name contains `only`; returns how many passed and failed."""
    here = lambda peer, admin: peer in (None, context.peer) and (context.admin or not admin)
    todo = [(name, function) for name, peer, admin, function in _checks if only in name and here(peer, admin)]
    passed = failed = 0
    pool = concurrent.futures.ThreadPoolExecutor(max_workers=jobs)
    running = {pool.submit(function, context): name for name, function in todo}
    try:
        for future in concurrent.futures.as_completed(running, timeout=CHECK_SECONDS_MAX * max(1, len(todo) / jobs)):
            name = running.pop(future)
            error = future.exception()
            if error is None:
                passed += 1
                print(f"ok {name}", flush=True)
            else:
                failed += 1
                print(f"FAIL {name}: {_reason(error)}", flush=True)
    except concurrent.futures.TimeoutError:
        for name in running.values():
            failed += 1
            print(f"FAIL {name}: hangs", flush=True)
    return passed, failed
