"""Message move tasks: dead letters go back, or elsewhere."""

import json

from .harness import bodies, check, equal, refused, that, unique, until


def dead(c, n, **more):
    """A queue, its dead-letter queue, and so many dead letters."""
    graves = c.queue(unique("graves"))
    url = c.queue(RedrivePolicy=json.dumps({"deadLetterTargetArn": c.arn(graves), "maxReceiveCount": 1}), **more)
    for i in range(n):
        c.send(url, str(i))
    for got in c.take(url, n):
        c.sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=got["ReceiptHandle"], VisibilityTimeout=0)
    until("all are dead letters", lambda: c.counts(graves)[0] == n)
    return url, graves


def latest(c, source):
    return c.sqs.list_message_move_tasks(SourceArn=c.arn(source))["Results"][0]


# ElasticMQ's tasks differ in their listing.
@check("dead letters go back to where they came from", peer="millstream")
def _(c):
    url, graves = dead(c, 12)
    handle = c.sqs.start_message_move_task(SourceArn=c.arn(graves))["TaskHandle"]
    that(handle, "no handle")
    task = until("the task is over", lambda: (lambda t: t["Status"] != "RUNNING" and t)(latest(c, graves)))
    equal((task["Status"], task["ApproximateNumberOfMessagesMoved"], task["ApproximateNumberOfMessagesToMove"]), ("COMPLETED", 12, 12))
    equal((task["SourceArn"], "TaskHandle" in task), (c.arn(graves), False))
    got = c.take(url, 12, AttributeNames=["ApproximateReceiveCount"])
    equal(sorted(bodies(got)), sorted(str(i) for i in range(12)))
    equal({m["Attributes"]["ApproximateReceiveCount"] for m in got}, {"1"})
    equal(c.counts(graves), [0, 0, 0])


@check("dead letters go to the queue that is named", peer="millstream")
def _(c):
    _, graves = dead(c, 3)
    other = c.queue()
    c.sqs.start_message_move_task(SourceArn=c.arn(graves), DestinationArn=c.arn(other))
    equal(sorted(bodies(c.take(other, 3))), ["0", "1", "2"])
    equal(latest(c, graves)["DestinationArn"], c.arn(other))


@check("a task keeps to its rate, is alone, and can be cancelled", peer="millstream")
def _(c):
    _, graves = dead(c, 10)
    start = lambda: c.sqs.start_message_move_task(SourceArn=c.arn(graves), MaxNumberOfMessagesPerSecond=1)["TaskHandle"]
    handle = start()
    refused("InvalidParameterValue", start, "already a task running")
    equal((latest(c, graves)["Status"], latest(c, graves)["MaxNumberOfMessagesPerSecond"]), ("RUNNING", 1))
    moved = c.sqs.cancel_message_move_task(TaskHandle=handle)["ApproximateNumberOfMessagesMoved"]
    that(moved < 10, moved)
    equal(latest(c, graves)["Status"], "CANCELLED")
    refused("InvalidParameterValue", lambda: c.sqs.cancel_message_move_task(TaskHandle=handle), "active")
    until("what it held is back", lambda: c.counts(graves)[1] == 0)
    that(c.counts(graves)[0] >= 8, c.counts(graves))


@check("tasks that cannot be are refused", peer="millstream")
def _(c):
    url, graves = dead(c, 1)
    start = lambda **more: lambda: c.sqs.start_message_move_task(**{"SourceArn": c.arn(graves), **more})
    refused("ResourceNotFoundException", start(SourceArn=c.arn(graves) + "-none"), status=404)
    refused("ResourceNotFoundException", start(DestinationArn=c.arn(graves) + "-none"), status=404)
    refused("InvalidParameterValue", start(SourceArn=c.arn(url)), "Dead Letter Queue")
    refused("InvalidParameterValue", start(DestinationArn=c.arn(graves)), "same")
    refused("InvalidParameterValue", start(MaxNumberOfMessagesPerSecond=501))
    refused("ResourceNotFoundException", lambda: c.sqs.cancel_message_move_task(TaskHandle="nobody's"), status=404)
    refused("InvalidParameterValue", lambda: c.sqs.list_message_move_tasks(SourceArn=c.arn(graves), MaxResults=11))
