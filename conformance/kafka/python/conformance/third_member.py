"""A member of the fulfilment group in a process of its own, made to be killed. Prints what it is given and reads."""

import json
import sys

from confluent_kafka import Consumer

from .pipeline import commit, fulfilment_settings


def main():
    bootstrap, group, topic = sys.argv[1:4]
    consumer = Consumer({**fulfilment_settings(bootstrap, group), 'session.timeout.ms': 6000})
    consumer.subscribe([topic], on_assign=lambda _, p: p and print("assigned", len(p), flush=True))
    while True:
        message = consumer.poll(timeout=0.5)
        if message is None:
            continue
        if message.error():
            sys.exit(str(message.error()))
        order = json.loads(message.value())['order_id']
        print("read", message.partition(), message.offset(), message.key().decode(), order, flush=True)
        commit(consumer, message)


if __name__ == "__main__":
    main()
