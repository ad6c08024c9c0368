package main

import (
	"fmt"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

var deadLetterChecks = []check{
	{"x-death has Go's types and says why, where and how often", death},
	{"a message's own expiration and its queue's time to live both count", expires},
	{"an unused queue expires", queueExpires},
	{"reject-publish-dlx sends what it refuses to the dead", rejectDlx},
}

// mortal declares a queue and the queue of its dead.
func mortal(e *env, ch *amqp.Channel, args amqp.Table) (queue, dead string, err error) {
	if dead, err = e.queue(ch, "dead", nil); err != nil {
		return
	}
	all := amqp.Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead}
	for name, value := range args {
		all[name] = value
	}
	queue, err = e.queue(ch, "mortal", all)
	return
}

func death(e *env) error {
	ch, err := e.channel()
	if err != nil {
		return err
	}
	q, dead, err := mortal(e, ch, nil)
	if err != nil {
		return err
	}
	if err := publish(ch, "", q, text("x")); err != nil {
		return err
	}
	d, err := get(ch, q)
	if err != nil {
		return err
	}
	if err := d.Reject(false); err != nil {
		return err
	}
	if d, err = get(ch, dead); err != nil {
		return err
	}
	all, _ := d.Headers["x-death"].([]any)
	if len(all) != 1 {
		return fmt.Errorf("x-death is %#v", d.Headers["x-death"])
	}
	one, _ := all[0].(amqp.Table)
	if _, ok := one["time"].(time.Time); !ok {
		return fmt.Errorf("its time is %#v", one["time"])
	}
	for name, want := range (amqp.Table{"reason": "rejected", "queue": q, "exchange": "", "count": int64(1), "routing-keys": []any{q}}) {
		if err := equal(name, one[name], want); err != nil {
			return err
		}
	}
	return equal("the first", []any{d.Headers["x-first-death-reason"], d.Headers["x-first-death-queue"]}, []any{"rejected", q})
}

func expires(e *env) error {
	ch, err := e.channel()
	if err != nil {
		return err
	}
	type times struct {
		queue   amqp.Table
		message string
	}
	short := amqp.Table{"x-message-ttl": int32(30)}
	for _, c := range []times{{nil, "30"}, {short, ""}, {short, "60000"}} {
		q, dead, err := mortal(e, ch, c.queue)
		if err != nil {
			return err
		}
		msg := text("x")
		msg.Expiration = c.message
		if err := publish(ch, "", q, msg); err != nil {
			return err
		}
		d, err := get(ch, dead)
		if err != nil {
			return err
		}
		if err := equal("expiration and reason", []any{d.Expiration, d.Headers["x-first-death-reason"]}, []any{"", "expired"}); err != nil {
			return err
		}
	}
	return nil
}

func queueExpires(e *env) error {
	conn, err := e.connect()
	if err != nil {
		return err
	}
	ch, err := conn.Channel()
	if err != nil {
		return err
	}
	q, err := e.queue(ch, "expires", amqp.Table{"x-expires": int32(200)})
	if err != nil {
		return err
	}
	// Declaring is using, so it is looked at by something else: a publish that comes back.
	returns := ch.NotifyReturn(make(chan amqp.Return, 100))
	return until("it is gone", func() (bool, error) {
		if err := ch.Publish("", q, true, false, text("x")); err != nil {
			return false, err
		}
		select {
		case <-returns:
			return true, nil
		default:
			return false, nil
		}
	})
}

func rejectDlx(e *env) error {
	ch, err := confirming(e)
	if err != nil {
		return err
	}
	q, dead, err := mortal(e, ch, amqp.Table{"x-max-length": int32(1), "x-overflow": "reject-publish-dlx"})
	if err != nil {
		return err
	}
	confirms := ch.NotifyPublish(make(chan amqp.Confirmation, 2))
	for i := range 2 {
		if err := publish(ch, "", q, text(fmt.Sprint(i))); err != nil {
			return err
		}
		c, err := recv("a confirm", confirms)
		if err != nil {
			return err
		}
		if err := equal("taken", c.Ack, i == 0); err != nil {
			return err
		}
	}
	d, err := get(ch, dead)
	if err != nil {
		return err
	}
	return equal("the dead one", []any{string(d.Body), d.Headers["x-first-death-reason"]}, []any{"1", "maxlen"})
}
