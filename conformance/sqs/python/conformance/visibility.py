"""Visibility timeouts, deletions, and handles of earlier receives."""

from .harness import bodies, check, equal, refused, until

NOT_IN_FLIGHT = "AWS.SimpleQueueService.MessageNotInflight"


@check("a received message is invisible, and comes back when its time is over")
def _(c):
    url = c.queue(VisibilityTimeout="1")
    c.send(url, "again")
    [first] = c.take(url)
    equal(c.receive(url), [])
    [second] = c.take(url, AttributeNames=["ApproximateReceiveCount"])
    equal((second["Body"], second["Attributes"]["ApproximateReceiveCount"]), ("again", "2"))
    equal(second["ReceiptHandle"] == first["ReceiptHandle"], False, "the same handle")


@check("a receive may say how long")
def _(c):
    url = c.queue(VisibilityTimeout="300")
    c.send(url)
    c.take(url, VisibilityTimeout=1)
    c.take(url)


@check("a deleted message does not come back")
def _(c):
    url = c.queue(VisibilityTimeout="1")
    c.send(url)
    [got] = c.take(url)
    c.sqs.delete_message(QueueUrl=url, ReceiptHandle=got["ReceiptHandle"])
    equal(c.counts(url), [0, 0, 0])
    equal(c.receive(url, WaitTimeSeconds=2), [])


# ElasticMQ: ReceiptHandleIsInvalid.
@check("deleting twice is no error", peer="millstream")
def _(c):
    url = c.queue()
    c.send(url)
    [got] = c.take(url)
    for _ in range(2):
        c.sqs.delete_message(QueueUrl=url, ReceiptHandle=got["ReceiptHandle"])


@check("a timeout can be made longer, shorter, and none")
def _(c):
    url = c.queue(VisibilityTimeout="2")
    c.send(url)
    [got] = c.take(url)
    change = lambda seconds: c.sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=got["ReceiptHandle"], VisibilityTimeout=seconds)
    change(60)
    equal(c.receive(url, WaitTimeSeconds=3), [])
    change(0)
    c.take(url)


@check("a handle whose time is over deletes until the message is received again", peer="millstream")
def _(c):
    url = c.queue(VisibilityTimeout="1")
    c.send(url, "a")
    [old] = c.take(url)
    until("it is visible again", lambda: c.counts(url) == [1, 0, 0])
    c.sqs.delete_message(QueueUrl=url, ReceiptHandle=old["ReceiptHandle"])
    equal(c.counts(url), [0, 0, 0])

    c.send(url, "b")
    [old] = c.take(url)
    [new] = c.take(url, VisibilityTimeout=60)
    c.sqs.delete_message(QueueUrl=url, ReceiptHandle=old["ReceiptHandle"])
    equal(c.counts(url), [0, 1, 0])
    c.sqs.delete_message(QueueUrl=url, ReceiptHandle=new["ReceiptHandle"])
    equal(c.counts(url), [0, 0, 0])


@check("the visibility of a message that is not in flight cannot be changed", peer="millstream")
def _(c):
    url = c.queue(VisibilityTimeout="1")
    c.send(url)
    [old] = c.take(url)
    until("it is visible again", lambda: c.counts(url) == [1, 0, 0])
    change = lambda m: c.sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=m["ReceiptHandle"], VisibilityTimeout=9)
    refused(NOT_IN_FLIGHT, lambda: change(old))
    [new] = c.take(url, VisibilityTimeout=60)
    refused(NOT_IN_FLIGHT, lambda: change(old))
    change(new)
    c.sqs.delete_message(QueueUrl=url, ReceiptHandle=new["ReceiptHandle"])
    refused("InvalidParameterValue", lambda: change(new), "does not exist")


@check("a timeout is at most twelve hours in all", peer="millstream")
def _(c):
    url = c.queue()
    c.send(url)
    [got] = c.take(url)
    change = lambda seconds: c.sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=got["ReceiptHandle"], VisibilityTimeout=seconds)
    refused("InvalidParameterValue", lambda: change(43_201), "43200")
    refused("InvalidParameterValue", lambda: change(-1))
    until("time has passed since the receive", lambda: _refused(change))


def _refused(change):
    try:
        change(43_200)
        return False
    except Exception as error:
        return "Total VisibilityTimeout" in str(error)


@check("handles that nobody was given are refused", peer="millstream")
def _(c):
    one, other = c.queue(), c.queue()
    c.send(one)
    [got] = c.take(one)
    handle = got["ReceiptHandle"]
    for bad in ["x", handle[:-8] + "AAAAAAA=", handle * 2]:
        refused("ReceiptHandleIsInvalid", lambda: c.sqs.delete_message(QueueUrl=one, ReceiptHandle=bad))
    refused("ReceiptHandleIsInvalid", lambda: c.sqs.delete_message(QueueUrl=other, ReceiptHandle=handle))
    equal(c.counts(one), [0, 1, 0])


@check("messages come in the order in which they were sent, as long as one receives", peer="millstream")
def _(c):
    url = c.queue()
    for n in range(25):
        c.send(url, str(n))
    equal(bodies(c.take(url, 25)), [str(n) for n in range(25)])
