package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// franzChecks produce and consume through franz-go, without groups.
func franzChecks() []check {
	checks := []check{
		{"franz/record-shape", franzRecordShape},
		{"franz/text", franzText},
		{"franz/idempotent-order", franzIdempotentOrder},
		{"franz/large-records", franzLargeRecords},
		{"franz/message-too-large", franzMessageTooLarge},
		{"franz/auto-creation", franzAutoCreation},
		{"franz/unknown-topic", franzUnknownTopic},
		{"franz/out-of-range-reset", franzOutOfRangeReset},
		{"franz/out-of-range-error", franzOutOfRangeError},
		{"franz/consume-after-time", franzConsumeAfterTime},
		{"franz/hundred-partitions", franzHundredPartitions},
		{"franz/without-fetch-sessions", franzWithoutSessions},
		{"franz/regex-subscription", franzRegex},
		{"franz/recreated-topic", franzRecreatedTopic},
	}
	for i, c := range []struct {
		name  string
		codec kgo.CompressionCodec
	}{
		{"none", kgo.NoCompression()}, {"gzip", kgo.GzipCompression()}, {"snappy", kgo.SnappyCompression()},
		{"lz4", kgo.Lz4Compression()}, {"zstd", kgo.ZstdCompression()},
	} {
		checks = append(checks, check{"franz/compression/" + c.name, func(ctx context.Context, e *env) error {
			return franzCompression(ctx, e, c.codec, uint8(i))
		}})
	}
	for name, acks := range map[string]kgo.Acks{"0": kgo.NoAck(), "1": kgo.LeaderAck(), "all": kgo.AllISRAcks()} {
		checks = append(checks, check{"franz/acks/" + name, func(ctx context.Context, e *env) error {
			return franzAcks(ctx, e, acks)
		}})
	}
	return checks
}

func franzCompression(ctx context.Context, e *env, codec kgo.CompressionCodec, want uint8) error {
	topic, err := e.topic(ctx, "compression", 3)
	if err != nil {
		return err
	}
	cl, err := e.client(kgo.ProducerBatchCompression(codec), kgo.ProducerLinger(20*time.Millisecond))
	if err != nil {
		return err
	}
	defer cl.Close()
	recs := values(topic, 600)
	for _, r := range recs {
		r.Value = append(r.Value, strings.Repeat("-compressible", 20)...)
	}
	if err := produceAll(ctx, cl, recs...); err != nil {
		return err
	}
	got, err := e.readFrom(ctx, topic, len(recs))
	if err != nil {
		return err
	}
	for _, r := range got {
		if r.Attrs.CompressionType() != want {
			return fmt.Errorf("a record came compressed as %d, want %d", r.Attrs.CompressionType(), want)
		}
	}
	return errors.Join(inOrder(got), sameValues(got, recs))
}

func franzAcks(ctx context.Context, e *env, acks kgo.Acks) error {
	topic, err := e.topic(ctx, "acks", 2)
	if err != nil {
		return err
	}
	cl, err := e.client(kgo.RequiredAcks(acks), kgo.DisableIdempotentWrite())
	if err != nil {
		return err
	}
	defer cl.Close()
	recs := values(topic, 300)
	if err := produceAll(ctx, cl, recs...); err != nil {
		return err
	}
	got, err := e.readFrom(ctx, topic, len(recs))
	if err != nil {
		return err
	}
	return errors.Join(inOrder(got), sameValues(got, recs))
}

func franzRecordShape(ctx context.Context, e *env) error {
	topic, err := e.topic(ctx, "shape", 1)
	if err != nil {
		return err
	}
	cl, err := e.client()
	if err != nil {
		return err
	}
	defer cl.Close()
	at := time.UnixMilli(recent + 123)
	recs := []*kgo.Record{
		{Key: []byte("k"), Value: []byte("v"), Timestamp: at},
		{Key: nil, Value: []byte("null key"), Timestamp: at.Add(time.Millisecond)},
		{Key: []byte("null value"), Value: nil, Timestamp: at.Add(-time.Hour)},
		{Key: nil, Value: nil, Timestamp: at},
		{Key: []byte{}, Value: []byte{}, Timestamp: at.Add(time.Hour)},
		{Key: []byte{0, 255, 10}, Value: bytes.Repeat([]byte{0, 1, 254}, 1000), Timestamp: at},
		{Value: []byte("headers"), Timestamp: at, Headers: []kgo.RecordHeader{
			{Key: "a", Value: []byte("1")}, {Key: "a", Value: []byte("2")}, {Key: "null", Value: nil},
			{Key: "empty", Value: []byte{}}, {Key: "ключ", Value: []byte{0, 159, 146, 150}}, {Key: "", Value: []byte("x")},
		}},
	}
	for _, r := range recs {
		r.Topic = topic
	}
	if err := produceAll(ctx, cl, recs...); err != nil {
		return err
	}
	got, err := e.readFrom(ctx, topic, len(recs))
	if err != nil {
		return err
	}
	for i, w := range recs {
		g := got[i]
		switch {
		case !sameBytes(g.Key, w.Key) || !sameBytes(g.Value, w.Value):
			return fmt.Errorf("record %d came as key %q value %q", i, g.Key, g.Value)
		case !g.Timestamp.Equal(w.Timestamp):
			return fmt.Errorf("record %d came with time %v, want %v", i, g.Timestamp, w.Timestamp)
		case g.Attrs.TimestampType() != 0:
			return fmt.Errorf("record %d came with timestamp type %d", i, g.Attrs.TimestampType())
		case len(g.Headers) != len(w.Headers):
			return fmt.Errorf("record %d came with %d headers", i, len(g.Headers))
		}
		for j, h := range w.Headers {
			if g.Headers[j].Key != h.Key || !sameBytes(g.Headers[j].Value, h.Value) {
				return fmt.Errorf("record %d header %d came as %q=%q", i, j, g.Headers[j].Key, g.Headers[j].Value)
			}
		}
	}
	return nil
}

// sameBytes tells null from empty.
func sameBytes(a, b []byte) bool { return (a == nil) == (b == nil) && bytes.Equal(a, b) }

func franzText(ctx context.Context, e *env) error {
	texts, err := e.texts()
	if err != nil {
		return err
	}
	for path, text := range texts {
		topic, err := e.topic(ctx, "text", 1)
		if err != nil {
			return err
		}
		cl, err := e.client(kgo.ProducerBatchCompression(kgo.ZstdCompression()))
		if err != nil {
			return err
		}
		var recs []*kgo.Record
		for _, line := range bytes.Split(text, []byte("\n")) {
			recs = append(recs, &kgo.Record{Topic: topic, Value: line})
		}
		err = produceAll(ctx, cl, recs...)
		cl.Close()
		if err != nil {
			return err
		}
		got, err := e.readFrom(ctx, topic, len(recs))
		if err != nil {
			return err
		}
		if !bytes.Equal(joinLines(got), text) {
			return fmt.Errorf("%s came back changed", path)
		}
	}
	return nil
}

// franzIdempotentOrder fills the five requests in flight of the default
// (idempotent) producer with many small batches.
func franzIdempotentOrder(ctx context.Context, e *env) error {
	topic, err := e.topic(ctx, "idempotent", 1)
	if err != nil {
		return err
	}
	cl, err := e.client(kgo.ProducerBatchMaxBytes(600), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		return err
	}
	defer cl.Close()
	recs := values(topic, 3000)
	if err := produceAll(ctx, cl, recs...); err != nil {
		return err
	}
	got, err := e.readFrom(ctx, topic, len(recs))
	if err != nil {
		return err
	}
	for i, r := range got {
		switch {
		case !bytes.Equal(r.Value, recs[i].Value):
			return fmt.Errorf("offset %d holds %q, want %q", i, r.Value, recs[i].Value)
		case recs[i].Offset != r.Offset:
			return fmt.Errorf("%q was acknowledged at %d and read at %d", r.Value, recs[i].Offset, r.Offset)
		case r.ProducerID < 0 || r.ProducerEpoch < 0:
			return fmt.Errorf("offset %d has producer id %d, epoch %d", i, r.ProducerID, r.ProducerEpoch)
		}
	}
	return nil
}

func franzLargeRecords(ctx context.Context, e *env) error {
	topic, err := e.topic(ctx, "large", 2)
	if err != nil {
		return err
	}
	cl, err := e.client(kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		return err
	}
	defer cl.Close()
	recs := values(topic, 12)
	for i, r := range recs {
		r.Value = append(r.Value, bytes.Repeat([]byte{byte(i)}, 700_000)...)
	}
	if err := produceAll(ctx, cl, recs...); err != nil {
		return err
	}
	got, err := e.readFrom(ctx, topic, len(recs), kgo.FetchMaxPartitionBytes(1000), kgo.FetchMaxBytes(1000))
	if err != nil {
		return err
	}
	return errors.Join(inOrder(got), sameValues(got, recs))
}

func franzMessageTooLarge(ctx context.Context, e *env) error {
	adm, err := e.admin()
	if err != nil {
		return err
	}
	defer adm.Close()
	topic := unique("toolarge")
	if err := makeTopic(ctx, adm, topic, 1, map[string]*string{"max.message.bytes": ptr("2000")}); err != nil {
		return err
	}
	cl, err := e.client(kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.DefaultProduceTopic(topic))
	if err != nil {
		return err
	}
	defer cl.Close()
	err = produceAll(ctx, cl, &kgo.Record{Value: make([]byte, 3000)})
	if err := wantErr("3,000 bytes where 2,000 fit", err, kerr.MessageTooLarge); err != nil {
		return err
	}
	return produceAll(ctx, cl, &kgo.Record{Value: make([]byte, 1500)})
}

func franzAutoCreation(ctx context.Context, e *env) error {
	cl, err := e.client(kgo.AllowAutoTopicCreation())
	if err != nil {
		return err
	}
	defer cl.Close()
	topic := unique("auto")
	recs := values(topic, 20)
	if err := produceAll(ctx, cl, recs...); err != nil {
		return err
	}
	got, err := e.readFrom(ctx, topic, len(recs))
	if err != nil {
		return err
	}
	return sameValues(got, recs)
}

func franzUnknownTopic(ctx context.Context, e *env) error {
	cl, err := e.client(kgo.UnknownTopicRetries(1))
	if err != nil {
		return err
	}
	defer cl.Close()
	topic := unique("unknown")
	err = produceAll(ctx, cl, &kgo.Record{Topic: topic, Value: []byte("x")})
	if err := wantErr("produce", err, kerr.UnknownTopicOrPartition); err != nil {
		return err
	}
	adm, err := e.admin()
	if err != nil {
		return err
	}
	defer adm.Close()
	ts, err := adm.ListTopics(ctx)
	if err != nil {
		return err
	}
	if ts.Has(topic) {
		return errors.New("the topic was created although the client asked for it not to be")
	}
	return nil
}

func franzOutOfRangeReset(ctx context.Context, e *env) error {
	topic, err := e.topic(ctx, "range", 1)
	if err != nil {
		return err
	}
	cl, err := e.client(
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().At(10_000)}}),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
	)
	if err != nil {
		return err
	}
	defer cl.Close()
	recs := values(topic, 10)
	if err := produceAll(ctx, cl, recs...); err != nil {
		return err
	}
	got, err := pollN(ctx, cl, len(recs))
	if err != nil {
		return err
	}
	return errors.Join(inOrder(got), sameValues(got, recs))
}

func franzOutOfRangeError(ctx context.Context, e *env) error {
	topic, err := e.topic(ctx, "range", 1)
	if err != nil {
		return err
	}
	cl, err := e.client(
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().At(10_000)}}),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
	)
	if err != nil {
		return err
	}
	defer cl.Close()
	fs := cl.PollFetches(ctx)
	return wantErr("fetch at 10000 of an empty partition", fs.Err(), kerr.OffsetOutOfRange)
}

func franzConsumeAfterTime(ctx context.Context, e *env) error {
	topic, err := e.topic(ctx, "aftertime", 1)
	if err != nil {
		return err
	}
	cl, err := e.client(kgo.ProducerLinger(20 * time.Millisecond)) // one batch: the time is inside it
	if err != nil {
		return err
	}
	defer cl.Close()
	first := recent
	recs := values(topic, 100)
	for i, r := range recs {
		r.Timestamp = time.UnixMilli(first + int64(i)*10)
	}
	if err := produceAll(ctx, cl, recs...); err != nil {
		return err
	}
	for at, want := range map[int64]int{0: 0, 455: 46, 460: 46, 990: 99} {
		got, err := e.readFrom(ctx, topic, 100-want, kgo.ConsumeStartOffset(kgo.NewOffset().AfterMilli(first+at)))
		if err != nil {
			return err
		}
		if got[0].Offset != int64(want) {
			return fmt.Errorf("%d ms in: read from offset %d, want %d", at, got[0].Offset, want)
		}
	}
	return nil
}

// franzHundredPartitions reads from many partitions through one incremental
// fetch session while single partitions get records.
func franzHundredPartitions(ctx context.Context, e *env) error {
	return manyPartitions(ctx, e, 100)
}

func franzWithoutSessions(ctx context.Context, e *env) error {
	return manyPartitions(ctx, e, 10, kgo.DisableFetchSessions())
}

func manyPartitions(ctx context.Context, e *env, partitions int32, opts ...kgo.Opt) error {
	topic, err := e.topic(ctx, "many", partitions)
	if err != nil {
		return err
	}
	prod, err := e.client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		return err
	}
	defer prod.Close()
	cons, err := e.client(append(opts, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...)
	if err != nil {
		return err
	}
	defer cons.Close()
	var got, all []*kgo.Record
	for round := range int32(12) {
		var recs []*kgo.Record
		for p := int32(0); p < partitions; p++ {
			if round%4 != 0 && p%(round*3) != 0 {
				continue // most rounds touch few partitions
			}
			recs = append(recs, &kgo.Record{Topic: topic, Partition: p, Value: fmt.Appendf(nil, "r%d-p%d", round, p)})
		}
		if err := produceAll(ctx, prod, recs...); err != nil {
			return err
		}
		some, err := pollN(ctx, cons, len(recs))
		if err != nil {
			return fmt.Errorf("round %d: %w", round, err)
		}
		all, got = append(all, recs...), append(got, some...)
	}
	return errors.Join(inOrder(got), sameValues(got, all))
}

func franzRegex(ctx context.Context, e *env) error {
	adm, err := e.admin()
	if err != nil {
		return err
	}
	defer adm.Close()
	base := unique("regex")
	topics := []string{base + "-one", base + "-two", base + "-later"}
	other := unique("other")
	for _, t := range append([]string{other}, topics[:2]...) {
		if err := makeTopic(ctx, adm, t, 2, nil); err != nil {
			return err
		}
	}
	cl, err := e.client(
		kgo.ConsumeRegex(), kgo.ConsumeTopics("^"+base+"-.*"), kgo.ConsumerGroup(unique("regex")),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.MetadataMaxAge(300*time.Millisecond),
		kgo.HeartbeatInterval(200*time.Millisecond), kgo.DisableAutoCommit(),
	)
	if err != nil {
		return err
	}
	defer cl.Close()
	recs := append(values(topics[0], 10), values(topics[1], 10)...)
	if err := produceAll(ctx, cl, append(recs, values(other, 10)...)...); err != nil {
		return err
	}
	got, err := pollN(ctx, cl, 20)
	if err != nil {
		return err
	}
	if err := makeTopic(ctx, adm, topics[2], 2, nil); err != nil {
		return err
	}
	if err := produceAll(ctx, cl, values(topics[2], 10)...); err != nil {
		return err
	}
	count := map[string]int{}
	for count[topics[2]] < 10 { // a rebalance may bring uncommitted records again
		fs := cl.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("the topic made later was not read: %w", err)
		}
		for _, r := range fs.Records() {
			count[r.Topic]++
		}
	}
	for _, r := range got {
		count[r.Topic]++
	}
	if count[other] != 0 || count[topics[0]] < 10 || count[topics[1]] < 10 {
		return fmt.Errorf("records by topic: %v", count)
	}
	return nil
}

// franzRecreatedTopic: a topic of the same name made again is another topic.
func franzRecreatedTopic(ctx context.Context, e *env) error {
	adm, err := e.admin()
	if err != nil {
		return err
	}
	defer adm.Close()
	topic := unique("again")
	for _, want := range []string{"before", "after"} {
		if err := makeTopic(ctx, adm, topic, 1, nil); err != nil {
			return err
		}
		cl, err := e.client()
		if err != nil {
			return err
		}
		err = produceAll(ctx, cl, &kgo.Record{Topic: topic, Value: []byte(want)})
		cl.Close()
		if err != nil {
			return err
		}
		got, err := e.readFrom(ctx, topic, 1)
		if err != nil {
			return err
		}
		if string(got[0].Value) != want || got[0].Offset != 0 {
			return fmt.Errorf("offset %d holds %q, want %q at 0", got[0].Offset, got[0].Value, want)
		}
		if err := deleteTopic(ctx, adm, topic); err != nil {
			return err
		}
	}
	return nil
}
