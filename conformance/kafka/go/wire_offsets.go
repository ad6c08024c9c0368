package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// wireOffsetChecks are ListOffsets and OffsetForLeaderEpoch.
func wireOffsetChecks() []check {
	checks := []check{
		wired("wire/list-offsets/every-version", listEveryVersion),
		wired("wire/list-offsets/errors", listErrors),
		wired("wire/list-offsets/inside-gzip-by-hand", listInsideGzip),
		wired("wire/offset-for-leader-epoch", leaderEpochs),
	}
	for name, codec := range map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	} {
		checks = append(checks, wired("wire/list-offsets/inside-batch/"+name,
			func(ctx context.Context, e *env, w *wire, topic string) error {
				return listInside(ctx, e, w, topic, codec)
			}))
	}
	return checks
}

func listEveryVersion(ctx context.Context, e *env, w *wire, topic string) error {
	b := plain("a", "b", "c")
	b.timestamp, b.step = recent, 10
	if err := w.produced(topic, b, 0); err != nil {
		return err
	}
	keys, err := e.versions(ctx)
	if err != nil {
		return err
	}
	for version := int16(1); version <= keys[kmsg.ListOffsets].MaxVersion; version++ {
		for _, c := range []struct {
			ask, offset, stamp int64
			since              int16
		}{{-2, 0, -1, 1}, {-1, 3, -1, 1}, {recent + 5, 1, recent + 10, 1}, {recent + 20, 2, recent + 20, 1}, {recent + 21, -1, -1, 1}, {-3, 2, recent + 20, 7}} {
			if version < c.since {
				continue
			}
			req := kmsg.NewPtrListOffsetsRequest()
			req.ReplicaID = -1
			p := kmsg.NewListOffsetsRequestTopicPartition()
			p.Timestamp = c.ask
			req.Topics = []kmsg.ListOffsetsRequestTopic{{Topic: topic, Partitions: []kmsg.ListOffsetsRequestTopicPartition{p}}}
			r, err := ask[*kmsg.ListOffsetsResponse](w, req, version)
			if err != nil {
				return err
			}
			if got := r.Topics[0].Partitions[0]; got.ErrorCode != 0 || got.Offset != c.offset || got.Timestamp != c.stamp {
				return fmt.Errorf("v%d, time %d: error %d, offset %d, time %d; want %d, %d",
					version, c.ask, got.ErrorCode, got.Offset, got.Timestamp, c.offset, c.stamp)
			}
		}
	}
	return nil
}

func listErrors(_ context.Context, _ *env, w *wire, topic string) error {
	unknown, err := w.listOffset(unique("unknown"), 0, -1)
	if err != nil {
		return err
	}
	partition, err := w.listOffset(topic, 3, -1)
	if err != nil {
		return err
	}
	return errors.Join(
		wantCode("an unknown topic", unknown.ErrorCode, kerr.UnknownTopicOrPartition),
		wantCode("an unknown partition", partition.ErrorCode, kerr.UnknownTopicOrPartition),
	)
}

// times checks the record found by time in batches of records 10 ms apart.
func times(w *wire, topic string, base int64, records int64) error {
	for i := range records {
		for _, back := range []int64{0, 1, 9} {
			p, err := w.listOffset(topic, 0, base+i*10-back)
			if err != nil {
				return err
			}
			if p.ErrorCode != 0 || p.Offset != i || p.Timestamp != base+i*10 {
				return fmt.Errorf("time %d: error %d, offset %d, time %d; want offset %d", i*10-back, p.ErrorCode, p.Offset, p.Timestamp-base, i)
			}
		}
	}
	last, err := w.listOffset(topic, 0, base+records*10)
	if err != nil || last.Offset != -1 {
		return fmt.Errorf("after every record: offset %d, want none (%w)", last.Offset, err)
	}
	most, err := w.listOffset(topic, 0, -3)
	if err != nil || most.Offset != records-1 || most.Timestamp != base+(records-1)*10 {
		return fmt.Errorf("greatest time: offset %d, want %d (%w)", most.Offset, records-1, err)
	}
	return nil
}

func listInsideGzip(_ context.Context, _ *env, w *wire, topic string) error {
	base := recent
	for n := range int64(3) {
		b := plain("a", "b", "c", "d")
		b.timestamp, b.step, b.compress, b.attributes = base+n*40, 10, gzipped, 1
		if err := w.produced(topic, b, n*4); err != nil {
			return err
		}
	}
	return times(w, topic, base, 12)
}

func listInside(ctx context.Context, e *env, w *wire, topic string, codec kgo.CompressionCodec) error {
	base := recent
	cl, err := e.client(kgo.ProducerBatchCompression(codec), kgo.ManualFlushing())
	if err != nil {
		return err
	}
	defer cl.Close()
	recs := values(topic, 12)
	var failed error
	for i, r := range recs {
		r.Key, r.Timestamp = nil, stamp(base+int64(i)*10)
		r.Value = append(r.Value, "-a-value-that-compresses-compresses-compresses-compresses"...)
		cl.Produce(ctx, r, func(_ *kgo.Record, err error) {
			if err != nil {
				failed = err
			}
		})
	}
	if err := cl.Flush(ctx); err != nil {
		return err
	}
	if failed != nil {
		return failed
	}
	p, err := w.fetch(topic, 0)
	if err != nil {
		return err
	}
	if bs, err := batches(p.RecordBatches); err != nil || len(bs) != 1 {
		return fmt.Errorf("%d batches were stored, want 1 (%w)", len(bs), err)
	}
	return times(w, topic, base, 12)
}

func leaderEpochs(_ context.Context, _ *env, w *wire, topic string) error {
	if err := w.produced(topic, plain("a", "b", "c"), 0); err != nil {
		return err
	}
	t, err := w.metadata(topic)
	if err != nil {
		return err
	}
	now := t.Partitions[0].LeaderEpoch
	for version := int16(2); version <= 4; version++ {
		for _, c := range []struct {
			current, epoch, want int32
			end                  int64
			code                 *kerr.Error
			partition            int32
		}{
			{-1, now, now, 3, nil, 0},
			{now, now, now, 3, nil, 0},
			{now, now + 1, -1, -1, nil, 0},
			{now + 1, now, -1, -1, kerr.UnknownLeaderEpoch, 0},
			{-1, now, -1, -1, kerr.UnknownTopicOrPartition, 5},
		} {
			req := kmsg.NewPtrOffsetForLeaderEpochRequest()
			req.ReplicaID = -1
			p := kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
			p.Partition, p.CurrentLeaderEpoch, p.LeaderEpoch = c.partition, c.current, c.epoch
			req.Topics = []kmsg.OffsetForLeaderEpochRequestTopic{{
				Topic: topic, Partitions: []kmsg.OffsetForLeaderEpochRequestTopicPartition{p},
			}}
			r, err := ask[*kmsg.OffsetForLeaderEpochResponse](w, req, version)
			if err != nil {
				return err
			}
			got := r.Topics[0].Partitions[0]
			if err := wantCode(fmt.Sprintf("v%d epoch %d, current %d", version, c.epoch, c.current), got.ErrorCode, c.code); err != nil {
				return err
			}
			if got.LeaderEpoch != c.want || got.EndOffset != c.end {
				return fmt.Errorf("v%d epoch %d ends with epoch %d at %d, want %d at %d", version, c.epoch, got.LeaderEpoch, got.EndOffset, c.want, c.end)
			}
		}
	}
	return nil
}
