package main

import (
	"context"
	"fmt"

	amqp "github.com/rabbitmq/amqp091-go"
)

var confirmChecks = []check{
	{"deferred confirms of many messages all come, and all are acks", deferred},
	{"NotifyPublish tells of each message once, in order", notifyPublish},
	{"a full queue that rejects is told of by a nack", nacked},
	{"a mandatory message that goes nowhere comes back before its confirm", returned},
}

func confirming(e *env) (*amqp.Channel, error) {
	ch, err := e.channel()
	if err != nil {
		return nil, err
	}
	return ch, ch.Confirm(false)
}

func deferred(e *env) error {
	ch, err := confirming(e)
	if err != nil {
		return err
	}
	q, err := e.queue(ch, "deferred", nil)
	if err != nil {
		return err
	}
	var waiting []*amqp.DeferredConfirmation
	for i := range 500 {
		c, err := ch.PublishWithDeferredConfirmWithContext(context.Background(), "", q, false, false, text(fmt.Sprint(i)))
		if err != nil {
			return err
		}
		waiting = append(waiting, c)
	}
	for i, c := range waiting {
		ctx, cancel := context.WithTimeout(context.Background(), waitTimeout)
		acked, err := c.WaitContext(ctx)
		cancel()
		if err != nil || !acked {
			return fmt.Errorf("message %d: acked %v, %v", i, acked, err)
		}
	}
	n, err := count(ch, q)
	if err != nil {
		return err
	}
	return equal("messages", n, 500)
}

func notifyPublish(e *env) error {
	ch, err := confirming(e)
	if err != nil {
		return err
	}
	q, err := e.queue(ch, "notify", nil)
	if err != nil {
		return err
	}
	confirms := ch.NotifyPublish(make(chan amqp.Confirmation, 100))
	for i := range 100 {
		if err := publish(ch, "", q, text(fmt.Sprint(i))); err != nil {
			return err
		}
	}
	for i := range 100 {
		c, err := recv("a confirm", confirms)
		if err != nil {
			return err
		}
		if err := equal("confirm", []any{c.DeliveryTag, c.Ack}, []any{uint64(i + 1), true}); err != nil {
			return err
		}
	}
	return nil
}

func nacked(e *env) error {
	ch, err := confirming(e)
	if err != nil {
		return err
	}
	q, err := e.queue(ch, "nacked", amqp.Table{"x-max-length": int32(1), "x-overflow": "reject-publish"})
	if err != nil {
		return err
	}
	confirms := ch.NotifyPublish(make(chan amqp.Confirmation, 2))
	for i := range 3 {
		if err := publish(ch, "", q, text(fmt.Sprint(i))); err != nil {
			return err
		}
		c, err := recv("a confirm", confirms)
		if err != nil {
			return err
		}
		if err := equal(fmt.Sprintf("message %d is taken", i), c.Ack, i == 0); err != nil {
			return err
		}
	}
	return nil
}

func returned(e *env) error {
	ch, err := confirming(e)
	if err != nil {
		return err
	}
	returns, confirms := ch.NotifyReturn(make(chan amqp.Return, 1)), ch.NotifyPublish(make(chan amqp.Confirmation, 1))
	key := unique("nowhere")
	if err := ch.PublishWithContext(context.Background(), "amq.direct", key, true, false, amqp.Publishing{Body: []byte("x"), MessageId: "m"}); err != nil {
		return err
	}
	if _, err := recv("the confirm", confirms); err != nil {
		return err
	}
	select {
	case r := <-returns:
		return equal("what came back", []any{r.ReplyCode, r.ReplyText, r.Exchange, r.RoutingKey, r.MessageId, string(r.Body)},
			[]any{uint16(amqp.NoRoute), "NO_ROUTE", "amq.direct", key, "m", "x"})
	default:
		return fmt.Errorf("confirmed before it was returned")
	}
}
