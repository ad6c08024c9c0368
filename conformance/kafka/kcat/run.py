#!/usr/bin/env python3
"""Runs kcat, the command-line client, against one broker:
run.py --bootstrap HOST:PORT [--peer kafka|millstream] [--only SUBSTRING]"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import threading
import time
import uuid

TEXT = pathlib.Path(__file__).resolve().parents[1] / "data" / "opticks.txt"
KCAT_SECONDS_MAX = 60
CHECKS = []


def check(name):
    def register(function):
        CHECKS.append((name, function))
        return function

    return register


def unique(prefix):
    return f"{prefix}-{uuid.uuid4().hex[:10]}"


def equal(got, want, what):
    if got != want:
        raise AssertionError(f"{what}: got {got!r}, want {want!r}"[:600])


def until(what, condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.1)  # tidy: pacing


class Kcat:
    def __init__(self, bootstrap):
        self.bootstrap = bootstrap

    def command(self, *arguments):
        return ["kcat", "-b", self.bootstrap, *arguments]

    def __call__(self, *arguments, data=b"", fails=False):
        """What kcat writes to standard output."""
        done = subprocess.run(self.command(*arguments), input=data, capture_output=True, timeout=KCAT_SECONDS_MAX, check=False)
        if (done.returncode != 0) != fails:
            raise AssertionError(f"kcat {' '.join(arguments)} ended with {done.returncode}: {done.stderr.decode(errors='replace')}")
        return done.stderr if fails else done.stdout

    def exactly(self, topic, want, *arguments):
        """Reads the topic to its end until as many bytes are there as wanted."""
        got = self("-C", "-t", topic, "-o", "beginning", "-e", "-q", *arguments)
        equal(got, want, f"what {topic} holds")


def text_check(compression):
    def run(kcat):
        topic = unique(f"kcat-{compression}")
        text = TEXT.read_bytes()
        lines = [line for line in text.split(b"\n") if line]  # kcat sends no record for an empty line
        kcat("-P", "-t", topic, "-p", "0", "-z", compression, data=text)
        kcat.exactly(topic, b"\n".join(lines) + b"\n")

    return run


for codec in ["none", "gzip", "snappy", "lz4", "zstd"]:
    check(f"kcat: a public text there and back, byte for byte, {codec}")(text_check(codec))


@check("kcat: a whole file as one record")
def whole_file(kcat):
    topic = unique("kcat-file")
    kcat("-P", "-t", topic, str(TEXT))
    kcat.exactly(topic, TEXT.read_bytes(), "-D", "")


@check("kcat: keys, headers, null values and timestamps in JSON")
def envelope(kcat):
    topic = unique("kcat-json")
    kcat("-P", "-t", topic, "-p", "0", "-K", ":", "-H", "a=1", "-H", "a=2", "-H", "empty", data=b"key:value\nother:more\n")
    kcat("-P", "-t", topic, "-p", "0", "-Z", "-K", ":", data=b"tombstone:\n")
    out = kcat("-C", "-t", topic, "-o", "beginning", "-e", "-q", "-J")
    got = [json.loads(line) for line in out.splitlines()]
    equal([(m["offset"], m["key"], m["payload"]) for m in got], [(0, "key", "value"), (1, "other", "more"), (2, "tombstone", None)], "records")
    equal(got[0]["headers"], ["a", "1", "a", "2", "empty", None], "headers")
    equal(got[0]["tstype"], "create", "kind of timestamp")
    equal(abs(got[0]["ts"] / 1000 - time.time()) < 300, True, "timestamp is the present")


@check("kcat: metadata names the broker, topics and partitions")
def metadata(kcat):
    topic = unique("kcat-metadata")
    kcat("-P", "-t", topic, data=b"x\n")
    found = json.loads(kcat("-L", "-J"))
    equal([b["name"] for b in found["brokers"]], [kcat.bootstrap], "brokers")
    named = {t["topic"]: t for t in found["topics"]}
    equal([p["partition"] for p in named[topic]["partitions"]], list(range(len(named[topic]["partitions"]))), "partitions")
    one = json.loads(kcat("-L", "-J", "-t", topic))
    equal([t["topic"] for t in one["topics"]], [topic], "metadata of one topic")


@check("kcat: offsets: from the end, from a number, from a time, and a query by time")
def offsets(kcat):
    topic = unique("kcat-offsets")
    kcat("-P", "-t", topic, "-p", "0", "-z", "lz4", "-X", "linger.ms=100", data=b"".join(b"line %d\n" % n for n in range(100)))
    equal(kcat("-C", "-t", topic, "-p", "0", "-o", "-3", "-e", "-q"), b"line 97\nline 98\nline 99\n", "the last three")
    equal(kcat("-C", "-t", topic, "-p", "0", "-o", "95", "-c", "2", "-q"), b"line 95\nline 96\n", "two from 95 on")
    stamps = kcat("-C", "-t", topic, "-p", "0", "-o", "beginning", "-e", "-q", "-f", "%T\n").split()
    first = int(stamps[0])
    asked = kcat("-Q", "-t", f"{topic}:0:{first}").decode()
    equal("offset 0" in asked, True, f"offset for the first time ({asked.strip()})")
    equal(kcat("-C", "-t", topic, "-p", "0", "-o", f"s@{first}", "-e", "-q", "-c", "1"), b"line 0\n", "from the first time on")


@check("kcat: a balanced consumer group reads every partition once and commits")
def group(kcat):
    topic, name = unique("kcat-group"), unique("kcat-group")
    kcat("-P", "-t", topic, data=b"".join(b"one %d\n" % n for n in range(50)))
    settings = ["-X", "auto.offset.reset=earliest", "-X", "heartbeat.interval.ms=300", "-X", "session.timeout.ms=6000", "-q"]

    def member(*extra):
        return subprocess.Popen(kcat.command("-G", name, *settings, *extra, topic), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def take(process, count):
        """`count` lines of its output, then its end."""
        lines = []

        def read():
            while len(lines) < count:
                line = process.stdout.readline()
                if not line:
                    return
                lines.append(line)

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        reader.join(40)
        process.terminate()
        process.wait(20)
        return lines

    first = take(member("-u"), 50)
    equal(sorted(first), sorted(b"one %d\n" % n for n in range(50)), "what the first member read")
    kcat("-P", "-t", topic, data=b"two\n")
    equal(take(member("-u"), 1), [b"two\n"], "what the next member reads: it goes on where the first committed")


@check("kcat: following a topic sees lines as they come")
def follow(kcat):
    topic = unique("kcat-follow")
    kcat("-P", "-t", topic, data=b"first\n")
    with tempfile.TemporaryFile() as out:
        reader = subprocess.Popen(kcat.command("-C", "-t", topic, "-o", "beginning", "-u", "-q"), stdout=out, stderr=subprocess.DEVNULL)

        def seen():
            out.seek(0)
            return out.read()

        try:
            until("the first line", lambda: seen() == b"first\n")
            for n in range(3):
                kcat("-P", "-t", topic, data=b"later %d\n" % n)
                until("the later line", lambda n=n: seen().endswith(b"later %d\n" % n))
        finally:
            reader.terminate()
            reader.wait(20)


@check("kcat: an idempotent producer, acks all")
def idempotent(kcat):
    topic = unique("kcat-idempotent")
    lines = b"".join(b"%d\n" % n for n in range(2_000))
    kcat("-P", "-t", topic, "-p", "0", "-X", "enable.idempotence=true", "-X", "linger.ms=0", "-X", "batch.num.messages=10", data=lines)
    kcat.exactly(topic, lines, "-X", "check.crcs=true")


@check("kcat: an unknown partition is refused")
def unknown_partition(kcat):
    topic = unique("kcat-unknown")
    kcat("-P", "-t", topic, data=b"x\n")
    error = kcat("-P", "-t", topic, "-p", "4000", "-X", "message.timeout.ms=5000", data=b"x\n", fails=True)
    equal(b"nknown partition" in error, True, f"what kcat says ({error!r})")


def main():
    parser = argparse.ArgumentParser(description="Kafka conformance checks with kcat")
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--peer", choices=["kafka", "millstream"], default="millstream", help="no check differs")
    parser.add_argument("--only", default="", help="run only the checks whose name contains this")
    arguments = parser.parse_args()
    kcat = Kcat(arguments.bootstrap)
    passed = failed = 0
    for name, function in CHECKS:
        if arguments.only not in name:
            continue
        try:
            function(kcat)
        except Exception as error:  # a check may fail in any way; the others go on
            failed += 1
            print(f"FAIL {name}: {type(error).__name__}: {error}".replace("\n", " "), flush=True)
        else:
            passed += 1
            print(f"ok {name}", flush=True)
    print(f"{passed} passed, {failed} failed", flush=True)
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
