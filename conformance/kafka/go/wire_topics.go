package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// wireTopicChecks are CreateTopics, CreatePartitions and DeleteTopics.
func wireTopicChecks() []check {
	return []check{
		wired("wire/create-topics/every-version", createEveryVersion),
		wired("wire/create-topics/errors", createErrors),
		wired("wire/create-topics/one-bad-of-three", createOneBad),
		wired("wire/create-topics/defaults", createDefaults),
		wired("wire/delete-topics/by-id", deleteByID),
		wired("wire/delete-topics/errors", deleteErrors),
		wired("wire/create-partitions/errors", createPartitionsErrors),
	}
}

func createRequest(topic string, partitions int32, factor int16) *kmsg.CreateTopicsRequest {
	req := kmsg.NewPtrCreateTopicsRequest()
	req.TimeoutMillis = 15_000
	t := kmsg.NewCreateTopicsRequestTopic()
	t.Topic, t.NumPartitions, t.ReplicationFactor = topic, partitions, factor
	req.Topics = []kmsg.CreateTopicsRequestTopic{t}
	return req
}

func createEveryVersion(ctx context.Context, e *env, w *wire, _ string) error {
	keys, err := e.versions(ctx)
	if err != nil {
		return err
	}
	for version := int16(2); version <= keys[kmsg.CreateTopics].MaxVersion; version++ {
		topic := unique("create")
		r, err := ask[*kmsg.CreateTopicsResponse](w, createRequest(topic, 2, 1), version)
		if err != nil {
			return err
		}
		t := r.Topics[0]
		if t.ErrorCode != 0 || t.Topic != topic || version >= 5 && (t.NumPartitions != 2 || t.ReplicationFactor != 1) {
			return fmt.Errorf("v%d answers %+v", version, t)
		}
		if err := until(ctx, "the topic made", func() (bool, string) {
			m, err := w.metadata(topic)
			if err != nil {
				return false, err.Error()
			}
			return m.ErrorCode == 0 && len(m.Partitions) == 2 && (version < 7 || m.TopicID == t.TopicID),
				fmt.Sprintf("error %d, %d partitions, id %x for %x", m.ErrorCode, len(m.Partitions), m.TopicID, t.TopicID)
		}); err != nil {
			return err
		}
	}
	return nil
}

func createErrors(_ context.Context, e *env, w *wire, existing string) error {
	twice := createRequest(unique("x"), 1, 1)
	twice.Topics = append(twice.Topics, twice.Topics[0])
	configured := func(name, value string) *kmsg.CreateTopicsRequest {
		r := createRequest(unique("x"), 1, 1)
		r.Topics[0].Configs = []kmsg.CreateTopicsRequestTopicConfig{{Name: name, Value: &value}}
		return r
	}
	cases := []struct {
		what string
		req  *kmsg.CreateTopicsRequest
		want *kerr.Error
	}{
		{"replication factor 3", createRequest(unique("x"), 1, 3), kerr.InvalidReplicationFactor},
		{"replication factor 0", createRequest(unique("x"), 1, 0), kerr.InvalidReplicationFactor},
		{"no partitions", createRequest(unique("x"), 0, 1), kerr.InvalidPartitions},
		{"-5 partitions", createRequest(unique("x"), -5, 1), kerr.InvalidPartitions},
		{"an empty name", createRequest("", 1, 1), kerr.InvalidTopicException},
		{"a space in the name", createRequest("a b", 1, 1), kerr.InvalidTopicException},
		{"the name .", createRequest(".", 1, 1), kerr.InvalidTopicException},
		{"a name that exists", createRequest(existing, 1, 1), kerr.TopicAlreadyExists},
		{"the same name twice", twice, kerr.InvalidRequest},
		{"an unknown config", configured("no.such", "1"), kerr.InvalidConfig},
		{"a bad retention", configured("retention.ms", "-7"), kerr.InvalidConfig},
	}
	if e.millstream() {
		for name, value := range map[string]string{"cleanup.policy": "compact", "message.timestamp.type": "LogAppendTime"} {
			cases = append(cases, struct {
				what string
				req  *kmsg.CreateTopicsRequest
				want *kerr.Error
			}{name + "=" + value, configured(name, value), kerr.InvalidConfig})
		}
	}
	for _, c := range cases {
		r, err := ask[*kmsg.CreateTopicsResponse](w, c.req, 7)
		if err != nil {
			return err
		}
		if err := wantCode(c.what, r.Topics[0].ErrorCode, c.want); err != nil {
			return err
		}
	}
	return nil
}

func createOneBad(_ context.Context, _ *env, w *wire, _ string) error {
	good, bad, other := unique("good"), "bad/"+unique("x"), unique("good")
	req := createRequest(good, 1, 1)
	req.Topics = append(req.Topics, createRequest(bad, 1, 1).Topics[0], createRequest(other, 1, 1).Topics[0])
	r, err := ask[*kmsg.CreateTopicsResponse](w, req, 7)
	if err != nil {
		return err
	}
	codes := map[string]int16{}
	for _, t := range r.Topics {
		codes[t.Topic] = t.ErrorCode
	}
	if len(codes) != 3 {
		return fmt.Errorf("%d topics answered, want 3", len(codes))
	}
	return errors.Join(
		wantCode("the first", codes[good], nil), wantCode("the third", codes[other], nil),
		wantCode("the second", codes[bad], kerr.InvalidTopicException),
	)
}

// createDefaults: -1 partitions and factor -1 leave both to the broker.
func createDefaults(_ context.Context, _ *env, w *wire, _ string) error {
	r, err := ask[*kmsg.CreateTopicsResponse](w, createRequest(unique("defaults"), -1, -1), 7)
	if err != nil {
		return err
	}
	t := r.Topics[0]
	if t.ErrorCode != 0 || t.NumPartitions < 1 || t.ReplicationFactor != 1 {
		return fmt.Errorf("error %d, %d partitions, factor %d", t.ErrorCode, t.NumPartitions, t.ReplicationFactor)
	}
	return nil
}

func deleteRequest(topics ...kmsg.DeleteTopicsRequestTopic) *kmsg.DeleteTopicsRequest {
	req := kmsg.NewPtrDeleteTopicsRequest()
	req.TimeoutMillis = 15_000
	req.Topics = topics
	return req
}

func deleteByID(ctx context.Context, _ *env, w *wire, topic string) error {
	t, err := w.metadata(topic)
	if err != nil {
		return err
	}
	r, err := ask[*kmsg.DeleteTopicsResponse](w, deleteRequest(kmsg.DeleteTopicsRequestTopic{TopicID: t.TopicID}), 6)
	if err != nil {
		return err
	}
	if got := r.Topics[0]; got.ErrorCode != 0 || got.TopicID != t.TopicID || deref(got.Topic) != topic {
		return fmt.Errorf("delete by id answers %+v", got)
	}
	if err := until(ctx, "the topic gone", func() (bool, string) {
		m, err := w.metadata(topic)
		return err == nil && m.ErrorCode == kerr.UnknownTopicOrPartition.Code, fmt.Sprintf("error %d, %v", m.ErrorCode, err)
	}); err != nil {
		return err
	}
	if r, err = ask[*kmsg.DeleteTopicsResponse](w, deleteRequest(kmsg.DeleteTopicsRequestTopic{TopicID: t.TopicID}), 6); err != nil {
		return err
	}
	return wantCode("delete by the same id again", r.Topics[0].ErrorCode, kerr.UnknownTopicID)
}

func deleteErrors(ctx context.Context, _ *env, w *wire, topic string) error {
	r, err := ask[*kmsg.DeleteTopicsResponse](w, deleteRequest(
		kmsg.DeleteTopicsRequestTopic{TopicID: strangeID},
		kmsg.DeleteTopicsRequestTopic{Topic: ptr(unique("unknown"))},
		kmsg.DeleteTopicsRequestTopic{Topic: &topic},
	), 6)
	if err != nil {
		return err
	}
	if len(r.Topics) != 3 {
		return fmt.Errorf("%d topics answered, want 3", len(r.Topics))
	}
	for _, t := range r.Topics {
		want := kerr.UnknownTopicOrPartition
		switch {
		case t.TopicID == strangeID:
			want = kerr.UnknownTopicID
		case deref(t.Topic) == topic:
			want = nil
		}
		if err := wantCode("delete of "+deref(t.Topic), t.ErrorCode, want); err != nil {
			return err
		}
	}
	old := deleteRequest()
	old.TopicNames = []string{unique("unknown")}
	if r, err = ask[*kmsg.DeleteTopicsResponse](w, old, 1); err != nil {
		return err
	}
	return wantCode("delete v1 of an unknown topic", r.Topics[0].ErrorCode, kerr.UnknownTopicOrPartition)
}

func createPartitionsErrors(_ context.Context, _ *env, w *wire, topic string) error {
	for _, c := range []struct {
		topic string
		count int32
		want  *kerr.Error
	}{
		{topic, 1, kerr.InvalidPartitions}, {topic, 0, kerr.InvalidPartitions}, {topic, -3, kerr.InvalidPartitions},
		{unique("unknown"), 4, kerr.UnknownTopicOrPartition}, {topic, 3, nil}, {topic, 2, kerr.InvalidPartitions},
	} {
		req := kmsg.NewPtrCreatePartitionsRequest()
		req.TimeoutMillis = 15_000
		t := kmsg.NewCreatePartitionsRequestTopic()
		t.Topic, t.Count = c.topic, c.count
		req.Topics = []kmsg.CreatePartitionsRequestTopic{t}
		r, err := ask[*kmsg.CreatePartitionsResponse](w, req, 3)
		if err != nil {
			return err
		}
		if err := wantCode(fmt.Sprintf("%s to %d partitions", c.topic, c.count), r.Topics[0].ErrorCode, c.want); err != nil {
			return err
		}
	}
	return nil
}
