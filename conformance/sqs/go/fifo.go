package main

import (
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

func (e *env) sendIn(url, body, group, id string) (*sqs.SendMessageOutput, error) {
	return e.sqs.SendMessage(e, &sqs.SendMessageInput{QueueUrl: &url, MessageBody: &body, MessageGroupId: &group, MessageDeduplicationId: &id})
}

var fifoChecks = []check{
	{name: "a group comes in its order, and waits for what is in flight", run: func(e *env) error {
		url, err := e.fifo(nil)
		if err != nil {
			return err
		}
		for _, body := range []string{"0", "1", "2"} {
			if _, err := e.sendIn(url, body, "g", unique("d")); err != nil {
				return err
			}
		}
		first, err := e.take(url, 1)
		if err := errors.Join(err, equal("first", bodies(first), []string{"0"})); err != nil {
			return err
		}
		if _, err := e.sendIn(url, "other", "h", unique("d")); err != nil {
			return err
		}
		other, err := e.receive(url, 0)
		if err := errors.Join(err, equal("of another group", bodies(other), []string{"other"}), e.settle(url, first)); err != nil {
			return err
		}
		rest, err := e.take(url, 2)
		return errors.Join(err, equal("rest", bodies(rest), []string{"1", "2"}))
	}},
	{name: "a deduplication id is taken once", run: func(e *env) error {
		url, err := e.fifo(nil)
		if err != nil {
			return err
		}
		one, err := e.sendIn(url, "first", "g", "same")
		if err != nil {
			return err
		}
		two, err := e.sendIn(url, "second", "g", "same")
		if err != nil {
			return err
		}
		got, err := e.take(url, 1)
		return errors.Join(err, equal("id", *two.MessageId, *one.MessageId), equal("number", *two.SequenceNumber, *one.SequenceNumber),
			equal("bodies", bodies(got), []string{"first"}), e.counts(url, "0 1 0"))
	}},
	{name: "the content is the id where the queue says so", run: func(e *env) error {
		url, err := e.fifo(attributes{"ContentBasedDeduplication": "true"})
		if err != nil {
			return err
		}
		group := "g"
		for _, body := range []string{"a", "b", "a"} {
			if _, err := e.sqs.SendMessage(e, &sqs.SendMessageInput{QueueUrl: &url, MessageBody: &body, MessageGroupId: &group}); err != nil {
				return err
			}
		}
		got, err := e.take(url, 2)
		return errors.Join(err, equal("bodies", bodies(got), []string{"a", "b"}), e.counts(url, "0 2 0"))
	}},
	{name: "receivers side by side see each group in its order, and nothing twice", run: func(e *env) error {
		url, err := e.fifo(nil)
		if err != nil {
			return err
		}
		const groups, each = 4, 5
		for n := range each {
			for g := range groups {
				if _, err := e.sendIn(url, fmt.Sprint(n), fmt.Sprint(g), unique("d")); err != nil {
					return err
				}
			}
		}
		type seen struct {
			messages []types.Message
			err      error
		}
		results := make(chan seen)
		for range 3 {
			go func() {
				for {
					got, err := e.take(url, 1)
					if err == nil {
						results <- seen{got, nil} // before it is settled: the group waits
						err = e.settle(url, got)
					}
					if err != nil {
						results <- seen{nil, err}
						return
					}
				}
			}()
		}
		next := map[string]int{}
		for range groups * each {
			r := <-results
			if r.err != nil {
				return r.err
			}
			group := r.messages[0].Attributes["MessageGroupId"]
			if err := equal("of group "+group, *r.messages[0].Body, fmt.Sprint(next[group])); err != nil {
				return err
			}
			next[group]++
		}
		return until("all are settled", func() (bool, error) {
			got, err := e.counted(url)
			return got == "0 0 0", err
		})
	}},
	// ElasticMQ takes the handle, and has another code for the name.
	{name: "what a FIFO queue needs and what it has not is said", peer: "millstream", run: func(e *env) error {
		url, err := e.fifo(attributes{"VisibilityTimeout": "1"})
		if err != nil {
			return err
		}
		body, group := "x", "g"
		_, groupless := e.sqs.SendMessage(e, &sqs.SendMessageInput{QueueUrl: &url, MessageBody: &body})
		_, idless := e.sqs.SendMessage(e, &sqs.SendMessageInput{QueueUrl: &url, MessageBody: &body, MessageGroupId: &group})
		_, unnamed := e.queue(attributes{"FifoQueue": "true"})
		if err := errors.Join(coded(groupless, "MissingParameter"), coded(idless, "InvalidParameterValue"), coded(unnamed, "InvalidParameterValue")); err != nil {
			return err
		}
		if _, err := e.sendIn(url, body, group, "d"); err != nil {
			return err
		}
		got, err := e.take(url, 1)
		if err := errors.Join(err, e.timedOut(url)); err != nil {
			return err
		}
		return coded(e.settle(url, got), "InvalidParameterValue")
	}},
}
