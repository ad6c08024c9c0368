package main

import (
	"errors"
	"fmt"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

func redrive(arn string, times int) attributes {
	return attributes{"RedrivePolicy": fmt.Sprintf(`{"deadLetterTargetArn":%q,"maxReceiveCount":%d}`, arn, times)}
}

// graveyard makes a queue for dead letters and gives its URL and ARN.
func (e *env) graveyard() (url, arn string, err error) {
	if url, err = e.queue(nil); err != nil {
		return "", "", err
	}
	got, err := e.attributes(url)
	return url, got["QueueArn"], err
}

var queueChecks = []check{
	{name: "a queue is made, found by its name, described and deleted", run: func(e *env) error {
		name := unique("made")
		url, err := e.named(name, attributes{"VisibilityTimeout": "7"})
		if err != nil {
			return err
		}
		found, err := e.sqs.GetQueueUrl(e, &sqs.GetQueueUrlInput{QueueName: &name})
		if err != nil {
			return err
		}
		got, err := e.attributes(url)
		if err := errors.Join(err, equal("URL", *found.QueueUrl, url), equal("timeout", got["VisibilityTimeout"], "7")); err != nil {
			return err
		}
		_, err = e.sqs.SetQueueAttributes(e, &sqs.SetQueueAttributesInput{QueueUrl: &url, Attributes: attributes{"DelaySeconds": "3"}})
		if err != nil {
			return err
		}
		got, err = e.attributes(url)
		if err := errors.Join(err, equal("delay", got["DelaySeconds"], "3")); err != nil {
			return err
		}
		if _, err := e.sqs.DeleteQueue(e, &sqs.DeleteQueueInput{QueueUrl: &url}); err != nil {
			return err
		}
		_, err = e.sqs.GetQueueUrl(e, &sqs.GetQueueUrlInput{QueueName: &name})
		return refused[*types.QueueDoesNotExist](err)
	}},
	{name: "a queue with other attributes exists already", run: func(e *env) error {
		name := unique("again")
		url, err := e.named(name, attributes{"VisibilityTimeout": "40"})
		if err != nil {
			return err
		}
		again, err := e.named(name, attributes{"VisibilityTimeout": "40"})
		if err := errors.Join(err, equal("URL", again, url)); err != nil {
			return err
		}
		_, err = e.named(name, attributes{"VisibilityTimeout": "41"})
		return refused[*types.QueueNameExists](err)
	}},
	// ElasticMQ gives all in one page.
	{name: "the paginator of queues gives each once", peer: "millstream", run: func(e *env) error {
		prefix := unique("page")
		for n := range 5 {
			if _, err := e.named(fmt.Sprintf("%s-%d", prefix, n), nil); err != nil {
				return err
			}
		}
		var listed []string
		var sizes []int
		pages := sqs.NewListQueuesPaginator(e.sqs, &sqs.ListQueuesInput{QueueNamePrefix: &prefix, MaxResults: aws.Int32(2)})
		for pages.HasMorePages() {
			page, err := pages.NextPage(e)
			if err != nil {
				return err
			}
			listed, sizes = append(listed, page.QueueUrls...), append(sizes, len(page.QueueUrls))
		}
		return errors.Join(equal("URLs", listed, e.urls), equal("sizes", sizes, []int{2, 2, 1}))
	}},
	// ElasticMQ gives all in one page.
	{name: "the paginator of dead-letter sources gives each once", peer: "millstream", run: func(e *env) error {
		dead, arn, err := e.graveyard()
		if err != nil {
			return err
		}
		for range 3 {
			if _, err := e.queue(redrive(arn, 3)); err != nil {
				return err
			}
		}
		var listed []string
		var sizes []int
		pages := sqs.NewListDeadLetterSourceQueuesPaginator(e.sqs, &sqs.ListDeadLetterSourceQueuesInput{QueueUrl: &dead, MaxResults: aws.Int32(2)})
		for pages.HasMorePages() {
			page, err := pages.NextPage(e)
			if err != nil {
				return err
			}
			listed, sizes = append(listed, page.QueueUrls...), append(sizes, len(page.QueueUrls))
		}
		sources := e.urls[1:]
		slices.Sort(sources)
		slices.Sort(listed)
		return errors.Join(equal("URLs", listed, sources), equal("sizes", sizes, []int{2, 1}))
	}},
	{name: "what was received too often goes to the dead letters", run: func(e *env) error {
		dead, arn, err := e.graveyard()
		if err != nil {
			return err
		}
		url, err := e.queue(redrive(arn, 2))
		if err != nil {
			return err
		}
		if err := e.send(url, "poison"); err != nil {
			return err
		}
		for range 2 {
			got, err := e.take(url, 1)
			if err := errors.Join(err, e.visible(url, got[0], 0)); err != nil {
				return err
			}
		}
		if err := until("it is dead", func() (bool, error) {
			got, err := e.receive(url, 0)
			if err != nil || len(got) > 0 {
				return false, err
			}
			counted, err := e.counted(dead)
			return counted == "1 0 0", err
		}); err != nil {
			return err
		}
		got, err := e.take(dead, 1)
		return errors.Join(err, equal("dead letter", bodies(got), []string{"poison"}))
	}},
	{name: "tags are set, listed and removed", run: func(e *env) error {
		url, err := e.queue(nil)
		if err != nil {
			return err
		}
		_, err = e.sqs.TagQueue(e, &sqs.TagQueueInput{QueueUrl: &url, Tags: map[string]string{"team": "red", "env": "test"}})
		if err != nil {
			return err
		}
		if _, err = e.sqs.UntagQueue(e, &sqs.UntagQueueInput{QueueUrl: &url, TagKeys: []string{"env", "absent"}}); err != nil {
			return err
		}
		got, err := e.sqs.ListQueueTags(e, &sqs.ListQueueTagsInput{QueueUrl: &url})
		if err != nil {
			return err
		}
		return equal("tags", got.Tags, map[string]string{"team": "red"})
	}},
	// ElasticMQ lets a second follow at once.
	{name: "a purge leaves nothing, and a second has to wait", peer: "millstream", run: func(e *env) error {
		url, err := e.queue(nil)
		if err != nil {
			return err
		}
		for range 3 {
			if err := e.send(url, "x"); err != nil {
				return err
			}
		}
		if _, err := e.take(url, 1); err != nil {
			return err
		}
		purge := &sqs.PurgeQueueInput{QueueUrl: &url}
		if _, err := e.sqs.PurgeQueue(e, purge); err != nil {
			return err
		}
		if err := e.counts(url, "0 0 0"); err != nil {
			return err
		}
		_, err = e.sqs.PurgeQueue(e, purge)
		return refused[*types.PurgeQueueInProgress](err)
	}},
}
