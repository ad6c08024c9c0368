package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/IBM/sarama"
)

// saramaChecks produce and consume, alone and in groups, through sarama.
func saramaChecks() []check {
	checks := []check{
		{"sarama/record-shape", saramaRecordShape},
		{"sarama/text", saramaText},
		{"sarama/idempotent-order", saramaIdempotent},
		{"sarama/auto-creation", saramaAutoCreation},
		{"sarama/out-of-range", saramaOutOfRange},
		{"sarama/offset-manager-resume", saramaResume},
		{"sarama/old-protocol-version", saramaOld},
	}
	for _, c := range []sarama.CompressionCodec{
		sarama.CompressionNone, sarama.CompressionGZIP, sarama.CompressionSnappy, sarama.CompressionLZ4, sarama.CompressionZSTD,
	} {
		checks = append(checks, check{"sarama/compression/" + c.String(), func(ctx context.Context, e *env) error {
			return saramaRoundTrip(ctx, e, func(cfg *sarama.Config) { cfg.Producer.Compression = c })
		}})
	}
	for name, a := range map[string]sarama.RequiredAcks{"0": sarama.NoResponse, "1": sarama.WaitForLocal, "all": sarama.WaitForAll} {
		checks = append(checks, check{"sarama/acks/" + name, func(ctx context.Context, e *env) error {
			return saramaRoundTrip(ctx, e, func(cfg *sarama.Config) { cfg.Producer.RequiredAcks = a })
		}})
	}
	for _, b := range []sarama.BalanceStrategy{
		sarama.NewBalanceStrategyRange(), sarama.NewBalanceStrategyRoundRobin(), sarama.NewBalanceStrategySticky(),
	} {
		checks = append(checks, check{"sarama/group/share-and-leave/" + b.Name(), func(ctx context.Context, e *env) error {
			return saramaShareAndLeave(ctx, e, b)
		}})
	}
	return append(checks, check{"sarama/group/static-members", saramaStatic})
}

func saramaConfig() *sarama.Config {
	cfg := sarama.NewConfig()
	cfg.Version = sarama.V4_1_0_0
	cfg.ClientID = "conformance-sarama"
	cfg.Producer.Return.Successes = true
	cfg.Producer.RequiredAcks = sarama.WaitForAll
	cfg.Producer.Partitioner = sarama.NewManualPartitioner
	cfg.Consumer.Offsets.Initial = sarama.OffsetOldest
	cfg.Consumer.MaxWaitTime = 250 * time.Millisecond
	cfg.Consumer.Group.Heartbeat.Interval = 150 * time.Millisecond
	cfg.Consumer.Group.Rebalance.Retry.Backoff = 200 * time.Millisecond
	cfg.Metadata.Retry.Backoff = 100 * time.Millisecond
	cfg.Metadata.RefreshFrequency = time.Second
	return cfg
}

// saramaSend produces through a synchronous producer.
func (e *env) saramaSend(cfg *sarama.Config, msgs []*sarama.ProducerMessage) error {
	p, err := sarama.NewSyncProducer([]string{e.bootstrap}, cfg)
	if err != nil {
		return err
	}
	return errors.Join(p.SendMessages(msgs), p.Close())
}

// saramaRead reads n messages of a partition from an offset.
func (e *env) saramaRead(ctx context.Context, cfg *sarama.Config, topic string, partition int32, from int64, n int) ([]*sarama.ConsumerMessage, error) {
	c, err := sarama.NewConsumer([]string{e.bootstrap}, cfg)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	pc, err := c.ConsumePartition(topic, partition, from)
	if err != nil {
		return nil, err
	}
	defer pc.Close()
	var got []*sarama.ConsumerMessage
	for len(got) < n {
		select {
		case m, ok := <-pc.Messages():
			if !ok {
				return got, fmt.Errorf("the consumer ended after %d of %d messages", len(got), n)
			}
			got = append(got, m)
		case <-ctx.Done():
			return got, fmt.Errorf("%d of %d messages came: %w", len(got), n, ctx.Err())
		}
	}
	return got, nil
}

// saramaMessages makes n messages, evenly over the partitions.
func saramaMessages(topic, tag string, partitions int32, n int) []*sarama.ProducerMessage {
	msgs := make([]*sarama.ProducerMessage, n)
	for i := range msgs {
		v := fmt.Sprintf("%s-%d-", tag, i) + strings.Repeat("compressible", 10)
		msgs[i] = &sarama.ProducerMessage{Topic: topic, Partition: int32(i) % partitions, Value: sarama.StringEncoder(v)}
	}
	return msgs
}

func saramaRoundTrip(ctx context.Context, e *env, change func(*sarama.Config)) error {
	topic, err := e.topic(ctx, "sarama", 2)
	if err != nil {
		return err
	}
	cfg := saramaConfig()
	change(cfg)
	msgs := saramaMessages(topic, "m", 2, 400)
	if err := e.saramaSend(cfg, msgs); err != nil {
		return err
	}
	for p := range int32(2) {
		got, err := e.saramaRead(ctx, cfg, topic, p, sarama.OffsetOldest, 200)
		if err != nil {
			return err
		}
		for i, m := range got {
			want, _ := msgs[i*2+int(p)].Value.Encode() // a string always encodes
			if m.Offset != int64(i) || !bytes.Equal(m.Value, want) {
				return fmt.Errorf("partition %d offset %d holds %q, want %q at %d", p, m.Offset, m.Value, want, i)
			}
		}
	}
	return nil
}

// saramaOld speaks the versions of a client of Apache Kafka 2.1.
func saramaOld(ctx context.Context, e *env) error {
	return saramaRoundTrip(ctx, e, func(cfg *sarama.Config) { cfg.Version = sarama.V2_1_0_0 })
}

func saramaRecordShape(ctx context.Context, e *env) error {
	topic, err := e.topic(ctx, "shape", 1)
	if err != nil {
		return err
	}
	at := time.UnixMilli(recent + 123)
	msgs := []*sarama.ProducerMessage{
		{Key: sarama.StringEncoder("k"), Value: sarama.StringEncoder("v"), Timestamp: at},
		{Value: sarama.StringEncoder("null key"), Timestamp: at.Add(time.Second)},
		{Key: sarama.StringEncoder("null value"), Timestamp: at.Add(-time.Hour)},
		{Key: sarama.ByteEncoder{0, 255}, Value: sarama.StringEncoder("headers"), Timestamp: at, Headers: []sarama.RecordHeader{
			{Key: []byte("a"), Value: []byte("1")}, {Key: []byte("a"), Value: []byte("2")}, {Key: []byte("ключ"), Value: []byte{0, 159}},
		}},
	}
	for _, m := range msgs {
		m.Topic = topic
	}
	cfg := saramaConfig()
	if err := e.saramaSend(cfg, msgs); err != nil {
		return err
	}
	got, err := e.saramaRead(ctx, cfg, topic, 0, sarama.OffsetOldest, len(msgs))
	if err != nil {
		return err
	}
	for i, w := range msgs {
		g := got[i]
		if !sameEncoded(g.Key, w.Key) || !sameEncoded(g.Value, w.Value) || !g.Timestamp.Equal(w.Timestamp) || len(g.Headers) != len(w.Headers) {
			return fmt.Errorf("message %d came as %q=%q at %v with %d headers", i, g.Key, g.Value, g.Timestamp, len(g.Headers))
		}
		for j, h := range w.Headers {
			if !bytes.Equal(g.Headers[j].Key, h.Key) || !bytes.Equal(g.Headers[j].Value, h.Value) {
				return fmt.Errorf("message %d header %d came as %q=%q", i, j, g.Headers[j].Key, g.Headers[j].Value)
			}
		}
	}
	return nil
}

// sameEncoded compares bytes read with what was sent; nothing sent is null.
func sameEncoded(got []byte, sent sarama.Encoder) bool {
	if sent == nil {
		return got == nil
	}
	want, err := sent.Encode()
	return err == nil && bytes.Equal(got, want)
}

func saramaText(ctx context.Context, e *env) error {
	texts, err := e.texts()
	if err != nil {
		return err
	}
	for path, text := range texts {
		topic, err := e.topic(ctx, "text", 1)
		if err != nil {
			return err
		}
		cfg := saramaConfig()
		cfg.Producer.Compression = sarama.CompressionLZ4
		lines := bytes.Split(text, []byte("\n"))
		msgs := make([]*sarama.ProducerMessage, len(lines))
		for i, l := range lines {
			msgs[i] = &sarama.ProducerMessage{Topic: topic, Value: sarama.ByteEncoder(l)}
		}
		if err := e.saramaSend(cfg, msgs); err != nil {
			return err
		}
		got, err := e.saramaRead(ctx, cfg, topic, 0, sarama.OffsetOldest, len(lines))
		if err != nil {
			return err
		}
		back := make([][]byte, len(got))
		for i, m := range got {
			back[i] = m.Value
		}
		if !bytes.Equal(bytes.Join(back, []byte("\n")), text) {
			return fmt.Errorf("%s came back changed", path)
		}
	}
	return nil
}

// saramaIdempotent sends many small batches with a producer id.
func saramaIdempotent(ctx context.Context, e *env) error {
	return saramaRoundTrip(ctx, e, func(cfg *sarama.Config) {
		cfg.Producer.Idempotent = true
		cfg.Net.MaxOpenRequests = 1 // sarama allows no more with it
		cfg.Producer.Flush.MaxMessages = 7
	})
}

func saramaAutoCreation(ctx context.Context, e *env) error {
	topic := unique("auto")
	cfg := saramaConfig()
	cfg.Metadata.AllowAutoTopicCreation = true
	cfg.Metadata.Retry.Max = 20
	msgs := saramaMessages(topic, "auto", 1, 10)
	if err := e.saramaSend(cfg, msgs); err != nil {
		return err
	}
	_, err := e.saramaRead(ctx, cfg, topic, 0, sarama.OffsetOldest, len(msgs))
	return err
}

func saramaOutOfRange(ctx context.Context, e *env) error {
	topic, err := e.topic(ctx, "range", 1)
	if err != nil {
		return err
	}
	_, err = e.saramaRead(ctx, saramaConfig(), topic, 0, 1000, 1)
	return wantErr("reading at 1000 of an empty partition", err, sarama.ErrOffsetOutOfRange)
}

// saramaResume commits through an offset manager and finds the offset again.
func saramaResume(ctx context.Context, e *env) error {
	topic, err := e.topic(ctx, "resume", 1)
	if err != nil {
		return err
	}
	group := unique("resume")
	if err := e.saramaSend(saramaConfig(), saramaMessages(topic, "r", 1, 30)); err != nil {
		return err
	}
	cfg := saramaConfig()
	cfg.Consumer.Offsets.AutoCommit.Enable = false
	for _, c := range []struct{ want, mark int64 }{{sarama.OffsetOldest, 12}, {12, 25}, {25, 30}} {
		cl, err := sarama.NewClient([]string{e.bootstrap}, cfg)
		if err != nil {
			return err
		}
		om, err := sarama.NewOffsetManagerFromClient(group, cl)
		if err != nil {
			return errors.Join(err, cl.Close())
		}
		pom, err := om.ManagePartition(topic, 0)
		if err != nil {
			return errors.Join(err, om.Close(), cl.Close())
		}
		at, _ := pom.NextOffset()
		pom.MarkOffset(c.mark, "note")
		om.Commit()
		pom.AsyncClose() // its Close waits for a commit by the clock
		if err := errors.Join(om.Close(), cl.Close()); err != nil {
			return err
		}
		if at != c.want {
			return fmt.Errorf("resumed at %d, want %d", at, c.want)
		}
	}
	got, err := e.saramaRead(ctx, saramaConfig(), topic, 0, 25, 5)
	if err != nil {
		return err
	}
	if got[0].Offset != 25 {
		return fmt.Errorf("read from %d, want 25", got[0].Offset)
	}
	return nil
}

// saramaMember is one member of a group, consuming in the background.
type saramaMember struct {
	group sarama.ConsumerGroup
	stop  context.CancelFunc
	done  chan struct{}

	mu       sync.Mutex
	claims   int
	sessions int
	seen     map[string]int
}

func (m *saramaMember) Setup(s sarama.ConsumerGroupSession) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.claims = 0
	m.sessions++
	for _, ps := range s.Claims() {
		m.claims += len(ps)
	}
	return nil
}

func (m *saramaMember) Cleanup(sarama.ConsumerGroupSession) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.claims = 0
	return nil
}

func (m *saramaMember) ConsumeClaim(s sarama.ConsumerGroupSession, c sarama.ConsumerGroupClaim) error {
	for msg := range c.Messages() {
		m.mu.Lock()
		m.seen[string(msg.Value)]++
		m.mu.Unlock()
		s.MarkMessage(msg, "")
	}
	return nil
}

func (e *env) saramaMember(ctx context.Context, group, topic string, cfg *sarama.Config) (*saramaMember, error) {
	g, err := sarama.NewConsumerGroup([]string{e.bootstrap}, group, cfg)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(ctx)
	m := &saramaMember{group: g, stop: stop, done: make(chan struct{}), seen: map[string]int{}}
	go func() {
		defer close(m.done)
		for ctx.Err() == nil {
			if err := g.Consume(ctx, []string{topic}, m); errors.Is(err, sarama.ErrClosedConsumerGroup) {
				return
			}
		}
	}()
	return m, nil
}

func (m *saramaMember) leave() {
	m.stop()
	<-m.done
	_ = m.group.Close()
}

func saramaBalanced(ctx context.Context, want []int, members ...*saramaMember) error {
	return until(ctx, fmt.Sprintf("an assignment of %v", want), func() (bool, string) {
		ok := true
		var have []int
		for i, m := range members {
			m.mu.Lock()
			have = append(have, m.claims)
			m.mu.Unlock()
			ok = ok && have[i] == want[i]
		}
		return ok, fmt.Sprintf("they hold %v", have)
	})
}

func saramaAllSeen(ctx context.Context, msgs []*sarama.ProducerMessage, members ...*saramaMember) error {
	return until(ctx, "every message seen", func() (bool, string) {
		missing := 0
		for _, msg := range msgs {
			v, _ := msg.Value.Encode() // a string always encodes
			n := 0
			for _, m := range members {
				m.mu.Lock()
				n += m.seen[string(v)]
				m.mu.Unlock()
			}
			if n == 0 {
				missing++
			}
		}
		return missing == 0, fmt.Sprintf("%d of %d are missing", missing, len(msgs))
	})
}

func saramaShareAndLeave(ctx context.Context, e *env, b sarama.BalanceStrategy) error {
	topic, err := e.topic(ctx, "share", 6)
	if err != nil {
		return err
	}
	group := unique("share")
	cfg := saramaConfig()
	cfg.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{b}
	one, err := e.saramaMember(ctx, group, topic, cfg)
	if err != nil {
		return err
	}
	defer one.leave()
	if err := saramaBalanced(ctx, []int{6}, one); err != nil {
		return err
	}
	two, err := e.saramaMember(ctx, group, topic, cfg)
	if err != nil {
		return err
	}
	left := false
	defer func() {
		if !left {
			two.leave()
		}
	}()
	if err := saramaBalanced(ctx, []int{3, 3}, one, two); err != nil {
		return err
	}
	if err := describedAs(ctx, e, group, b.Name(), 2); err != nil {
		return err
	}
	first := saramaMessages(topic, "first", 6, 240)
	if err := e.saramaSend(saramaConfig(), first); err != nil {
		return err
	}
	if err := saramaAllSeen(ctx, first, one, two); err != nil {
		return err
	}
	two.leave()
	left = true
	if err := saramaBalanced(ctx, []int{6}, one); err != nil {
		return err
	}
	second := saramaMessages(topic, "second", 6, 240)
	if err := e.saramaSend(saramaConfig(), second); err != nil {
		return err
	}
	return saramaAllSeen(ctx, second, one)
}

// saramaStatic: a static member that comes back causes no rebalance.
func saramaStatic(ctx context.Context, e *env) error {
	topic, err := e.topic(ctx, "static", 4)
	if err != nil {
		return err
	}
	group := unique("static")
	start := func(id string) (*saramaMember, error) {
		cfg := saramaConfig()
		cfg.Consumer.Group.InstanceId = id
		cfg.Consumer.Group.Session.Timeout = 20 * time.Second
		return e.saramaMember(ctx, group, topic, cfg)
	}
	one, err := start("one")
	if err != nil {
		return err
	}
	defer one.leave()
	if err := saramaBalanced(ctx, []int{4}, one); err != nil {
		return err
	}
	two, err := start("two")
	if err != nil {
		return err
	}
	err = saramaBalanced(ctx, []int{2, 2}, one, two)
	two.leave()
	if err != nil {
		return err
	}
	one.mu.Lock()
	sessions := one.sessions
	one.mu.Unlock()
	again, err := start("two")
	if err != nil {
		return err
	}
	defer again.leave()
	if err := saramaBalanced(ctx, []int{2, 2}, one, again); err != nil {
		return err
	}
	msgs := saramaMessages(topic, "static", 4, 80)
	if err := e.saramaSend(saramaConfig(), msgs); err != nil {
		return err
	}
	if err := saramaAllSeen(ctx, msgs, one, again); err != nil {
		return err
	}
	one.mu.Lock()
	defer one.mu.Unlock()
	if one.sessions != sessions {
		return fmt.Errorf("the other member went through %d more rebalances", one.sessions-sessions)
	}
	return nil
}
