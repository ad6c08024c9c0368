# Producer: enqueue a job
import pika

connection = pika.BlockingConnection(pika.ConnectionParameters('localhost'))
channel = connection.channel()

# Declare the work queue with a dead-letter exchange
channel.queue_declare(
    queue='email_jobs',
    durable=True,
    arguments={
        'x-dead-letter-exchange': 'dlx',
        'x-dead-letter-routing-key': 'email_jobs.dead',
        'x-message-ttl': 60000, # 60s TTL
        'x-max-length': 100000, # Max queue depth
    }
)

# Publish with persistence
channel.basic_publish(
    exchange='',
    routing_key='email_jobs',
    body=json.dumps({'to': 'user@example.com', 'template': 'welcome'}),
    properties=pika.BasicProperties(
        delivery_mode=2, # persistent
        content_type='application/json',
    )
)
