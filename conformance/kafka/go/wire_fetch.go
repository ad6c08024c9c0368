package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// wireFetchChecks are the answers of Fetch: limits, waits and sessions.
func wireFetchChecks() []check {
	return []check{
		wired("wire/fetch/every-version", fetchEveryVersion),
		wired("wire/fetch/unknown-topic-id", fetchUnknownID),
		wired("wire/fetch/unknown-topic", fetchUnknownTopic),
		wired("wire/fetch/out-of-range", fetchOutOfRange),
		wired("wire/fetch/leader-epochs", fetchLeaderEpochs),
		wired("wire/fetch/one-batch-beyond-limits", fetchBeyondLimits),
		wired("wire/fetch/limits", fetchLimits),
		wired("wire/fetch/inside-a-batch", fetchInside),
		wired("wire/fetch/woken-by-produce", fetchWoken),
		wired("wire/fetch/min-bytes", fetchMinBytes),
		wired("wire/fetch/session", fetchSession),
		wired("wire/fetch/session-errors", fetchSessionErrors),
		wired("wire/fetch/session-closed", fetchSessionClosed),
		wired("wire/fetch/session-forgets", fetchSessionForgets),
		wired("wire/fetch/recreated-topic-id", fetchRecreated),
	}
}

// fetchVersion is the last version of Fetch that names its topics.
const fetchVersion = 12

func fetchPartition(partition int32, offset int64) kmsg.FetchRequestTopicPartition {
	p := kmsg.NewFetchRequestTopicPartition()
	p.Partition, p.FetchOffset = partition, offset
	p.CurrentLeaderEpoch, p.LastFetchedEpoch, p.LogStartOffset = -1, -1, -1
	p.PartitionMaxBytes = 1 << 20
	return p
}

// fetchRequest asks at once, outside any session.
func fetchRequest(topic string, partition int32, offset int64) *kmsg.FetchRequest {
	r := kmsg.NewPtrFetchRequest()
	r.ReplicaID = -1
	r.MaxBytes = 16 << 20
	r.SessionEpoch = -1
	t := kmsg.NewFetchRequestTopic()
	t.Topic = topic
	t.Partitions = []kmsg.FetchRequestTopicPartition{fetchPartition(partition, offset)}
	r.Topics = []kmsg.FetchRequestTopic{t}
	return r
}

// fetched is the only partition of an answer without a top-level error.
func fetched(r *kmsg.FetchResponse) (kmsg.FetchResponseTopicPartition, error) {
	if err := wantCode("fetch", r.ErrorCode, nil); err != nil {
		return kmsg.FetchResponseTopicPartition{}, err
	}
	if len(r.Topics) != 1 || len(r.Topics[0].Partitions) != 1 {
		return kmsg.FetchResponseTopicPartition{}, fmt.Errorf("fetch answers %d topics, want 1", len(r.Topics))
	}
	return r.Topics[0].Partitions[0], nil
}

func (w *wire) fetch(topic string, offset int64) (kmsg.FetchResponseTopicPartition, error) {
	r, err := ask[*kmsg.FetchResponse](w, fetchRequest(topic, 0, offset), fetchVersion)
	if err != nil {
		return kmsg.FetchResponseTopicPartition{}, err
	}
	return fetched(r)
}

// batches reads the headers of whole batches; what is cut at the end is left out.
func batches(b []byte) (out []kmsg.RecordBatch, err error) {
	for len(b) >= 61 {
		var rb kmsg.RecordBatch
		if err := rb.ReadFrom(b); err != nil {
			return out, nil //nolint:nilerr // the last batch may be cut
		}
		n := 12 + int(rb.Length)
		if rb.Length < 49 || rb.Magic != 2 {
			return out, fmt.Errorf("a batch of length %d, magic %d", rb.Length, rb.Magic)
		}
		if n > len(b) {
			break
		}
		out, b = append(out, rb), b[n:]
	}
	return out, nil
}

// holds checks that an answer has whole batches with exactly these first offsets.
func holds(p kmsg.FetchResponseTopicPartition, first ...int64) error {
	if err := wantCode("fetch", p.ErrorCode, nil); err != nil {
		return err
	}
	bs, err := batches(p.RecordBatches)
	if err != nil {
		return err
	}
	var got []int64
	for _, b := range bs {
		got = append(got, b.FirstOffset)
	}
	if fmt.Sprint(got) != fmt.Sprint(first) {
		return fmt.Errorf("batches came at %v, want at %v", got, first)
	}
	return nil
}

func fetchEveryVersion(ctx context.Context, e *env, w *wire, topic string) error {
	if err := errors.Join(w.produced(topic, plain("a", "b"), 0), w.produced(topic, plain("c"), 2)); err != nil {
		return err
	}
	t, err := w.metadata(topic)
	if err != nil {
		return err
	}
	keys, err := e.versions(ctx)
	if err != nil {
		return err
	}
	for version := int16(4); version <= keys[kmsg.Fetch].MaxVersion; version++ {
		req := fetchRequest(topic, 0, 0)
		req.Topics[0].TopicID = t.TopicID
		r, err := ask[*kmsg.FetchResponse](w, req, version)
		if err != nil {
			return err
		}
		p, err := fetched(r)
		if err != nil {
			return fmt.Errorf("v%d: %w", version, err)
		}
		if p.HighWatermark != 3 || p.LastStableOffset != 3 || version >= 5 && p.LogStartOffset != 0 {
			return fmt.Errorf("v%d answers high watermark %d, last stable %d, start %d", version, p.HighWatermark, p.LastStableOffset, p.LogStartOffset)
		}
		if version >= 13 && r.Topics[0].TopicID != t.TopicID || version < 13 && r.Topics[0].Topic != topic {
			return fmt.Errorf("v%d answers for another topic", version)
		}
		if err := holds(p, 0, 2); err != nil {
			return fmt.Errorf("v%d: %w", version, err)
		}
	}
	return nil
}

func fetchUnknownID(_ context.Context, _ *env, w *wire, _ string) error {
	req := fetchRequest("", 0, 0)
	req.Topics[0].TopicID = strangeID
	r, err := ask[*kmsg.FetchResponse](w, req, 13)
	if err != nil {
		return err
	}
	p, err := fetched(r)
	if err != nil {
		return err
	}
	return wantCode("fetch of an unknown topic id", p.ErrorCode, kerr.UnknownTopicID)
}

func fetchUnknownTopic(_ context.Context, _ *env, w *wire, topic string) error {
	p, err := w.fetch(unique("unknown"), 0)
	if err != nil {
		return err
	}
	if err := wantCode("fetch of an unknown topic", p.ErrorCode, kerr.UnknownTopicOrPartition); err != nil {
		return err
	}
	r, err := ask[*kmsg.FetchResponse](w, fetchRequest(topic, 7, 0), fetchVersion)
	if err != nil {
		return err
	}
	if p, err = fetched(r); err != nil {
		return err
	}
	return wantCode("fetch of an unknown partition", p.ErrorCode, kerr.UnknownTopicOrPartition)
}

func fetchOutOfRange(_ context.Context, _ *env, w *wire, topic string) error {
	if err := w.produced(topic, plain("a", "b"), 0); err != nil {
		return err
	}
	for _, offset := range []int64{3, -1, 1 << 60} {
		p, err := w.fetch(topic, offset)
		if err != nil {
			return err
		}
		if err := wantCode(fmt.Sprint("fetch at ", offset), p.ErrorCode, kerr.OffsetOutOfRange); err != nil {
			return err
		}
	}
	p, err := w.fetch(topic, 2) // the end itself is in range
	if err != nil {
		return err
	}
	return holds(p)
}

func fetchLeaderEpochs(_ context.Context, _ *env, w *wire, topic string) error {
	t, err := w.metadata(topic)
	if err != nil {
		return err
	}
	current := t.Partitions[0].LeaderEpoch
	for _, c := range []struct {
		epoch int32
		want  *kerr.Error
	}{{current, nil}, {current + 1, kerr.UnknownLeaderEpoch}} {
		req := fetchRequest(topic, 0, 0)
		req.Topics[0].Partitions[0].CurrentLeaderEpoch = c.epoch
		r, err := ask[*kmsg.FetchResponse](w, req, fetchVersion)
		if err != nil {
			return err
		}
		p, err := fetched(r)
		if err != nil {
			return err
		}
		if err := wantCode(fmt.Sprintf("epoch %d where %d is current", c.epoch, current), p.ErrorCode, c.want); err != nil {
			return err
		}
	}
	return nil
}

// fetchBeyondLimits: the first batch comes whole however small the limits.
func fetchBeyondLimits(_ context.Context, _ *env, w *wire, topic string) error {
	big := strings.Repeat("x", 50_000)
	if err := errors.Join(w.produced(topic, plain(big), 0), w.produced(topic, plain(big), 1)); err != nil {
		return err
	}
	for offset := range int64(2) {
		req := fetchRequest(topic, 0, offset)
		req.MaxBytes = 10
		req.Topics[0].Partitions[0].PartitionMaxBytes = 10
		r, err := ask[*kmsg.FetchResponse](w, req, fetchVersion)
		if err != nil {
			return err
		}
		p, err := fetched(r)
		if err != nil {
			return err
		}
		if err := holds(p, offset); err != nil {
			return err
		}
	}
	return nil
}

func fetchLimits(_ context.Context, _ *env, w *wire, topic string) error {
	body := strings.Repeat("x", 10_000)
	for i := range int64(10) {
		if err := w.produced(topic, plain(body), i); err != nil {
			return err
		}
	}
	for _, c := range []struct{ total, partition int32 }{{35_000, 1 << 20}, {1 << 20, 35_000}} {
		req := fetchRequest(topic, 0, 2)
		req.MaxBytes = c.total
		req.Topics[0].Partitions[0].PartitionMaxBytes = c.partition
		r, err := ask[*kmsg.FetchResponse](w, req, fetchVersion)
		if err != nil {
			return err
		}
		p, err := fetched(r)
		if err != nil {
			return err
		}
		if err := holds(p, 2, 3, 4); err != nil {
			return err
		}
		if len(p.RecordBatches) > 35_000 {
			return fmt.Errorf("%d bytes came where 35,000 were asked", len(p.RecordBatches))
		}
	}
	return nil
}

// fetchInside: an offset inside a batch brings the batch it is in.
func fetchInside(_ context.Context, _ *env, w *wire, topic string) error {
	if err := errors.Join(w.produced(topic, plain("a", "b", "c"), 0), w.produced(topic, plain("d", "e"), 3)); err != nil {
		return err
	}
	for offset, want := range map[int64][]int64{0: {0, 3}, 2: {0, 3}, 3: {3}, 4: {3}, 5: nil} {
		p, err := w.fetch(topic, offset)
		if err != nil {
			return err
		}
		if err := holds(p, want...); err != nil {
			return fmt.Errorf("at %d: %w", offset, err)
		}
	}
	return nil
}

// fetchWoken: a waiting Fetch returns when a record comes, long before its limit.
func fetchWoken(ctx context.Context, e *env, w *wire, topic string) error {
	req := fetchRequest(topic, 0, 0)
	req.MaxWaitMillis, req.MinBytes = 600_000, 1 // longer than the check may run
	id, err := w.send(req, fetchVersion)
	if err != nil {
		return err
	}
	other, err := e.wire(ctx)
	if err != nil {
		return err
	}
	defer other.close()
	if err := other.produced(topic, plain("wake"), 0); err != nil {
		return err
	}
	r, err := w.receive(req, id)
	if err != nil {
		return err
	}
	p, err := fetched(r.(*kmsg.FetchResponse))
	if err != nil {
		return err
	}
	return holds(p, 0)
}

// fetchMinBytes: a Fetch waits for as many bytes as it asked for.
func fetchMinBytes(ctx context.Context, e *env, w *wire, topic string) error {
	req := fetchRequest(topic, 0, 0)
	req.MaxWaitMillis, req.MinBytes = 600_000, 5000
	id, err := w.send(req, fetchVersion)
	if err != nil {
		return err
	}
	other, err := e.wire(ctx)
	if err != nil {
		return err
	}
	defer other.close()
	body := strings.Repeat("x", 1500)
	for i := range int64(4) {
		if err := other.produced(topic, plain(body), i); err != nil {
			return err
		}
	}
	r, err := w.receive(req, id)
	if err != nil {
		return err
	}
	p, err := fetched(r.(*kmsg.FetchResponse))
	if err != nil {
		return err
	}
	return holds(p, 0, 1, 2, 3)
}

// sessionOn opens a session over partition 0 of the topics.
func (w *wire) sessionOn(topics ...string) (int32, *kmsg.FetchResponse, error) {
	req := fetchRequest(topics[0], 0, 0)
	req.SessionEpoch = 0
	for _, t := range topics[1:] {
		req.Topics = append(req.Topics, fetchRequest(t, 0, 0).Topics[0])
	}
	r, err := ask[*kmsg.FetchResponse](w, req, fetchVersion)
	if err != nil {
		return 0, nil, err
	}
	if err := wantCode("a new session", r.ErrorCode, nil); err != nil {
		return 0, nil, err
	}
	if r.SessionID == 0 {
		return 0, nil, errors.New("a new session has id 0")
	}
	return r.SessionID, r, nil
}

// incremental asks within a session; topics only where something changes.
func (w *wire) incremental(session, epoch int32, topics ...kmsg.FetchRequestTopic) (*kmsg.FetchResponse, error) {
	req := fetchRequest("", 0, 0)
	req.Topics = topics
	req.SessionID, req.SessionEpoch = session, epoch
	return ask[*kmsg.FetchResponse](w, req, fetchVersion)
}

func fetchSession(ctx context.Context, e *env, w *wire, topic string) error {
	second, err := e.topic(ctx, "session", 1)
	if err != nil {
		return err
	}
	session, r, err := w.sessionOn(topic, second)
	if err != nil {
		return err
	}
	if len(r.Topics) != 2 {
		return fmt.Errorf("the first answer of a session has %d topics, want both", len(r.Topics))
	}
	if r, err = w.incremental(session, 1); err != nil {
		return err
	}
	if r.ErrorCode != 0 || r.SessionID != session || len(r.Topics) != 0 {
		return fmt.Errorf("nothing changed, yet: error %d, session %d, %d topics", r.ErrorCode, r.SessionID, len(r.Topics))
	}
	if err := w.produced(second, plain("a"), 0); err != nil {
		return err
	}
	if r, err = w.incremental(session, 2); err != nil {
		return err
	}
	p, err := fetched(r)
	if err != nil {
		return err
	}
	if r.Topics[0].Topic != second || p.HighWatermark != 1 {
		return fmt.Errorf("topic %s came, high watermark %d", r.Topics[0].Topic, p.HighWatermark)
	}
	if err := holds(p, 0); err != nil {
		return err
	}
	// What was read is acknowledged by asking at the next offset.
	if r, err = w.incremental(session, 3, fetchRequest(second, 0, 1).Topics[0]); err != nil {
		return err
	}
	if r.ErrorCode != 0 || len(r.Topics) != 0 {
		return fmt.Errorf("after reading to the end: error %d, %d topics", r.ErrorCode, len(r.Topics))
	}
	// A partition in error comes in every answer.
	if r, err = w.incremental(session, 4, fetchRequest(second, 0, 99).Topics[0]); err != nil {
		return err
	}
	if p, err = fetched(r); err != nil {
		return err
	}
	return wantCode("an offset out of range within a session", p.ErrorCode, kerr.OffsetOutOfRange)
}

func fetchSessionErrors(_ context.Context, _ *env, w *wire, topic string) error {
	session, _, err := w.sessionOn(topic)
	if err != nil {
		return err
	}
	r, err := w.incremental(session, 5)
	if err != nil {
		return err
	}
	if err := wantCode("epoch 5 where 1 is next", r.ErrorCode, kerr.InvalidFetchSessionEpoch); err != nil {
		return err
	}
	if len(r.Topics) != 0 {
		return fmt.Errorf("an error with %d topics", len(r.Topics))
	}
	if r, err = w.incremental(0x7ffffff0, 1); err != nil {
		return err
	}
	return wantCode("an unknown session", r.ErrorCode, kerr.FetchSessionIDNotFound)
}

func fetchSessionClosed(_ context.Context, _ *env, w *wire, topic string) error {
	session, _, err := w.sessionOn(topic)
	if err != nil {
		return err
	}
	r, err := w.incremental(session, -1) // close
	if err != nil {
		return err
	}
	if r.ErrorCode != 0 || r.SessionID != 0 {
		return fmt.Errorf("closing answers error %d, session %d", r.ErrorCode, r.SessionID)
	}
	if r, err = w.incremental(session, 1); err != nil {
		return err
	}
	return wantCode("a closed session", r.ErrorCode, kerr.FetchSessionIDNotFound)
}

func fetchSessionForgets(ctx context.Context, e *env, w *wire, topic string) error {
	second, err := e.topic(ctx, "session", 1)
	if err != nil {
		return err
	}
	session, _, err := w.sessionOn(topic, second)
	if err != nil {
		return err
	}
	if err := errors.Join(w.produced(topic, plain("a"), 0), w.produced(second, plain("b"), 0)); err != nil {
		return err
	}
	req := fetchRequest("", 0, 0)
	req.Topics = nil
	req.SessionID, req.SessionEpoch = session, 1
	req.ForgottenTopics = []kmsg.FetchRequestForgottenTopic{{Topic: topic, Partitions: []int32{0}}}
	r, err := ask[*kmsg.FetchResponse](w, req, fetchVersion)
	if err != nil {
		return err
	}
	p, err := fetched(r)
	if err != nil {
		return err
	}
	if r.Topics[0].Topic != second {
		return errors.New("the forgotten topic came")
	}
	return holds(p, 0)
}

// fetchRecreated: the id of a deleted topic stays unknown when its name is used again.
func fetchRecreated(ctx context.Context, e *env, w *wire, topic string) error {
	t, err := w.metadata(topic)
	if err != nil {
		return err
	}
	adm, err := e.admin()
	if err != nil {
		return err
	}
	defer adm.Close()
	if err := errors.Join(deleteTopic(ctx, adm, topic), makeTopic(ctx, adm, topic, 1, nil)); err != nil {
		return err
	}
	req := fetchRequest("", 0, 0)
	req.Topics[0].TopicID = t.TopicID
	r, err := ask[*kmsg.FetchResponse](w, req, 13)
	if err != nil {
		return err
	}
	p, err := fetched(r)
	if err != nil {
		return err
	}
	return wantCode("fetch by the id of the deleted topic", p.ErrorCode, kerr.UnknownTopicID)
}
