"""Receiving: how many, how long, what is told of each message."""

import threading
import time

import botocore.exceptions

from .harness import bodies, check, equal, refused, that, until


@check("a receive takes at most what it asks for")
def _(c):
    url = c.queue()
    for n in range(12):
        c.send(url, str(n))
    equal(len(c.receive(url)), 1)
    equal(len(c.receive(url, MaxNumberOfMessages=3)), 3)
    that(len(c.receive(url, MaxNumberOfMessages=10)) <= 10, "more than ten")


@check("an empty queue gives nothing, at once or after the wait")
def _(c):
    url = c.queue()
    equal(c.receive(url), [])
    start = time.monotonic()
    equal(c.receive(url, WaitTimeSeconds=1), [])
    that(time.monotonic() - start > 0.9, "it did not wait")


@check("a receive that waits is woken by a message")
def _(c):
    url = c.queue()
    got = []
    waiting = threading.Thread(target=lambda: got.extend(c.receive(url, WaitTimeSeconds=20)))
    waiting.start()
    until("it waits", lambda: waiting.is_alive())
    c.send(url, "woken")
    waiting.join(15)
    equal(bodies(got), ["woken"])


@check("a receive waits as long as its queue says")
def _(c):
    url = c.queue(ReceiveMessageWaitTimeSeconds="1")
    start = time.monotonic()
    equal(c.receive(url), [])
    that(time.monotonic() - start > 0.9, "it did not wait")


@check("of several that wait, each message wakes one")
def _(c):
    url = c.queue()
    got, lock = [], threading.Lock()

    def wait():
        messages = c.client().receive_message(QueueUrl=url, WaitTimeSeconds=20).get("Messages", [])
        with lock:
            got.extend(messages)

    waiting = [threading.Thread(target=wait) for _ in range(4)]
    for thread in waiting:
        thread.start()
    for n in range(4):
        c.send(url, str(n))
    for thread in waiting:
        thread.join(25)
    equal(sorted(bodies(got)), ["0", "1", "2", "3"])


@check("system attributes tell of the message")
def _(c):
    url = c.queue()
    before = int(time.time() * 1000)
    c.send(url)
    [got] = c.take(url, AttributeNames=["All"])
    a = got["Attributes"]
    that(before - 2_000 <= int(a["SentTimestamp"]) <= int(a["ApproximateFirstReceiveTimestamp"]) + 1, a)
    equal(a["ApproximateReceiveCount"], "1")
    that(a["SenderId"], a)


@check("the count of receives grows, and the first receive stays")
def _(c):
    url = c.queue(VisibilityTimeout="0")
    c.send(url)
    names = ["ApproximateReceiveCount", "ApproximateFirstReceiveTimestamp"]
    seen = [c.take(url, AttributeNames=names)[0]["Attributes"] for _ in range(3)]
    equal([a["ApproximateReceiveCount"] for a in seen], ["1", "2", "3"])
    equal(len({a["ApproximateFirstReceiveTimestamp"] for a in seen}), 1)


@check("only the system attributes that are asked for are told of")
def _(c):
    url = c.queue()
    c.send(url)
    equal(set(c.take(url, AttributeNames=["SentTimestamp"])[0]["Attributes"]), {"SentTimestamp"})
    c.send(url)
    that("Attributes" not in c.take(url)[0], "attributes that nobody asked for")


@check("MessageSystemAttributeNames means the same", peer="millstream")
def _(c):
    if c.is_query:
        return  # the older client does not know the name
    url = c.queue()
    c.send(url)
    equal(set(c.take(url, MessageSystemAttributeNames=["SenderId"])[0]["Attributes"]), {"SenderId"})
    refused("InvalidAttributeName", lambda: c.receive(url, MessageSystemAttributeNames=["Colour"]))


@check("message attributes are chosen by name, by beginning, or all")
def _(c):
    url = c.queue(VisibilityTimeout="0")
    text = {"DataType": "String", "StringValue": "x"}
    c.send(url, MessageAttributes={"a": text, "b.c": text, "b.d": text})
    # ElasticMQ knows no beginnings.
    some = [(["b.*"], {"b.c", "b.d"})] if c.peer == "millstream" else []
    for asked, want in [*some, (["a"], {"a"}), (["All"], {"a", "b.c", "b.d"}), ([".*"], {"a", "b.c", "b.d"}), (["z"], set())]:
        got = c.take(url, MessageAttributeNames=asked)[0].get("MessageAttributes", {})
        equal(set(got), want, str(asked))


@check("numbers out of their range are refused", peer="millstream")
def _(c):
    url = c.queue()
    for more in [{"MaxNumberOfMessages": 0}, {"MaxNumberOfMessages": 11}, {"WaitTimeSeconds": 21}, {"WaitTimeSeconds": -1},
                 {"VisibilityTimeout": -1}, {"VisibilityTimeout": 43_201}]:
        refused("InvalidParameterValue", lambda: c.receive(url, **more), next(iter(more)))


@check("a client that goes away while it waits loses nothing and counts nothing", peer="millstream")
def _(c):
    url = c.queue()
    for _ in range(3):
        client = c.client(read_timeout=1)
        try:
            client.receive_message(QueueUrl=url, WaitTimeSeconds=20)
        except botocore.exceptions.ReadTimeoutError:
            continue
        raise AssertionError("it did not give up")
    c.send(url, "kept")
    [got] = c.take(url, AttributeNames=["ApproximateReceiveCount"])
    equal((got["Body"], got["Attributes"]["ApproximateReceiveCount"]), ("kept", "1"))
