package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// adminChecks are topics, configurations and offsets through kadm.
func adminChecks() []check {
	return []check{
		administered("kadm/topics", adminTopics),
		administered("kadm/topic-errors", adminTopicErrors),
		administered("kadm/topic-ids", adminTopicIDs),
		administered("kadm/partitions", adminPartitions),
		administered("kadm/configs", adminConfigs),
		administered("kadm/configs-replaced", adminConfigsReplaced),
		administered("kadm/config-errors", adminConfigErrors),
		administered("kadm/broker-configs", adminBrokerConfigs),
		administered("kadm/cluster", adminCluster),
		administered("kadm/list-offsets", adminListOffsets),
		administered("kadm/offset-for-leader-epoch", adminLeaderEpoch),
	}
}

func administered(name string, run func(ctx context.Context, e *env, adm *kadm.Client) error) check {
	return check{name, func(ctx context.Context, e *env) error {
		adm, err := e.admin()
		if err != nil {
			return err
		}
		defer adm.Close()
		return run(ctx, e, adm)
	}}
}

// deleteTopic deletes a topic and waits until it is gone.
func deleteTopic(ctx context.Context, adm *kadm.Client, topic string) error {
	r, err := adm.DeleteTopic(ctx, topic)
	if err := errors.Join(err, r.Err); err != nil {
		return fmt.Errorf("delete topic: %w", err)
	}
	return until(ctx, "the end of topic "+topic, func() (bool, string) {
		ts, err := adm.ListTopics(ctx, topic)
		if err != nil {
			return false, err.Error()
		}
		return errors.Is(ts[topic].Err, kerr.UnknownTopicOrPartition), fmt.Sprint("its error is ", ts[topic].Err)
	})
}

func adminTopics(ctx context.Context, _ *env, adm *kadm.Client) error {
	topic := unique("topics")
	dry, err := adm.ValidateCreateTopics(ctx, 3, 1, nil, topic)
	if err := errors.Join(err, dry[topic].Err); err != nil {
		return fmt.Errorf("validate: %w", err)
	}
	ts, err := adm.ListTopics(ctx)
	if err != nil {
		return err
	}
	if ts.Has(topic) {
		return errors.New("validating a topic created it")
	}
	rs, err := adm.CreateTopics(ctx, 3, 1, map[string]*string{"retention.ms": ptr("3600000")}, topic)
	r := rs[topic]
	if err := errors.Join(err, r.Err); err != nil {
		return fmt.Errorf("create: %w", err)
	}
	if r.NumPartitions != 3 || r.ReplicationFactor != 1 || r.ID == (kadm.TopicID{}) {
		return fmt.Errorf("created with %d partitions, factor %d, id %v", r.NumPartitions, r.ReplicationFactor, r.ID)
	}
	if c := r.Configs["retention.ms"]; c.MaybeValue() != "3600000" || c.Source != kmsg.ConfigSourceDynamicTopicConfig {
		return fmt.Errorf("created with retention.ms %q from %v", c.MaybeValue(), c.Source)
	}
	if err := until(ctx, "the topic listed", func() (bool, string) {
		ts, err := adm.ListTopics(ctx)
		if err != nil {
			return false, err.Error()
		}
		return ts.Has(topic) && len(ts[topic].Partitions) == 3 && ts[topic].ID == r.ID, "it is not"
	}); err != nil {
		return err
	}
	ts, err = adm.ListTopics(ctx, topic)
	if err != nil {
		return err
	}
	for i := range int32(3) {
		p := ts[topic].Partitions[i]
		if p.Err != nil || len(p.Replicas) != 1 || len(p.ISR) != 1 || p.Replicas[0] != p.Leader || p.ISR[0] != p.Leader || len(p.OfflineReplicas) != 0 {
			return fmt.Errorf("partition %d is described as %+v", i, p)
		}
	}
	if err := deleteTopic(ctx, adm, topic); err != nil {
		return err
	}
	return until(ctx, "the topic gone from the list", func() (bool, string) {
		ts, err := adm.ListTopics(ctx)
		return err == nil && !ts.Has(topic), fmt.Sprint("error ", err)
	})
}

func adminTopicErrors(ctx context.Context, e *env, adm *kadm.Client) error {
	existing, err := e.topic(ctx, "exists", 1)
	if err != nil {
		return err
	}
	one := map[string]*string{}
	for _, c := range []struct {
		what, topic string
		partitions  int32
		factor      int16
		configs     map[string]*string
		want        error
	}{
		{"existing name", existing, 1, 1, one, kerr.TopicAlreadyExists},
		{"replication factor 3", unique("x"), 1, 3, one, kerr.InvalidReplicationFactor},
		{"replication factor 0", unique("x"), 1, 0, one, kerr.InvalidReplicationFactor},
		{"no partitions", unique("x"), 0, 1, one, kerr.InvalidPartitions},
		{"a slash in the name", "a/" + unique("x"), 1, 1, one, kerr.InvalidTopicException},
		{"the name ..", "..", 1, 1, one, kerr.InvalidTopicException},
		{"a name of 250", unique("x") + string(make250()), 1, 1, one, kerr.InvalidTopicException},
		{"unknown config", unique("x"), 1, 1, map[string]*string{"no.such.config": ptr("1")}, kerr.InvalidConfig},
		{"bad config value", unique("x"), 1, 1, map[string]*string{"retention.ms": ptr("soon")}, kerr.InvalidConfig},
	} {
		r, _ := adm.CreateTopic(ctx, c.partitions, c.factor, c.configs, c.topic)
		if err := wantErr(c.what, r.Err, c.want); err != nil {
			return err
		}
		rs, err := adm.ValidateCreateTopics(ctx, c.partitions, c.factor, c.configs, c.topic)
		if err != nil {
			return err
		}
		if err := wantErr(c.what+", validated", rs[c.topic].Err, c.want); err != nil {
			return err
		}
	}
	r, _ := adm.DeleteTopic(ctx, unique("nothing"))
	return wantErr("delete of an unknown topic", r.Err, kerr.UnknownTopicOrPartition)
}

func make250() []byte {
	b := make([]byte, 250)
	for i := range b {
		b[i] = 'n'
	}
	return b
}

func adminTopicIDs(ctx context.Context, _ *env, adm *kadm.Client) error {
	topic := unique("ids")
	var ids [2]kadm.TopicID
	for i := range ids {
		if err := makeTopic(ctx, adm, topic, 1, nil); err != nil {
			return err
		}
		ts, err := adm.ListTopics(ctx, topic)
		if err != nil {
			return err
		}
		ids[i] = ts[topic].ID
		if err := deleteTopic(ctx, adm, topic); err != nil {
			return err
		}
	}
	if ids[0] == ids[1] || ids[0] == (kadm.TopicID{}) || ids[1] == (kadm.TopicID{}) {
		return fmt.Errorf("the topic had id %v and, made again, %v", ids[0], ids[1])
	}
	return nil
}

func adminPartitions(ctx context.Context, e *env, adm *kadm.Client) error {
	topic, err := e.topic(ctx, "partitions", 2)
	if err != nil {
		return err
	}
	for _, c := range []struct {
		what  string
		topic string
		count int
		want  error
	}{
		{"fewer partitions", topic, 1, kerr.InvalidPartitions},
		{"as many partitions", topic, 2, kerr.InvalidPartitions},
		{"partitions of an unknown topic", unique("nothing"), 3, kerr.UnknownTopicOrPartition},
	} {
		rs, err := adm.UpdatePartitions(ctx, c.count, c.topic)
		if err != nil {
			return err
		}
		if err := wantErr(c.what, rs[c.topic].Err, c.want); err != nil {
			return err
		}
	}
	dry, err := adm.ValidateUpdatePartitions(ctx, 4, topic)
	if err := errors.Join(err, dry.Error()); err != nil {
		return fmt.Errorf("validate: %w", err)
	}
	ts, err := adm.ListTopics(ctx, topic)
	if err != nil {
		return err
	}
	if n := len(ts[topic].Partitions); n != 2 {
		return fmt.Errorf("validating changed the partitions to %d", n)
	}
	rs, err := adm.UpdatePartitions(ctx, 4, topic)
	if err := errors.Join(err, rs.Error()); err != nil {
		return err
	}
	if err := until(ctx, "four partitions", func() (bool, string) {
		ts, err := adm.ListTopics(ctx, topic)
		return err == nil && len(ts[topic].Partitions) == 4 && ts[topic].Partitions[3].Leader >= 0,
			fmt.Sprintf("%d partitions, error %v", len(ts[topic].Partitions), err)
	}); err != nil {
		return err
	}
	recs, err := e.spread(ctx, topic, "p", 4, 40)
	if err != nil {
		return err
	}
	got, err := e.readFrom(ctx, topic, 40)
	if err != nil {
		return err
	}
	return errors.Join(inOrder(got), sameValues(got, recs))
}

// config reads one configuration of a topic.
func config(ctx context.Context, adm *kadm.Client, topic, name string) (kadm.Config, error) {
	rs, err := adm.DescribeTopicConfigs(ctx, topic)
	if err != nil {
		return kadm.Config{}, err
	}
	r, err := rs.On(topic, nil)
	if err := errors.Join(err, r.Err); err != nil {
		return kadm.Config{}, err
	}
	for _, c := range r.Configs {
		if c.Key == name {
			return c, nil
		}
	}
	return kadm.Config{}, fmt.Errorf("no configuration %s among %d", name, len(r.Configs))
}

// configIs waits until a configuration of a topic has the value, set on the
// topic itself or not.
func configIs(ctx context.Context, adm *kadm.Client, topic, name, value string, dynamic bool) error {
	return until(ctx, fmt.Sprintf("%s=%s", name, value), func() (bool, string) {
		c, err := config(ctx, adm, topic, name)
		if err != nil {
			return false, err.Error()
		}
		return c.MaybeValue() == value && (c.Source == kmsg.ConfigSourceDynamicTopicConfig) == dynamic,
			fmt.Sprintf("it is %s from %v", c.MaybeValue(), c.Source)
	})
}

func altered(rs kadm.AlterConfigsResponses, err error) error {
	for _, r := range rs {
		err = errors.Join(err, r.Err)
	}
	return err
}

func adminConfigs(ctx context.Context, _ *env, adm *kadm.Client) error {
	topic := unique("configs")
	if err := makeTopic(ctx, adm, topic, 1, map[string]*string{"retention.bytes": ptr("123456789")}); err != nil {
		return err
	}
	if err := configIs(ctx, adm, topic, "retention.bytes", "123456789", true); err != nil {
		return err
	}
	before, err := config(ctx, adm, topic, "retention.ms")
	if err != nil {
		return err
	}
	if before.Source == kmsg.ConfigSourceDynamicTopicConfig {
		return errors.New("retention.ms is said to be set on a new topic")
	}
	for name, want := range map[string]string{
		"cleanup.policy": "delete", "message.timestamp.type": "CreateTime", "compression.type": "producer",
	} {
		if err := configIs(ctx, adm, topic, name, want, false); err != nil {
			return err
		}
	}
	set := []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "retention.ms", Value: ptr("7200000")}}
	if err := altered(adm.ValidateAlterTopicConfigs(ctx, set, topic)); err != nil {
		return err
	}
	if c, err := config(ctx, adm, topic, "retention.ms"); err != nil || c.MaybeValue() != before.MaybeValue() {
		return fmt.Errorf("validating changed retention.ms to %s (%w)", c.MaybeValue(), err)
	}
	if err := altered(adm.AlterTopicConfigs(ctx, set, topic)); err != nil {
		return err
	}
	if err := configIs(ctx, adm, topic, "retention.ms", "7200000", true); err != nil {
		return err
	}
	if err := configIs(ctx, adm, topic, "retention.bytes", "123456789", true); err != nil {
		return err
	}
	if err := altered(adm.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.DeleteConfig, Name: "retention.ms"}}, topic)); err != nil {
		return err
	}
	return configIs(ctx, adm, topic, "retention.ms", before.MaybeValue(), false)
}

// adminConfigsReplaced: AlterConfigs, the older API, replaces all that was set.
func adminConfigsReplaced(ctx context.Context, _ *env, adm *kadm.Client) error {
	topic := unique("configs")
	if err := makeTopic(ctx, adm, topic, 1, map[string]*string{"retention.bytes": ptr("1000000")}); err != nil {
		return err
	}
	if err := altered(adm.AlterTopicConfigsState(ctx, []kadm.AlterConfig{{Name: "max.message.bytes", Value: ptr("54321")}}, topic)); err != nil {
		return err
	}
	if err := configIs(ctx, adm, topic, "max.message.bytes", "54321", true); err != nil {
		return err
	}
	return configIs(ctx, adm, topic, "retention.bytes", "-1", false)
}

func adminConfigErrors(ctx context.Context, e *env, adm *kadm.Client) error {
	topic, err := e.topic(ctx, "configs", 1)
	if err != nil {
		return err
	}
	set := func(topic, name, value string) error {
		return altered(adm.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: name, Value: &value}}, topic))
	}
	nothing := unique("nothing")
	rs, err := adm.DescribeTopicConfigs(ctx, nothing)
	if err != nil {
		return err
	}
	r, err := rs.On(nothing, nil)
	if err != nil && r.Err == nil {
		r.Err = err
	}
	for _, c := range []struct {
		what      string
		got, want error
	}{
		{"a value that is no number", set(topic, "retention.ms", "soon"), kerr.InvalidConfig},
		{"an unknown name", set(topic, "no.such.config", "1"), kerr.InvalidConfig},
		{"a policy that does not exist", set(topic, "cleanup.policy", "burn"), kerr.InvalidConfig},
		{"a topic that does not exist", set(nothing, "retention.ms", "1"), kerr.UnknownTopicOrPartition},
		{"describing a topic that does not exist", r.Err, kerr.UnknownTopicOrPartition},
	} {
		if err := wantErr(c.what, c.got, c.want); err != nil {
			return err
		}
	}
	if !e.millstream() {
		return nil
	}
	// What Millstream does not offer yet it refuses.
	return errors.Join(
		wantErr("compaction", set(topic, "cleanup.policy", "compact"), kerr.InvalidConfig),
		wantErr("append time", set(topic, "message.timestamp.type", "LogAppendTime"), kerr.InvalidConfig),
	)
}

func adminBrokerConfigs(ctx context.Context, _ *env, adm *kadm.Client) error {
	m, err := adm.BrokerMetadata(ctx)
	if err != nil {
		return err
	}
	if len(m.Brokers) != 1 {
		return fmt.Errorf("%d brokers, want 1", len(m.Brokers))
	}
	id := m.Brokers[0].NodeID
	rs, err := adm.DescribeBrokerConfigs(ctx, id)
	if err != nil {
		return err
	}
	r, err := rs.On(strconv.Itoa(int(id)), nil)
	if err := errors.Join(err, r.Err); err != nil {
		return err
	}
	for _, c := range r.Configs {
		if c.Key == "auto.create.topics.enable" && c.MaybeValue() == "true" {
			return nil
		}
	}
	return fmt.Errorf("auto.create.topics.enable=true is not among %d configurations", len(r.Configs))
}

func adminCluster(ctx context.Context, e *env, adm *kadm.Client) error {
	m, err := adm.BrokerMetadata(ctx)
	if err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(e.bootstrap)
	if err != nil {
		return err
	}
	if len(m.Brokers) != 1 || m.Cluster == "" {
		return fmt.Errorf("cluster %q of %d brokers", m.Cluster, len(m.Brokers))
	}
	b := m.Brokers[0]
	if m.Controller != b.NodeID || strconv.Itoa(int(b.Port)) != port || b.Host == "" {
		return fmt.Errorf("controller %d; broker %d at %s:%d, reached at %s:%s", m.Controller, b.NodeID, b.Host, b.Port, host, port)
	}
	w, err := e.wire(ctx)
	if err != nil {
		return err
	}
	defer w.close()
	for version := range int16(2) {
		req := kmsg.NewPtrDescribeClusterRequest()
		req.EndpointType = 1
		r, err := ask[*kmsg.DescribeClusterResponse](w, req, version)
		if err != nil {
			return err
		}
		if err := wantCode("DescribeCluster", r.ErrorCode, nil); err != nil {
			return err
		}
		if r.ClusterID != m.Cluster || r.ControllerID != b.NodeID || len(r.Brokers) != 1 ||
			r.Brokers[0].NodeID != b.NodeID || r.Brokers[0].Host != b.Host || r.Brokers[0].Port != b.Port {
			return fmt.Errorf("DescribeCluster v%d says %+v, Metadata %+v", version, r, m)
		}
	}
	return nil
}

func adminListOffsets(ctx context.Context, e *env, adm *kadm.Client) error {
	topic, err := e.topic(ctx, "offsets", 2)
	if err != nil {
		return err
	}
	cl, err := e.client(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(20*time.Millisecond))
	if err != nil {
		return err
	}
	defer cl.Close()
	// Times go up and down: the greatest is at offset 3 of partition 0.
	base := recent
	for _, ms := range []int64{0, 100, 50, 400, 300} {
		rec := &kgo.Record{Topic: topic, Timestamp: time.UnixMilli(base + ms), Value: fmt.Append(nil, ms)}
		if err := produceAll(ctx, cl, rec); err != nil {
			return err
		}
	}
	after := func(ms int64) func(context.Context, ...string) (kadm.ListedOffsets, error) {
		return func(ctx context.Context, ts ...string) (kadm.ListedOffsets, error) {
			return adm.ListOffsetsAfterMilli(ctx, base+ms, ts...)
		}
	}
	for _, c := range []struct {
		what                 string
		list                 func(context.Context, ...string) (kadm.ListedOffsets, error)
		offset, empty, stamp int64
	}{
		{"start", adm.ListStartOffsets, 0, 0, -1},
		{"end", adm.ListEndOffsets, 5, 0, -1},
		{"committed", adm.ListCommittedOffsets, 5, 0, -1},
		{"greatest time", adm.ListMaxTimestampOffsets, 3, -1, base + 400},
		{"after the first", after(1), 1, 0, base + 100},
		{"after a time that comes again", after(75), 1, 0, base + 100},
		{"at a time", after(400), 3, 0, base + 400},
		{"after the last", after(401), 5, 0, -1}, // kadm asks again for the end
	} {
		os, err := c.list(ctx, topic)
		if err := errors.Join(err, os.Error()); err != nil {
			return fmt.Errorf("%s: %w", c.what, err)
		}
		full, _ := os.Lookup(topic, 0)
		none, ok := os.Lookup(topic, 1)
		if full.Offset != c.offset || full.Timestamp != c.stamp || !ok || none.Offset != c.empty {
			return fmt.Errorf("%s: offset %d time %d, want %d and %d; of an empty partition %d, want %d",
				c.what, full.Offset, full.Timestamp, c.offset, c.stamp, none.Offset, c.empty)
		}
	}
	return nil
}

func adminLeaderEpoch(ctx context.Context, e *env, adm *kadm.Client) error {
	topic, err := e.topic(ctx, "epoch", 1)
	if err != nil {
		return err
	}
	if _, err := e.spread(ctx, topic, "e", 1, 7); err != nil {
		return err
	}
	ts, err := adm.ListTopics(ctx, topic)
	if err != nil {
		return err
	}
	current := ts[topic].Partitions[0].LeaderEpoch
	if current < 0 {
		return fmt.Errorf("leader epoch %d", current)
	}
	for _, c := range []struct {
		ask, epoch int32
		end        int64
	}{{current, current, 7}, {current + 5, -1, -1}} {
		var req kadm.OffsetForLeaderEpochRequest
		req.Add(topic, 0, c.ask)
		r, err := adm.OffsetForLeaderEpoch(ctx, req)
		if err != nil {
			return err
		}
		if got := r[topic][0]; got.Err != nil || got.LeaderEpoch != c.epoch || got.EndOffset != c.end {
			return fmt.Errorf("epoch %d ends: %+v, want epoch %d at %d", c.ask, got, c.epoch, c.end)
		}
	}
	return nil
}
