"""Batches: up to ten entries, each with a result of its own."""

from .harness import bodies, check, equal, refused, that

PREFIX = "AWS.SimpleQueueService."


def entries(n, **more):
    return [{"Id": f"e{i}", "MessageBody": f"m{i}", **more} for i in range(n)]


@check("ten messages are sent, received and deleted in batches")
def _(c):
    url = c.queue()
    sent = c.sqs.send_message_batch(QueueUrl=url, Entries=entries(10))
    equal(sorted(s["Id"] for s in sent["Successful"]), sorted(e["Id"] for e in entries(10)))
    got = c.take(url, 10)
    equal(sorted(bodies(got)), sorted(e["MessageBody"] for e in entries(10)))
    equal({m["MessageId"] for m in got}, {s["MessageId"] for s in sent["Successful"]})
    done = c.sqs.delete_message_batch(
        QueueUrl=url, Entries=[{"Id": str(i), "ReceiptHandle": m["ReceiptHandle"]} for i, m in enumerate(got)])
    equal(len(done["Successful"]), 10)
    equal(c.counts(url), [0, 0, 0])


@check("each entry has its own delay and attributes")
def _(c):
    url = c.queue()
    attribute = {"k": {"DataType": "Number", "StringValue": "7"}}
    batch = [{"Id": "now", "MessageBody": "now", "MessageAttributes": attribute}, {"Id": "later", "MessageBody": "later", "DelaySeconds": 60}]
    c.sqs.send_message_batch(QueueUrl=url, Entries=batch)
    [got] = c.take(url, MessageAttributeNames=["All"])
    equal((got["Body"], got["MessageAttributes"]), ("now", attribute))
    equal(c.counts(url), [0, 1, 1])


@check("visibility is changed in a batch")
def _(c):
    url = c.queue(VisibilityTimeout="60")
    c.sqs.send_message_batch(QueueUrl=url, Entries=entries(3))
    got = c.take(url, 3)
    changes = [{"Id": str(i), "ReceiptHandle": m["ReceiptHandle"], "VisibilityTimeout": 0} for i, m in enumerate(got[:2])]
    done = c.sqs.change_message_visibility_batch(QueueUrl=url, Entries=changes)
    equal(sorted(s["Id"] for s in done["Successful"]), ["0", "1"])
    equal(c.counts(url), [2, 1, 0])


@check("an entry that cannot be does not hold up the others", peer="millstream")
def _(c):
    url = c.queue()
    batch = entries(2) + [{"Id": "late", "MessageBody": "x", "DelaySeconds": 901}, {"Id": "empty", "MessageBody": ""},
                          {"Id": "bad", "MessageBody": "\x00"}]
    done = c.sqs.send_message_batch(QueueUrl=url, Entries=batch)
    equal([s["Id"] for s in done["Successful"]], ["e0", "e1"])
    failed = {f["Id"]: (f["Code"], f["SenderFault"]) for f in done["Failed"]}
    equal(failed, {"late": ("InvalidParameterValue", True), "empty": ("MissingParameter", True), "bad": ("InvalidMessageContents", True)})
    equal(sorted(bodies(c.take(url, 2))), ["m0", "m1"])


@check("wrong handles fail one by one", peer="millstream")
def _(c):
    url = c.queue()
    c.send(url)
    [got] = c.take(url)
    batch = [{"Id": "good", "ReceiptHandle": got["ReceiptHandle"]}, {"Id": "bad", "ReceiptHandle": "nobody's"}]
    changes = [dict(e, VisibilityTimeout=60) for e in batch] + [{"Id": "long", "ReceiptHandle": got["ReceiptHandle"], "VisibilityTimeout": 43_201}]
    done = c.sqs.change_message_visibility_batch(QueueUrl=url, Entries=changes)
    equal([s["Id"] for s in done["Successful"]], ["good"])
    equal({f["Id"]: f["Code"] for f in done["Failed"]}, {"bad": "ReceiptHandleIsInvalid", "long": "InvalidParameterValue"})
    done = c.sqs.delete_message_batch(QueueUrl=url, Entries=batch)
    equal(([s["Id"] for s in done["Successful"]], [f["Code"] for f in done["Failed"]]), (["good"], ["ReceiptHandleIsInvalid"]))
    equal(c.counts(url), [0, 0, 0])


@check("ids of a batch must be distinct, and it must not be empty or too long")
def _(c):
    url = c.queue()
    send = lambda batch: lambda: c.sqs.send_message_batch(QueueUrl=url, Entries=batch)
    refused(PREFIX + "BatchEntryIdsNotDistinct", send(entries(1) * 2))
    refused(PREFIX + "TooManyEntriesInBatchRequest", send(entries(11)))
    equal(c.counts(url), [0, 0, 0])


# ElasticMQ takes it.
@check("a batch must not be empty", peer="millstream")
def _(c):
    url = c.queue()
    refused(PREFIX + "EmptyBatchRequest", lambda: c.sqs.send_message_batch(QueueUrl=url, Entries=[]))
    refused(PREFIX + "EmptyBatchRequest", lambda: c.sqs.delete_message_batch(QueueUrl=url, Entries=[]))


@check("ids of a batch are letters, digits, hyphens and underscores", peer="millstream")
def _(c):
    url = c.queue()
    for bad in ["a b", "a.b", "x" * 81]:
        refused(PREFIX + "InvalidBatchEntryId", lambda: c.sqs.send_message_batch(QueueUrl=url, Entries=[{"Id": bad, "MessageBody": "b"}]))


@check("a batch is at most 1 MiB in all", peer="millstream")
def _(c):
    url = c.queue()
    halves = [{"Id": str(i), "MessageBody": "x" * 524_288} for i in range(2)]
    equal(len(c.sqs.send_message_batch(QueueUrl=url, Entries=halves)["Successful"]), 2)
    refused(PREFIX + "BatchRequestTooLong", lambda: c.sqs.send_message_batch(QueueUrl=url, Entries=halves + entries(1)))
    that(c.counts(url)[0] == 2, "something of the batch was sent")
