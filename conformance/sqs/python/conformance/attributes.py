"""What is set on a queue, and what it tells of itself."""

import json
import time

from .harness import check, equal, refused, that, until

SET = {"VisibilityTimeout": "45", "DelaySeconds": "3", "ReceiveMessageWaitTimeSeconds": "2"}
# ElasticMQ does not tell of these.
SET_TOO = {"MessageRetentionPeriod": "120", "MaximumMessageSize": "2048"}


def settable(c):
    return SET if c.peer == "elasticmq" else {**SET, **SET_TOO}


@check("attributes given at the making are told of")
def _(c):
    want = settable(c)
    got = c.attributes(c.queue(**want))
    equal({name: got[name] for name in want}, want)


@check("attributes can be set later, each on its own")
def _(c):
    url = c.queue()
    for name, value in settable(c).items():
        c.sqs.set_queue_attributes(QueueUrl=url, Attributes={name: value})
        equal(c.attributes(url, name), {name: value})


@check("a queue made without attributes has the defaults")
def _(c):
    got = c.attributes(c.queue())
    equal((got["VisibilityTimeout"], got["DelaySeconds"], got["ReceiveMessageWaitTimeSeconds"]), ("30", "0", "0"))
    that(got["QueueArn"].startswith("arn:aws:sqs:"), got["QueueArn"])


# ElasticMQ has neither of these two defaults.
@check("a queue made without attributes keeps messages of up to 1 MiB for four days", peer="millstream")
def _(c):
    got = c.attributes(c.queue())
    equal((got["MessageRetentionPeriod"], got["MaximumMessageSize"]), ("345600", "1048576"))


@check("times are told of, and a change moves the later one", peer="millstream")
def _(c):
    before = int(time.time())
    url = c.queue()
    got = c.attributes(url, "CreatedTimestamp", "LastModifiedTimestamp")
    that(before - 2 <= int(got["CreatedTimestamp"]) <= time.time() + 2, got)
    equal(got["CreatedTimestamp"], got["LastModifiedTimestamp"])

    def moved():
        c.sqs.set_queue_attributes(QueueUrl=url, Attributes={"DelaySeconds": "1"})
        return int(c.attributes(url)["LastModifiedTimestamp"]) > int(got["CreatedTimestamp"])

    until("the time of the change moves", moved, pause=0.3)
    equal(c.attributes(url)["CreatedTimestamp"], got["CreatedTimestamp"])


@check("only the attributes that are asked for are told of")
def _(c):
    equal(set(c.attributes(c.queue(), "DelaySeconds", "VisibilityTimeout")), {"DelaySeconds", "VisibilityTimeout"})


@check("values out of their range are refused", peer="millstream")
def _(c):
    url = c.queue()
    for name, values in {
        "VisibilityTimeout": ["-1", "43201", "x", ""],
        "DelaySeconds": ["-1", "901"],
        "MessageRetentionPeriod": ["59", "1209601"],
        "MaximumMessageSize": ["1023", "1048577"],
        "ReceiveMessageWaitTimeSeconds": ["-1", "21"],
        "Policy": ["no json", "[]"],
        "KmsMasterKeyId": ["alias/aws/sqs"],
        "SqsManagedSseEnabled": ["true"],
    }.items():
        for value in values:
            refused("InvalidAttributeValue", lambda: c.sqs.set_queue_attributes(QueueUrl=url, Attributes={name: value}), name)
            refused("InvalidAttributeValue", lambda: c.queue(**{name: value}), name)
    c.sqs.set_queue_attributes(QueueUrl=url, Attributes={"KmsMasterKeyId": "", "SqsManagedSseEnabled": "false"})


@check("attributes that are not there, or cannot be set, are refused", peer="millstream")
def _(c):
    url = c.queue()
    for name in ["Colour", "QueueArn", "ApproximateNumberOfMessages"]:
        refused("InvalidAttributeName", lambda: c.sqs.set_queue_attributes(QueueUrl=url, Attributes={name: "1"}))
        refused("InvalidAttributeName", lambda: c.queue(**{name: "1"}))
    refused("InvalidAttributeName", lambda: c.attributes(url, "Colour"))


@check("of several attributes all are set or none", peer="millstream")
def _(c):
    url = c.queue()
    refused("InvalidAttributeValue",
            lambda: c.sqs.set_queue_attributes(QueueUrl=url, Attributes={"DelaySeconds": "7", "VisibilityTimeout": "-1"}))
    equal(c.attributes(url, "DelaySeconds"), {"DelaySeconds": "0"})


@check("a policy is kept as it was given, and an empty one removes it", peer="millstream")
def _(c):
    policy = json.dumps({"Version": "2012-10-17", "Statement": [{"Sid": "a", "Effect": "Allow", "Principal": "*", "Action": "sqs:*"}]})
    url = c.queue(Policy=policy)
    equal(c.attributes(url, "Policy"), {"Policy": policy})
    c.sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": ""})
    equal(c.attributes(url, "Policy"), {})


@check("counts are of what is ready, in flight and delayed")
def _(c):
    url = c.queue()
    for n in range(5):
        c.send(url, str(n))
    c.send(url, "later", DelaySeconds=60)
    c.take(url, 2)
    equal(c.counts(url), [3, 2, 1])


@check("a queue's delay holds for messages that have none of their own")
def _(c):
    url = c.queue(DelaySeconds="60")
    c.send(url, "held")
    c.send(url, "at once", DelaySeconds=0)
    equal([m["Body"] for m in c.take(url)], ["at once"])
    equal(c.counts(url), [0, 1, 1])


@check("a message is not larger than its queue allows", peer="millstream")
def _(c):
    url = c.queue(MaximumMessageSize="1024")
    c.send(url, "x" * 1024)
    refused("InvalidParameterValue", lambda: c.send(url, "x" * 1025), "1024")
    attribute = {"a": {"DataType": "String", "StringValue": "y" * 20}}
    refused("InvalidParameterValue", lambda: c.send(url, "x" * 1000, MessageAttributes=attribute), "1024")


@check("what is older than the queue keeps is gone", peer="millstream")
def _(c):
    url = c.queue()
    c.sqs.set_queue_attributes(QueueUrl=url, Attributes={"MessageRetentionPeriod": "60"})
    c.send(url, "short", MessageAttributes={"millstream.expiration_ms": {"DataType": "Number", "StringValue": "200"}})
    until("the message is gone", lambda: c.counts(url) == [0, 0, 0])
