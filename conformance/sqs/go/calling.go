package main

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
)

const (
	fault     = `{"__type":"com.amazonaws.sqs#InternalError","message":"told by the check"}`
	throttled = `{"__type":"com.amazonaws.sqs#ThrottlingException","message":"told by the check"}`
)

var callingChecks = []check{
	{name: "a call is repeated after a fault and a throttling, and its message is there once", run: func(e *env) error {
		url, err := e.fifo(nil)
		if err != nil {
			return err
		}
		address, requests := e.front(func(number int64, _ string) *reply {
			return map[int64]*reply{1: {http.StatusInternalServerError, fault}, 2: {http.StatusBadRequest, throttled}}[number]
		})
		sent, err := e.client(address, 4).SendMessage(e, &sqs.SendMessageInput{
			QueueUrl: &url, MessageBody: aws.String("x"), MessageGroupId: aws.String("g"), MessageDeduplicationId: aws.String("d"),
		})
		if err != nil {
			return err
		}
		got, err := e.take(url, 1)
		if err != nil {
			return err
		}
		return errors.Join(equal("requests", requests.Load(), int64(3)), equal("id", *got[0].MessageId, *sent.MessageId), e.counts(url, "0 1 0"))
	}},
	{name: "a body changed on its way is found out by its digest", run: func(e *env) error {
		url, err := e.queue(nil)
		if err != nil {
			return err
		}
		if err := e.send(url, "honest"); err != nil {
			return err
		}
		address, _ := e.front(func(_ int64, body string) *reply {
			return &reply{http.StatusOK, strings.Replace(body, "honest", "forged", 1)}
		})
		_, err = e.client(address, 1).ReceiveMessage(e, &sqs.ReceiveMessageInput{QueueUrl: &url, WaitTimeSeconds: 5})
		if err == nil || !strings.Contains(err.Error(), "checksum") {
			return fmt.Errorf("got %v", err)
		}
		return nil
	}},
	{name: "an endpoint is called whatever host the URL names", run: func(e *env) error {
		url, err := e.queue(nil)
		if err != nil {
			return err
		}
		other := "http://127.0.0.1:1/" + strings.SplitN(url, "/", 4)[3]
		if err := e.send(other, "x"); err != nil {
			return err
		}
		_, err = e.take(url, 1)
		return err
	}},
	// ElasticMQ gives no request id.
	{name: "an error has status and request id", peer: "millstream", run: func(e *env) error {
		name := unique("none")
		_, err := e.sqs.GetQueueUrl(e, &sqs.GetQueueUrlInput{QueueName: &name})
		var answer *awshttp.ResponseError
		if !errors.As(err, &answer) {
			return fmt.Errorf("got %v", err)
		}
		if answer.RequestID == "" {
			return errors.New("no request id")
		}
		return errors.Join(equal("status", answer.HTTPStatusCode(), http.StatusBadRequest), coded(err, "AWS.SimpleQueueService.NonExistentQueue"))
	}},
}
