"""Access keys, account and region of the AWS listener, seen by boto3: who signs and who does not; and a FIFO queue without the suffix."""

import datetime
import http.client
import json

import boto3
import botocore.auth
import botocore.awsrequest
import botocore.config
import botocore.credentials
import botocore.exceptions

from clients import SMALL, Sqs, listens, records, text
from harness import check, equal, holds

ACTION = "AmazonSQS.ListQueues"


def signed_by(server, key, secret, **more):
    config = botocore.config.Config(retries={"max_attempts": 0}, **more)
    return boto3.session.Session().client("sqs", endpoint_url="http://" + listens(server, "aws"), region_name="eu-west-3", config=config,
                                          aws_access_key_id=key, aws_secret_access_key=secret)


def refused(action, code, status):
    try:
        action()
    except botocore.exceptions.ClientError as error:
        equal((error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]), (code, status))
        return
    raise AssertionError("not refused with %s" % code)


def sent(server, headers, body=b"{}"):
    """Status and kind of the answer to a request with these headers."""
    host, port = listens(server, "aws").rsplit(":", 1)
    connection = http.client.HTTPConnection(host, int(port), timeout=20)
    connection.request("POST", "/", body, headers)
    answer = connection.getresponse()
    told = json.loads(answer.read())
    connection.close()
    return answer.status, told.get("__type", "").rpartition("#")[2]


def signature(server, seconds=0):
    """The headers of a ListQueues that was signed so many seconds from now."""
    url = "http://%s/" % listens(server, "aws")
    request = botocore.awsrequest.AWSRequest("POST", url, headers={"X-Amz-Target": ACTION, "Content-Type": "application/x-amz-json-1.0"}, data=b"{}")
    signer = botocore.auth.SigV4Auth(botocore.credentials.Credentials("AKONE", "one"), "sqs", "eu-west-3")
    at = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=seconds)
    # What SigV4Auth.add_auth does, at a time of ours.
    request.context["timestamp"] = at.strftime("%Y%m%dT%H%M%SZ")
    signer._modify_request_before_signing(request)
    canonical = signer.canonical_request(request)
    signer._inject_signature_to_request(request, signer.signature(signer.string_to_sign(request, canonical), request))
    return dict(request.headers.items())


@check("with access keys what one of them signed is done, and what none did, or long ago, or what was changed since, is not")
def _(place):
    server = place.serve(*SMALL, "--set", "aws.access_keys=AKONE:one,AKTWO:two", "--set", "aws.region=eu-west-3", "--set", "aws.account=111122223333")
    one, two = signed_by(server, "AKONE", "one"), signed_by(server, "AKTWO", "two")
    url = one.create_queue(QueueName="q")["QueueUrl"]
    holds(url, "/111122223333/q")
    arn = two.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    equal(arn, "arn:aws:sqs:eu-west-3:111122223333:q")
    two.send_message(QueueUrl=url, MessageBody="a b +&=\u00e9", MessageAttributes={"n": {"DataType": "Number", "StringValue": "1"}})
    [got] = one.receive_message(QueueUrl=url, AttributeNames=["SenderId"]).get("Messages", [])
    equal((got["Body"], got["Attributes"]["SenderId"]), ("a b +&=\u00e9", "AKTWO"))
    refused(lambda: signed_by(server, "AKONE", "two").list_queues(), "SignatureDoesNotMatch", 403)
    refused(lambda: signed_by(server, "AKNONE", "one").list_queues(), "InvalidClientTokenId", 403)
    refused(lambda: signed_by(server, "x", "y", signature_version=botocore.UNSIGNED).list_queues(), "MissingAuthenticationToken", 403)
    good = signature(server)
    equal(sent(server, good), (200, ""))
    equal(sent(server, good, b"{ }"), (403, "InvalidSignatureException"))
    equal(sent(server, {**good, "X-Amz-Target": "AmazonSQS.CreateQueue"})[0], 403)
    equal(sent(server, signature(server, -16 * 60)), (403, "InvalidSignatureException"))
    equal(sent(server, signature(server, 16 * 60)), (403, "InvalidSignatureException"))
    equal(sent(server, signature(server, -14 * 60)), (200, ""))
    equal(sent(server, {**good, "Authorization": "AWS4-HMAC-SHA256 nonsense"}), (400, "IncompleteSignatureException"))


@check("who signed a message is told in its record in a topic, and is the only user that it may name")
def _(place):
    server = place.serve(*SMALL, "--set", "aws.access_keys=AKONE:one", "--set", "aws.region=eu-west-3")
    one = signed_by(server, "AKONE", "one")
    server.ok("topic", "create", "t")
    url = one.create_queue(QueueName="q")["QueueUrl"]
    server.ok("bridge", "create", "b", "--from-queue", "q", "--to-topic", "t")
    refused(lambda: one.send_message(QueueUrl=url, MessageBody="a", MessageAttributes={"amqp.user_id": text("root")}), "InvalidParameterValue", 400)
    one.send_message(QueueUrl=url, MessageBody="b", MessageAttributes={"amqp.user_id": text("AKONE")})
    [record] = records(server, "t", 1)
    equal((record.value(), dict(record.headers())), (b"b", {"amqp.user_id": b"AKONE", "sqs.sender_id": b"AKONE"}))


@check("a queue that the command line made FIFO is FIFO for SQS without the suffix")
def _(place):
    server = place.serve(*SMALL)
    server.ok("queue", "create", "high-value-orders", "--fifo")
    sqs = Sqs(server)
    for group, its_id in [("a", "1"), ("a", "2"), ("a", "1"), ("b", "3")]:
        sqs.send("high-value-orders", group + its_id, MessageGroupId=group, MessageDeduplicationId=its_id)
    [one] = sqs.receive("high-value-orders")
    equal([m["Body"] for m in sqs.receive("high-value-orders", n=10)], ["b3"])
    sqs.delete("high-value-orders", one)
    equal([m["Body"] for m in sqs.receive("high-value-orders", n=10)], ["a2"])
    told = sqs.api.get_queue_attributes(QueueUrl=sqs.url("high-value-orders"), AttributeNames=["FifoQueue"])["Attributes"]
    equal(told, {"FifoQueue": "true"})
