package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/IBM/sarama"
)

// saramaAdminChecks are the administration and the offsets of sarama.
func saramaAdminChecks() []check {
	return []check{
		{"sarama/admin/topics", saramaTopics},
		{"sarama/admin/topic-errors", saramaTopicErrors},
		{"sarama/admin/configs", saramaConfigs},
		{"sarama/admin/groups", saramaGroups},
		{"sarama/admin/cluster", saramaCluster},
		{"sarama/offsets-by-time", saramaOffsetsByTime},
	}
}

func (e *env) saramaAdmin() (sarama.ClusterAdmin, error) {
	return sarama.NewClusterAdmin([]string{e.bootstrap}, saramaConfig())
}

func saramaTopics(ctx context.Context, e *env) error {
	adm, err := e.saramaAdmin()
	if err != nil {
		return err
	}
	defer adm.Close()
	topic := unique("topics")
	detail := &sarama.TopicDetail{NumPartitions: 2, ReplicationFactor: 1, ConfigEntries: map[string]*string{"retention.ms": ptr("60000")}}
	if err := errors.Join(adm.CreateTopic(topic, detail, true), adm.CreateTopic(topic, detail, false)); err != nil {
		return err
	}
	listed := func(partitions int32) error {
		return until(ctx, fmt.Sprintf("a topic of %d partitions", partitions), func() (bool, string) {
			ts, err := adm.ListTopics()
			t := ts[topic]
			return err == nil && t.NumPartitions == partitions && t.ReplicationFactor == 1,
				fmt.Sprintf("%d partitions, error %v", t.NumPartitions, err)
		})
	}
	if err := listed(2); err != nil {
		return err
	}
	if err := adm.CreatePartitions(topic, 5, nil, false); err != nil {
		return err
	}
	if err := listed(5); err != nil {
		return err
	}
	ms, err := adm.DescribeTopics([]string{topic})
	if err != nil {
		return err
	}
	if len(ms) != 1 || ms[0].Err != sarama.ErrNoError || len(ms[0].Partitions) != 5 {
		return fmt.Errorf("the topic is described as %+v", ms)
	}
	if err := adm.DeleteTopic(topic); err != nil {
		return err
	}
	return until(ctx, "the topic gone", func() (bool, string) {
		ts, err := adm.ListTopics()
		_, there := ts[topic]
		return err == nil && !there, fmt.Sprint("error ", err)
	})
}

func saramaTopicErrors(ctx context.Context, e *env) error {
	existing, err := e.topic(ctx, "exists", 1)
	if err != nil {
		return err
	}
	adm, err := e.saramaAdmin()
	if err != nil {
		return err
	}
	defer adm.Close()
	create := func(name string, partitions int32, factor int16) error {
		return adm.CreateTopic(name, &sarama.TopicDetail{NumPartitions: partitions, ReplicationFactor: factor}, false)
	}
	return errors.Join(
		wantErr("an existing name", create(existing, 1, 1), sarama.ErrTopicAlreadyExists),
		wantErr("replication factor 3", create(unique("x"), 1, 3), sarama.ErrInvalidReplicationFactor),
		wantErr("no partitions", create(unique("x"), 0, 1), sarama.ErrInvalidPartitions),
		wantErr("a bad name", create("no/slashes", 1, 1), sarama.ErrInvalidTopic),
		wantErr("fewer partitions", adm.CreatePartitions(existing, 1, nil, false), sarama.ErrInvalidPartitions),
		wantErr("an unknown topic", adm.DeleteTopic(unique("unknown")), sarama.ErrUnknownTopicOrPartition),
	)
}

func saramaConfigs(ctx context.Context, e *env) error {
	topic, err := e.topic(ctx, "configs", 1)
	if err != nil {
		return err
	}
	adm, err := e.saramaAdmin()
	if err != nil {
		return err
	}
	defer adm.Close()
	is := func(name, value string) error {
		return until(ctx, name+"="+value, func() (bool, string) {
			es, err := adm.DescribeConfig(sarama.ConfigResource{Type: sarama.TopicResource, Name: topic, ConfigNames: []string{name}})
			if err != nil || len(es) != 1 {
				return false, fmt.Sprintf("%d entries, error %v", len(es), err)
			}
			return es[0].Name == name && es[0].Value == value, "it is " + es[0].Value
		})
	}
	set := sarama.IncrementalAlterConfigsEntry{Operation: sarama.IncrementalAlterConfigsOperationSet, Value: ptr("123000")}
	err = adm.IncrementalAlterConfig(sarama.TopicResource, topic, map[string]sarama.IncrementalAlterConfigsEntry{"retention.ms": set}, false)
	if err := errors.Join(err, is("retention.ms", "123000")); err != nil {
		return err
	}
	set.Value = ptr("soon")
	err = adm.IncrementalAlterConfig(sarama.TopicResource, topic, map[string]sarama.IncrementalAlterConfigsEntry{"retention.ms": set}, false)
	return wantErr("a value that is no number", err, sarama.ErrInvalidConfig)
}

func saramaGroups(ctx context.Context, e *env) error {
	topic, err := e.topic(ctx, "groups", 2)
	if err != nil {
		return err
	}
	adm, err := e.saramaAdmin()
	if err != nil {
		return err
	}
	defer adm.Close()
	group := unique("group")
	m, err := e.saramaMember(ctx, group, topic, saramaConfig())
	if err != nil {
		return err
	}
	left := false
	defer func() {
		if !left {
			m.leave()
		}
	}()
	if err := saramaBalanced(ctx, []int{2}, m); err != nil {
		return err
	}
	if err := e.saramaSend(saramaConfig(), saramaMessages(topic, "g", 2, 20)); err != nil {
		return err
	}
	if err := until(ctx, "committed offsets", func() (bool, string) {
		r, err := adm.ListConsumerGroupOffsets(group, map[string][]int32{topic: {0, 1}})
		if err != nil {
			return false, err.Error()
		}
		a, b := r.GetBlock(topic, 0), r.GetBlock(topic, 1)
		return a != nil && b != nil && a.Offset == 10 && b.Offset == 10, fmt.Sprintf("%+v and %+v", a, b)
	}); err != nil {
		return err
	}
	gs, err := adm.ListConsumerGroups()
	if err != nil {
		return err
	}
	if gs[group] != "consumer" {
		return fmt.Errorf("the group is listed as %q", gs[group])
	}
	ds, err := adm.DescribeConsumerGroups([]string{group})
	if err != nil {
		return err
	}
	if len(ds) != 1 || ds[0].State != "Stable" || len(ds[0].Members) != 1 {
		return fmt.Errorf("the group is described as %+v", ds)
	}
	for _, d := range ds[0].Members {
		a, err := d.GetMemberAssignment()
		if err != nil || len(a.Topics[topic]) != 2 || d.ClientId != "conformance-sarama" {
			return fmt.Errorf("its member is %+v with %+v (%w)", d, a, err)
		}
	}
	if err := wantErr("deleting a group with a member", adm.DeleteConsumerGroup(group), sarama.ErrNonEmptyGroup); err != nil {
		return err
	}
	m.leave()
	left = true
	return until(ctx, "the group deleted", func() (bool, string) {
		err := adm.DeleteConsumerGroup(group)
		return err == nil, fmt.Sprint(err)
	})
}

func saramaCluster(_ context.Context, e *env) error {
	adm, err := e.saramaAdmin()
	if err != nil {
		return err
	}
	defer adm.Close()
	brokers, controller, err := adm.DescribeCluster()
	if err != nil {
		return err
	}
	if len(brokers) != 1 || brokers[0].ID() != controller {
		return fmt.Errorf("%d brokers, controller %d", len(brokers), controller)
	}
	return nil
}

func saramaOffsetsByTime(ctx context.Context, e *env) error {
	topic, err := e.topic(ctx, "times", 1)
	if err != nil {
		return err
	}
	base := recent
	cfg := saramaConfig()
	cfg.Producer.Compression = sarama.CompressionSnappy
	cfg.Producer.Flush.Frequency = 50 * time.Millisecond
	msgs := saramaMessages(topic, "t", 1, 50)
	for i, m := range msgs {
		m.Timestamp = stamp(base + int64(i)*10)
	}
	if err := e.saramaSend(cfg, msgs); err != nil {
		return err
	}
	cl, err := sarama.NewClient([]string{e.bootstrap}, cfg)
	if err != nil {
		return err
	}
	defer cl.Close()
	for at, want := range map[int64]int64{
		sarama.OffsetOldest: 0, sarama.OffsetNewest: 50, base: 0, base + 1: 1, base + 250: 25, base + 251: 26, base + 490: 49, base + 491: -1,
	} {
		got, err := cl.GetOffset(topic, 0, at)
		if err != nil {
			return err
		}
		if got != want {
			return fmt.Errorf("time %d: offset %d, want %d", at, got, want)
		}
	}
	return nil
}
