"""`group`: list, describe with lag, reset-offsets each way, delete."""

import time

from harness import check, equal, holds, until
from messages import served
from settings import SMALL


def offsets(server, group="g"):
    told = server.ok("group", "describe", group, "--json").json()
    return {(o["topic"], o["partition"]): (o["offset"], o["lag"]) for o in told["offsets"]}


def read_some(place):
    """Ten records, of which group g has read four."""
    server = served(place)
    server.ok("produce", "t", *[str(i) for i in range(10)])
    equal(len(server.ok("consume", "t", "--group", "g", "--max", "4").lines()), 4)
    return server


@check("group list and describe show state, members and lag, for people and as JSON")
def _(place):
    server = read_some(place)
    equal(server.ok("group", "list").lines()[0].split()[:2], ["GROUP", "STATE"])
    equal([g["group"] for g in server.ok("group", "list", "--json").json()["groups"]], ["g"])
    equal(offsets(server), {("t", 0): (4, 6)})
    shown = server.ok("group", "describe", "g").lines()
    holds(shown[0], "g", "Empty")
    equal(shown[2].split(), ["TOPIC", "PARTITION", "OFFSET", "START", "END", "LAG", "LOST"])
    equal(shown[3].split(), ["t", "0", "4", "0", "10", "6", "0"])
    server.background("consume", "t", "--group", "g", "--follow")
    state = lambda: server.ok("group", "describe", "g", "--json").json()  # noqa: E731
    until(lambda: state()["state"] == "Stable" and len(state()["members"]) == 1, "one member")
    until(lambda: offsets(server) == {("t", 0): (10, 0)}, "no lag")
    holds(server.refused("group", "describe", "nobody"), "nobody")


@check("group reset-offsets moves to earliest, latest, an offset, a time, and by a shift")
def _(place):
    server = read_some(place)
    last = server.ok("consume", "t", "--from", "offset:9", "--json").json()["timestamp_ms"]
    until(lambda: time.time() * 1000 > last + 2, "the next millisecond")
    later = int(time.time() * 1000)
    server.ok("produce", "t", "10", "11")
    cases = [(["--to-latest"], 12), (["--to-earliest"], 0), (["--to-offset", "7"], 7), (["--to-offset", "70"], 12),
             (["--to-time", str(later)], 10), (["--shift-by", "-3"], 7), (["--shift-by", "2"], 9), (["--shift-by", "-99"], 0)]
    for arguments, wanted in cases:
        before = offsets(server)[("t", 0)][0]
        dry = server.ok("group", "reset-offsets", "g", "--topic", "t", *arguments, "--dry-run")
        holds(dry.out, "nothing was changed", str(wanted))
        equal(offsets(server)[("t", 0)][0], before, "after --dry-run")
        done = server.ok("group", "reset-offsets", "g", *arguments, "--json").json()
        equal(done, {"dry_run": False, "offsets": [{"topic": "t", "partition": 0, "before": before, "after": wanted}]})
        equal(offsets(server)[("t", 0)][0], wanted, " ".join(arguments))
    server.kill()
    server = place.serve(*SMALL)
    equal(offsets(server)[("t", 0)][0], 0)
    equal(len(server.ok("consume", "t", "--group", "g").lines()), 12)


@check("group reset-offsets on one partition leaves the others")
def _(place):
    server = served(place, 2)
    for partition in ("0", "1"):
        server.ok("produce", "t", "--partition", partition, "a", "b")
    server.ok("consume", "t", "--group", "g")
    server.ok("group", "reset-offsets", "g", "--partition", "1", "--to-earliest")
    equal(offsets(server), {("t", 0): (2, 0), ("t", 1): (0, 2)})


@check("group reset-offsets is refused while the group has members, and without saying where to")
def _(place):
    server = read_some(place)
    follower = server.background("consume", "t", "--group", "g", "--follow")
    follower.line()
    holds(server.refused("group", "reset-offsets", "g", "--to-earliest"), "stop its consumers")
    holds(server.refused("group", "reset-offsets", "g", "--topic", "t"), "--to-earliest")
    holds(server.refused("group", "reset-offsets", "g", "--to-earliest", "--to-latest"), "cannot be used with")
    holds(server.refused("group", "reset-offsets", "g", "--topic", "nobody", "--to-earliest"), "nobody")


@check("group reset-offsets of a group that is not there is refused, unless topics are named")
def _(place):
    server = served(place)
    server.ok("produce", "t", "a", "b")
    holds(server.refused("group", "reset-offsets", "new", "--to-latest"), "new")
    server.ok("group", "reset-offsets", "new", "--topic", "t", "--to-latest")
    equal(offsets(server, "new"), {("t", 0): (2, 0)})


@check("group delete removes a group without members, with its offsets")
def _(place):
    server = read_some(place)
    follower = server.background("consume", "t", "--group", "g", "--follow")
    follower.line()
    holds(server.refused("group", "delete", "g"), "stop its consumers")
    follower.kill()
    holds(server.refused("group", "delete", "nobody"), "group")
    server.ok("consume", "t", "--group", "h")
    server.ok("group", "delete", "h")
    holds(server.refused("group", "describe", "h"), "h")
    equal(len(server.ok("consume", "t", "--group", "h").lines()), 10)
