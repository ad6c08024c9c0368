"""Each pair of protocols and each verb: which check shows it, or why it cannot be."""

from harness import REGISTERED, check

VERBS = ("publish", "consume", "settle", "dead-letter", "delay", "priority", "deduplicate")

NO_ID_TOPIC = "none: a topic knows a Kafka producer's sequence numbers, and no ids"

# (in by, out by): what shows each verb, by the beginning of the check's name.
CELLS = {
    ("AMQP", "SQS"): {
        "publish": "a text published over AMQP",
        "consume": "a binary body published over AMQP",
        "settle": "what SQS has in flight AMQP does not get",
        "dead-letter": "what AMQP rejects is read by SQS",
        "delay": "the header x-delay of AMQP",
        "priority": "priorities set over AMQP",
        "deduplicate": "AMQP's x-deduplication-id is the id",
    },
    ("SQS", "AMQP"): {
        "publish": "attributes of SQS are headers in AMQP",
        "consume": "more than SQS has attributes for",
        "settle": "what an AMQP consumer has not acknowledged",
        "dead-letter": "what SQS received too often is read by AMQP",
        "delay": "DelaySeconds of SQS",
        "priority": "priorities set over AMQP",
        "deduplicate": "an id that SQS sent",
    },
    ("AMQP", "Kafka"): {
        "publish": "a message published over AMQP to a topic's name",
        "consume": "through an exchange a message comes to a topic",
        "settle": "a group's committed offset settles",
        "dead-letter": "a dead letter goes by a bridge",
        "delay": "what AMQP and SQS delay",
        "priority": "priorities set over AMQP",
        "deduplicate": NO_ID_TOPIC,
    },
    ("Kafka", "AMQP"): {
        "publish": "a Kafka record that a bridge takes to a queue comes to an AMQP consumer",
        "consume": "a Kafka record that a bridge takes to a queue comes to an AMQP consumer",
        "settle": "settling what a bridge took from a topic",
        "dead-letter": "a record that a bridge took to a queue dies there",
        "delay": "a delay that a Kafka record asks for",
        "priority": "priorities set over AMQP",
        "deduplicate": "an id that SQS sent",
    },
    ("SQS", "Kafka"): {
        "publish": "a message of SQS that a bridge takes to a topic",
        "consume": "a message of SQS that a bridge takes to a topic",
        "settle": "a group's committed offset settles",
        "dead-letter": "a dead letter of SQS goes by a bridge",
        "delay": "what AMQP and SQS delay",
        "priority": "priorities set over AMQP",
        "deduplicate": "an id that SQS sent",
    },
    ("Kafka", "SQS"): {
        "publish": "a Kafka record that a bridge takes to a queue comes to an SQS receiver",
        "consume": "a Kafka record that a bridge takes to a queue comes to an SQS receiver",
        "settle": "settling what a bridge took from a topic",
        "dead-letter": "a record that a bridge took to a queue dies there",
        "delay": "a delay that a Kafka record asks for",
        "priority": "priorities set over AMQP",
        "deduplicate": "an id that SQS sent",
    },
}


@check("each pair of protocols has a check for each verb, or says why there is none")
def _(_place):
    names = [name for name, _ in REGISTERED]
    protocols = ("AMQP", "Kafka", "SQS")
    for pair in ((i, o) for i in protocols for o in protocols if i != o):
        for verb in VERBS:
            shown = CELLS[pair][verb]
            found = [name for name in names if name.startswith(shown)]
            assert shown.startswith("none: ") or len(found) == 1, "%s to %s, %s: %r" % (*pair, verb, found)
