"""`bridge`, and `[[bridge]]` in the configuration file."""

import json
import os
import urllib.request

from harness import check, equal, holds, until
from settings import SMALL

HIGH = json.dumps({"body": {"event": ["order.placed"], "total": [{"numeric": [">", 10000]}]}})


def order(n, total):
    return json.dumps({"event": "order.placed", "order_id": "o%d" % n, "customer_id": "c%d" % (n % 3), "total": total})


def told(server, name):
    return server.ok("bridge", "describe", name, "--json").json()


def caught_up(server, name, passed):
    until(lambda: (told(server, name)["lag"], told(server, name)["passed"]) == (0, passed), "bridge %s passed %d" % (name, passed))


def values(server, queue, n):
    lines = server.ok("queue", "peek", queue, "-n", str(n), "--json").lines() if n else []
    return [json.loads(line) for line in lines]


@check("bridge create takes its filter and its mapping, and what matches is in the queue")
def _(place):
    server = place.serve(*SMALL)
    server.ok("topic", "create", "orders", "--partitions", "3")
    server.ok("queue", "create", "high")
    holds(server.ok("bridge", "create", "b", "--from-topic", "orders", "--to-queue", "high", "--filter", HIGH, "--group", "body:/customer_id",
                    "--dedup", "body:/order_id", "--header", "OrderId=body:/order_id", "--priority", "body:/p", "--priority", "none").out, "made bridge b")
    server.ok("produce", "orders", *[order(n, 20000 if n % 2 else 5) for n in range(10)])
    caught_up(server, "b", 5)
    equal(told(server, "b")["filtered"], 5)
    got = values(server, "high", 10)
    equal(sorted(json.loads(m["value"])["order_id"] for m in got), ["o1", "o3", "o5", "o7", "o9"])
    listed = server.ok("bridge", "list")
    equal(listed.lines()[0].split(), ["BRIDGE", "STATE", "LAG", "PASSED/S", "PASSED", "FILTERED", "ERRORS", "CAUSE"])
    equal(listed.lines()[1].split()[:3], ["b", "running", "0"])
    holds(server.ok("bridge", "describe", "b").out, "bridge b: running", "PARTITION", "numeric")
    with urllib.request.urlopen("http://%s/metrics" % server.http, timeout=10) as answer:
        text = answer.read().decode()
    holds(text, 'bridge_lag{bridge="b"} 0', 'bridge_messages{bridge="b",fate="passed"} 5', 'bridge_running{bridge="b"} 1')


@check("a bridge pauses, goes on after a restart where it was, and goes when it is deleted")
def _(place):
    server = place.serve(*SMALL)
    server.ok("topic", "create", "t")
    server.ok("queue", "create", "q")
    server.ok("bridge", "create", "b", "--from-topic", "t", "--to-queue", "q")
    server.ok("produce", "t", "one")
    caught_up(server, "b", 1)
    holds(server.ok("bridge", "pause", "b").out, "paused")
    server.ok("produce", "t", "two")
    server.kill()
    server = place.serve(*SMALL)
    equal((told(server, "b")["state"], told(server, "b")["lag"]), ("paused", 1))
    holds(server.ok("bridge", "resume", "b").out, "resumed")
    caught_up(server, "b", 2)
    equal([m["value"] for m in values(server, "q", 5)], ["one", "two"])
    holds(server.ok("bridge", "delete", "b").out, "deleted")
    equal(server.ok("bridge", "list", "--json").json()["bridges"], [])
    holds(server.refused("bridge", "describe", "b"), "no bridge", "b")


@check("a message that cannot be passed on pauses the bridge, which says so, until it may be skipped or goes to a topic")
def _(place):
    server = place.serve(*SMALL)
    server.ok("topic", "create", "t")
    server.ok("topic", "create", "dead")
    server.ok("queue", "create", "q")
    server.ok("bridge", "create", "b", "--from-topic", "t", "--to-queue", "q", "--group", "body:/c")
    server.ok("produce", "t", "not json", '{"c": 1}', '{"d": 2}')
    until(lambda: told(server, "b")["state"] == "paused", "paused")
    holds(told(server, "b")["cause"], "offset 0", "not JSON")
    holds(server.ok("bridge", "list").out, "paused", "not JSON")
    server.ok("bridge", "resume", "b", "--on-poison", "topic:dead")
    caught_up(server, "b", 1)
    equal((told(server, "b")["dead_lettered"], [p["offset"] for p in told(server, "b")["not_passed"]]), (2, [0, 2]))
    dead = [json.loads(line) for line in server.ok("consume", "dead", "--json").lines()]
    equal([m["value"] for m in dead], ["not json", '{"d": 2}'])
    holds(str(dead[1]["headers"]), "x-bridge-reason", "body:/c")


@check("a bridge whose target goes rests and says so, goes on when it is back, and leaves nothing out")
def _(place):
    server = place.serve(*SMALL)
    server.ok("topic", "create", "t")
    for kind, make, gone in [("queue", ["queue", "create", "q"], "--to-queue"), ("topic", ["topic", "create", "u"], "--to-topic")]:
        server.ok(*make)
        source = ["--from-topic", "t"] if kind == "queue" else ["--from-queue", "from"]
        if kind == "topic":
            server.ok("queue", "create", "from")
        server.ok("bridge", "create", kind, *source, gone, make[2])
        put = lambda *values: server.ok("produce", "t" if kind == "queue" else "from", *values)
        put("one")
        until(lambda: told(server, kind)["passed"] == 1, "the first is passed on")
        server.ok(kind, "delete", make[2])
        put("two", "three")
        until(lambda: told(server, kind)["state"] == "blocked", "it rests")
        equal((told(server, kind)["lag"], told(server, kind)["passed"]), (2, 1))
        holds(server.ok("bridge", "list").out, "blocked")
        with urllib.request.urlopen("http://%s/metrics" % server.http, timeout=10) as answer:
            holds(answer.read().decode(), 'bridge_running{bridge="%s"} 0' % kind)
        server.ok(*make)
        until(lambda: told(server, kind)["passed"] == 3, "it goes on")
    equal([m["value"] for m in values(server, "q", 5)], ["two", "three"])
    equal(server.ok("consume", "u").lines(), ["two", "three"])


@check("a bridge takes the dead letters of a queue to a topic")
def _(place):
    server = place.serve(*SMALL)
    server.ok("topic", "create", "t")
    server.ok("queue", "create", "jobs.dead")
    server.ok("queue", "create", "jobs", "--ttl", "1ms", "--dead-letter-exchange", "", "--dead-letter-routing-key", "jobs.dead")
    server.ok("bridge", "create", "b", "--from-dead-letters-of", "jobs", "--to-topic", "t", "--header", "via=literal:b")
    server.ok("queue", "publish", "jobs", "x")
    caught_up(server, "b", 1)
    got = json.loads(server.ok("consume", "t", "--json").lines()[0])
    equal(got["value"], "x")
    holds(str(got["headers"]), "via")


@check("a bridge to what is not there, or that cannot be, is refused with words that help")
def _(place):
    server = place.serve(*SMALL)
    server.ok("topic", "create", "t")
    holds(server.refused("bridge", "create", "b", "--from-topic", "t", "--to-queue", "q"), "no queue", "q")
    holds(server.refused("bridge", "create", "b", "--from-topic", "u", "--to-queue", "q"), "no topic", "u")
    server.ok("queue", "create", "q")
    holds(server.refused("bridge", "create", "b", "--from-topic", "t", "--to-topic", "t"), "itself")
    holds(server.refused("bridge", "create", "b", "--from-topic", "t", "--to-queue", "q", "--filter", '{"body": {"a": 1}}'), "body.a", "[1]")
    holds(server.refused("bridge", "create", "b", "--from-topic", "t", "--to-queue", "q", "--filter", "{"), "JSON")
    holds(server.refused("bridge", "create", "b", "--from-topic", "t", "--to-queue", "q", "--group", "field"), "body:/json/pointer")
    equal(place.run("bridge", "create", "b", "--from-topic", "t").code, 2)
    server.ok("bridge", "create", "b", "--from-topic", "t", "--to-queue", "q")
    holds(server.refused("bridge", "create", "b", "--from-topic", "t", "--to-queue", "q"), "there is a bridge")
    holds(server.refused("bridge", "pause", "c"), "no bridge")


@check("[[bridge]] in the configuration file makes a bridge, and changes it, and it waits for its topic and its queue")
def _(place):
    path = os.path.join(place.folder, "bridges.toml")
    text = """[[bridge]]
name = "b"
source = { topic = "t" }
target = { queue = "q" }
on_poison = "skip"
filter = { body = { total = [{ numeric = [">", %d] }] } }
[bridge.map]
group = "body:/c"
"""
    with open(path, "w") as file:
        file.write(text % 10)
    server = place.serve(*SMALL, "--config", path)
    until(lambda: told(server, "b")["state"] == "blocked", "blocked")
    holds(told(server, "b")["cause"], "no topic")
    server.ok("queue", "create", "q")
    server.ok("topic", "create", "t")
    server.ok("produce", "t", '{"total": 5, "c": 1}', '{"total": 15, "c": 1}')
    caught_up(server, "b", 1)
    server.kill()
    with open(path, "w") as file:
        file.write(text % 100)
    server = place.serve(*SMALL, "--config", path)
    server.ok("produce", "t", '{"total": 15, "c": 1}', '{"total": 150, "c": 1}')
    caught_up(server, "b", 2)
    equal(told(server, "b")["filtered"], 2)
    server.kill()
    with open(path, "w") as file:
        file.write("[[bridge]]\nname = \"b\"\nsource = { topic = \"t\" }\n")
    holds(place.fails("--config", path, *SMALL), "bridge", "target")
