# Bridge: Kafka consumer that fans out specific events to SQS
import boto3
from confluent_kafka import Consumer

sqs = boto3.client('sqs')
consumer = Consumer({
    'bootstrap.servers': 'kafka:9092',
    'group.id': 'sqs-bridge',
    'enable.auto.commit': False,
})
consumer.subscribe(['orders'])

while True:
    msg = consumer.poll(timeout=1.0)
    if msg is None:
        continue

    event = json.loads(msg.value())

    # Route high-value orders to a priority SQS queue for manual review
    if event['event'] == 'order.placed' and event['total'] > 10000:
        sqs.send_message(
            QueueUrl='https://sqs.us-east-1.amazonaws.com/123/high-value-orders',
            MessageBody=json.dumps(event),
            MessageAttributes={
                'OrderId': {'StringValue': event['order_id'], 'DataType': 'String'}
            },
            MessageGroupId=event['customer_id'], # FIFO queue
            MessageDeduplicationId=event['order_id'],
        )

    consumer.commit(asynchronous=False)
