package main

import (
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

var declareChecks = []check{
	{"a queue declared otherwise closes the channel with 406 and leaves the connection", inequivalent},
	{"a passive declare of what is not there gets 404", passiveAbsent},
	{"a queue of another connection's own is locked", exclusiveLocked},
	{"exchanges bound to exchanges pass messages on", exchangeToExchange},
	{"a headers exchange matches tables as Go sends them", headersExchange},
	{"field tables come back with the types they went in", tableTypes},
	{"if-unused and if-empty hold a delete back", deleteIf},
	{"a queue's length is kept by dropping its head", maxLength},
	{"higher priorities come first", priorities},
}

func inequivalent(e *env) error {
	conn, err := e.connect()
	if err != nil {
		return err
	}
	ch, err := conn.Channel()
	if err != nil {
		return err
	}
	q, err := e.queue(ch, "inequivalent", amqp.Table{"x-max-length": int32(5)})
	if err != nil {
		return err
	}
	closed := ch.NotifyClose(make(chan *amqp.Error, 1))
	_, err = ch.QueueDeclare(q, true, false, false, false, amqp.Table{"x-max-length": int64(6)})
	if err := refused(err, amqp.PreconditionFailed); err != nil {
		return err
	}
	why, err := recv("the channel's end", closed)
	if err != nil {
		return err
	}
	if err := refused(why, amqp.PreconditionFailed); err != nil {
		return err
	}
	if ch, err = conn.Channel(); err != nil {
		return err
	}
	// Another integer type of the same value is the same.
	_, err = ch.QueueDeclare(q, true, false, false, false, amqp.Table{"x-max-length": int64(5)})
	return err
}

func passiveAbsent(e *env) error {
	ch, err := e.channel()
	if err != nil {
		return err
	}
	_, err = ch.QueueDeclarePassive(unique("absent"), true, false, false, false, nil)
	return refused(err, amqp.NotFound)
}

func exclusiveLocked(e *env) error {
	mine, err := e.channel()
	if err != nil {
		return err
	}
	other, err := e.channel()
	if err != nil {
		return err
	}
	q, err := mine.QueueDeclare("", false, false, true, false, nil)
	if err != nil {
		return err
	}
	_, err = other.Consume(q.Name, "", true, false, false, false, nil)
	return refused(err, amqp.ResourceLocked)
}

func exchangeToExchange(e *env) error {
	ch, err := e.channel()
	if err != nil {
		return err
	}
	first, second := unique("first"), unique("second")
	for _, x := range []string{first, second} {
		if err := ch.ExchangeDeclare(x, "topic", false, true, false, false, nil); err != nil {
			return err
		}
	}
	q, err := e.queue(ch, "e2e", nil)
	if err != nil {
		return err
	}
	if err := ch.ExchangeBind(second, "a.*", first, false, nil); err != nil {
		return err
	}
	if err := ch.QueueBind(q, "*.b", second, false, nil); err != nil {
		return err
	}
	for _, key := range []string{"a.b", "a.c", "b.b"} {
		if err := publish(ch, first, key, text(key)); err != nil {
			return err
		}
	}
	got, err := bodies(ch, q, 1)
	if err != nil {
		return err
	}
	if err := equal("what came", got, []string{"a.b"}); err != nil {
		return err
	}
	_, more, err := ch.Get(q, true)
	if err != nil {
		return err
	}
	return equal("more", more, false)
}

func headersExchange(e *env) error {
	ch, err := e.channel()
	if err != nil {
		return err
	}
	q, err := e.queue(ch, "headers", nil)
	if err != nil {
		return err
	}
	if err := ch.QueueBind(q, "", "amq.headers", false, amqp.Table{"x-match": "all", "n": int32(5), "s": q}); err != nil {
		return err
	}
	for body, h := range map[string]amqp.Table{"both": {"n": int64(5), "s": q}, "one": {"s": q}} {
		if err := publish(ch, "amq.headers", "", amqp.Publishing{Headers: h, Body: []byte(body)}); err != nil {
			return err
		}
	}
	got, err := bodies(ch, q, 1)
	if err != nil {
		return err
	}
	return equal("what came", got, []string{"both"})
}

func tableTypes(e *env) error {
	ch, err := e.channel()
	if err != nil {
		return err
	}
	q, err := e.queue(ch, "table", nil)
	if err != nil {
		return err
	}
	sent := amqp.Table{
		"bool": true, "int8": int8(-1), "int16": int16(-300), "int32": int32(-70_000), "int64": int64(-1) << 40, "float32": float32(1.5),
		"float64": 2.25, "string": "text", "bytes": []byte{0, 255}, "time": time.Unix(1_700_000_000, 0), "nil": nil,
		"decimal": amqp.Decimal{Scale: 2, Value: 12_345}, "array": []any{int32(1), "two", amqp.Table{"three": int64(3)}}, "table": amqp.Table{"inner": "x"},
	}
	if err := publish(ch, "", q, amqp.Publishing{Headers: sent, Timestamp: time.Unix(1_700_000_001, 0), Priority: 3, Type: "t", AppId: "a"}); err != nil {
		return err
	}
	d, err := get(ch, q)
	if err != nil {
		return err
	}
	for name, want := range sent {
		got := d.Headers[name]
		if at, ok := want.(time.Time); ok {
			t, _ := got.(time.Time)
			got, want = t.Unix(), at.Unix()
		}
		if err := equal(name, got, want); err != nil {
			return err
		}
	}
	return equal("properties", []any{d.Timestamp.Unix(), d.Priority, d.Type, d.AppId}, []any{int64(1_700_000_001), uint8(3), "t", "a"})
}

func deleteIf(e *env) error {
	conn, err := e.connect()
	if err != nil {
		return err
	}
	ch, err := conn.Channel()
	if err != nil {
		return err
	}
	q, err := e.queue(ch, "delete", nil)
	if err != nil {
		return err
	}
	if err := publish(ch, "", q, text("x")); err != nil {
		return err
	}
	_, err = ch.QueueDelete(q, false, true, false)
	if err := refused(err, amqp.PreconditionFailed); err != nil {
		return err
	}
	if ch, err = conn.Channel(); err != nil {
		return err
	}
	if _, err := ch.Consume(q, "", false, false, false, false, nil); err != nil {
		return err
	}
	_, err = ch.QueueDelete(q, true, false, false)
	if err := refused(err, amqp.PreconditionFailed); err != nil {
		return err
	}
	if ch, err = conn.Channel(); err != nil {
		return err
	}
	n, err := ch.QueueDelete(q, false, false, false)
	if err != nil {
		return err
	}
	return equal("messages that went", n, 1)
}

func maxLength(e *env) error {
	ch, err := e.channel()
	if err != nil {
		return err
	}
	q, err := e.queue(ch, "length", amqp.Table{"x-max-length": int32(2)})
	if err != nil {
		return err
	}
	for _, body := range []string{"1", "2", "3"} {
		if err := publish(ch, "", q, text(body)); err != nil {
			return err
		}
	}
	got, err := bodies(ch, q, 2)
	if err != nil {
		return err
	}
	return equal("what is left", got, []string{"2", "3"})
}

func priorities(e *env) error {
	ch, err := e.channel()
	if err != nil {
		return err
	}
	q, err := e.queue(ch, "priority", amqp.Table{"x-max-priority": uint8(9)})
	if err != nil {
		return err
	}
	for _, p := range []uint8{1, 9, 5} {
		msg := text(string('0' + rune(p)))
		msg.Priority = p
		if err := publish(ch, "", q, msg); err != nil {
			return err
		}
	}
	if err := until("all are there", func() (bool, error) { n, err := count(ch, q); return n == 3, err }); err != nil {
		return err
	}
	got, err := bodies(ch, q, 3)
	if err != nil {
		return err
	}
	return equal("order", got, []string{"9", "5", "1"})
}
