package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// wireCommitChecks are OffsetCommit and OffsetFetch.
func wireCommitChecks() []check {
	return []check{
		wired("wire/commit/every-version", commitEveryVersion),
		wired("wire/commit/by-topic-id", commitByID),
		wired("wire/commit/unknown-topic-id", commitUnknownID),
		wired("wire/commit/errors", commitErrors),
		wired("wire/commit/several-groups", commitSeveralGroups),
		wired("wire/commit/nothing-committed", commitNothing),
	}
}

func commitRequest(group, topic string, offset int64) *kmsg.OffsetCommitRequest {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.Generation = group, -1
	p := kmsg.NewOffsetCommitRequestTopicPartition()
	p.Offset, p.Metadata = offset, ptr("note")
	t := kmsg.NewOffsetCommitRequestTopic()
	t.Topic, t.Partitions = topic, []kmsg.OffsetCommitRequestTopicPartition{p}
	req.Topics = []kmsg.OffsetCommitRequestTopic{t}
	return req
}

// fetchOffsetsRequest asks for one group, in the form every version carries.
func fetchOffsetsRequest(group, topic string, partitions ...int32) *kmsg.OffsetFetchRequest {
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Group = group
	req.Topics = []kmsg.OffsetFetchRequestTopic{{Topic: topic, Partitions: partitions}}
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group = group
	gt := kmsg.NewOffsetFetchRequestGroupTopic()
	gt.Topic, gt.Partitions = topic, partitions
	g.Topics = []kmsg.OffsetFetchRequestGroupTopic{gt}
	req.Groups = []kmsg.OffsetFetchRequestGroup{g}
	return req
}

// committed is the first partition of the first group of an answer.
func committed(r *kmsg.OffsetFetchResponse) (offset int64, metadata string, code int16) {
	if r.Version < 8 {
		if r.ErrorCode != 0 || len(r.Topics) == 0 {
			return -2, "", r.ErrorCode
		}
		p := r.Topics[0].Partitions[0]
		return p.Offset, deref(p.Metadata), p.ErrorCode
	}
	if len(r.Groups) == 0 || r.Groups[0].ErrorCode != 0 || len(r.Groups[0].Topics) == 0 {
		return -2, "", -2
	}
	p := r.Groups[0].Topics[0].Partitions[0]
	return p.Offset, deref(p.Metadata), p.ErrorCode
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func commitEveryVersion(ctx context.Context, e *env, w *wire, topic string) error {
	t, err := w.metadata(topic)
	if err != nil {
		return err
	}
	keys, err := e.versions(ctx)
	if err != nil {
		return err
	}
	group := unique("commit")
	for version := int16(2); version <= keys[kmsg.OffsetCommit].MaxVersion; version++ {
		req := commitRequest(group, topic, int64(version)*10)
		req.Topics[0].TopicID = t.TopicID
		r, err := ask[*kmsg.OffsetCommitResponse](w, req, version)
		if err != nil {
			return err
		}
		if err := wantCode(fmt.Sprintf("commit v%d", version), r.Topics[0].Partitions[0].ErrorCode, nil); err != nil {
			return err
		}
		for read := int16(1); read <= keys[kmsg.OffsetFetch].MaxVersion; read++ {
			req := fetchOffsetsRequest(group, topic, 0)
			req.Groups[0].Topics[0].TopicID = t.TopicID
			r, err := ask[*kmsg.OffsetFetchResponse](w, req, read)
			if err != nil {
				return err
			}
			if offset, note, code := committed(r); code != 0 || offset != int64(version)*10 || note != "note" {
				return fmt.Errorf("committed v%d, read v%d: error %d, offset %d, metadata %q", version, read, code, offset, note)
			}
			if read < 2 {
				continue // cannot ask for all
			}
			req = fetchOffsetsRequest(group, topic, 0)
			req.Topics, req.Groups[0].Topics = nil, nil
			if r, err = ask[*kmsg.OffsetFetchResponse](w, req, read); err != nil {
				return err
			}
			if offset, _, code := committed(r); code != 0 || offset != int64(version)*10 {
				return fmt.Errorf("committed v%d, all read v%d: error %d, offset %d", version, read, code, offset)
			}
		}
	}
	return nil
}

func commitByID(_ context.Context, _ *env, w *wire, topic string) error {
	t, err := w.metadata(topic)
	if err != nil {
		return err
	}
	group := unique("commit")
	req := commitRequest(group, "", 42)
	req.Topics[0].TopicID = t.TopicID
	r, err := ask[*kmsg.OffsetCommitResponse](w, req, 10)
	if err != nil {
		return err
	}
	if r.Topics[0].TopicID != t.TopicID {
		return errors.New("the commit answers another topic id")
	}
	if err := wantCode("commit by topic id", r.Topics[0].Partitions[0].ErrorCode, nil); err != nil {
		return err
	}
	freq := fetchOffsetsRequest(group, "", 0)
	freq.Groups[0].Topics[0].TopicID = t.TopicID
	f, err := ask[*kmsg.OffsetFetchResponse](w, freq, 10)
	if err != nil {
		return err
	}
	offset, _, code := committed(f)
	if code != 0 || offset != 42 || f.Groups[0].Topics[0].TopicID != t.TopicID {
		return fmt.Errorf("read by topic id: error %d, offset %d", code, offset)
	}
	return nil
}

func commitUnknownID(_ context.Context, _ *env, w *wire, _ string) error {
	group := unique("commit")
	req := commitRequest(group, "", 42)
	req.Topics[0].TopicID = strangeID
	r, err := ask[*kmsg.OffsetCommitResponse](w, req, 10)
	if err != nil {
		return err
	}
	if err := wantCode("commit by an unknown topic id", r.Topics[0].Partitions[0].ErrorCode, kerr.UnknownTopicID); err != nil {
		return err
	}
	freq := fetchOffsetsRequest(group, "", 0)
	freq.Groups[0].Topics[0].TopicID = strangeID
	f, err := ask[*kmsg.OffsetFetchResponse](w, freq, 10)
	if err != nil {
		return err
	}
	_, _, code := committed(f)
	return wantCode("read by an unknown topic id", code, kerr.UnknownTopicID)
}

func commitErrors(_ context.Context, _ *env, w *wire, topic string) error {
	group := unique("commit")
	long := commitRequest(group, topic, 1)
	long.Topics[0].Partitions[0].Metadata = ptr(strings.Repeat("m", 5000))
	partition := commitRequest(group, topic, 1)
	partition.Topics[0].Partitions[0].Partition = 9
	for _, c := range []struct {
		what string
		req  *kmsg.OffsetCommitRequest
		want *kerr.Error
	}{
		{"an unknown topic", commitRequest(group, unique("unknown"), 1), kerr.UnknownTopicOrPartition},
		{"an unknown partition", partition, kerr.UnknownTopicOrPartition},
		{"metadata of 5,000 bytes", long, kerr.OffsetMetadataTooLarge},
	} {
		r, err := ask[*kmsg.OffsetCommitResponse](w, c.req, 9)
		if err != nil {
			return err
		}
		if err := wantCode(c.what, r.Topics[0].Partitions[0].ErrorCode, c.want); err != nil {
			return err
		}
	}
	return nil
}

func commitSeveralGroups(_ context.Context, _ *env, w *wire, topic string) error {
	groups := []string{unique("a"), unique("b"), unique("c")}
	for i, g := range groups[:2] {
		r, err := ask[*kmsg.OffsetCommitResponse](w, commitRequest(g, topic, int64(7+i)), 9)
		if err != nil {
			return err
		}
		if err := wantCode("commit", r.Topics[0].Partitions[0].ErrorCode, nil); err != nil {
			return err
		}
	}
	for version := int16(8); version <= 9; version++ {
		req := kmsg.NewPtrOffsetFetchRequest()
		for _, g := range groups {
			req.Groups = append(req.Groups, fetchOffsetsRequest(g, topic, 0).Groups[0])
		}
		r, err := ask[*kmsg.OffsetFetchResponse](w, req, version)
		if err != nil {
			return err
		}
		want := map[string]int64{groups[0]: 7, groups[1]: 8, groups[2]: -1}
		if len(r.Groups) != len(want) {
			return fmt.Errorf("v%d answers %d groups", version, len(r.Groups))
		}
		for _, g := range r.Groups {
			if g.ErrorCode != 0 || len(g.Topics) != 1 || g.Topics[0].Partitions[0].Offset != want[g.Group] {
				return fmt.Errorf("v%d answers %+v for %s, want offset %d", version, g, g.Group, want[g.Group])
			}
		}
	}
	return nil
}

// commitNothing: where nothing is committed the offset is -1 and no error.
func commitNothing(_ context.Context, _ *env, w *wire, topic string) error {
	for version := int16(1); version <= 9; version++ {
		for _, name := range []string{topic, unique("unknown")} {
			r, err := ask[*kmsg.OffsetFetchResponse](w, fetchOffsetsRequest(unique("nothing"), name, 0), version)
			if err != nil {
				return err
			}
			if offset, _, code := committed(r); offset != -1 || code != 0 {
				return fmt.Errorf("v%d: offset %d, error %d", version, offset, code)
			}
		}
	}
	return nil
}
