"""What checks with boto3 share: queues, messages, refusals. Registering and running is `suite`'s."""

import time

import boto3
import botocore.config
import botocore.exceptions

from suite import check, equal, that, unique, until  # noqa: F401  (for the checks)


class Context:
    """What a check is told: the broker's address and which broker it is."""

    def __init__(self, bootstrap, peer):
        self.peer, self.address = peer, bootstrap
        self.sqs = self.client()
        self.is_query = self.sqs.meta.service_model.protocol == "query"

    def client(self, address=None, read_timeout=40):
        """A client of its own."""
        config = botocore.config.Config(retries={"max_attempts": 0}, max_pool_connections=32, read_timeout=read_timeout)
        return boto3.session.Session().client(
            "sqs", endpoint_url=f"http://{address or self.address}", region_name="us-east-1", config=config,
            aws_access_key_id="test", aws_secret_access_key="test")

    def queue(self, name=None, **attributes):
        """A new queue's URL."""
        return self.sqs.create_queue(QueueName=name or unique("q"), Attributes=attributes)["QueueUrl"]

    def attributes(self, url, *names):
        """A queue's attributes; all of them where none is named."""
        answer = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=list(names) or ["All"])
        return answer.get("Attributes", {})

    def arn(self, url):
        return self.attributes(url, "QueueArn")["QueueArn"]

    def counts(self, url):
        """Messages ready, in flight and delayed."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessagesDelayed"]
        got = self.attributes(url, *names)
        return [int(got[name]) for name in names]

    def send(self, url, body="b", **more):
        return self.sqs.send_message(QueueUrl=url, MessageBody=body, **more)

    def receive(self, url, **more):
        """Messages that are there now."""
        return self.sqs.receive_message(QueueUrl=url, **more).get("Messages", [])

    def take(self, url, n=1, seconds=20.0, **more):
        """The next `n` messages, waiting for them. They stay in flight."""
        got, deadline = [], time.monotonic() + seconds
        while len(got) < n:
            that(time.monotonic() < deadline, f"{len(got)} of {n} messages after {seconds:g} s")
            got += self.receive(url, MaxNumberOfMessages=min(10, n - len(got)), WaitTimeSeconds=1, **more)
        return got


def shape(code):
    """The name in JSON of what Query calls `code`: all that a service without the header x-amzn-query-error tells of."""
    bare = code.removeprefix("AWS.SimpleQueueService.")
    return {"NonExistentQueue": "QueueDoesNotExist", "QueueAlreadyExists": "QueueNameExists"}.get(bare, bare)


def refused(code, action, text="", status=400):
    """Fails the check unless `action` gets an error of this code, with this status, and this text in its message."""
    try:
        action()
    except botocore.exceptions.ClientError as error:
        got = error.response
        told = "x-amzn-query-error" in got["ResponseMetadata"]["HTTPHeaders"] or "Type" in got["Error"]
        equal(got["Error"]["Code"], code if told else shape(code), "code")
        equal(got["ResponseMetadata"]["HTTPStatusCode"], status, "status")
        that(text in got["Error"].get("Message", ""), f"message {got['Error'].get('Message')!r} has no {text!r}")
        return error
    raise AssertionError(f"not refused with {code}")


def bodies(messages):
    return [message["Body"] for message in messages]
