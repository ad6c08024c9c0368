"""Making, finding, listing, purging and deleting queues."""

from .harness import check, equal, refused, that, unique

NO_QUEUE = "AWS.SimpleQueueService.NonExistentQueue"


@check("a queue is made, found by its name, listed and deleted")
def _(c):
    name = unique("made")
    url = c.queue(name)
    that(url.endswith("/" + name), url)
    equal(c.sqs.get_queue_url(QueueName=name)["QueueUrl"], url)
    equal(c.sqs.list_queues(QueueNamePrefix=name)["QueueUrls"], [url])
    c.sqs.delete_queue(QueueUrl=url)
    that(not c.sqs.list_queues(QueueNamePrefix=name).get("QueueUrls"), "it is still listed")
    refused(NO_QUEUE, lambda: c.sqs.get_queue_url(QueueName=name))


@check("a URL names the host that was called")
def _(c):
    url = c.queue()
    that(url.startswith(f"http://{c.address}/"), url)


# ElasticMQ looks at the account in the path; a queue here is the same by whatever host and account it is called.
@check("a URL resolves by the end of its path, whatever its host and account", peer="millstream")
def _(c):
    name = unique("path")
    c.queue(name)
    for url in [f"https://sqs.eu-west-1.amazonaws.com/123456789012/{name}", f"http://other:1/queue/{name}"]:
        equal(c.attributes(url, "QueueArn")["QueueArn"].rsplit(":", 1)[1], name)


@check("making a queue again with the same attributes gives it, and with others is refused")
def _(c):
    name = unique("again")
    url = c.queue(name, VisibilityTimeout="40")
    equal(c.queue(name, VisibilityTimeout="40"), url)
    refused("QueueAlreadyExists", lambda: c.queue(name, VisibilityTimeout="41"))


@check("making a queue again without naming its attributes gives it", peer="millstream")
def _(c):
    name = unique("again")
    url = c.queue(name, VisibilityTimeout="40", DelaySeconds="1")
    equal(c.queue(name), url)
    equal(c.queue(name, DelaySeconds="1"), url)
    refused("QueueAlreadyExists", lambda: c.queue(name, DelaySeconds="2"), "DelaySeconds")


# ElasticMQ: InvalidAttributeName.
@check("names that cannot be are refused", peer="millstream")
def _(c):
    for name in ["a b", "x" * 81, "a/b", "a.b"]:
        refused("InvalidParameterValue", lambda: c.queue(name))


@check("lists come in pages", peer="millstream")
def _(c):
    prefix = unique("page")
    urls = sorted(c.queue(f"{prefix}-{n}") for n in range(5))
    got, token, sizes = [], None, []
    while True:
        more = {"NextToken": token} if token else {}
        page = c.sqs.list_queues(QueueNamePrefix=prefix, MaxResults=2, **more)
        got += page.get("QueueUrls", [])
        sizes.append(len(page.get("QueueUrls", [])))
        token = page.get("NextToken")
        if not token:
            break
    equal((got, sizes), (urls, [2, 2, 1]))
    refused("InvalidParameterValue", lambda: c.sqs.list_queues(MaxResults=1001))
    refused("InvalidParameterValue", lambda: c.sqs.list_queues(MaxResults=1, NextToken="?"))


@check("a purge removes what is ready, delayed and in flight")
def _(c):
    url = c.queue()
    for n in range(3):
        c.send(url, str(n))
    c.send(url, "later", DelaySeconds=60)
    c.take(url)
    c.sqs.purge_queue(QueueUrl=url)
    equal(c.counts(url), [0, 0, 0])


# ElasticMQ lets both be done at once.
@check("a second purge, and a queue of a name just deleted, have to wait", peer="millstream")
def _(c):
    name = unique("soon")
    url = c.queue(name)
    c.sqs.purge_queue(QueueUrl=url)
    refused("AWS.SimpleQueueService.PurgeQueueInProgress", lambda: c.sqs.purge_queue(QueueUrl=url), status=403)
    c.sqs.delete_queue(QueueUrl=url)
    refused("AWS.SimpleQueueService.QueueDeletedRecently", lambda: c.queue(name), "60 seconds")


@check("actions on a queue that is not there say so")
def _(c):
    url = c.queue()
    c.sqs.delete_queue(QueueUrl=url)
    for action in [
        lambda: c.send(url),
        lambda: c.receive(url),
        lambda: c.sqs.purge_queue(QueueUrl=url),
        lambda: c.attributes(url),
        lambda: c.sqs.set_queue_attributes(QueueUrl=url, Attributes={"DelaySeconds": "1"}),
        lambda: c.sqs.delete_message(QueueUrl=url, ReceiptHandle="x"),
        lambda: c.sqs.list_queue_tags(QueueUrl=url),
    ]:
        refused(NO_QUEUE, action)
