package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/smithy-go"
)

// env is what a check is given to work with; what it makes goes behind it.
type env struct {
	context.Context
	address string
	sqs     *sqs.Client
	urls    []string
	servers []*httptest.Server
}

type attributes = map[string]string

func newEnv(address string) *env {
	e := &env{Context: context.Background(), address: address}
	e.sqs = e.client(address, 1)
	return e
}

// client makes a client that calls the address, and tries attempts times.
func (e *env) client(address string, attempts int) *sqs.Client {
	return sqs.New(sqs.Options{
		BaseEndpoint:     aws.String("http://" + address),
		Region:           "us-east-1",
		Credentials:      credentials.NewStaticCredentialsProvider("test", "test", ""),
		RetryMaxAttempts: attempts,
	})
}

// queue makes a queue of a new name and returns its URL.
func (e *env) queue(with attributes) (string, error) {
	return e.named(unique("q"), with)
}

func (e *env) fifo(with attributes) (string, error) {
	all := attributes{"FifoQueue": "true"}
	for name, value := range with {
		all[name] = value
	}
	return e.named(unique("f")+".fifo", all)
}

func (e *env) named(name string, with attributes) (string, error) {
	made, err := e.sqs.CreateQueue(e, &sqs.CreateQueueInput{QueueName: &name, Attributes: with})
	if err != nil {
		return "", err
	}
	e.urls = append(e.urls, *made.QueueUrl)
	return *made.QueueUrl, nil
}

func (e *env) send(url, body string) error {
	_, err := e.sqs.SendMessage(e, &sqs.SendMessageInput{QueueUrl: &url, MessageBody: &body})
	return err
}

// receive gives what is there now, or comes within some seconds.
func (e *env) receive(url string, seconds int32) ([]types.Message, error) {
	got, err := e.sqs.ReceiveMessage(e, &sqs.ReceiveMessageInput{QueueUrl: &url, MaxNumberOfMessages: 10, WaitTimeSeconds: seconds})
	if err != nil {
		return nil, err
	}
	return got.Messages, nil
}

// take waits for the next n messages, with all that is to be had of them. They stay in flight.
func (e *env) take(url string, n int) (taken []types.Message, err error) {
	err = until(fmt.Sprintf("%d messages", n), func() (bool, error) {
		got, err := e.sqs.ReceiveMessage(e, &sqs.ReceiveMessageInput{
			QueueUrl: &url, MaxNumberOfMessages: int32(min(10, n-len(taken))), WaitTimeSeconds: 1,
			MessageAttributeNames:       []string{"All"},
			MessageSystemAttributeNames: []types.MessageSystemAttributeName{types.MessageSystemAttributeNameAll},
		})
		if err != nil {
			return false, err
		}
		taken = append(taken, got.Messages...)
		return len(taken) >= n, nil
	})
	return taken, err
}

func (e *env) settle(url string, messages []types.Message) error {
	for _, m := range messages {
		if _, err := e.sqs.DeleteMessage(e, &sqs.DeleteMessageInput{QueueUrl: &url, ReceiptHandle: m.ReceiptHandle}); err != nil {
			return err
		}
	}
	return nil
}

// visible lets a message be seen again after some seconds.
func (e *env) visible(url string, m types.Message, seconds int32) error {
	_, err := e.sqs.ChangeMessageVisibility(e, &sqs.ChangeMessageVisibilityInput{
		QueueUrl: &url, ReceiptHandle: m.ReceiptHandle, VisibilityTimeout: seconds,
	})
	return err
}

func (e *env) attributes(url string) (attributes, error) {
	got, err := e.sqs.GetQueueAttributes(e, &sqs.GetQueueAttributesInput{
		QueueUrl: &url, AttributeNames: []types.QueueAttributeName{types.QueueAttributeNameAll},
	})
	if err != nil {
		return nil, err
	}
	return got.Attributes, nil
}

// counts checks how many messages are ready, in flight and delayed.
func (e *env) counts(url, want string) error {
	got, err := e.counted(url)
	return errors.Join(err, equal("ready, in flight, delayed", got, want))
}

func (e *env) counted(url string) (string, error) {
	got, err := e.attributes(url)
	const name = "ApproximateNumberOfMessages"
	return got[name] + " " + got[name+"NotVisible"] + " " + got[name+"Delayed"], err
}

func (e *env) close() {
	for _, url := range e.urls {
		_, _ = e.sqs.DeleteQueue(e, &sqs.DeleteQueueInput{QueueUrl: &url}) // gone by the check, or with the broker
	}
	for _, server := range e.servers {
		server.Close()
	}
}

// reply is what a front answers instead of the broker.
type reply struct {
	status int
	body   string
}

// front is a server before the broker that passes every request on; answer may
// give another reply than the broker's to the request of a number, from 1.
func (e *env) front(answer func(number int64, body string) *reply) (address string, requests *atomic.Int64) {
	requests = new(atomic.Int64)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		number := requests.Add(1)
		onward := r.Clone(r.Context())
		onward.RequestURI, onward.URL.Scheme, onward.URL.Host = "", "http", e.address
		got, err := http.DefaultTransport.RoundTrip(onward)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		defer got.Body.Close()
		body, err := io.ReadAll(got.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		status := got.StatusCode
		for name, values := range got.Header {
			w.Header()[name] = values
		}
		if other := answer(number, string(body)); other != nil {
			status, body = other.status, []byte(other.body)
			w.Header().Del("Content-Length")
			w.Header().Del("x-amzn-query-error")
		}
		w.WriteHeader(status)
		_, _ = io.Copy(w, bytes.NewReader(body)) // the client may have gone
	}))
	e.servers = append(e.servers, server)
	at, err := url.Parse(server.URL)
	if err != nil {
		panic(err)
	}
	return at.Host, requests
}

// unique is a name no other run uses.
func unique(prefix string) string {
	var b [6]byte
	if _, err := rand.Read(b[:]); err != nil {
		panic(err)
	}
	return "go-" + prefix + "-" + hex.EncodeToString(b[:])
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

func bodies(messages []types.Message) (all []string) {
	for _, m := range messages {
		all = append(all, *m.Body)
	}
	return all
}

func equal(what string, got, want any) error {
	if g, w := fmt.Sprintf("%#v", got), fmt.Sprintf("%#v", want); g != w {
		return fmt.Errorf("%s: got %.400s, want %.400s", what, g, w)
	}
	return nil
}

// refused checks that the error is the SDK's own type.
func refused[T error](err error) error {
	var kind T
	if !errors.As(err, &kind) {
		return fmt.Errorf("got %v, want a %T", err, kind)
	}
	return nil
}

// coded checks the code of an error that the SDK has no type for.
func coded(err error, code string) error {
	var e smithy.APIError
	if !errors.As(err, &e) {
		return fmt.Errorf("got %v, want %s", err, code)
	}
	return equal("code of "+e.ErrorMessage(), e.ErrorCode(), code)
}

// all runs steps to the first that fails.
func all(steps ...func() error) error {
	for n, step := range steps {
		if err := step(); err != nil {
			return fmt.Errorf("step %d: %w", n+1, err)
		}
	}
	return nil
}
