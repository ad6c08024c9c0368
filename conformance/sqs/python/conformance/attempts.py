"""ReceiveRequestAttemptId: a receive whose answer was lost is repeated."""

from .fifo import delete, fifo, send
from .harness import bodies, check, equal, refused, that, unique, until


def receive(c, url, attempt, **more):
    return c.receive(url, ReceiveRequestAttemptId=attempt, **{"MaxNumberOfMessages": 10, **more})


def handles(messages):
    return [m["ReceiptHandle"] for m in messages]


@check("a receive with the same attempt id gives the same messages and handles")
def _(c):
    url, attempt = fifo(c), unique("a")
    for n in range(3):
        send(c, url, str(n))
    first = receive(c, url, attempt, MaxNumberOfMessages=2)
    again = receive(c, url, attempt, MaxNumberOfMessages=2)
    equal(bodies(again), ["0", "1"])
    # ElasticMQ: handles of another receive. The API reference: the same.
    equal(c.peer == "elasticmq" or handles(again), c.peer == "elasticmq" or handles(first))
    equal(receive(c, url, unique("a")), [], "another attempt, while the group is being worked on")


@check("a repeated receive makes its messages invisible anew, and counts no further receive", peer="millstream")
def _(c):
    url, attempt = fifo(c), unique("a")
    send(c, url, "a")
    [first] = receive(c, url, attempt, VisibilityTimeout=2)
    [again] = receive(c, url, attempt, VisibilityTimeout=600, AttributeNames=["ApproximateReceiveCount"])
    equal((again["ReceiptHandle"], again["Attributes"]["ApproximateReceiveCount"]), (first["ReceiptHandle"], "1"))
    # Another queue's message of the same visibility, received later, tells when the first one's time is over.
    clock = fifo(c)
    send(c, clock, "tick")
    receive(c, clock, unique("a"), VisibilityTimeout=2)
    until("the other's time is over", lambda: c.counts(clock) == [1, 0, 0])
    equal(c.counts(url), [0, 1, 0])
    delete(c, url, [first])
    equal(c.counts(url), [0, 0, 0])


@check("an attempt id is that of a new receive once one of its messages was deleted", peer="millstream")
def _(c):
    url, attempt = fifo(c), unique("a")
    for group in ["a", "b", "c"]:
        send(c, url, group, group)
    first = receive(c, url, attempt, MaxNumberOfMessages=2)
    delete(c, url, first[:1])
    equal(bodies(receive(c, url, attempt)), ["c"])


@check("an attempt id is that of a new receive once a visibility was changed", peer="millstream")
def _(c):
    url, attempt = fifo(c), unique("a")
    send(c, url, "a")
    [first] = receive(c, url, attempt)
    c.sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=first["ReceiptHandle"], VisibilityTimeout=0)
    [again] = receive(c, url, attempt, AttributeNames=["ApproximateReceiveCount"])
    that(again["ReceiptHandle"] != first["ReceiptHandle"], "the old handle")
    equal(again["Attributes"]["ApproximateReceiveCount"], "2")


@check("an attempt id is that of a new receive once the visibility ran out", peer="millstream")
def _(c):
    url, attempt = fifo(c), unique("a")
    send(c, url, "a")
    [first] = receive(c, url, attempt, VisibilityTimeout=1)
    until("it is visible again", lambda: c.counts(url) == [1, 0, 0])
    [again] = receive(c, url, attempt)
    that(again["ReceiptHandle"] != first["ReceiptHandle"], "the old handle")


@check("a receive that gave nothing is not repeated", peer="millstream")
def _(c):
    url, attempt = fifo(c), unique("a")
    equal(receive(c, url, attempt), [])
    send(c, url, "a")
    equal(bodies(receive(c, url, attempt)), ["a"])


@check("attempt ids are of one queue, and FIFO queues alone have them", peer="millstream")
def _(c):
    one, two, attempt = fifo(c), fifo(c), unique("a")
    for url in [one, two]:
        send(c, url, url)
    equal((bodies(receive(c, one, attempt)), bodies(receive(c, two, attempt))), ([one], [two]))
    refused("InvalidParameterValue", lambda: receive(c, one, "a b"), "ReceiveRequestAttemptId")
    refused("InvalidParameterValue", lambda: receive(c, one, "x" * 129), "ReceiveRequestAttemptId")
    refused("InvalidParameterValue", lambda: receive(c, c.queue(), attempt), "queue type")
