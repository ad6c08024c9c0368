"""AddPermission and RemovePermission write the queue's policy."""

import json

from .harness import check, equal, refused


# ElasticMQ does not have them.
@check("permissions are statements of the policy", peer="millstream")
def _(c):
    url = c.queue()
    policy = lambda: json.loads(c.attributes(url, "Policy").get("Policy", "null"))
    add = lambda label, **more: c.sqs.add_permission(QueueUrl=url, Label=label, **{"AWSAccountIds": ["111122223333"], "Actions": ["SendMessage"], **more})
    add("one")
    add("two", AWSAccountIds=["111122223333", "444455556666"], Actions=["*"])
    statements = policy()["Statement"]
    equal([s["Sid"] for s in statements], ["one", "two"])
    equal((statements[0]["Action"], statements[0]["Resource"]), (["SQS:SendMessage"], c.arn(url)))
    equal(statements[1]["Principal"], {"AWS": ["arn:aws:iam::111122223333:root", "arn:aws:iam::444455556666:root"]})
    refused("InvalidParameterValue", lambda: add("one"), "Already exists")
    c.sqs.remove_permission(QueueUrl=url, Label="one")
    equal([s["Sid"] for s in policy()["Statement"]], ["two"])
    refused("InvalidParameterValue", lambda: c.sqs.remove_permission(QueueUrl=url, Label="one"), "can't find label")
    c.sqs.remove_permission(QueueUrl=url, Label="two")
    equal(policy(), None)


@check("permissions that cannot be are refused", peer="millstream")
def _(c):
    url = c.queue()
    add = lambda **more: lambda: c.sqs.add_permission(
        QueueUrl=url, **{"Label": "x", "AWSAccountIds": ["111122223333"], "Actions": ["SendMessage"], **more})
    refused("InvalidParameterValue", add(Actions=["CreateQueue"]), "owner")
    refused("InvalidParameterValue", add(AWSAccountIds=["1"]))
    refused("InvalidParameterValue", add(Label="a b"))
    refused("MissingParameter", add(Actions=[]))
    equal(c.attributes(url, "Policy"), {})
