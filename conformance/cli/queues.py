"""`queue`, `exchange`, `binding`; `produce` and `consume` on queues."""

import json
import os
import signal
import subprocess

from harness import check, equal, holds, until
from program import environment
from settings import SMALL


def counts(server, name):
    told = server.ok("queue", "describe", name, "--json", "--span", "0").json()
    return {k: told[k] for k in ("ready", "leased", "scheduled", "dead", "parked", "consumers") if told[k]}


def ready(server, name, n):
    until(lambda: counts(server, name) == ({"ready": n} if n else {}), "%d ready in %s" % (n, name))


@check("queue create takes its policy, and list and describe tell it, for people and as JSON")
def _(place):
    server = place.serve(*SMALL)
    holds(server.ok("queue", "create", "jobs", "--ttl", "1h", "--max-length", "1000", "--max-bytes", "64MiB", "--overflow", "reject-publish",
                    "--max-priority", "9", "--attempts", "4", "--backoff", "1s..5m~20", "--dead-letter-exchange", "",
                    "--dead-letter-routing-key", "dead", "--lease", "2m", "--delay", "5ms", "--expires", "7d", "--single-active").out, "made", "jobs")
    holds(server.ok("queue", "create", "dead").out, "made")
    listed = server.ok("queue", "list", "--span", "0")
    equal([line.split()[0] for line in listed.lines()], ["QUEUE", "dead", "jobs"])
    equal(listed.lines()[0].split(), ["QUEUE", "READY", "LEASED", "SCHEDULED", "DEAD", "PARKED", "CONSUMERS"])
    holds(server.ok("queue", "list", "--span", "50ms").lines()[0], "PUBLISH/S", "DELIVER/S", "ACK/S")
    equal([q["name"] for q in server.ok("queue", "list", "--json", "--span", "0").json()["queues"]], ["dead", "jobs"])
    told = server.ok("queue", "describe", "jobs", "--json", "--span", "0").json()
    wanted = {"ttl_ms": 3_600_000, "max_length": 1000, "max_bytes": 64 << 20, "overflow": "reject-publish", "max_priority": 9, "attempts": 4,
              "backoff": {"base_ms": 1000, "max_ms": 300_000, "jitter_percent": 20}, "dead_letter_exchange": "", "dead_letter_routing_key": "dead",
              "lease_ms": 120_000, "delay_ms": 5, "expires_ms": 604_800_000, "single_active": True}
    equal({k: told["policy"][k] for k in wanted}, wanted)
    equal(told["arguments"]["x-message-ttl"], 3_600_000)
    equal(told["arguments"]["x-delivery-limit"], 3)
    holds(server.ok("queue", "describe", "jobs", "--span", "50ms").out, "queue jobs", "a second, over", "ttl_ms", "3600000", "x-max-priority")
    server.kill()
    server = place.serve(*SMALL)
    equal(server.ok("queue", "describe", "jobs", "--json", "--span", "0").json()["policy"]["lease_ms"], 120_000)


@check("a queue that is there alike is found, and one that is otherwise is refused")
def _(place):
    server = place.serve(*SMALL)
    equal(server.ok("queue", "create", "q", "--ttl", "5s", "--json").json()["made"], True)
    equal(server.ok("queue", "create", "q", "--ttl", "5000", "--json").json()["made"], False)
    holds(server.refused("queue", "create", "q"), "another ttl_ms")
    server.ok("topic", "create", "t")
    holds(server.refused("queue", "create", "t"), "another kind")
    holds(server.refused("topic", "create", "q"), "q")
    holds(server.refused("queue", "create", "u", "--ttl", "soon"), "ttl")
    holds(server.refused("queue", "create", "u", "--overflow", "explode"), "drop-head")
    holds(server.refused("queue", "create", "u", "--attempts", "0"), "attempts")
    holds(server.refused("queue", "create", "u", "--dead-letter-routing-key", "k"), "--dead-letter-exchange")
    holds(server.refused("queue", "create", "x" * 300), "name")
    holds(server.refused("queue", "describe", "nobody"), "nobody")
    holds(server.refused("queue", "delete", "nobody"), "nobody")
    holds(server.refused("queue", "purge", "nobody"), "nobody")
    holds(server.refused("queue", "redrive", "nobody"), "nobody")


@check("produce and consume work on a queue: what was printed is gone, and the rest is there in order")
def _(place):
    server = place.serve(*SMALL)
    server.ok("queue", "create", "q")
    holds(server.ok("produce", "q", "one", "two", "three").err, "3 messages")
    equal(server.ok("produce", "q", "--json", stdin="four\nfive\n").json(), {"queue": "q", "messages": 2})
    equal(server.ok("consume", "q", "--no-ack").lines(), ["one", "two", "three", "four", "five"])
    equal(server.ok("consume", "q", "--no-ack", "--count", "2").lines(), ["one", "two"])
    equal(server.ok("consume", "q", "--count", "2").lines(), ["one", "two"])
    equal(counts(server, "q"), {"ready": 3})
    server.kill()
    server = place.serve(*SMALL)
    equal(server.ok("consume", "q").lines(), ["three", "four", "five"])
    equal(server.ok("consume", "q").lines(), [])
    equal(counts(server, "q"), {})
    holds(server.refused("consume", "q", "--partition", "0"), "--partition is for topics")
    holds(server.refused("consume", "q", "--from", "earliest"), "--from is for topics")
    holds(server.refused("consume", "q", "--group", "g"), "--group is for topics")
    holds(server.refused("produce", "q", "--partition", "0", "x"), "no partition")
    server.ok("topic", "create", "t")
    holds(server.refused("consume", "t", "--no-ack"), "topic")


@check("consume --follow takes what comes into a queue")
def _(place):
    server = place.serve(*SMALL)
    server.ok("queue", "create", "q")
    follower = server.background("consume", "q", "--follow")
    for word in ("first", "second"):
        server.ok("produce", "q", word)
        equal(follower.line(), word)
    ready(server, "q", 0)


@check("consume ends quietly when nobody reads on, and what was not printed stays in the queue")
def _(place):
    server = place.serve(*SMALL)
    server.ok("queue", "create", "q")
    lines = ["line %d %s" % (i, "x" * 1000) for i in range(2_000)]
    server.ok("produce", "q", stdin="\n".join(lines))
    piped = subprocess.run("'%s' consume q --server %s | head -n 2" % (place.binary, server.http), shell=True, capture_output=True,
                           text=True, env=environment(), timeout=30, check=True)
    equal((piped.stdout.split()[:2], piped.stderr), (["line", "0"], ""))
    rest = server.ok("consume", "q").lines()
    assert 1_000 < len(rest) < 2_000, len(rest)
    equal(rest, lines[-len(rest):])


@check("queue publish sets priority, time to live, delay, headers and properties, and peek shows them")
def _(place):
    server = place.serve(*SMALL)
    server.ok("queue", "create", "q", "--max-priority", "5")
    server.ok("queue", "publish", "q", "gone", "--ttl", "1ms")
    server.ok("queue", "publish", "q", "low")
    server.ok("queue", "publish", "q", "high", "--priority", "5", "--header", "kind=job", "--property", "content_type=text/plain")
    server.ok("queue", "publish", "q", "later", "--delay", "1h")
    until(lambda: counts(server, "q") == {"ready": 2, "scheduled": 1}, "the expiry and the delay")
    seen = [json.loads(line) for line in server.ok("queue", "peek", "q", "--max", "10", "--json").lines()]
    equal([m["value"] for m in seen], ["high", "low"])
    equal((seen[0]["priority"], seen[0]["headers"], seen[0]["properties"]), (5, [["kind", "job"]], {"content_type": "text/plain"}))
    equal(server.ok("queue", "peek", "q", "--key-separator", "|").lines(), ["|high"])
    holds(server.ok("queue", "peek", "q").out, "priority=5", "high")
    equal(counts(server, "q"), {"ready": 2, "scheduled": 1})
    equal(server.ok("consume", "q").lines(), ["high", "low"])
    holds(server.refused("queue", "publish", "q", "x", "--property", "colour=red"), "colour")
    holds(server.refused("queue", "publish", "nobody", "x"), "nobody")


@check("bytes that are no text go through a queue as they are")
def _(place):
    server = place.serve(*SMALL)
    server.ok("queue", "create", "q")
    subprocess.run([place.binary, "produce", "q", "--server", server.http], input=b"\xff\x00\xfe\n", env=environment(),
                   capture_output=True, check=True)
    out = subprocess.run([place.binary, "consume", "q", "--server", server.http], env=environment(), capture_output=True, check=True)
    equal(out.stdout, b"\xff\x00\xfe\n")


@check("a long file goes into a queue and comes out whole")
def _(place):
    server = place.serve(*SMALL)
    server.ok("queue", "create", "q")
    lines = ["line %d %s" % (i, "x" * (i % 300)) for i in range(5_000)]
    path = os.path.join(place.folder, "long")
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    holds(server.ok("queue", "publish", "q", "--file", path).err, "5000 messages")
    equal(server.ok("consume", "q").lines(), lines)


@check("a full queue that refuses says so, and how much was stored before")
def _(place):
    server = place.serve(*SMALL)
    server.ok("queue", "create", "q", "--max-length", "2", "--overflow", "reject-publish")
    equal(server.refused("produce", "q", "a", "b", "c"), "millstream: line 3: the queue is full; 2 before it were stored\n")
    equal(server.ok("consume", "q").lines(), ["a", "b"])


@check("a backoff that shrinks, or takes more off than there is, is refused")
def _(place):
    server = place.serve(*SMALL)
    for backoff in ("5m..1s", "1s..5m~101"):
        holds(server.refused("queue", "create", "q", "--attempts", "2", "--backoff", backoff), "backoff")
    equal(server.ok("queue", "list", "--json", "--span", "0").json()["queues"], [])


@check("a command whose reader has gone ends without a complaint")
def _(place):
    server = place.serve(*SMALL)
    server.ok("queue", "create", "q")
    server.ok("exchange", "create", "x")
    for arguments in (["queue", "list", "--span", "0"], ["queue", "describe", "q", "--span", "0"], ["queue", "list", "--json", "--span", "0"],
                      ["exchange", "describe", "x"], ["exchange", "create", "x"], ["binding", "list"], ["user", "list"], ["queue", "purge", "q"]):
        reading, writing = os.pipe()
        os.close(reading)
        ended = subprocess.run([place.binary, *arguments, "--server", server.http], stdout=writing, stderr=subprocess.PIPE, env=environment(),
                               cwd=place.folder, timeout=30, check=False)
        os.close(writing)
        equal((ended.returncode, ended.stderr), (0, b""), " ".join(arguments))


@check("queue delete and purge say what went, and delete heeds its conditions")
def _(place):
    server = place.serve(*SMALL)
    server.ok("queue", "create", "q")
    server.ok("produce", "q", "a", "b")
    holds(server.refused("queue", "delete", "q", "--if-empty"), "not empty")
    holds(server.ok("queue", "purge", "q").out, "2 messages")
    server.ok("produce", "q", "c")
    equal(server.ok("queue", "delete", "q", "--if-unused", "--json").json(), {"name": "q", "messages": 1})
    equal(server.ok("queue", "list", "--json", "--span", "0").json()["queues"], [])


@check("queue redrive takes dead letters back to where each came from")
def _(place):
    server = place.serve(*SMALL)
    server.ok("queue", "create", "dead")
    for name in ("a", "b"):
        server.ok("queue", "create", name, "--dead-letter-exchange", "", "--dead-letter-routing-key", "dead")
        server.ok("queue", "publish", name, "%s1" % name, "%s2" % name, "--ttl", "1ms")
    ready(server, "dead", 4)
    deaths = json.loads(server.ok("queue", "peek", "dead", "--json").lines()[0])["deaths"]
    equal([(d["queue"], d["reason"], d["count"]) for d in deaths], [("a", "expired", 1)])
    server.ok("produce", "dead", "straight")
    told = server.ok("queue", "redrive", "dead", "--max", "1", "--json").json()
    equal({k: told[k] for k in ("name", "state", "messages", "moved", "homeless", "refused", "unreadable")},
          {"name": "dead", "state": "completed", "messages": 1, "moved": 1, "homeless": 0, "refused": 0, "unreadable": 0})
    equal(server.ok("consume", "a").lines(), ["a1"])
    holds(server.ok("queue", "redrive", "dead", "--rate", "100").out, "took 3 messages back", "left 1 that name no queue")
    equal((server.ok("consume", "a").lines(), server.ok("consume", "b").lines()), (["a2"], ["b1", "b2"]))
    equal(server.ok("queue", "redrive", "dead", "--to", "b", "--json").json()["moved"], 1)
    equal(server.ok("consume", "b").lines(), ["straight"])
    holds(server.refused("queue", "redrive", "dead", "--to", "nobody"), "nobody")
    holds(server.refused("queue", "redrive", "dead", "--to", "dead"), "itself")


@check("a redrive is shown and ended as its own queue's only")
def _(place):
    server = place.serve(*SMALL)
    for name in ("dead", "other", "back"):
        server.ok("queue", "create", name)
    server.run("produce", "dead", stdin="".join("%d\n" % n for n in range(100)))
    ready(server, "dead", 100)
    server.ok("queue", "redrive", "dead", "--to", "back", "--rate", "1", "--detach")
    [told] = server.ok("queue", "redrives", "dead", "--json").json()["redrives"]
    its = "/api/v1/queues/%s/redrives/" + told["id"]
    for wrong in ("other", "nobody"):
        equal(server.get(its % wrong)[0], 404)
        equal(server.ask("POST", its % wrong + "/cancel")[0], 404)
    equal((server.get(its % "dead")[0], json.loads(server.get(its % "dead")[2])["state"]), (200, "running"))
    equal(server.ok("queue", "redrives", "other", "--json").json()["redrives"], [])
    # The name of a queue that is gone says nothing any more; why its redrive ended can still be asked for.
    server.ok("queue", "delete", "dead")
    until(lambda: json.loads(server.get(its % "dead")[2])["state"] == "failed", "it ends with its queue")
    equal(server.get(its % "other")[0], 404)


@check("a redrive goes on when its command is interrupted and when the broker is killed; it is listed, waited for, and cancelled")
def _(place):
    server = place.serve(*SMALL)
    for name in ("dead", "back"):
        server.ok("queue", "create", name)
    server.run("produce", "dead", stdin="".join("%d\n" % n for n in range(2_000)))
    ready(server, "dead", 2_000)
    command = subprocess.Popen([place.binary, "queue", "redrive", "dead", "--to", "back", "--rate", "100", "--server", server.http],
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment(), cwd=place.folder, text=True,
                               # A suite in the background of a shell ignores it, and what it starts would too.
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))

    def latest():
        [told] = server.ok("queue", "redrives", "dead", "--json").json()["redrives"]
        return told
    holds(command.stderr.readline(), " of 2000 messages")
    command.send_signal(signal.SIGINT)
    assert command.wait() != 0
    before = latest()
    until(lambda: latest()["moved"] > before["moved"], "it goes on without its command")
    holds(server.refused("queue", "redrive", "dead"), "running", "queue redrives dead")
    server.kill()
    server = place.serve(*SMALL)
    after = latest()
    equal((after["id"], after["state"], after["messages"]), (before["id"], "running", 2_000))
    until(lambda: latest()["moved"] > after["moved"], "it goes on after the kill")
    holds(server.ok("queue", "redrives", "dead").out, "REDRIVE", "running", "back")
    holds(server.ok("queue", "cancel-redrive", "dead").out, "cancelled: ", " of 2000 messages")
    moved = latest()["moved"]
    ready(server, "dead", 2_000 - moved)
    holds(server.refused("queue", "cancel-redrive", "dead"), "no redrive of queue dead runs")
    holds(server.refused("queue", "redrives", "dead", "--wait"), "no redrive of queue dead runs")
    holds(server.ok("queue", "redrive", "dead", "--to", "back", "--rate", "1000", "--detach").out, "queue redrives dead")
    holds(server.ok("queue", "redrives", "dead", "--wait").out, "took %d messages back" % (2_000 - moved))
    equal([r["state"] for r in server.ok("queue", "redrives", "dead", "--json").json()["redrives"]], ["completed", "cancelled"])
    # Each once, in order.
    equal(server.ok("consume", "back").lines(), [str(n) for n in range(2_000)])


@check("rates tell what came and went while the command looked")
def _(place):
    server = place.serve(*SMALL)
    server.ok("queue", "create", "q")
    looking = server.background("queue", "describe", "q", "--json", "--span", "3s")
    until(lambda: server.ok("produce", "q", "a", "b").err and server.ok("consume", "q").lines() and looking.process.poll() is not None,
          "the end of the look")
    rates = json.loads(looking.line())["rates"]
    assert rates["span_ms"] >= 3_000, rates
    assert rates["publish"] > 0 and rates["deliver"] > 0 and rates["ack"] > 0, rates


@check("exchanges and bindings are made, listed, described and removed, and route")
def _(place):
    server = place.serve(*SMALL)
    holds(server.ok("exchange", "create", "events", "--type", "topic", "--alternate", "lost").out, "topic exchange events")
    server.ok("exchange", "create", "lost", "--type", "fanout")
    equal(server.ok("exchange", "create", "events", "--type", "topic", "--alternate", "lost", "--json").json()["made"], False)
    holds(server.refused("exchange", "create", "events", "--type", "fanout"), "events")
    holds(server.refused("exchange", "create", "amq.mine"), "amq.mine")
    named = {e["name"]: e["type"] for e in server.ok("exchange", "list", "--json").json()["exchanges"]}
    equal((named["events"], named["lost"], named["amq.topic"]), ("topic", "fanout", "topic"))
    server.ok("queue", "create", "q", "--dead-letter-exchange", "events", "--dead-letter-routing-key", "order.dead")
    server.ok("queue", "create", "all")
    server.ok("topic", "create", "log")
    holds(server.ok("binding", "create", "events", "all", "--key", "order.*").out, "bound all to events")
    equal(server.ok("binding", "create", "events", "all", "--key", "order.*", "--json").json()["made"], False)
    server.ok("binding", "create", "events", "log", "--key", "#")
    server.ok("binding", "create", "events", "lost", "--kind", "exchange", "--key", "x")
    server.ok("binding", "create", "amq.match", "all", "--argument", "x-match=any", "--argument", "n=5")
    listed = server.ok("binding", "list", "--json").json()["bindings"]
    equal(sorted((b["source"], b["target"], b["kind"], b["key"]) for b in listed),
          [("amq.match", "all", "queue", ""), ("events", "all", "queue", "order.*"), ("events", "log", "topic", "#"),
           ("events", "lost", "exchange", "x")])
    equal([b["arguments"] for b in listed if b["source"] == "amq.match"], [{"n": 5, "x-match": "any"}])
    equal(len(server.ok("binding", "list", "--source", "events", "--json").json()["bindings"]), 3)
    equal(len(server.ok("binding", "list", "--target", "all", "--json").json()["bindings"]), 2)
    holds(server.ok("exchange", "describe", "events").out, "topic exchange events", "order.*", "log")
    holds(server.ok("queue", "describe", "all", "--span", "0").out, "BOUND TO", "events")
    server.ok("queue", "publish", "q", "dies", "--ttl", "1ms")
    ready(server, "all", 1)
    equal(server.ok("consume", "log").lines(), ["dies"])
    holds(server.ok("binding", "delete", "events", "all", "--key", "order.*").out, "unbound")
    holds(server.refused("binding", "delete", "events", "all", "--key", "order.*"), "no such binding")
    holds(server.refused("binding", "create", "events", "nobody"), "nobody")
    holds(server.refused("binding", "create", "nobody", "all"), "nobody")
    holds(server.refused("exchange", "delete", "events", "--if-unused"), "events")
    server.ok("exchange", "delete", "events")
    equal(len(server.ok("binding", "list", "--json").json()["bindings"]), 1)


@check("queue create --fifo holds a key back while a message of it is out")
def _(place):
    server = place.serve(*SMALL)
    server.ok("queue", "create", "q", "--fifo")
    equal(server.ok("queue", "describe", "q", "--json", "--span", "0").json()["policy"]["ordering"], "key")
    server.ok("queue", "create", "shared", "--ordering", "fair")
    holds(server.refused("queue", "create", "q"), "another")
    server.ok("produce", "q", "--key-separator", ":", "a:1", "a:2", "b:1")

    def take(n):
        status, _, body = server.ask("POST", "/api/v1/queues/q/receive", json.dumps({"max": n}))
        equal(status, 200, body)
        return json.loads(body)["messages"]

    first = take(1)
    equal([(m["key"], m["value"]) for m in first], [("a", "1")])
    equal([(m["key"], m["value"]) for m in take(10)], [("b", "1")])
    server.ask("POST", "/api/v1/queues/q/settle", json.dumps({"ack": [first[0]["receipt"]]}))
    equal([(m["key"], m["value"]) for m in take(10)], [("a", "2")])


@check("a queue with an id window does not take a message again whose id it knows")
def _(place):
    server = place.serve(*SMALL)
    server.ok("queue", "create", "q", "--id-window", "1m")
    server.ok("queue", "create", "plain")
    for word in ("first", "second"):
        server.ok("queue", "publish", "q", word, "--id", "order 1")
    server.ok("queue", "publish", "q", "third", "--id", "order 2")
    server.kill()
    server = place.serve(*SMALL)
    server.ok("queue", "publish", "q", "fourth", "--id", "order 2")
    equal(server.ok("consume", "q").lines(), ["first", "third"])
    holds(server.refused("queue", "publish", "plain", "x", "--id", "1"), "id window")
    holds(server.refused("queue", "publish", "q", "x", "y", "--id", "1"), "one message")


def failed(server, queue, most):
    """Receives what is there by SQS and gives it back as failed: the bodies."""
    def ask(action, **body):
        status, answer = server.aws("AmazonSQS." + action, {"QueueUrl": "http://here/1/" + queue, **body})
        equal(status, 200, answer)
        return answer
    got = ask("ReceiveMessage", MaxNumberOfMessages=most).get("Messages", [])
    for message in got:
        ask("ChangeMessageVisibility", ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0)
    return [message["Body"] for message in got]


@check("parked messages are told of, given back with their attempts at nothing or discarded to the dead letters, and keep their place through a kill")
def _(place):
    server = place.serve(*SMALL)
    server.ok("queue", "create", "dead")
    server.ok("queue", "create", "q", "--attempts", "2", "--on-exhausted", "park", "--dead-letter-exchange", "", "--dead-letter-routing-key", "dead")
    policy = server.ok("queue", "describe", "q", "--json", "--span", "0").json()["policy"]
    equal((policy["on_exhausted"], policy["attempts"]), ("park", 2))
    holds(server.refused("queue", "create", "u", "--on-exhausted", "park"), "--attempts")
    server.ok("produce", "q", "a", "b")

    def fail():
        return len(failed(server, "q", 10))

    equal([fail(), fail(), fail()], [2, 2, 0])
    equal(counts(server, "q"), {"parked": 2})
    equal(server.ok("consume", "q").lines(), [])
    server.kill()
    server = place.serve(*SMALL)
    equal(counts(server, "q"), {"parked": 2})
    holds(server.ok("queue", "unpark", "q").out, "2 parked messages of queue q")
    equal((counts(server, "q"), fail()), ({"ready": 2}, 2))
    equal((counts(server, "q"), fail()), ({"ready": 2}, 2))
    equal(counts(server, "q"), {"parked": 2})
    equal(server.ok("queue", "unpark", "q", "--discard", "--json").json()["messages"], 2)
    ready(server, "dead", 2)
    equal((server.ok("consume", "dead").lines(), counts(server, "q")), (["a", "b"], {}))
    equal(server.ok("queue", "unpark", "q", "--json").json()["messages"], 0)
    holds(server.refused("queue", "unpark", "nobody"), "nobody")


@check("of an ordered queue a parked message closes its key until it is given back, and of a fair one a busy key stands back")
def _(place):
    server = place.serve(*SMALL)
    server.ok("queue", "create", "q", "--ordering", "key", "--attempts", "1", "--on-exhausted", "park")
    server.ok("queue", "create", "shared", "--ordering", "fair")
    equal([server.ok("queue", "describe", name, "--json", "--span", "0").json()["policy"]["ordering"] for name in ("q", "shared")], ["key", "fair"])
    holds(server.refused("queue", "create", "u", "--ordering", "random"), "random")

    def take(queue, n):
        status, _, body = server.ask("POST", "/api/v1/queues/%s/receive" % queue, json.dumps({"max": n}))
        equal(status, 200, body)
        return json.loads(body)["messages"]

    server.ok("produce", "q", "--key-separator", ":", "a:1", "a:2", "b:1")
    equal(failed(server, "q", 1), ["1"])
    equal(counts(server, "q"), {"ready": 2, "parked": 1})
    equal([m["value"] for m in take("q", 10)], ["1"])
    server.ok("queue", "unpark", "q")
    equal([(m["key"], m["value"]) for m in take("q", 10)], [("a", "1"), ("a", "2")])
    server.ok("produce", "shared", "--key-separator", ":", *("busy:%d" % n for n in range(20)), "quiet:0")
    equal({m["key"] for m in take("shared", 9)}, {"busy"})
    equal(take("shared", 1)[0]["key"], "quiet")


@check("queue create --key-from says what is the key of a message that has none, for queues that go by keys")
def _(place):
    server = place.serve(*SMALL)
    server.ok("queue", "create", "q", "--ordering", "key", "--key-from", "header:customer")
    equal(server.ok("queue", "describe", "q", "--json", "--span", "0").json()["policy"]["key_from"], "header:customer")
    server.ok("queue", "create", "q", "--ordering", "key", "--key-from", "header:customer")
    holds(server.refused("queue", "create", "q", "--ordering", "key"), "key_from")
    holds(server.refused("queue", "create", "u", "--key-from", "routing-key"), "ordering")
    holds(server.refused("queue", "create", "u", "--ordering", "fair", "--key-from", "value"), "header:NAME")
    for customer, body in (("a", "1"), ("a", "2"), ("b", "3")):
        server.ok("queue", "publish", "q", body, "--header", "customer=" + customer)
    status, _, body = server.ask("POST", "/api/v1/queues/q/receive", json.dumps({"max": 1}))
    equal((status, [m["value"] for m in json.loads(body)["messages"]]), (200, ["1"]))
    equal([m["value"] for m in json.loads(server.ask("POST", "/api/v1/queues/q/receive", json.dumps({"max": 10}))[2])["messages"]], ["3"])
