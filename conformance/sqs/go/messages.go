package main

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

type values = map[string]types.MessageAttributeValue

func textual(kind, value string) types.MessageAttributeValue {
	return types.MessageAttributeValue{DataType: &kind, StringValue: &value}
}

func octets(kind string, value []byte) types.MessageAttributeValue {
	return types.MessageAttributeValue{DataType: &kind, BinaryValue: value}
}

// kinds has an attribute of every type.
func kinds() values {
	every := make([]byte, 256)
	for n := range every {
		every[n] = byte(n)
	}
	return values{
		"text":     textual("String", "a <&> \"b\" é世😀\n\ttab"),
		"labelled": textual("String.mine", "x"),
		"number":   textual("Number", "12345678901234567890.5"),
		"float":    textual("Number.float", "1.50"),
		"bytes":    octets("Binary", every),
		"picture":  octets("Binary.png", []byte("\x89PNG")),
	}
}

// digest is that of attributes, as AWS documents it.
func digest(attributes values) string {
	hash := md5.New()
	part := func(value []byte) {
		_ = binary.Write(hash, binary.BigEndian, uint32(len(value))) // a hash takes all
		hash.Write(value)
	}
	var names []string
	for name := range attributes {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		value := attributes[name]
		part([]byte(name))
		part([]byte(*value.DataType))
		if value.StringValue != nil {
			hash.Write([]byte{1})
			part([]byte(*value.StringValue))
		} else {
			hash.Write([]byte{2})
			part(value.BinaryValue)
		}
	}
	return hex.EncodeToString(hash.Sum(nil))
}

// alike checks attributes that came against those that were sent.
func alike(got, want values) error {
	if len(got) != len(want) {
		return fmt.Errorf("%d attributes, want %d", len(got), len(want))
	}
	for name, w := range want {
		g, ok := got[name]
		if !ok || aws.ToString(g.DataType) != *w.DataType || aws.ToString(g.StringValue) != aws.ToString(w.StringValue) || !bytes.Equal(g.BinaryValue, w.BinaryValue) {
			return fmt.Errorf("attribute %s: got %v", name, g)
		}
	}
	return nil
}

func batchOf(n int, body string) (entries []types.SendMessageBatchRequestEntry) {
	for i := range n {
		entries = append(entries, types.SendMessageBatchRequestEntry{Id: aws.String(fmt.Sprint(i)), MessageBody: &body})
	}
	return entries
}

// one makes a queue with one message, and takes it.
func (e *env) one(with attributes) (url string, m types.Message, err error) {
	if url, err = e.queue(with); err != nil {
		return url, m, err
	}
	if err = e.send(url, "x"); err != nil {
		return url, m, err
	}
	got, err := e.take(url, 1)
	if err != nil {
		return url, m, err
	}
	return url, got[0], nil
}

// timedOut waits until the message of a queue is visible again.
func (e *env) timedOut(url string) error {
	return until("it is visible again", func() (bool, error) {
		got, err := e.counted(url)
		return got == "1 0 0", err
	})
}

var messageChecks = []check{
	{name: "bodies come as they were sent, with the digests that the SDK compares", run: func(e *env) error {
		url, err := e.queue(nil)
		if err != nil {
			return err
		}
		for _, body := range []string{"plain", "a <&> \"b\" 'c'", "é世😀\n\t", `{"json": [1, "\u0041"]}`, " ", strings.Repeat("x", 200_000)} {
			if err := e.send(url, body); err != nil {
				return err
			}
			got, err := e.take(url, 1)
			if err := errors.Join(err, equal("body", bodies(got), []string{body}), e.settle(url, got)); err != nil {
				return err
			}
		}
		return nil
	}},
	{name: "attributes of every type come as they were sent, with their digest", run: func(e *env) error {
		url, err := e.queue(nil)
		if err != nil {
			return err
		}
		sent, err := e.sqs.SendMessage(e, &sqs.SendMessageInput{QueueUrl: &url, MessageBody: aws.String("x"), MessageAttributes: kinds()})
		if err != nil {
			return err
		}
		got, err := e.take(url, 1)
		if err != nil {
			return err
		}
		want := digest(kinds())
		return errors.Join(alike(got[0].MessageAttributes, kinds()), equal("digest of what was sent", *sent.MD5OfMessageAttributes, want),
			equal("digest of what came", *got[0].MD5OfMessageAttributes, want))
	}},
	// ElasticMQ: InvalidAttributeValue for all.
	{name: "of a batch the entries fail one by one", peer: "millstream", run: func(e *env) error {
		url, err := e.queue(nil)
		if err != nil {
			return err
		}
		entries := batchOf(3, "x")
		entries[1].DelaySeconds = 901
		entries[2].MessageBody = aws.String("a\x00b")
		done, err := e.sqs.SendMessageBatch(e, &sqs.SendMessageBatchInput{QueueUrl: &url, Entries: entries})
		if err != nil {
			return err
		}
		var failed []string
		for _, f := range done.Failed {
			failed = append(failed, fmt.Sprint(*f.Id, *f.Code, f.SenderFault))
		}
		return errors.Join(equal("sent", len(done.Successful), 1), equal("failed", failed, []string{"1InvalidParameterValuetrue", "2InvalidMessageContentstrue"}),
			e.counts(url, "1 0 0"))
	}},
	{name: "a batch is sent, put off and deleted as a whole", run: func(e *env) error {
		url, err := e.queue(nil)
		if err != nil {
			return err
		}
		sent, err := e.sqs.SendMessageBatch(e, &sqs.SendMessageBatchInput{QueueUrl: &url, Entries: batchOf(10, "x")})
		if err != nil {
			return err
		}
		got, err := e.take(url, 10)
		if err != nil {
			return err
		}
		var off []types.ChangeMessageVisibilityBatchRequestEntry
		var gone []types.DeleteMessageBatchRequestEntry
		for n, m := range got {
			id := fmt.Sprint(n)
			off = append(off, types.ChangeMessageVisibilityBatchRequestEntry{Id: &id, ReceiptHandle: m.ReceiptHandle, VisibilityTimeout: 60})
			gone = append(gone, types.DeleteMessageBatchRequestEntry{Id: &id, ReceiptHandle: m.ReceiptHandle})
		}
		put, err := e.sqs.ChangeMessageVisibilityBatch(e, &sqs.ChangeMessageVisibilityBatchInput{QueueUrl: &url, Entries: off})
		if err != nil {
			return err
		}
		deleted, err := e.sqs.DeleteMessageBatch(e, &sqs.DeleteMessageBatchInput{QueueUrl: &url, Entries: gone})
		if err != nil {
			return err
		}
		return errors.Join(equal("done", []int{len(sent.Successful), len(put.Successful), len(deleted.Successful)}, []int{10, 10, 10}), e.counts(url, "0 0 0"))
	}},
	{name: "batches with ids twice or too many entries are errors of their own types", run: func(e *env) error {
		url, err := e.queue(nil)
		if err != nil {
			return err
		}
		_, many := e.sqs.SendMessageBatch(e, &sqs.SendMessageBatchInput{QueueUrl: &url, Entries: batchOf(11, "x")})
		_, twice := e.sqs.SendMessageBatch(e, &sqs.SendMessageBatchInput{QueueUrl: &url, Entries: append(batchOf(1, "x"), batchOf(1, "x")...)})
		return errors.Join(refused[*types.TooManyEntriesInBatchRequest](many), refused[*types.BatchEntryIdsNotDistinct](twice), e.counts(url, "0 0 0"))
	}},
	// ElasticMQ takes an empty batch, and has another code for one that is too long.
	{name: "batches that are empty, too long or name their entries wrongly are errors of their own types", peer: "millstream", run: func(e *env) error {
		url, err := e.queue(nil)
		if err != nil {
			return err
		}
		_, empty := e.sqs.SendMessageBatch(e, &sqs.SendMessageBatchInput{QueueUrl: &url, Entries: []types.SendMessageBatchRequestEntry{}})
		_, long := e.sqs.SendMessageBatch(e, &sqs.SendMessageBatchInput{QueueUrl: &url, Entries: batchOf(10, strings.Repeat("x", 110_000))})
		wrong := batchOf(1, "x")
		wrong[0].Id = aws.String("a b")
		_, named := e.sqs.SendMessageBatch(e, &sqs.SendMessageBatchInput{QueueUrl: &url, Entries: wrong})
		return errors.Join(refused[*types.EmptyBatchRequest](empty), refused[*types.BatchRequestTooLong](long),
			refused[*types.InvalidBatchEntryId](named), e.counts(url, "0 0 0"))
	}},
	{name: "a waiting receive gets what is sent meanwhile", run: func(e *env) error {
		url, err := e.queue(nil)
		if err != nil {
			return err
		}
		sent := make(chan error, 1)
		go func() { sent <- e.send(url, "x") }()
		got, err := e.receive(url, 15)
		return errors.Join(err, <-sent, equal("bodies", bodies(got), []string{"x"}))
	}},
	{name: "a receive that waits in vain gives nothing", run: func(e *env) error {
		url, err := e.queue(nil)
		if err != nil {
			return err
		}
		got, err := e.receive(url, 1)
		return errors.Join(err, equal("messages", len(got), 0))
	}},
	{name: "a receive given up by its client takes nothing along", run: func(e *env) error {
		url, err := e.queue(attributes{"VisibilityTimeout": "1"})
		if err != nil {
			return err
		}
		ctx, cancel := context.WithCancel(e)
		ended := make(chan error, 1)
		go func() {
			_, err := e.sqs.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{QueueUrl: &url, WaitTimeSeconds: 15})
			ended <- err
		}()
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			return fmt.Errorf("got %v", err)
		}
		if err := e.send(url, "x"); err != nil {
			return err
		}
		_, err = e.take(url, 1)
		return err
	}},
	{name: "a message comes again when its time is over, and counts its receives", run: func(e *env) error {
		url, first, err := e.one(attributes{"VisibilityTimeout": "1"})
		if err != nil {
			return err
		}
		again, err := e.take(url, 1)
		if err != nil {
			return err
		}
		const count = "ApproximateReceiveCount"
		return errors.Join(equal("id", *again[0].MessageId, *first.MessageId),
			equal("counts", first.Attributes[count]+again[0].Attributes[count], "12"))
	}},
	{name: "visibility is lengthened and ended by the handle", run: func(e *env) error {
		url, m, err := e.one(attributes{"VisibilityTimeout": "1"})
		if err != nil {
			return err
		}
		return all(
			func() error { return e.visible(url, m, 60) },
			func() error {
				got, err := e.receive(url, 2)
				return errors.Join(err, equal("messages", len(got), 0))
			},
			func() error { return e.visible(url, m, 0) },
			func() error { _, err := e.take(url, 1); return err },
		)
	}},
	{name: "a handle of a message that nobody took since still deletes it", run: func(e *env) error {
		url, m, err := e.one(attributes{"VisibilityTimeout": "1"})
		if err != nil {
			return err
		}
		return all(
			func() error { return e.timedOut(url) },
			func() error { return e.settle(url, []types.Message{m}) },
			func() error { return e.counts(url, "0 0 0") },
		)
	}},
	// ElasticMQ has other codes.
	{name: "a handle from before another receive deletes nothing, and what cannot be has its type", peer: "millstream", run: func(e *env) error {
		url, old, err := e.one(attributes{"VisibilityTimeout": "1"})
		if err != nil {
			return err
		}
		nobody := types.Message{ReceiptHandle: aws.String("nobody")}
		return all(
			func() error { return e.timedOut(url) },
			func() error { return refused[*types.MessageNotInflight](e.visible(url, old, 9)) },
			func() error {
				got, err := e.take(url, 1)
				return errors.Join(err, e.visible(url, got[0], 60))
			},
			func() error { return e.settle(url, []types.Message{old}) },
			func() error { return e.counts(url, "0 1 0") },
			func() error { return refused[*types.ReceiptHandleIsInvalid](e.settle(url, []types.Message{nobody})) },
			func() error { return refused[*types.InvalidMessageContents](e.send(url, "a\x00b")) },
			func() error { return coded(e.visible(url, old, 43_201), "InvalidParameterValue") },
		)
	}},
}
