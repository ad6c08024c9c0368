package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// unique is a name no other run uses.
func unique(prefix string) string {
	var b [6]byte
	if _, err := rand.Read(b[:]); err != nil {
		panic(err)
	}
	return "go-" + prefix + "-" + hex.EncodeToString(b[:])
}

// recv takes the next value; it must come in time, before the channel closes.
func recv[T any](what string, from <-chan T) (T, error) {
	select {
	case v, ok := <-from:
		if !ok {
			return v, fmt.Errorf("%s: the channel was closed", what)
		}
		return v, nil
	case <-time.After(waitTimeout):
		var none T
		return none, fmt.Errorf("%s did not come", what)
	}
}

// quiet checks that nothing more comes for a while.
func quiet(from <-chan amqp.Delivery) error {
	select {
	case d := <-from:
		return fmt.Errorf("%q came, and should not", d.Body)
	case <-time.After(300 * time.Millisecond):
		return nil
	}
}

// until polls a condition until it holds.
func until(what string, cond func() (bool, error)) error {
	deadline := time.Now().Add(waitTimeout)
	for {
		ok, err := cond()
		if ok || err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s did not happen", what)
		}
		time.Sleep(20 * time.Millisecond) // tidy: pacing
	}
}

func publish(ch *amqp.Channel, exchange, key string, msg amqp.Publishing) error {
	return ch.PublishWithContext(context.Background(), exchange, key, false, false, msg)
}

func text(body string) amqp.Publishing {
	return amqp.Publishing{Body: []byte(body), DeliveryMode: amqp.Persistent}
}

// get waits for a message and takes it, unacknowledged.
func get(ch *amqp.Channel, queue string) (amqp.Delivery, error) {
	var d amqp.Delivery
	err := until("a message in "+queue, func() (bool, error) {
		var ok bool
		var err error
		d, ok, err = ch.Get(queue, false)
		return ok, err
	})
	return d, err
}

// bodies gets n messages and acknowledges them.
func bodies(ch *amqp.Channel, queue string, n int) (all []string, err error) {
	for range n {
		d, err := get(ch, queue)
		if err != nil {
			return all, err
		}
		if err := d.Ack(false); err != nil {
			return all, err
		}
		all = append(all, string(d.Body))
	}
	return all, nil
}

func count(ch *amqp.Channel, queue string) (int, error) {
	q, err := ch.QueueDeclarePassive(queue, true, false, false, false, nil)
	return q.Messages, err
}

func equal(what string, got, want any) error {
	if g, w := fmt.Sprintf("%#v", got), fmt.Sprintf("%#v", want); g != w {
		return fmt.Errorf("%s: got %s, want %s", what, g, w)
	}
	return nil
}

// refused checks the broker's reason in what a call returned.
func refused(err error, code int) error {
	var e *amqp.Error
	if !errors.As(err, &e) {
		return fmt.Errorf("got %v, want a refusal with %d", err, code)
	}
	return equal("reply code of "+e.Reason, e.Code, code)
}
