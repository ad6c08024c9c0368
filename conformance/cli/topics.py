"""`topic`: create, list, describe, alter, delete, and what is refused."""

from harness import check, equal, holds
from settings import SMALL


@check("topic create, list and describe agree, for people and as JSON")
def _(place):
    server = place.serve(*SMALL)
    holds(server.ok("topic", "create", "orders", "--partitions", "6", "--set", "retention.ms=3600000").out, "orders", "6")
    server.ok("topic", "create", "events")
    listed = server.ok("topic", "list")
    equal([line.split()[0] for line in listed.lines()], ["TOPIC", "events", "orders"])
    topics = {t["name"]: t["partitions"] for t in server.ok("topic", "list", "--json").json()["topics"]}
    equal(topics, {"events": 1, "orders": 6})
    holds(server.ok("topic", "describe", "orders").out, "orders", "6 partitions", "retention.ms", "3600000", "PARTITION")
    told = server.ok("topic", "describe", "orders", "--json").json()
    equal(len(told["partition_list"]), 6)
    setting = {s["key"]: (s["value"], s["source"]) for s in told["settings"]}
    equal(setting["retention.ms"], ("3600000", "topic"))
    equal(setting["retention.bytes"], ("-1", "default"))


@check("topic create prints JSON when asked")
def _(place):
    server = place.serve(*SMALL)
    equal(server.ok("topic", "create", "t", "--partitions", "2", "--json").json()["partitions"], 2)


@check("topic alter sets, takes back, and adds partitions; it lasts")
def _(place):
    server = place.serve(*SMALL)
    server.ok("topic", "create", "t", "--partitions", "2")
    server.ok("topic", "alter", "t", "--set", "retention.bytes=1000000", "--set", "max.message.bytes=5000", "--partitions", "4")
    server.ok("topic", "alter", "t", "--unset", "max.message.bytes")
    server.kill()
    told = place.serve(*SMALL).ok("topic", "describe", "t", "--json").json()
    equal(told["partitions"], 4)
    setting = {s["key"]: (s["value"], s["source"]) for s in told["settings"]}
    equal(setting["retention.bytes"], ("1000000", "topic"))
    assert setting["max.message.bytes"][1] != "topic", setting["max.message.bytes"]


@check("topic delete removes the topic; one made again is another, and empty")
def _(place):
    server = place.serve(*SMALL)
    server.ok("topic", "create", "t")
    server.ok("produce", "t", "old")
    server.ok("consume", "t", "--group", "g")
    server.ok("topic", "delete", "t")
    equal(server.ok("topic", "list", "--json").json()["topics"], [])
    holds(server.refused("topic", "describe", "t"), "t")
    server.ok("topic", "create", "t")
    equal(server.ok("consume", "t").lines(), [])
    server.ok("produce", "t", "new")
    equal(server.ok("consume", "t", "--group", "g").lines(), ["new"])


@check("topics that cannot be made or altered are refused, and say why")
def _(place):
    server = place.serve(*SMALL)
    server.ok("topic", "create", "t", "--partitions", "3")
    holds(server.refused("topic", "create", "t"), "exist")
    holds(server.refused("topic", "create", "a b"), "name")
    holds(server.refused("topic", "create", ".."), "name")
    holds(server.refused("topic", "create", "x" * 250), "name")
    holds(server.refused("topic", "create", "none", "--partitions", "0"), "partition")
    holds(server.refused("topic", "create", "u", "--set", "colour=red"), "colour")
    holds(server.refused("topic", "create", "u", "--set", "retention.ms=soon"), "retention.ms")
    holds(server.refused("topic", "create", "u", "--set", "cleanup.policy=compact"), "cleanup.policy")
    holds(server.refused("topic", "create", "u", "--set", "retention.ms"), "KEY=VALUE")
    holds(server.refused("topic", "alter", "t", "--partitions", "2"), "partition")
    holds(server.refused("topic", "alter", "t", "--set", "retention.ms=soon"), "retention.ms")
    holds(server.refused("topic", "alter", "nobody", "--partitions", "4"), "nobody")
    holds(server.refused("topic", "delete", "nobody"), "nobody")
    equal([t["name"] for t in server.ok("topic", "list", "--json").json()["topics"]], ["t"])
    equal(server.ok("topic", "describe", "t", "--json").json()["partitions"], 3)


@check("a command without a broker says how to start one")
def _(place):
    ended = place.run("topic", "list", "--server", "127.0.0.1:1")
    assert ended.code != 0
    holds(ended.err, "127.0.0.1:1", "millstream serve", "--server")


@check("the broker's address comes from MILLSTREAM_SERVER")
def _(place):
    server = place.serve(*SMALL)
    ended = place.run("topic", "list", "--json", env={"MILLSTREAM_SERVER": server.http})
    equal(ended.json(), {"topics": []})
