package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// frameBytesMax bounds a response read from the broker.
const frameBytesMax = 64 << 20

// wire is one connection on which requests leave exactly as they are built:
// no negotiation, no retries, no reconnection.
type wire struct {
	conn   net.Conn
	format *kmsg.RequestFormatter
	next   int32
}

func (e *env) wire(ctx context.Context) (*wire, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", e.bootstrap)
	if err != nil {
		return nil, err
	}
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(checkTimeout)
	}
	if err := conn.SetDeadline(deadline); err != nil {
		return nil, err
	}
	return &wire{conn: conn, format: kmsg.NewRequestFormatter(kmsg.FormatterClientID("conformance-go"))}, nil
}

func (w *wire) close() { _ = w.conn.Close() }

// send writes a request of the given version and returns its correlation id.
func (w *wire) send(req kmsg.Request, version int16) (int32, error) {
	w.next++
	req.SetVersion(version)
	_, err := w.conn.Write(w.format.AppendRequest(nil, req, w.next))
	return w.next, err
}

// frame reads one frame.
func (w *wire) frame() ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(w.conn, size[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > frameBytesMax {
		return nil, fmt.Errorf("a frame of %d bytes", n)
	}
	buf := make([]byte, n)
	_, err := io.ReadFull(w.conn, buf)
	return buf, err
}

// receive reads the response to req, which must be the next on the connection.
func (w *wire) receive(req kmsg.Request, correlation int32) (kmsg.Response, error) {
	resp := req.ResponseKind()
	b, err := w.frame()
	if err != nil {
		return nil, fmt.Errorf("response to %s v%d: %w", kmsg.NameForKey(req.Key()), req.GetVersion(), err)
	}
	if len(b) < 4 {
		return nil, fmt.Errorf("a response of %d bytes", len(b))
	}
	if got := int32(binary.BigEndian.Uint32(b)); got != correlation {
		return nil, fmt.Errorf("response carries correlation id %d, want %d", got, correlation)
	}
	b = b[4:]
	// The header of ApiVersions responses never has tags.
	if resp.IsFlexible() && resp.Key() != int16(kmsg.ApiVersions) {
		if len(b) < 1 || b[0] != 0 {
			return nil, errors.New("a flexible response header without an empty tag section")
		}
		b = b[1:]
	}
	if err := resp.ReadFrom(b); err != nil {
		return nil, fmt.Errorf("response to %s v%d does not parse: %w", kmsg.NameForKey(req.Key()), req.GetVersion(), err)
	}
	return resp, nil
}

// ask sends a request and reads its response.
func ask[T kmsg.Response](w *wire, req kmsg.Request, version int16) (T, error) {
	var zero T
	id, err := w.send(req, version)
	if err != nil {
		return zero, err
	}
	resp, err := w.receive(req, id)
	if err != nil {
		return zero, err
	}
	return resp.(T), nil
}

// closed checks that the broker closes the connection without answering.
func (w *wire) closed() error {
	b, err := w.frame()
	var timeout net.Error
	switch {
	case err == nil:
		return fmt.Errorf("the broker answered (%d bytes) instead of closing the connection", len(b))
	case errors.As(err, &timeout) && timeout.Timeout():
		return errors.New("the broker left the connection open without an answer")
	}
	return nil // end of file or reset
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// batch builds record batches of format 2, field by field.
type batch struct {
	pid        int64
	epoch      int16
	seq        int32
	attributes int16
	timestamp  int64
	step       int64 // milliseconds from one record to the next
	compress   func([]byte) []byte
	badCRC     bool
	count      int32 // claimed record count where it is to differ
	values     []string
}

// plain is a batch without a producer id.
func plain(vals ...string) batch {
	return batch{pid: -1, epoch: -1, seq: -1, timestamp: time.Now().UnixMilli(), values: vals}
}

// sequenced is a batch of an idempotent producer.
func sequenced(pid int64, epoch int16, seq int32, vals ...string) batch {
	b := plain(vals...)
	b.pid, b.epoch, b.seq = pid, epoch, seq
	return b
}

func (b batch) bytes() []byte {
	var recs []byte
	for i, v := range b.values {
		r := kmsg.Record{TimestampDelta64: int64(i) * b.step, OffsetDelta: int32(i), Value: []byte(v)}
		r.Length = int32(len(r.AppendTo(nil)) - 1) // a length of 0 takes one byte
		recs = r.AppendTo(recs)
	}
	if b.compress != nil {
		recs = b.compress(recs)
	}
	n := int32(len(b.values))
	if b.count != 0 {
		n = b.count
	}
	rb := kmsg.RecordBatch{
		Length:               int32(49 + len(recs)),
		PartitionLeaderEpoch: -1,
		Magic:                2,
		Attributes:           b.attributes,
		LastOffsetDelta:      int32(len(b.values) - 1),
		FirstTimestamp:       b.timestamp,
		MaxTimestamp:         b.timestamp + int64(len(b.values)-1)*b.step,
		ProducerID:           b.pid,
		ProducerEpoch:        b.epoch,
		FirstSequence:        b.seq,
		NumRecords:           n,
		Records:              recs,
	}
	out := rb.AppendTo(nil)
	crc := crc32.Checksum(out[21:], castagnoli)
	if b.badCRC {
		crc ^= 1
	}
	binary.BigEndian.PutUint32(out[17:], crc)
	return out
}

// produceVersion is the last version of Produce that names its topics.
const produceVersion = 12

func produceRequest(topic string, partition int32, records []byte) *kmsg.ProduceRequest {
	req := kmsg.NewPtrProduceRequest()
	req.Acks = -1
	req.TimeoutMillis = 15000
	req.Topics = []kmsg.ProduceRequestTopic{{
		Topic:      topic,
		Partitions: []kmsg.ProduceRequestTopicPartition{{Partition: partition, Records: records}},
	}}
	return req
}

// onePartition is the only partition of a Produce response.
func onePartition(r *kmsg.ProduceResponse) (kmsg.ProduceResponseTopicPartition, error) {
	if len(r.Topics) != 1 || len(r.Topics[0].Partitions) != 1 {
		return kmsg.ProduceResponseTopicPartition{}, fmt.Errorf("response of %d topics", len(r.Topics))
	}
	return r.Topics[0].Partitions[0], nil
}

// produce sends one batch to partition 0 and returns the partition's answer.
func (w *wire) produce(topic string, b batch) (kmsg.ProduceResponseTopicPartition, error) {
	r, err := ask[*kmsg.ProduceResponse](w, produceRequest(topic, 0, b.bytes()), produceVersion)
	if err != nil {
		return kmsg.ProduceResponseTopicPartition{}, err
	}
	return onePartition(r)
}

// produced sends one batch to partition 0; it must be taken, at the offset given.
func (w *wire) produced(topic string, b batch, offset int64) error {
	p, err := w.produce(topic, b)
	if err != nil {
		return err
	}
	if err := wantCode("produce", p.ErrorCode, nil); err != nil {
		return err
	}
	if p.BaseOffset != offset {
		return fmt.Errorf("produced at offset %d, want %d", p.BaseOffset, offset)
	}
	return nil
}

// endOffset asks for the end of partition 0.
func (w *wire) endOffset(topic string) (int64, error) {
	p, err := w.listOffset(topic, 0, -1)
	if err != nil {
		return 0, err
	}
	return p.Offset, wantCode("list offsets", p.ErrorCode, nil)
}

func (w *wire) listOffset(topic string, partition int32, timestamp int64) (kmsg.ListOffsetsResponseTopicPartition, error) {
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID = -1
	req.Topics = []kmsg.ListOffsetsRequestTopic{{
		Topic: topic,
		Partitions: []kmsg.ListOffsetsRequestTopicPartition{{
			Partition: partition, CurrentLeaderEpoch: -1, Timestamp: timestamp,
		}},
	}}
	r, err := ask[*kmsg.ListOffsetsResponse](w, req, 8)
	if err != nil {
		return kmsg.ListOffsetsResponseTopicPartition{}, err
	}
	if len(r.Topics) != 1 || len(r.Topics[0].Partitions) != 1 {
		return kmsg.ListOffsetsResponseTopicPartition{}, fmt.Errorf("response of %d topics", len(r.Topics))
	}
	return r.Topics[0].Partitions[0], nil
}

// metadata asks about one topic by name, creating nothing.
func (w *wire) metadata(topic string) (kmsg.MetadataResponseTopic, error) {
	req := kmsg.NewPtrMetadataRequest()
	req.Topics = []kmsg.MetadataRequestTopic{{Topic: &topic}}
	r, err := ask[*kmsg.MetadataResponse](w, req, 12)
	if err != nil {
		return kmsg.MetadataResponseTopic{}, err
	}
	if len(r.Topics) != 1 {
		return kmsg.MetadataResponseTopic{}, fmt.Errorf("metadata of %d topics", len(r.Topics))
	}
	return r.Topics[0], nil
}

// wireOn opens a connection beside a new topic of one partition.
func (e *env) wireOn(ctx context.Context, prefix string) (*wire, string, error) {
	topic, err := e.topic(ctx, prefix, 1)
	if err != nil {
		return nil, "", err
	}
	w, err := e.wire(ctx)
	return w, topic, err
}

// wired wraps a check that works on a connection and a topic of one partition.
func wired(name string, run func(ctx context.Context, e *env, w *wire, topic string) error) check {
	return check{name, func(ctx context.Context, e *env) error {
		w, topic, err := e.wireOn(ctx, "wire")
		if err != nil {
			return err
		}
		defer w.close()
		return run(ctx, e, w, topic)
	}}
}
