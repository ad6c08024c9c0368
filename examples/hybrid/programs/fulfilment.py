# Consumer Group A: Fulfillment service
from confluent_kafka import Consumer

consumer = Consumer({
    'bootstrap.servers': 'kafka:9092',
    'group.id': 'fulfillment-service',
    'auto.offset.reset': 'earliest',
    'enable.auto.commit': False, # Manual commit for at-least-once
    'partition.assignment.strategy': 'cooperative-sticky',
})

consumer.subscribe(['orders'])

while True:
    msg = consumer.poll(timeout=1.0)
    if msg is None:
        continue
    if msg.error():
        handle_error(msg.error())
        continue

    event = json.loads(msg.value())
    if event['event'] == 'order.placed':
        # Idempotent processing: use order_id as dedup key
        if not already_processed(event['order_id']):
            create_shipment(event)
            mark_processed(event['order_id'])

    consumer.commit(asynchronous=False) # Commit after processing
