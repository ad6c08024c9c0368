"""A queue's tags."""

from .harness import check, equal, refused, unique


@check("tags are set, listed and removed")
def _(c):
    url = c.queue()
    tags = lambda: c.sqs.list_queue_tags(QueueUrl=url).get("Tags", {})
    equal(tags(), {})
    c.sqs.tag_queue(QueueUrl=url, Tags={"team": "red", "env": "test"})
    c.sqs.tag_queue(QueueUrl=url, Tags={"env": "live"})
    equal(tags(), {"team": "red", "env": "live"})
    c.sqs.untag_queue(QueueUrl=url, TagKeys=["team", "not there"])
    equal(tags(), {"env": "live"})


@check("tags may be given at the making", peer="millstream")
def _(c):
    url = c.sqs.create_queue(QueueName=unique("tagged"), tags={"a": "\u00e9", "b": ""})["QueueUrl"]
    equal(c.sqs.list_queue_tags(QueueUrl=url)["Tags"], {"a": "\u00e9", "b": ""})


@check("tags that cannot be are refused", peer="millstream")
def _(c):
    url = c.queue()
    for tags in [{"aws:x": "1"}, {"x" * 129: "1"}, {"x": "y" * 257}, {str(n): "" for n in range(51)}]:
        refused("InvalidParameterValue", lambda: c.sqs.tag_queue(QueueUrl=url, Tags=tags))
    equal(c.sqs.list_queue_tags(QueueUrl=url).get("Tags", {}), {})
