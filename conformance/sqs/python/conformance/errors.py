"""Errors by code, status and type, as SDKs tell them apart."""

from .harness import check, equal, refused, that, unique


# ElasticMQ gives no request id, and takes an empty batch.
@check("errors are the SDK's own exceptions", peer="millstream")
def _(c):
    e = c.sqs.exceptions
    url = c.queue()
    for kind, action in [
        (e.QueueDoesNotExist, lambda: c.sqs.get_queue_url(QueueName=unique("none"))),
        (e.EmptyBatchRequest, lambda: c.sqs.send_message_batch(QueueUrl=url, Entries=[])),
    ]:
        try:
            action()
            raise AssertionError(f"no {kind.__name__}")
        except kind as error:
            equal(error.response["ResponseMetadata"]["HTTPStatusCode"], 400)
            that(error.response["ResponseMetadata"]["RequestId"], "no request id")


@check("what is missing is named", peer="millstream")
def _(c):
    url = c.queue()
    for action in [lambda: c.sqs.delete_message(QueueUrl=url, ReceiptHandle=""), lambda: c.sqs.get_queue_url(QueueName="")]:
        refused("MissingParameter", action, "The request must contain the parameter")
    refused("InvalidAddress", lambda: c.attributes(f"http://{c.address}/"), status=404)
