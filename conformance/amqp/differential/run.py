#!/usr/bin/env python3
"""Runs random histories on two brokers at once, and compares all that they answer:
run.py --rabbitmq HOST:PORT --millstream HOST:PORT [--seeds N] [--first N] [--jobs N] [--no-shrink] [--replay FILE]

A difference is printed with its seed and with the shortest history found that shows it."""

import argparse
import ast
import json
import multiprocessing
import os
import pprint
import sys
import time
import uuid

import history
import side
import wire

SETTLE_SECONDS_MAX = 2.0
SHRINK_RUNS_MAX = 150


class Difference(Exception):
    """The brokers differ: after which operation, and how."""

    def __init__(self, at, op, differs):
        super().__init__(f"after operation {at} ({op['do']}): {differs}")
        self.at, self.op, self.differs = at, op, differs

    def kind(self):
        """What a shorter history must show again."""
        return (self.op["do"], *sorted(str(path[0]) if path else "" for path, _, _ in self.differs)[:1])


def differing(a, b, path=()):
    """The places where two values differ."""
    if a == b:
        return []
    if isinstance(a, dict) and isinstance(b, dict):
        keys = [*a, *(key for key in b if key not in a)]
        return [d for key in keys for d in differing(a.get(key), b.get(key), (*path, key))]
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)) and len(a) == len(b):
        return [d for n, (x, y) in enumerate(zip(a, b)) for d in differing(x, y, (*path, n))]
    return [(path, a, b)]


def settle(sides, answers):
    """Waits until both brokers show the same, twice; what they show if they do not."""
    deadline = time.monotonic() + SETTLE_SECONDS_MAX
    before, same = None, 0
    while True:
        shown = [{"answer": answer, **one.look()} for one, answer in zip(sides, answers)]
        differs = differing(*shown)
        same = same + 1 if not differs and shown == before else 0
        if same:
            return []
        if differs and time.monotonic() > deadline:
            return differs
        before = shown
        if differs:
            side.wait(0.004)


def play(addresses, ops):
    """Runs a history on both brokers; raises a `Difference`."""
    prefix = f"d{uuid.uuid4().hex[:10]}."
    queues = [*history.QUEUES, *history.SERVER_NAMED, "@fresh"]
    exchanges = [*history.EXCHANGES, "@x9"]
    sides = [side.Side(address, prefix, queues) for address in addresses]
    try:
        for at, op in enumerate(ops):
            ready = [one.prepare(op) for one in sides]
            # What `multiple` covers of several queues' deliveries depends on which came first: nobody promises that.
            if ready[0] is None or ready[0] != ready[1]:
                continue
            answers = [one.start(op) for one in sides]
            differs = settle(sides, answers)
            if differs:
                raise Difference(at, op, differs)
            for one in sides:
                one.take()
        drain(sides, len(ops))
    finally:
        for one in sides:
            try:
                one.sweep(exchanges)
            except (OSError, wire.Lost):
                pass
            one.close()


def drain(sides, at):
    """Everybody leaves; then all that lies in queues is looked at."""
    for op in [{"do": "cancel_all"}, *({"do": "close_connection", "on": (connection, 1)} for connection in (1, 2))]:
        for one in sides:
            one.start(op)
    differs = settle(sides, [None, None])
    if differs:
        raise Difference(at, {"do": "leave"}, differs)
    for queue in sides[0].queues:
        op = {"do": "get", "on": (3, 1), "queue": queue, "no_ack": True}
        while True:
            answers = [one.start(op) for one in sides]
            differs = differing(*answers)
            if differs:
                raise Difference(at, op, differs)
            if answers[0] is None or answers[0][0] == "GetEmpty":
                break
        for one in sides:
            one.take()


def outcome(addresses, ops):
    """The difference that a history shows, or None."""
    try:
        play(addresses, ops)
    except Difference as difference:
        return difference
    except (wire.Lost, OSError) as error:
        return Difference(-1, {"do": "lost"}, [((), repr(error), "")])
    return None


def shrunk(addresses, ops, found):
    """A shorter history with a difference of the same kind."""
    runs, size = 0, len(ops) // 2
    ops = ops[:found.at + 1] if found.at >= 0 else ops
    while size and runs < SHRINK_RUNS_MAX:
        at, less = 0, False
        while at < len(ops) and runs < SHRINK_RUNS_MAX:
            shorter = ops[:at] + ops[at + size:]
            runs += 1
            now = outcome(addresses, shorter)
            if now is not None and now.kind() == found.kind():
                ops, found, less = shorter[:now.at + 1] if now.at >= 0 else shorter, now, True
            else:
                at += size
        if not less or size > 1:
            size //= 2
    return ops, found


def examine(work):
    """One seed: `None`, or what is to be printed about it and whether it shows each time."""
    addresses, seed, shrink = work
    ops = history.make(seed)
    found = outcome(addresses, ops)
    if found is None:
        return seed, None, True
    again = outcome(addresses, ops)
    if again is None:
        return seed, f"seed {seed}: once, and not again: {found}", False
    if shrink:
        ops, again = shrunk(addresses, ops, again)
    lines = [f"seed {seed}: after operation {again.at} ({again.op['do']})"]
    for path, a, b in again.differs:
        lines += [f"  at {path}", f"    RabbitMQ:   {a!r}"[:1500], f"    Millstream: {b!r}"[:1500]]
    lines += ["  history:", *(f"    {op!r}," for op in ops)]
    return seed, "\n".join(lines), True


def main():
    parser = argparse.ArgumentParser(description="Random histories on RabbitMQ and on Millstream, compared")
    parser.add_argument("--rabbitmq", required=True, help="RabbitMQ's address, HOST:PORT")
    parser.add_argument("--millstream", required=True, help="Millstream's address, HOST:PORT")
    parser.add_argument("--seeds", type=int, default=100, help="how many")
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--jobs", type=int, default=3, help="histories at a time")
    parser.add_argument("--no-shrink", action="store_true", help="print a history as it is")
    parser.add_argument("--replay", help="a file with a printed history, run instead of seeds")
    arguments = parser.parse_args()
    addresses = (arguments.rabbitmq, arguments.millstream)
    if arguments.replay:
        with open(arguments.replay, encoding="utf-8") as file:
            ops = ast.literal_eval("[" + file.read() + "]")
        found = outcome(addresses, ops)
        print(found or "no difference")
        sys.exit(found is not None)
    work = [(addresses, seed, not arguments.no_shrink) for seed in range(arguments.first, arguments.first + arguments.seeds)]
    passed = failed = 0
    with multiprocessing.Pool(arguments.jobs) as pool:
        for seed, text, firm in pool.imap_unordered(examine, work):
            if text is not None:
                print(f"FAIL {text}" if firm else text, flush=True)
            passed += text is None or not firm
            failed += text is not None and firm
    print(f"{passed} passed, {failed} failed", flush=True)
    sys.exit(1 if failed or not passed else 0)


if __name__ == "__main__":
    main()
