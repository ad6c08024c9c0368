# Consumer Group B: Analytics pipeline (completely independent)
analytics_consumer = Consumer({
    'bootstrap.servers': 'kafka:9092',
    'group.id': 'analytics-pipeline', # Different group = independent
    'auto.offset.reset': 'earliest',
})

analytics_consumer.subscribe(['orders'])
# This consumer reads ALL the same messages independently
# It can lag behind or be ahead of the fulfillment consumer
