package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// wireProduceChecks are the answers of Produce that clients hide.
func wireProduceChecks() []check {
	return []check{
		wired("wire/produce/every-version", produceEveryVersion),
		wired("wire/produce/by-topic-id", produceByID),
		wired("wire/produce/unknown-topic-id", produceUnknownID),
		wired("wire/produce/unknown-topic", produceUnknownTopic),
		wired("wire/produce/bad-batches", produceBadBatches),
		wired("wire/produce/bad-acks", produceBadAcks),
		wired("wire/produce/acks-0-is-silent", produceSilent),
		wired("wire/produce/acks-0-error-closes", produceSilentError),
		wired("wire/produce/transactional-not-stored", produceTransactional),
		wired("wire/produce/one-bad-partition", produceOneBad),
	}
}

func gzipped(b []byte) []byte {
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	_, _ = z.Write(b) // a buffer takes everything
	_ = z.Close()
	return buf.Bytes()
}

func produceEveryVersion(ctx context.Context, e *env, w *wire, topic string) error {
	keys, err := e.versions(ctx)
	if err != nil {
		return err
	}
	t, err := w.metadata(topic)
	if err != nil {
		return err
	}
	offset := int64(0)
	for version := int16(3); version <= keys[kmsg.Produce].MaxVersion; version++ {
		req := produceRequest(topic, 0, plain("a", "b").bytes())
		req.Topics[0].TopicID = t.TopicID
		r, err := ask[*kmsg.ProduceResponse](w, req, version)
		if err != nil {
			return err
		}
		p, err := onePartition(r)
		if err != nil {
			return err
		}
		if p.ErrorCode != 0 || p.BaseOffset != offset || p.LogAppendTime != -1 || version >= 5 && p.LogStartOffset != 0 {
			return fmt.Errorf("v%d answers %+v, want offset %d", version, p, offset)
		}
		offset += 2
	}
	end, err := w.endOffset(topic)
	if err != nil || end != offset {
		return fmt.Errorf("end offset %d, want %d (%w)", end, offset, err)
	}
	return nil
}

func produceByID(_ context.Context, _ *env, w *wire, topic string) error {
	t, err := w.metadata(topic)
	if err != nil {
		return err
	}
	req := produceRequest("", 0, plain("by id").bytes())
	req.Topics[0].TopicID = t.TopicID
	r, err := ask[*kmsg.ProduceResponse](w, req, 13)
	if err != nil {
		return err
	}
	p, err := onePartition(r)
	if err != nil {
		return err
	}
	if r.Topics[0].TopicID != t.TopicID {
		return errors.New("the answer names another topic id")
	}
	return wantCode("produce by topic id", p.ErrorCode, nil)
}

func produceUnknownID(_ context.Context, _ *env, w *wire, _ string) error {
	req := produceRequest("", 0, plain("nowhere").bytes())
	req.Topics[0].TopicID = strangeID
	r, err := ask[*kmsg.ProduceResponse](w, req, 13)
	if err != nil {
		return err
	}
	p, err := onePartition(r)
	if err != nil {
		return err
	}
	return wantCode("produce to an unknown topic id", p.ErrorCode, kerr.UnknownTopicID)
}

func produceUnknownTopic(_ context.Context, _ *env, w *wire, topic string) error {
	unknown := unique("unknown")
	p, err := w.produce(unknown, plain("x"))
	if err != nil {
		return err
	}
	if err := wantCode("produce to an unknown topic", p.ErrorCode, kerr.UnknownTopicOrPartition); err != nil {
		return err
	}
	for _, partition := range []int32{1, 1 << 30, -1} {
		r, err := ask[*kmsg.ProduceResponse](w, produceRequest(topic, partition, plain("x").bytes()), produceVersion)
		if err != nil {
			return err
		}
		p, err := onePartition(r)
		if err != nil {
			return err
		}
		if err := wantCode(fmt.Sprint("produce to partition ", partition), p.ErrorCode, kerr.UnknownTopicOrPartition); err != nil {
			return err
		}
	}
	return nil
}

func produceBadBatches(_ context.Context, _ *env, w *wire, topic string) error {
	crc := plain("x")
	crc.badCRC = true
	count := plain("x")
	count.count = 5
	short := plain("cut short").bytes()
	short = short[:len(short)-4]
	two := append(plain("one").bytes(), plain("two").bytes()...)
	old := plain("x").bytes()
	old[16] = 1
	for _, c := range []struct {
		what  string
		bytes []byte
		want  []*kerr.Error
	}{
		{"a wrong CRC", crc.bytes(), []*kerr.Error{kerr.CorruptMessage}},
		{"a wrong count", count.bytes(), []*kerr.Error{kerr.InvalidRecord, kerr.CorruptMessage}},
		{"a batch cut short", short, []*kerr.Error{kerr.CorruptMessage, kerr.InvalidRecord}},
		{"two batches", two, []*kerr.Error{kerr.InvalidRecord, kerr.CorruptMessage}},
		{"magic 1", old, []*kerr.Error{kerr.InvalidRecord, kerr.CorruptMessage}},
	} {
		r, err := ask[*kmsg.ProduceResponse](w, produceRequest(topic, 0, c.bytes), produceVersion)
		if err != nil {
			return fmt.Errorf("%s: %w", c.what, err)
		}
		p, err := onePartition(r)
		if err != nil {
			return err
		}
		ok := false
		for _, k := range c.want {
			ok = ok || k.Code == p.ErrorCode
		}
		if !ok {
			return fmt.Errorf("%s: error %d (%v), want %v", c.what, p.ErrorCode, kerr.ErrorForCode(p.ErrorCode), c.want)
		}
	}
	end, err := w.endOffset(topic)
	if err != nil || end != 0 {
		return fmt.Errorf("%d records of bad batches were stored (%w)", end, err)
	}
	return w.produced(topic, plain("good"), 0)
}

func produceBadAcks(_ context.Context, _ *env, w *wire, topic string) error {
	req := produceRequest(topic, 0, plain("x").bytes())
	req.Acks = 7
	r, err := ask[*kmsg.ProduceResponse](w, req, produceVersion)
	if err != nil {
		return err
	}
	p, err := onePartition(r)
	if err != nil {
		return err
	}
	return wantCode("acks 7", p.ErrorCode, kerr.InvalidRequiredAcks)
}

func produceSilent(ctx context.Context, _ *env, w *wire, topic string) error {
	for range 3 {
		req := produceRequest(topic, 0, plain("quiet").bytes())
		req.Acks = 0
		if _, err := w.send(req, produceVersion); err != nil {
			return err
		}
	}
	// The next answer on the connection is of the next request.
	return until(ctx, "three records stored", func() (bool, string) {
		end, err := w.endOffset(topic)
		return err == nil && end == 3, fmt.Sprintf("end offset %d, error %v", end, err)
	})
}

func produceSilentError(_ context.Context, _ *env, w *wire, _ string) error {
	req := produceRequest(unique("unknown"), 0, plain("x").bytes())
	req.Acks = 0
	if _, err := w.send(req, produceVersion); err != nil {
		return err
	}
	return w.closed()
}

// produceTransactional: what belongs to no ongoing transaction is refused and
// never stored as plain records.
func produceTransactional(_ context.Context, e *env, w *wire, topic string) error {
	init, err := w.initProducer(-1, -1)
	if err != nil {
		return err
	}
	b := sequenced(init.ProducerID, init.ProducerEpoch, 0, "in a transaction")
	b.attributes = 0x10
	req := produceRequest(topic, 0, b.bytes())
	req.TransactionID = ptr(unique("txn"))
	r, err := ask[*kmsg.ProduceResponse](w, req, 11)
	if err != nil {
		return err
	}
	p, err := onePartition(r)
	if err != nil {
		return err
	}
	if p.ErrorCode == 0 {
		return errors.New("a batch of no transaction was taken")
	}
	end, err := w.endOffset(topic)
	if err != nil || end != 0 {
		return fmt.Errorf("end offset %d after a refused batch (%w)", end, err)
	}
	if !e.millstream() {
		return nil
	}
	ireq := kmsg.NewPtrInitProducerIDRequest()
	ireq.TransactionalID = req.TransactionID
	ireq.TransactionTimeoutMillis = 10_000
	ireq.ProducerID, ireq.ProducerEpoch = -1, -1
	ir, err := ask[*kmsg.InitProducerIDResponse](w, ireq, 4)
	if err != nil {
		return err
	}
	if ir.ErrorCode == 0 {
		return errors.New("a transactional id was accepted")
	}
	return nil
}

// produceOneBad: an error in one partition leaves the others alone.
func produceOneBad(_ context.Context, _ *env, w *wire, topic string) error {
	req := produceRequest(topic, 0, plain("good").bytes())
	req.Topics[0].Partitions = append(req.Topics[0].Partitions,
		kmsg.ProduceRequestTopicPartition{Partition: 9, Records: plain("bad").bytes()})
	r, err := ask[*kmsg.ProduceResponse](w, req, produceVersion)
	if err != nil {
		return err
	}
	codes := map[int32]int16{}
	for _, t := range r.Topics {
		for _, p := range t.Partitions {
			codes[p.Partition] = p.ErrorCode
		}
	}
	if len(codes) != 2 {
		return fmt.Errorf("%d partitions answered, want 2", len(codes))
	}
	if err := wantCode("the good partition", codes[0], nil); err != nil {
		return err
	}
	return wantCode("the bad partition", codes[9], kerr.UnknownTopicOrPartition)
}
