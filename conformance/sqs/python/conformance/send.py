"""What is sent comes as it was sent."""

import hashlib

from .harness import check, equal, refused, that, until

TYPES = {
    "text": {"DataType": "String", "StringValue": "a <&> \"b\" \u00e9\u4e16\U0001f600\n\ttab"},
    "labelled": {"DataType": "String.mine", "StringValue": "x"},
    "number": {"DataType": "Number", "StringValue": "12345678901234567890.5"},
    "whole": {"DataType": "Number", "StringValue": "-42"},
    "float": {"DataType": "Number.float", "StringValue": "1.50"},
    "bytes": {"DataType": "Binary", "BinaryValue": bytes(range(256))},
    "picture": {"DataType": "Binary.png", "BinaryValue": b"\x89PNG"},
}


@check("a body of any text comes as it was sent, with its digest")
def _(c):
    url = c.queue()
    for body in ["plain", "a <&> \"b\" 'c'", "\u00e9\u4e16\U0001f600", "line\nline\ttab", "{\"json\": [1, \"\\u0041\"]}", " ", "x" * 200_000]:
        sent = c.send(url, body)
        equal(sent["MD5OfMessageBody"], hashlib.md5(body.encode()).hexdigest())
        [got] = c.take(url)
        equal((got["Body"], got["MessageId"]), (body, sent["MessageId"]))
        c.sqs.delete_message(QueueUrl=url, ReceiptHandle=got["ReceiptHandle"])


@check("a carriage return is kept", peer="millstream")
def _(c):
    url = c.queue()
    c.send(url, "a\r\nb\rc")
    equal(c.take(url)[0]["Body"], "a\r\nb\rc")


# boto3 itself checks both digests.
@check("attributes of every type come as they were sent")
def _(c):
    url = c.queue()
    sent = c.send(url, MessageAttributes=TYPES)
    [got] = c.take(url, MessageAttributeNames=["All"])
    equal(got["MessageAttributes"], TYPES)
    equal(got["MD5OfMessageAttributes"], sent["MD5OfMessageAttributes"])


@check("a trace header comes as a system attribute")
def _(c):
    url = c.queue()
    trace = "Root=1-5759e988-bd862e3fe1be46a994272793"
    c.send(url, MessageSystemAttributes={"AWSTraceHeader": {"DataType": "String", "StringValue": trace}})
    equal(c.take(url, AttributeNames=["AWSTraceHeader"])[0]["Attributes"], {"AWSTraceHeader": trace})


@check("ids differ, and are the same at every receive")
def _(c):
    url = c.queue(VisibilityTimeout="0")
    ids = {c.send(url, str(n))["MessageId"] for n in range(20)}
    equal(len(ids), 20)
    until("every message was seen twice", lambda: _twice(c, url, ids))


def _twice(c, url, ids):
    got = c.receive(url, MaxNumberOfMessages=10, AttributeNames=["ApproximateReceiveCount"])
    that({m["MessageId"] for m in got} <= ids, "an id of no message that was sent")
    return got and all(int(m["Attributes"]["ApproximateReceiveCount"]) >= 2 for m in got)


@check("a message with a delay comes when it is over")
def _(c):
    url = c.queue()
    c.send(url, "later", DelaySeconds=2)
    equal(c.receive(url), [])
    equal(c.counts(url), [0, 0, 1])
    equal(c.take(url)[0]["Body"], "later")


# ElasticMQ: InvalidAttributeValue.
@check("an empty body is refused", peer="millstream")
def _(c):
    url = c.queue()
    refused("MissingParameter", lambda: c.send(url, ""))


@check("characters that XML does not have are refused", peer="millstream")
def _(c):
    url = c.queue()
    for bad in ["\x00", "a\x0bb", "\ufffe", "\uffff"]:
        refused("InvalidMessageContents", lambda: c.send(url, bad), "#x9 | #xA")
        refused("InvalidMessageContents", lambda: c.send(url, MessageAttributes={"a": {"DataType": "String", "StringValue": bad}}))


@check("a message of 1 MiB is taken, and one byte more is not", peer="millstream")
def _(c):
    url = c.queue()
    c.send(url, "x" * 1_048_576)
    equal(len(c.take(url)[0]["Body"]), 1_048_576)
    refused("InvalidParameterValue", lambda: c.send(url, "x" * 1_048_577), "1048576")


@check("delays out of their range are refused", peer="millstream")
def _(c):
    url = c.queue()
    for delay in [-1, 901]:
        refused("InvalidParameterValue", lambda: c.send(url, DelaySeconds=delay), "DelaySeconds")
    c.send(url, DelaySeconds=900)


@check("attributes that cannot be are refused", peer="millstream")
def _(c):
    url = c.queue()
    text = {"DataType": "String", "StringValue": "x"}
    for name, value in {
        "AWS.x": text,
        "amazon.x": text,
        ".a": text,
        "a..b": text,
        "a b": text,
        "x" * 257: text,
        "empty": {"DataType": "String", "StringValue": ""},
        "type": {"DataType": "", "StringValue": "x"},
        "unknown": {"DataType": "Text", "StringValue": "x"},
        "none": {"DataType": "Number", "StringValue": "seven"},
        "both": {"DataType": "String", "StringValue": "x", "BinaryValue": b"x"},
        "other": {"DataType": "Binary", "StringValue": "x"},
        "amqp.unknown": text,
        "amqp.user_id": text,
    }.items():
        refused("InvalidParameterValue", lambda: c.send(url, MessageAttributes={name: value}))
    many = {f"a{n}": text for n in range(11)}
    refused("InvalidParameterValue", lambda: c.send(url, MessageAttributes=many), "10")


@check("a deduplication id is not for standard queues", peer="millstream")
def _(c):
    url = c.queue()
    refused("InvalidParameterValue", lambda: c.send(url, MessageDeduplicationId="d"), "queue type")


@check("a group on a standard queue is kept", peer="millstream")
def _(c):
    url = c.queue()
    c.send(url, MessageGroupId="g.1")
    equal(c.take(url, AttributeNames=["MessageGroupId"])[0]["Attributes"], {"MessageGroupId": "g.1"})
    refused("InvalidParameterValue", lambda: c.send(url, MessageGroupId="a b"), "MessageGroupId")
    refused("InvalidParameterValue", lambda: c.send(url, MessageGroupId="x" * 129), "MessageGroupId")
