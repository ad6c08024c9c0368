# Producer: publish domain events
from confluent_kafka import Producer

producer = Producer({
    'bootstrap.servers': 'kafka:9092',
    'acks': 'all', # Wait for all ISR replicas
    'enable.idempotence': True, # Deduplicate retries
    'max.in.flight.requests.per.connection': 5, # Safe with idempotence
    'compression.type': 'lz4',
})

def publish_order_event(order):
    producer.produce(
        topic='orders',
        key=str(order['customer_id']), # Partition by customer
        value=json.dumps({
            'event': 'order.placed',
            'order_id': order['id'],
            'items': order['items'],
            'total': order['total'],
            'timestamp': datetime.utcnow().isoformat(),
        }),
        on_delivery=lambda err, msg: log.error(f'Failed: {err}') if err else None,
    )
    producer.flush() # Ensure delivery (or use poll() in a loop)
