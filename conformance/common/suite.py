"""Registers checks of a client library, runs them side by side and prints one line for each. Start at `check` and `main`."""

import argparse
import importlib
import os
import queue
import sys
import threading
import time
import traceback
import uuid

CHECK_SECONDS_MAX = 90.0

_checks = []


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


def until(what, condition, seconds=30.0, pause=0.02):
    """Asks `condition` until it gives something true, and returns that; fails the check after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(pause)  # tidy: pacing


def _reason(error):
    where = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in where if "conformance" in frame.filename and frame.filename != __file__] or where
    place = f" ({os.path.basename(ours[-1].filename)}:{ours[-1].lineno})" if ours else ""
    return f"{type(error).__name__}: {error}".replace("\n", " ")[:700] + place


def _run_all(context, only, jobs):
    """Runs every check whose name contains `only`; returns how many passed and failed."""
    todo = queue.Queue()
    for name, peer, admin, function in _checks:
        if only in name and peer in (None, context.peer) and (context.admin or not admin):
            todo.put((name, function))
    total = todo.qsize()
    results = queue.Queue()
    running = {}
    lock = threading.Lock()

    def work():
        while True:
            try:
                name, function = todo.get_nowait()
            except queue.Empty:
                return
            with lock:
                running[name] = time.monotonic()
            try:
                function(context)
                outcome = None
            except Exception as error:  # a check may fail in any way; the others go on
                outcome = _reason(error)
            with lock:
                began = running.pop(name, None)
            if began is not None:
                results.put((name, outcome, time.monotonic() - began))

    for _ in range(jobs):
        threading.Thread(target=work, daemon=True).start()

    passed = failed = 0
    while passed + failed < total:
        try:
            name, outcome, seconds = results.get(timeout=1.0)
        except queue.Empty:
            with lock:
                hung = [n for n, began in running.items() if time.monotonic() - began > CHECK_SECONDS_MAX]
                for name in hung:
                    del running[name]
            for name in hung:
                results.put((name, f"still running after {CHECK_SECONDS_MAX:g} s", CHECK_SECONDS_MAX))
                threading.Thread(target=work, daemon=True).start()
            continue
        if outcome is None:
            passed += 1
            line = f"ok {name}"
        else:
            failed += 1
            line = f"FAIL {name}: {outcome}"
        if os.environ.get("CONFORMANCE_TIMES"):
            line += f"  [{seconds:.1f} s]"
        print(line, flush=True)
    return passed, failed


def main(title, original, modules, context):
    """The whole program: its arguments, the checks in these modules of the package `conformance`, and the closing line. `context`
    makes what a check is told from the broker's address and which broker it is: the `original` or ours."""
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--bootstrap", required=True, help="the broker's address, HOST:PORT")
    parser.add_argument("--peer", choices=[original, "millstream"], default="millstream")
    parser.add_argument("--admin", help="the broker's own command line: rabbitmqctl -n NODE, or env MILLSTREAM_SERVER=HOST:PORT millstream")
    parser.add_argument("--only", default="", help="run only the checks whose name contains this")
    parser.add_argument("--jobs", type=int, default=4, help="checks run side by side")
    arguments = parser.parse_args()
    for module in modules:
        importlib.import_module(f"conformance.{module}")
    told = context(arguments.bootstrap, arguments.peer)
    told.admin = arguments.admin
    passed, failed = _run_all(told, arguments.only, arguments.jobs)
    print(f"{passed} passed, {failed} failed", flush=True)
    sys.stdout.flush()
    os._exit(1 if failed or not passed else 0)  # clients of a hung check must not hold the program up
