# Consumer: process jobs with manual acknowledgment
def process_email(ch, method, properties, body):
    try:
        job = json.loads(body)
        send_email(job['to'], job['template'])
        ch.basic_ack(delivery_tag=method.delivery_tag)
    except TransientError:
        # Requeue for retry (up to DLQ threshold)
        ch.basic_nack(delivery_tag=method.delivery_tag, requeue=True)
    except PermanentError:
        # Reject without requeue — goes to DLQ
        ch.basic_nack(delivery_tag=method.delivery_tag, requeue=False)

channel.basic_qos(prefetch_count=10) # Don't overwhelm the consumer
channel.basic_consume(queue='email_jobs', on_message_callback=process_email)
channel.start_consuming()
