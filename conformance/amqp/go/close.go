package main

import (
	"errors"

	amqp "github.com/rabbitmq/amqp091-go"
)

var transactionChecks = []check{
	{"nothing of a transaction is there before its commit, and all of it then", commit},
	{"a rollback leaves acks undone", rollback},
}

var closeChecks = []check{
	{"NotifyClose of a channel tells why, and the others go on", channelEnd},
	{"NotifyClose of a connection tells why", connectionEnd},
	{"an unknown delivery tag closes the channel with 406", unknownTag},
	{"a wrong password is refused", wrongPassword},
}

func commit(e *env) error {
	ch, err := e.channel()
	if err != nil {
		return err
	}
	other, err := e.channel()
	if err != nil {
		return err
	}
	in, err := filled(e, other, "in", 1)
	if err != nil {
		return err
	}
	out, err := e.queue(other, "out", nil)
	if err != nil {
		return err
	}
	if err := ch.Tx(); err != nil {
		return err
	}
	d, err := get(ch, in)
	if err != nil {
		return err
	}
	if err := errors.Join(publish(ch, "", out, text("done")), d.Ack(false)); err != nil {
		return err
	}
	if _, early, err := other.Get(out, true); err != nil || early {
		return errors.Join(err, equal("before the commit", early, false))
	}
	if err := ch.TxCommit(); err != nil {
		return err
	}
	got, err := bodies(other, out, 1)
	if err != nil {
		return err
	}
	if err := ch.Close(); err != nil {
		return err
	}
	n, err := count(other, in)
	return errors.Join(err, equal("left", n, 0), equal("came", got, []string{"done"}))
}

func rollback(e *env) error {
	conn, err := e.connect()
	if err != nil {
		return err
	}
	ch, err := conn.Channel()
	if err != nil {
		return err
	}
	q, err := filled(e, ch, "rollback", 1)
	if err != nil {
		return err
	}
	if err := until("it is there", func() (bool, error) { n, err := count(ch, q); return n == 1, err }); err != nil {
		return err
	}
	if err := ch.Tx(); err != nil {
		return err
	}
	d, err := get(ch, q)
	if err != nil {
		return err
	}
	if err := errors.Join(d.Ack(false), publish(ch, "", q, text("never")), ch.TxRollback(), ch.Close()); err != nil {
		return err
	}
	if ch, err = conn.Channel(); err != nil {
		return err
	}
	got, err := bodies(ch, q, 1)
	if err != nil {
		return err
	}
	n, err := count(ch, q)
	return errors.Join(err, equal("came again", got, []string{"0"}), equal("left", n, 0))
}

func channelEnd(e *env) error {
	conn, err := e.connect()
	if err != nil {
		return err
	}
	ch, err := conn.Channel()
	if err != nil {
		return err
	}
	other, err := conn.Channel()
	if err != nil {
		return err
	}
	closed := ch.NotifyClose(make(chan *amqp.Error, 1))
	if err := publish(ch, unique("no-exchange"), "k", text("x")); err != nil {
		return err
	}
	why, err := recv("the end", closed)
	if err != nil {
		return err
	}
	_, err = other.QueueDeclare("", false, true, true, false, nil)
	return errors.Join(err, refused(why, amqp.NotFound), equal("from the server, to be recovered from", []bool{why.Server, why.Recover}, []bool{true, true}))
}

func connectionEnd(e *env) error {
	conn, err := e.connect()
	if err != nil {
		return err
	}
	ch, err := conn.Channel()
	if err != nil {
		return err
	}
	q, err := ch.QueueDeclare("", false, true, true, false, nil)
	if err != nil {
		return err
	}
	closed := conn.NotifyClose(make(chan *amqp.Error, 1))
	if _, err := ch.Consume(q.Name, "taken", true, false, false, false, nil); err != nil {
		return err
	}
	_, err = ch.Consume(q.Name, "taken", true, false, false, false, nil)
	if err := refused(err, amqp.NotAllowed); err != nil {
		return err
	}
	why, err := recv("the end", closed)
	return errors.Join(err, refused(why, amqp.NotAllowed), equal("closed", conn.IsClosed(), true))
}

func unknownTag(e *env) error {
	ch, err := e.channel()
	if err != nil {
		return err
	}
	closed := ch.NotifyClose(make(chan *amqp.Error, 1))
	if err := ch.Ack(7, false); err != nil {
		return err
	}
	why, err := recv("the end", closed)
	return errors.Join(err, refused(why, amqp.PreconditionFailed))
}

func wrongPassword(e *env) error {
	uri, err := amqp.ParseURI(e.url)
	if err != nil {
		return err
	}
	uri.Password = "wrong"
	_, err = amqp.Dial(uri.String())
	return refused(err, amqp.AccessRefused)
}
