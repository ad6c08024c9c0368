"""Dead-letter queues."""

import json

from .harness import check, equal, refused, that, unique, until


def redrive(c, dead, count):
    return json.dumps({"deadLetterTargetArn": c.arn(dead), "maxReceiveCount": count})


def fail(c, url, times):
    """Receives and gives back."""
    for _ in range(times):
        [got] = c.take(url)
        c.sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=got["ReceiptHandle"], VisibilityTimeout=0)
    return got


@check("a message that was received too often goes to the dead-letter queue")
def _(c):
    dead = c.queue(unique("dead"))
    url = c.queue(VisibilityTimeout="1", RedrivePolicy=redrive(c, dead, 2))
    attribute = {"k": {"DataType": "String", "StringValue": "v"}}
    sent = c.send(url, "poison", MessageAttributes=attribute)
    for _ in range(2):
        c.take(url)
    # ElasticMQ, as AWS, moves it when it would be received once more.
    until("it is in the dead-letter queue", lambda: not c.receive(url) and c.counts(dead)[0] == 1)
    [got] = c.take(dead, MessageAttributeNames=["All"])
    equal((got["Body"], got["MessageId"], got["MessageAttributes"]), ("poison", sent["MessageId"], attribute))


@check("a dead letter tells where it is from, keeps when it was sent, and goes on counting receives", peer="millstream")
def _(c):
    dead = c.queue(unique("dead"))
    url = c.queue(RedrivePolicy=redrive(c, dead, 1))
    c.send(url)
    [got] = c.take(url, AttributeNames=["SentTimestamp"])
    c.sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=got["ReceiptHandle"], VisibilityTimeout=0)
    [moved] = c.take(dead, AttributeNames=["All"], MessageAttributeNames=["All"])
    a = moved["Attributes"]
    equal((a["DeadLetterQueueSourceArn"], a["SentTimestamp"]), (c.arn(url), got["Attributes"]["SentTimestamp"]))
    equal(a["ApproximateReceiveCount"], "2")
    that("MessageAttributes" not in moved, "attributes that nobody sent")


@check("how a message died is told of if it is asked for", peer="millstream")
def _(c):
    dead = c.queue(unique("dead"))
    url = c.queue(RedrivePolicy=redrive(c, dead, 1))
    c.send(url)
    fail(c, url, 1)
    [got] = c.take(dead, MessageAttributeNames=["millstream.death"])
    [death] = json.loads(got["MessageAttributes"]["millstream.death"]["StringValue"])
    equal((death["queue"], death["reason"], death["count"]), (url.rsplit("/", 1)[1], "delivery_limit", 1))


@check("a redrive policy is told of, and can be removed")
def _(c):
    dead = c.queue(unique("dead"))
    url = c.queue(RedrivePolicy=redrive(c, dead, 3))
    equal(json.loads(c.attributes(url, "RedrivePolicy")["RedrivePolicy"]), {"deadLetterTargetArn": c.arn(dead), "maxReceiveCount": 3})
    if c.peer == "millstream":
        c.sqs.set_queue_attributes(QueueUrl=url, Attributes={"RedrivePolicy": ""})
        equal(c.attributes(url, "RedrivePolicy"), {})


@check("redrive policies that cannot be are refused", peer="millstream")
def _(c):
    dead = c.queue(unique("dead"))
    arn = c.arn(dead)
    url = c.queue()
    for policy in ["x", "[]", "{}", json.dumps({"deadLetterTargetArn": arn}), json.dumps({"maxReceiveCount": 1}),
                   json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 0}), json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 1001}),
                   json.dumps({"deadLetterTargetArn": arn + "-not-there", "maxReceiveCount": 1}),
                   json.dumps({"deadLetterTargetArn": "arn:aws:sns:a:b:c", "maxReceiveCount": 1}),
                   json.dumps({"deadLetterTargetArn": c.arn(url), "maxReceiveCount": 1}),
                   json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 1, "more": 1})]:
        refused("InvalidParameterValue", lambda: c.sqs.set_queue_attributes(QueueUrl=url, Attributes={"RedrivePolicy": policy}), "RedrivePolicy")


@check("a dead-letter queue says who may name it", peer="millstream")
def _(c):
    allowed, other = c.queue(), c.queue()
    dead = c.queue(RedriveAllowPolicy=json.dumps({"redrivePermission": "byQueue", "sourceQueueArns": [c.arn(allowed)]}))
    set_to = lambda url: c.sqs.set_queue_attributes(QueueUrl=url, Attributes={"RedrivePolicy": redrive(c, dead, 1)})
    set_to(allowed)
    refused("InvalidParameterValue", lambda: set_to(other), "does not allow")
    c.sqs.set_queue_attributes(QueueUrl=dead, Attributes={"RedriveAllowPolicy": json.dumps({"redrivePermission": "denyAll"})})
    refused("InvalidParameterValue", lambda: set_to(allowed))
    c.sqs.set_queue_attributes(QueueUrl=dead, Attributes={"RedriveAllowPolicy": json.dumps({"redrivePermission": "allowAll"})})
    set_to(other)
    for bad in ["x", json.dumps({"redrivePermission": "byQueue"}), json.dumps({"redrivePermission": "some"})]:
        refused("InvalidAttributeValue", lambda: c.sqs.set_queue_attributes(QueueUrl=dead, Attributes={"RedriveAllowPolicy": bad}))


@check("the sources of a dead-letter queue are listed")
def _(c):
    dead = c.queue(unique("dead"))
    sources = sorted(c.queue(RedrivePolicy=redrive(c, dead, 3)) for _ in range(3))
    equal(sorted(c.sqs.list_dead_letter_source_queues(QueueUrl=dead)["queueUrls"]), sources)


@check("the sources of a dead-letter queue come in pages", peer="millstream")
def _(c):
    dead = c.queue(unique("dead"))
    sources = sorted(c.queue(RedrivePolicy=redrive(c, dead, 3)) for _ in range(3))
    page = c.sqs.list_dead_letter_source_queues(QueueUrl=dead, MaxResults=2)
    rest = c.sqs.list_dead_letter_source_queues(QueueUrl=dead, MaxResults=2, NextToken=page["NextToken"])
    equal((page["queueUrls"] + rest["queueUrls"], "NextToken" in rest), (sources, False))
