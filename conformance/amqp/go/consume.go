package main

import (
	"fmt"

	amqp "github.com/rabbitmq/amqp091-go"
)

var consumeChecks = []check{
	{"a consumer has as many messages as its prefetch", prefetch},
	{"nack with multiple gives all back, in their places and marked", nackMultiple},
	{"ack with multiple settles all up to it", ackMultiple},
	{"NotifyCancel tells of a queue that goes", notifyCancel},
	{"Cancel ends the deliveries, and what was delivered stays", cancelled},
	{"get tells how many are left", getLeft},
	{"an exclusive consumer is alone", exclusiveConsumer},
	{"what a connection had comes again when it is gone", reconnect},
	{"an auto-delete queue goes with its last consumer", autoDelete},
}

// filled declares a queue with the messages 0 to n-1.
func filled(e *env, ch *amqp.Channel, prefix string, n int) (string, error) {
	q, err := e.queue(ch, prefix, nil)
	for i := 0; err == nil && i < n; i++ {
		err = publish(ch, "", q, text(fmt.Sprint(i)))
	}
	return q, err
}

func prefetch(e *env) error {
	ch, err := e.channel()
	if err != nil {
		return err
	}
	q, err := filled(e, ch, "prefetch", 6)
	if err != nil {
		return err
	}
	if err := ch.Qos(2, 0, false); err != nil {
		return err
	}
	in, err := ch.Consume(q, "", false, false, false, false, nil)
	if err != nil {
		return err
	}
	for range 2 {
		var last amqp.Delivery
		for range 2 {
			if last, err = recv("a delivery", in); err != nil {
				return err
			}
		}
		if err := quiet(in); err != nil {
			return err
		}
		if err := last.Ack(true); err != nil {
			return err
		}
	}
	last, err := recv("a delivery", in)
	if err != nil {
		return err
	}
	return equal("the fifth", string(last.Body), "4")
}

func nackMultiple(e *env) error {
	ch, err := e.channel()
	if err != nil {
		return err
	}
	q, err := filled(e, ch, "nack", 3)
	if err != nil {
		return err
	}
	var last amqp.Delivery
	for range 3 {
		if last, err = get(ch, q); err != nil {
			return err
		}
	}
	if err := last.Nack(true, true); err != nil {
		return err
	}
	for i := range 3 {
		d, err := get(ch, q)
		if err != nil {
			return err
		}
		if err := equal("what came again", []any{string(d.Body), d.Redelivered}, []any{fmt.Sprint(i), true}); err != nil {
			return err
		}
	}
	return nil
}

func ackMultiple(e *env) error {
	conn, err := e.connect()
	if err != nil {
		return err
	}
	ch, err := conn.Channel()
	if err != nil {
		return err
	}
	q, err := filled(e, ch, "ack", 4)
	if err != nil {
		return err
	}
	var all []amqp.Delivery
	for range 4 {
		d, err := get(ch, q)
		if err != nil {
			return err
		}
		all = append(all, d)
	}
	if err := all[2].Ack(true); err != nil {
		return err
	}
	if err := ch.Close(); err != nil {
		return err
	}
	if ch, err = conn.Channel(); err != nil {
		return err
	}
	got, err := bodies(ch, q, 1)
	if err != nil {
		return err
	}
	return equal("what was not settled", got, []string{"3"})
}

func notifyCancel(e *env) error {
	ch, err := e.channel()
	if err != nil {
		return err
	}
	other, err := e.channel()
	if err != nil {
		return err
	}
	q, err := e.queue(ch, "cancel", nil)
	if err != nil {
		return err
	}
	cancels := ch.NotifyCancel(make(chan string, 1))
	in, err := ch.Consume(q, "mine", false, false, false, false, nil)
	if err != nil {
		return err
	}
	if _, err := other.QueueDelete(q, false, false, false); err != nil {
		return err
	}
	tag, err := recv("the cancel", cancels)
	if err != nil {
		return err
	}
	if err := equal("tag", tag, "mine"); err != nil {
		return err
	}
	if _, open := <-in; open {
		return fmt.Errorf("deliveries go on")
	}
	return nil
}

func cancelled(e *env) error {
	ch, err := e.channel()
	if err != nil {
		return err
	}
	q, err := filled(e, ch, "cancelled", 3)
	if err != nil {
		return err
	}
	if err := ch.Qos(1, 0, false); err != nil {
		return err
	}
	in, err := ch.Consume(q, "mine", false, false, false, false, nil)
	if err != nil {
		return err
	}
	d, err := recv("a delivery", in)
	if err != nil {
		return err
	}
	if err := ch.Cancel("mine", false); err != nil {
		return err
	}
	if _, open := <-in; open {
		return fmt.Errorf("deliveries go on")
	}
	if err := d.Ack(false); err != nil {
		return err
	}
	got, err := bodies(ch, q, 2)
	if err != nil {
		return err
	}
	return equal("the rest", got, []string{"1", "2"})
}

func getLeft(e *env) error {
	ch, err := e.channel()
	if err != nil {
		return err
	}
	q, err := filled(e, ch, "get", 2)
	if err != nil {
		return err
	}
	if err := until("both are there", func() (bool, error) { n, err := count(ch, q); return n == 2, err }); err != nil {
		return err
	}
	for left := range 2 {
		d, err := get(ch, q)
		if err != nil {
			return err
		}
		if err := equal("left", d.MessageCount, uint32(1-left)); err != nil {
			return err
		}
	}
	_, ok, err := ch.Get(q, false)
	if err != nil {
		return err
	}
	return equal("one more", ok, false)
}

func exclusiveConsumer(e *env) error {
	ch, err := e.channel()
	if err != nil {
		return err
	}
	other, err := e.channel()
	if err != nil {
		return err
	}
	q, err := e.queue(ch, "exclusive", nil)
	if err != nil {
		return err
	}
	if _, err := ch.Consume(q, "", false, true, false, false, nil); err != nil {
		return err
	}
	_, err = other.Consume(q, "", false, false, false, false, nil)
	return refused(err, amqp.AccessRefused)
}

func reconnect(e *env) error {
	conn, err := e.connect()
	if err != nil {
		return err
	}
	ch, err := conn.Channel()
	if err != nil {
		return err
	}
	q, err := filled(e, ch, "reconnect", 3)
	if err != nil {
		return err
	}
	in, err := ch.Consume(q, "", false, false, false, false, nil)
	if err != nil {
		return err
	}
	for range 3 {
		if _, err := recv("a delivery", in); err != nil {
			return err
		}
	}
	if err := conn.Close(); err != nil {
		return err
	}
	if ch, err = e.channel(); err != nil {
		return err
	}
	for i := range 3 {
		d, err := get(ch, q)
		if err != nil {
			return err
		}
		if err := equal("what came again", []any{string(d.Body), d.Redelivered}, []any{fmt.Sprint(i), true}); err != nil {
			return err
		}
	}
	return nil
}

func autoDelete(e *env) error {
	ch, err := e.channel()
	if err != nil {
		return err
	}
	q := unique("auto")
	if _, err := ch.QueueDeclare(q, false, true, false, false, nil); err != nil {
		return err
	}
	if _, err := ch.Consume(q, "only", true, false, false, false, nil); err != nil {
		return err
	}
	if err := ch.Cancel("only", false); err != nil {
		return err
	}
	_, err = ch.QueueDeclarePassive(q, false, true, false, false, nil)
	return refused(err, amqp.NotFound)
}
