"""FIFO queues: groups, deduplication, and what is not for them."""

import hashlib
import json

from .harness import bodies, check, equal, refused, that, unique, until


def fifo(c, **attributes):
    return c.queue(unique("f") + ".fifo", FifoQueue="true", **attributes)


def send(c, url, body, group="g", **more):
    return c.send(url, body, MessageGroupId=group, **{"MessageDeduplicationId": unique("d"), **more})


def delete(c, url, messages):
    for m in messages:
        c.sqs.delete_message(QueueUrl=url, ReceiptHandle=m["ReceiptHandle"])


@check("messages of a group come in their order, one receiver at a time")
def _(c):
    url = fifo(c)
    for n in range(5):
        send(c, url, str(n))
    first = c.receive(url, MaxNumberOfMessages=2)
    equal(bodies(first), ["0", "1"])
    equal(c.receive(url, MaxNumberOfMessages=10), [])
    delete(c, url, first)
    equal(bodies(c.take(url, 3)), ["2", "3", "4"])


@check("other groups do not wait for one that is being worked on")
def _(c):
    url = fifo(c)
    for n in range(2):
        send(c, url, f"a{n}", "a")
    equal(bodies(c.receive(url)), ["a0"])
    send(c, url, "b0", "b")
    equal(bodies(c.take(url)), ["b0"])


@check("a message that comes back is before the later ones of its group")
def _(c):
    url = fifo(c)
    for n in range(3):
        send(c, url, str(n))
    [first] = c.receive(url)
    c.sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=first["ReceiptHandle"], VisibilityTimeout=0)
    equal(bodies(c.take(url, 3)), ["0", "1", "2"])


@check("a deduplication id is taken once, and gives the first message's id")
def _(c):
    url = fifo(c)
    one = send(c, url, "first", MessageDeduplicationId="x")
    two = send(c, url, "second", MessageDeduplicationId="x")
    equal((two["MessageId"], two["SequenceNumber"]), (one["MessageId"], one["SequenceNumber"]))
    equal(bodies(c.take(url)), ["first"])
    equal(c.counts(url), [0, 1, 0])


@check("an id is known also after its message was deleted", peer="millstream")
def _(c):
    url = fifo(c)
    send(c, url, "first", MessageDeduplicationId="x")
    delete(c, url, c.take(url))
    send(c, url, "second", MessageDeduplicationId="x")
    equal(c.counts(url), [0, 0, 0])


@check("the content may be the id")
def _(c):
    url = fifo(c, ContentBasedDeduplication="true")
    for body in ["a", "b", "a"]:
        c.send(url, body, MessageGroupId="g")
    got = c.take(url, 2, AttributeNames=["MessageDeduplicationId"])
    equal(bodies(got), ["a", "b"])
    equal(got[0]["Attributes"]["MessageDeduplicationId"], hashlib.sha256(b"a").hexdigest())


@check("ids may be each group's own", peer="millstream")
def _(c):
    url = fifo(c, DeduplicationScope="messageGroup", FifoThroughputLimit="perMessageGroupId")
    for group in ["a", "b", "a"]:
        send(c, url, group, group, MessageDeduplicationId="same")
    equal(sorted(bodies(c.take(url, 2))), ["a", "b"])
    equal(c.counts(url), [0, 2, 0])


@check("sequence numbers have twenty digits and grow", peer="millstream")
def _(c):
    url = fifo(c)
    sent = [send(c, url, str(n))["SequenceNumber"] for n in range(3)]
    that(all(len(n) == 20 and n.isdigit() for n in sent) and sent == sorted(set(sent)), sent)
    got = c.take(url, 3, AttributeNames=["All"])
    equal([m["Attributes"]["SequenceNumber"] for m in got], sent)
    equal({m["Attributes"]["MessageGroupId"] for m in got}, {"g"})


@check("a batch keeps its order, and tells each entry's number", peer="millstream")
def _(c):
    url = fifo(c)
    entries = [{"Id": str(n), "MessageBody": str(n), "MessageGroupId": "g", "MessageDeduplicationId": str(n % 9)} for n in range(10)]
    done = {s["Id"]: s for s in c.sqs.send_message_batch(QueueUrl=url, Entries=entries)["Successful"]}
    equal(done["9"]["MessageId"], done["0"]["MessageId"])
    equal(bodies(c.take(url, 9)), [str(n) for n in range(9)])


@check("what is missing, and what is not for FIFO queues, is refused", peer="millstream")
def _(c):
    url = fifo(c)
    refused("MissingParameter", lambda: c.send(url, MessageDeduplicationId="d"), "MessageGroupId")
    refused("InvalidParameterValue", lambda: c.send(url, MessageGroupId="g"), "ContentBasedDeduplication")
    refused("InvalidParameterValue", lambda: send(c, url, "x", DelaySeconds=1), "queue type")
    refused("InvalidParameterValue", lambda: send(c, url, "x", MessageDeduplicationId="a b"), "MessageDeduplicationId")
    refused("InvalidParameterValue", lambda: c.queue(unique("f") + ".fifo"))
    refused("InvalidParameterValue", lambda: c.queue(unique("f"), FifoQueue="true"), ".fifo")
    refused("InvalidAttributeName", lambda: c.queue(ContentBasedDeduplication="true"))
    refused("InvalidAttributeValue", lambda: fifo(c, FifoThroughputLimit="perMessageGroupId"), "DeduplicationScope")
    dead = json.dumps({"deadLetterTargetArn": c.arn(c.queue()), "maxReceiveCount": 1})
    refused("InvalidParameterValue", lambda: fifo(c, RedrivePolicy=dead), "same type")
    equal(c.counts(url), [0, 0, 0])


@check("a FIFO queue tells that it is one", peer="millstream")
def _(c):
    url = fifo(c, ContentBasedDeduplication="true")
    got = c.attributes(url)
    equal([got[n] for n in ["FifoQueue", "ContentBasedDeduplication", "DeduplicationScope", "FifoThroughputLimit"]],
          ["true", "true", "queue", "perQueue"])
    equal(fifo_again(c, url), url)


def fifo_again(c, url):
    return c.queue(url.rsplit("/", 1)[1], FifoQueue="true", ContentBasedDeduplication="true")


@check("a handle whose time is over is refused", peer="millstream")
def _(c):
    url = fifo(c, VisibilityTimeout="1")
    send(c, url, "a")
    [old] = c.take(url)
    until("it is visible again", lambda: c.counts(url) == [1, 0, 0])
    refused("InvalidParameterValue", lambda: delete(c, url, [old]), "The receipt handle has expired")
    refused("InvalidParameterValue", lambda: c.sqs.change_message_visibility(
        QueueUrl=url, ReceiptHandle=old["ReceiptHandle"], VisibilityTimeout=5), "The receipt handle has expired")
    equal(c.counts(url), [1, 0, 0])


@check("a queue's delay keeps the order", peer="millstream")
def _(c):
    url = fifo(c, DelaySeconds="1")
    for n in range(3):
        send(c, url, str(n))
    equal(c.receive(url), [])
    for n in range(3):
        # One receive takes of the group what is due by then.
        [got] = c.take(url)
        equal(got["Body"], str(n))
        delete(c, url, [got])


@check("dead letters of a FIFO queue keep their group", peer="millstream")
def _(c):
    dead = fifo(c)
    url = fifo(c, RedrivePolicy=json.dumps({"deadLetterTargetArn": c.arn(dead), "maxReceiveCount": 1}))
    sent = send(c, url, "poison", "grp")
    [got] = c.take(url)
    c.sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=got["ReceiptHandle"], VisibilityTimeout=0)
    [moved] = c.take(dead, AttributeNames=["All"])
    equal((moved["Body"], moved["Attributes"]["MessageGroupId"], moved["MessageId"]), ("poison", "grp", sent["MessageId"]))


@check("a noisy group on a standard queue does not keep others waiting", peer="millstream")
def _(c):
    url = c.queue()
    for n in range(40):
        c.send(url, f"noisy{n}", MessageGroupId="noisy")
    c.take(url, 12)
    c.send(url, "quiet", MessageGroupId="quiet")
    equal(bodies(c.receive(url)), ["quiet"])
