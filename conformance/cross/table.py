"""The tables of `docs/protocols.md` that say what becomes of a message's parts: each row and direction has a check, or says why it cannot be.

The document is read: a row that is new, or a name that stands in a row and in none of its checks, fails here."""

import inspect
import os
import re

from harness import REGISTERED, check

DOCUMENT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "docs", "protocols.md")
# A field's name: where it ends with a dot, it is the beginning of many.
FIELD = re.compile(r"(?:(?:amqp|sqs|kafka|millstream)\.|\bx-)[a-z0-9_.\-]*|(?<=`)\.[a-z_]+")

EVERY_IN = "each header of a record that has a field's name"
EVERY_OUT = "each property of AMQP is a header of its record"
OWN = "an own header with a name in one of our namespaces"

# Row by row: (out to the protocol, in from it), each the beginnings of checks' names, or why there is none.
KAFKA = {
    "standard properties": ([EVERY_OUT], [EVERY_IN]),
    "exchange and routing key, unless it came by the default exchange": (["through an exchange a message comes to a topic"], [EVERY_IN]),
    "priority; expiration": (["a message published over AMQP to a topic's name"], [EVERY_IN]),
    "deduplication id": (["what SQS knows of who sent a message"], [EVERY_IN]),
    "who sent it by SQS, if it was signed; X-Ray's trace header": (
        ["what SQS knows of who sent a message", "who signed a message is told"], [EVERY_IN]),
    "a header that is neither text nor bytes, or bytes that could be text": (
        ["a message published over AMQP to a topic's name"], ["a Kafka record that a bridge takes to a queue comes to an AMQP consumer"]),
    "a header of a client's own whose name begins with `amqp.`, `sqs.`, `kafka.` or `millstream.`": ([OWN], [OWN]),
    "the list of its deaths": (["a dead letter goes by a bridge from its queue to a topic"], [EVERY_IN]),
}
SQS = {
    "payload": (
        ["a binary body published over AMQP", "a Kafka record that a bridge takes to a queue comes to an SQS receiver",
         "a body that base64 makes larger"],
        ["a message of SQS that a bridge takes to a topic", "a null of Kafka stays null"]),
    "key": (["the header x-partition-key of AMQP is SQS's MessageGroupId"], ["the header x-partition-key of AMQP is SQS's MessageGroupId"]),
    "headers": (
        ["numbers, truths and times of AMQP", "more than SQS has attributes for"],
        ["numbers, truths and times of AMQP", "more than SQS has attributes for"]),
    "content type and encoding, correlation id, reply-to, message id, type, app id, cluster id, timestamp, delivery mode": (
        ["each property of AMQP is an attribute in SQS"], ["each attribute of SQS that has a property's name"]),
    "user id": (
        ["an exchange and a routing key that SQS names"], ["who signed a message is told"]),
    "exchange and routing key, where it did not come straight to the queue": (
        ["what a message's exchange and routing key were"], ["an exchange and a routing key that SQS names"]),
    "priority; what is left of its time to live": (
        ["a text published over AMQP", "an expiration set over AMQP"], ["priorities set over AMQP", "an expiration set over AMQP"]),
    "delay": (["the header x-delay of AMQP holds"], ["DelaySeconds of SQS"]),
    "deduplication id": (["AMQP's x-deduplication-id is the id"], ["an id that SQS sent"]),
    "who sent it": (["an exchange and a routing key that SQS names"], "its listener says who sent it, not the message"),
    "when it was first published, and its identity": (
        ["a MessageId of SQS stays the same", "a dead letter tells SQS"], "the broker gives them"),
    "deliveries": (["a dead letter tells SQS", "timeouts of SQS and nacks of AMQP"], "the broker counts them"),
    "death list": (["what AMQP rejects is read by SQS"], ["an attribute in a namespace of ours that sets nothing"]),
}
AMQP = {
    "header `x-partition-key`": (
        ["the header x-partition-key of AMQP is SQS's MessageGroupId"], ["of one partition key all messages go to one partition"]),
    "header `x-delay`": ("what waited for its time is due when it comes out", ["the header x-delay of AMQP holds"]),
    "header `x-deduplication-id`": ("it is not shown (What differs from RabbitMQ on purpose)", ["AMQP's x-deduplication-id is the id"]),
}


def rows(heading, wanted=lambda _title: True):
    """First and other cells of the rows of the first table below a heading."""
    with open(DOCUMENT, encoding="utf-8") as document:
        below = document.read().split("\n%s\n" % heading, 1)[1]
    table = re.search(r"(?:^\|.*\n)+", below, re.M).group()
    cells = [[c.strip() for c in line.strip("|").split(" | ")] for line in table.splitlines()[2:]]
    return {row[0].strip(): row[1:] for row in cells if wanted(row[0])}


def words(check_function):
    """What a check and the tables of its module that it names are about."""
    told = [inspect.getsource(check_function)]
    for name in check_function.__code__.co_names:
        value = check_function.__globals__.get(name)
        if inspect.isfunction(value):
            told += [repr(check_function.__globals__.get(n)) for n in value.__code__.co_names]
        elif isinstance(value, (dict, str, tuple)):
            told.append(repr(value))
    return "\n".join(told)


def drives(title, direction, shown, names):
    """The checks that show a row in a direction are there, and are about each name of the row."""
    if isinstance(shown, str):
        return
    told = ""
    for beginning in shown:
        found = [function for name, function in REGISTERED if name.startswith(beginning)]
        assert len(found) == 1, "%s, %s: %d checks begin with %r" % (title, direction, len(found), beginning)
        told += words(found[0])
    lost = [name for name in names if name not in told]
    assert not lost, "%s, %s: no check is about %s" % (title, direction, lost)


def holds(heading, known, wanted=lambda _title: True):
    table = rows(heading, wanted)
    assert set(table) == set(known), "rows without checks: %r; checks without rows: %r" % (set(table) - set(known), set(known) - set(table))
    for title, (out, back) in known.items():
        names = FIELD.findall(" ".join([title, *table[title]]))
        drives(title, "out", out, names)
        drives(title, "in", back, names[:1] if title in ("death list", "the list of its deaths") else names)


@check("each row of the table of Kafka's headers has a check in each direction, or says why not")
def _(_place):
    holds("### Messages of other protocols", KAFKA)


@check("each row of the table of SQS's attributes has a check in each direction, or says why not")
def _(_place):
    holds("### A message in SQS", SQS)


@check("each header of AMQP that means something has a check in each direction, or says why not")
def _(_place):
    holds("## AMQP 0-9-1", AMQP, lambda title: title.startswith("header `"))
