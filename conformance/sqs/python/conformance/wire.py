"""The two wire forms on a bare connection: what an SDK does not send."""

import http.client
import json
import re

from .harness import check, equal, that, unique


def post(c, body, headers=None, path="/", method="POST"):
    """Status, headers and body of one request."""
    host, port = c.address.rsplit(":", 1)
    connection = http.client.HTTPConnection(host, int(port), timeout=20)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, dict((k.lower(), v) for k, v in answer.getheaders()), answer.read().decode()
    finally:
        connection.close()


def asked(c, action, body):
    return post(c, body if isinstance(body, (str, bytes)) else json.dumps(body),
                {"X-Amz-Target": f"AmazonSQS.{action}", "Content-Type": "application/x-amz-json-1.0"})


FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@check("an error in JSON has its type, and its code in a header", peer="millstream")
def _(c):
    status, headers, body = asked(c, "GetQueueUrl", {"QueueName": unique("none")})
    equal((status, headers["x-amzn-query-error"]), (400, "AWS.SimpleQueueService.NonExistentQueue;Sender"))
    equal(json.loads(body)["__type"], "com.amazonaws.sqs#QueueDoesNotExist")
    equal(headers["content-type"], "application/x-amz-json-1.0")
    that(headers["x-amzn-requestid"], "no request id")


# ElasticMQ: a Type that is not Sender.
@check("an error in XML has its code, its type and its request", peer="millstream")
def _(c):
    status, headers, body = post(c, f"Action=GetQueueUrl&QueueName={unique('none')}", FORM)
    equal(status, 400)
    for part in ["<ErrorResponse", "<Type>Sender</Type>", "<Code>AWS.SimpleQueueService.NonExistentQueue</Code>", "<RequestId>"]:
        that(part in body, body)


@check("a GET may carry an action", peer="millstream")
def _(c):
    status, _, body = post(c, None, path="/?Action=ListQueues&QueueNamePrefix=" + unique("none"), method="GET")
    equal(status, 200)
    that("<ListQueuesResult></ListQueuesResult>" in body, body)


@check("a queue's own URL names the queue", peer="millstream")
def _(c):
    url = c.queue()
    path = re.sub("^http://[^/]*", "", url)
    status, _, body = post(c, "Action=SendMessage&MessageBody=hello+there", FORM, path)
    equal(status, 200)
    that("<MD5OfMessageBody>" in body, body)
    equal(c.take(url)[0]["Body"], "hello there")


@check("unknown actions are refused in both forms", peer="millstream")
def _(c):
    status, headers, _ = asked(c, "Fly", {})
    equal((status, headers["x-amzn-query-error"]), (400, "InvalidAction;Sender"))
    status, _, body = post(c, "Action=Fly", FORM)
    that(status == 400 and "<Code>InvalidAction</Code>" in body, body)
    equal(post(c, "", FORM)[0], 400)
    equal(post(c, None, method="GET")[0], 400)


@check("bodies that are no JSON, or not what an action takes, are refused", peer="millstream")
def _(c):
    url = c.queue()
    for body in ["{", "[]", "null", '"x"', b"\xff\xfe", "{\"a\":" * 5_000, "[" * 100_000]:
        status, headers, _ = asked(c, "SendMessage", body)
        equal((status, headers["x-amzn-query-error"]), (400, "MalformedInput;Sender"), str(body)[:20])
    for body in [{"QueueUrl": 7}, {"QueueUrl": url, "MessageBody": ["x"]}, {"QueueUrl": url, "MessageBody": "x", "DelaySeconds": "1.5"},
                 {"QueueUrl": url, "MessageBody": "x", "MessageAttributes": []},
                 {"QueueUrl": url, "MessageBody": "x", "MessageAttributes": {"a": {"DataType": "Binary", "BinaryValue": "?"}}}]:
        status, headers, _ = asked(c, "SendMessage", body)
        equal((status, headers["x-amzn-query-error"]), (400, "MalformedInput;Sender"), str(body))
    equal(c.counts(url), [0, 0, 0])


@check("a request that is too large is refused", peer="millstream")
def _(c):
    host, port = c.address.rsplit(":", 1)
    connection = http.client.HTTPConnection(host, int(port), timeout=20)
    connection.putrequest("POST", "/")
    connection.putheader("Content-Length", str(1 << 30))
    connection.endheaders()
    equal(connection.getresponse().status, 413)
    connection.close()


@check("a web page cannot send unsigned requests", peer="millstream")
def _(c):
    status, _, body = post(c, "Action=ListQueues", {**FORM, "Origin": "http://evil.example"})
    that(status == 403 and "AccessDenied" in body, body)


@check("what an error repeats is fit for XML", peer="millstream")
def _(c):
    status, _, body = post(c, "Action=%00%3Cb%3E", FORM)
    that(status == 400 and "&lt;b&gt;" in body and "\x00" not in body, body)
