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


@check("a policy that allows is kept, and one that would deny is refused", peer="millstream")
def _(c):
    statement = {"Sid": "s", "Effect": "Allow", "Principal": "*", "Action": "sqs:SendMessage", "Resource": "*"}
    policy = lambda **more: json.dumps({"Version": "2012-10-17", "Statement": [{**statement, **more}]})
    url = c.queue(Policy=policy())
    equal(json.loads(c.attributes(url, "Policy")["Policy"])["Statement"], [statement])
    deny = policy(Effect="Deny", Condition={"Bool": {"aws:SecureTransport": "false"}})
    code = "AWS.SimpleQueueService.UnsupportedOperation"
    refused(code, lambda: c.queue(Policy=deny), "Deny")
    refused(code, lambda: c.sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": deny}), "Deny")
    refused("InvalidAttributeValue", lambda: c.queue(Policy="{}"), "Statement")
    c.sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": ""})
    equal(c.attributes(url, "Policy"), {})


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
