package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// wireApiChecks are the frame, the versions and the order of answers.
func wireApiChecks() []check {
	return []check{
		{"wire/api-versions", wireApiVersions},
		{"wire/api-versions-unknown-version", wireApiVersionsUnknown},
		{"wire/advertised-versions", wireAdvertised},
		wired("wire/metadata-every-version", wireMetadataVersions),
		wired("wire/metadata-by-id", wireMetadataByID),
		{"wire/metadata-errors", wireMetadataErrors},
		{"wire/refused-versions", wireRefusedVersions},
		wired("wire/answers-in-order", wireInOrder),
		{"wire/unknown-tags", wireUnknownTags},
		{"wire/bad-frames", wireBadFrames},
	}
}

func wireApiVersions(ctx context.Context, e *env) error {
	w, err := e.wire(ctx)
	if err != nil {
		return err
	}
	defer w.close()
	for version := range int16(5) {
		req := kmsg.NewPtrApiVersionsRequest()
		req.ClientSoftwareName, req.ClientSoftwareVersion = "conformance", "1"
		r, err := ask[*kmsg.ApiVersionsResponse](w, req, version)
		if err != nil {
			return err
		}
		if err := wantCode(fmt.Sprintf("v%d", version), r.ErrorCode, nil); err != nil {
			return err
		}
		if len(r.ApiKeys) < 20 {
			return fmt.Errorf("v%d lists %d APIs", version, len(r.ApiKeys))
		}
	}
	return nil
}

func wireApiVersionsUnknown(ctx context.Context, e *env) error {
	w, err := e.wire(ctx)
	if err != nil {
		return err
	}
	defer w.close()
	req := kmsg.NewPtrApiVersionsRequest()
	id, err := w.send(req, 127)
	if err != nil {
		return err
	}
	req.SetVersion(0) // the answer is one of version 0
	r, err := w.receive(req, id)
	if err != nil {
		return err
	}
	resp := r.(*kmsg.ApiVersionsResponse)
	if err := wantCode("ApiVersions v127", resp.ErrorCode, kerr.UnsupportedVersion); err != nil {
		return err
	}
	for _, k := range resp.ApiKeys {
		if k.ApiKey == int16(kmsg.ApiVersions) {
			if k.MinVersion != 0 || k.MaxVersion < 3 {
				return fmt.Errorf("ApiVersions is offered from %d to %d", k.MinVersion, k.MaxVersion)
			}
			_, err = ask[*kmsg.ApiVersionsResponse](w, kmsg.NewPtrApiVersionsRequest(), k.MaxVersion)
			return err // the connection goes on
		}
	}
	return errors.New("the answer does not name ApiVersions")
}

// advertised are the versions of Apache Kafka 4.3 and the newest that any
// peer must offer.
var advertised = []struct {
	key               kmsg.Key
	least, most, need int16
}{
	{kmsg.Produce, 0, 13, 13},
	{kmsg.Fetch, 4, 18, 13},
	{kmsg.ListOffsets, 1, 11, 7},
	{kmsg.Metadata, 0, 13, 12},
	{kmsg.OffsetCommit, 2, 10, 10},
	{kmsg.OffsetFetch, 1, 10, 10},
	{kmsg.FindCoordinator, 0, 6, 4},
	{kmsg.JoinGroup, 0, 9, 9},
	{kmsg.Heartbeat, 0, 4, 4},
	{kmsg.LeaveGroup, 0, 5, 5},
	{kmsg.SyncGroup, 0, 5, 5},
	{kmsg.DescribeGroups, 0, 6, 5},
	{kmsg.ListGroups, 0, 5, 4},
	{kmsg.ApiVersions, 0, 5, 3},
	{kmsg.CreateTopics, 2, 7, 7},
	{kmsg.DeleteTopics, 1, 6, 6},
	{kmsg.InitProducerID, 0, 6, 4},
	{kmsg.OffsetForLeaderEpoch, 2, 4, 4},
	{kmsg.DescribeConfigs, 1, 4, 4},
	{kmsg.AlterConfigs, 0, 2, 2},
	{kmsg.CreatePartitions, 0, 3, 3},
	{kmsg.DeleteGroups, 0, 2, 2},
	{kmsg.IncrementalAlterConfigs, 0, 1, 1},
	{kmsg.DescribeCluster, 0, 2, 1},
}

func (e *env) versions(ctx context.Context) (map[kmsg.Key]kmsg.ApiVersionsResponseApiKey, error) {
	w, err := e.wire(ctx)
	if err != nil {
		return nil, err
	}
	defer w.close()
	r, err := ask[*kmsg.ApiVersionsResponse](w, kmsg.NewPtrApiVersionsRequest(), 0)
	if err != nil {
		return nil, err
	}
	keys := map[kmsg.Key]kmsg.ApiVersionsResponseApiKey{}
	for _, k := range r.ApiKeys {
		keys[kmsg.Key(k.ApiKey)] = k
	}
	return keys, nil
}

func wireAdvertised(ctx context.Context, e *env) error {
	keys, err := e.versions(ctx)
	if err != nil {
		return err
	}
	for _, a := range advertised {
		k, ok := keys[a.key]
		if !ok {
			err = errors.Join(err, fmt.Errorf("%s is not offered", a.key.Name()))
		} else if k.MinVersion != a.least || k.MaxVersion > a.most || k.MaxVersion < a.need {
			err = errors.Join(err, fmt.Errorf("%s is offered from %d to %d, want from %d to %d, at least %d",
				a.key.Name(), k.MinVersion, k.MaxVersion, a.least, a.most, a.need))
		}
	}
	return err
}

func wireMetadataVersions(ctx context.Context, e *env, w *wire, topic string) error {
	keys, err := e.versions(ctx)
	if err != nil {
		return err
	}
	for version := int16(0); version <= keys[kmsg.Metadata].MaxVersion; version++ {
		req := kmsg.NewPtrMetadataRequest()
		req.Topics = []kmsg.MetadataRequestTopic{{Topic: &topic}}
		r, err := ask[*kmsg.MetadataResponse](w, req, version)
		if err != nil {
			return err
		}
		if len(r.Brokers) != 1 || len(r.Topics) != 1 || len(r.Topics[0].Partitions) != 1 ||
			r.Topics[0].ErrorCode != 0 || *r.Topics[0].Topic != topic || r.Topics[0].Partitions[0].Leader != r.Brokers[0].NodeID {
			return fmt.Errorf("v%d answers %+v", version, r)
		}
		if version >= 10 && r.Topics[0].TopicID == [16]byte{} {
			return fmt.Errorf("v%d has no topic id", version)
		}
		// All topics: no array from version 1, an empty one before.
		req.Topics = nil
		if version == 0 {
			req.Topics = []kmsg.MetadataRequestTopic{}
		}
		if r, err = ask[*kmsg.MetadataResponse](w, req, version); err != nil {
			return err
		}
		found := false
		for _, t := range r.Topics {
			found = found || *t.Topic == topic
		}
		if !found {
			return fmt.Errorf("v%d: all topics do not hold the one made", version)
		}
		if version > 0 {
			req.Topics = []kmsg.MetadataRequestTopic{}
			if r, err = ask[*kmsg.MetadataResponse](w, req, version); err != nil {
				return err
			}
			if len(r.Topics) != 0 {
				return fmt.Errorf("v%d: no topics asked, %d came", version, len(r.Topics))
			}
		}
	}
	return nil
}

func wireMetadataByID(_ context.Context, _ *env, w *wire, topic string) error {
	t, err := w.metadata(topic)
	if err != nil {
		return err
	}
	req := kmsg.NewPtrMetadataRequest()
	req.Topics = []kmsg.MetadataRequestTopic{{TopicID: t.TopicID}, {TopicID: strangeID}}
	r, err := ask[*kmsg.MetadataResponse](w, req, 12)
	if err != nil {
		return err
	}
	for _, got := range r.Topics {
		switch {
		case got.TopicID == t.TopicID && (got.ErrorCode != 0 || got.Topic == nil || *got.Topic != topic):
			return fmt.Errorf("the topic by its id is %+v", got)
		case got.TopicID == strangeID:
			if err := wantCode("an unknown topic id", got.ErrorCode, kerr.UnknownTopicID); err != nil {
				return err
			}
		}
	}
	if len(r.Topics) != 2 {
		return fmt.Errorf("%d topics answered, want 2", len(r.Topics))
	}
	return nil
}

// strangeID is the id of no topic.
var strangeID = [16]byte{0xde, 0xad, 1, 2, 3, 4, 0x45, 6, 0x87, 8, 9, 10, 11, 12, 13, 14}

func wireMetadataErrors(ctx context.Context, e *env) error {
	w, err := e.wire(ctx)
	if err != nil {
		return err
	}
	defer w.close()
	for name, want := range map[string]*kerr.Error{
		unique("unknown"): kerr.UnknownTopicOrPartition, "a/b": kerr.InvalidTopicException, "..": kerr.InvalidTopicException,
	} {
		t, err := w.metadata(name)
		if err != nil {
			return err
		}
		if err := wantCode("metadata of "+name, t.ErrorCode, want); err != nil {
			return err
		}
	}
	return nil
}

// wireRefusedVersions: librdkafka wants Produce offered from 0, yet versions
// 0 to 2 carry formats that are gone.
func wireRefusedVersions(ctx context.Context, e *env) error {
	for _, c := range []struct {
		req     kmsg.Request
		version int16
	}{
		{kmsg.NewPtrMetadataRequest(), 99},
		{kmsg.NewPtrProduceRequest(), 0}, {kmsg.NewPtrProduceRequest(), 1}, {kmsg.NewPtrProduceRequest(), 2},
		{kmsg.NewPtrFetchRequest(), 3}, {kmsg.NewPtrListOffsetsRequest(), 0}, {kmsg.NewPtrFetchRequest(), 99},
		{kmsg.NewPtrFindCoordinatorRequest(), -1},
	} {
		w, err := e.wire(ctx)
		if err != nil {
			return err
		}
		_, err = w.send(c.req, c.version)
		if err == nil {
			err = w.closed()
		}
		w.close()
		if err != nil {
			return fmt.Errorf("%s v%d: %w", kmsg.NameForKey(c.req.Key()), c.version, err)
		}
	}
	return nil
}

// wireInOrder: a Fetch that waits is answered before what came after it.
func wireInOrder(_ context.Context, _ *env, w *wire, topic string) error {
	fetch := fetchRequest(topic, 0, 0)
	fetch.MaxWaitMillis, fetch.MinBytes = 700, 1
	first, err := w.send(fetch, fetchVersion)
	if err != nil {
		return err
	}
	versions := kmsg.NewPtrApiVersionsRequest()
	second, err := w.send(versions, 0)
	if err != nil {
		return err
	}
	produce := produceRequest(topic, 0, plain("after").bytes())
	third, err := w.send(produce, produceVersion)
	if err != nil {
		return err
	}
	if _, err := w.receive(fetch, first); err != nil {
		return err
	}
	if _, err := w.receive(versions, second); err != nil {
		return err
	}
	_, err = w.receive(produce, third)
	return err
}

func wireUnknownTags(ctx context.Context, e *env) error {
	w, err := e.wire(ctx)
	if err != nil {
		return err
	}
	defer w.close()
	req := kmsg.NewPtrMetadataRequest()
	req.UnknownTags.Set(9000, []byte("from the future"))
	req.Topics = []kmsg.MetadataRequestTopic{}
	_, err = ask[*kmsg.MetadataResponse](w, req, 12)
	return err
}

// wireBadFrames: each closes its connection and harms no other.
func wireBadFrames(ctx context.Context, e *env) error {
	other, err := e.wire(ctx)
	if err != nil {
		return err
	}
	defer other.close()
	framed := func(b []byte) []byte { return append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...) }
	// A header of Metadata v1 without a client id: key, version, correlation id, null.
	header := []byte{0, 3, 0, 1, 0, 0, 0, 1, 0xff, 0xff}
	for what, b := range map[string][]byte{
		"a length of 2 GiB":             {0x7f, 0xff, 0xff, 0xff, 0, 3, 0, 1},
		"a negative length":             {0xff, 0xff, 0xff, 0xf0, 0, 3, 0, 1},
		"a text protocol":               []byte("GET / HTTP/1.1\r\nHost: example\r\n\r\n"),
		"a header cut short":            framed([]byte{0, 3, 0}),
		"a body that is missing":        framed(header),
		"an array of 2 billion":         framed(append(header, 0x7f, 0xff, 0xff, 0xff)),
		"an array longer than its data": framed(append(header, 0, 0, 0, 9, 0, 1, 'a')),
		"an unknown API":                framed([]byte{0x7f, 0, 0, 0, 0, 0, 0, 1, 0xff, 0xff}),
	} {
		w, err := e.wire(ctx)
		if err != nil {
			return err
		}
		if _, err = w.conn.Write(b); err == nil {
			err = w.closed()
		}
		w.close()
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	_, err = ask[*kmsg.ApiVersionsResponse](other, kmsg.NewPtrApiVersionsRequest(), 0)
	return err
}
