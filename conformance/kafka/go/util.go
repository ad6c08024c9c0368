package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// unique is a name no other run uses.
func unique(prefix string) string {
	var b [6]byte
	if _, err := rand.Read(b[:]); err != nil {
		panic(err)
	}
	return "go-" + prefix + "-" + hex.EncodeToString(b[:])
}

func ptr[T any](v T) *T { return &v }

// until polls cond until it holds; why of the last poll is the error.
func until(ctx context.Context, what string, cond func() (ok bool, why string)) error {
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	var why string
	for {
		var ok bool
		if ok, why = cond(); ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s did not happen: %s", what, why)
		case <-tick.C:
		}
	}
}

// wantCode compares an error code with the one the protocol defines.
func wantCode(what string, got int16, want *kerr.Error) error {
	w := int16(0)
	if want != nil {
		w = want.Code
	}
	if got != w {
		return fmt.Errorf("%s: error %d (%v), want %d", what, got, kerr.ErrorForCode(got), w)
	}
	return nil
}

// wantErr compares an error of a client with the one the protocol defines.
func wantErr(what string, got error, want error) error {
	if !errors.Is(got, want) {
		return fmt.Errorf("%s: %v, want %v", what, got, want)
	}
	return nil
}

// client is a franz-go client on the broker; the caller closes it.
func (e *env) client(opts ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(e.bootstrap),
		kgo.DisableClientMetrics(),
		kgo.MetadataMinAge(50 * time.Millisecond),
		kgo.FetchMaxWait(500 * time.Millisecond),
		kgo.ProducerLinger(0),
	}, opts...)...)
}

func (e *env) admin() (*kadm.Client, error) {
	cl, err := e.client()
	if err != nil {
		return nil, err
	}
	return kadm.NewClient(cl), nil
}

// topic makes a topic of a new name and waits until its leaders serve.
func (e *env) topic(ctx context.Context, prefix string, partitions int32) (string, error) {
	adm, err := e.admin()
	if err != nil {
		return "", err
	}
	defer adm.Close()
	name := unique(prefix)
	return name, makeTopic(ctx, adm, name, partitions, nil)
}

func makeTopic(ctx context.Context, adm *kadm.Client, name string, partitions int32, configs map[string]*string) error {
	r, err := adm.CreateTopic(ctx, partitions, 1, configs, name)
	if err != nil {
		return fmt.Errorf("create topic %s: %w", name, err)
	}
	if r.Err != nil {
		return fmt.Errorf("create topic %s: %w", name, r.Err)
	}
	return until(ctx, "a leader for every partition of "+name, func() (bool, string) {
		ts, err := adm.ListTopics(ctx, name)
		if err != nil {
			return false, err.Error()
		}
		t := ts[name]
		if t.Err != nil || len(t.Partitions) != int(partitions) {
			return false, fmt.Sprintf("%d partitions, error %v", len(t.Partitions), t.Err)
		}
		for _, p := range t.Partitions {
			if p.Err != nil || p.Leader < 0 {
				return false, fmt.Sprintf("partition %d: leader %d, error %v", p.Partition, p.Leader, p.Err)
			}
		}
		// Apache Kafka names a leader a moment before it serves.
		os, err := adm.ListEndOffsets(ctx, name)
		if err = errors.Join(err, os.Error()); err != nil {
			return false, err.Error()
		}
		return true, ""
	})
}

// produceAll produces and waits for every acknowledgement.
func produceAll(ctx context.Context, cl *kgo.Client, recs ...*kgo.Record) error {
	return cl.ProduceSync(ctx, recs...).FirstErr()
}

// values makes n records of one topic with distinct values.
func values(topic string, n int) []*kgo.Record {
	recs := make([]*kgo.Record, n)
	for i := range recs {
		recs[i] = &kgo.Record{Topic: topic, Key: fmt.Appendf(nil, "k%d", i%17), Value: fmt.Appendf(nil, "v%06d", i)}
	}
	return recs
}

// pollN polls until n records came; more than n is an error.
func pollN(ctx context.Context, cl *kgo.Client, n int) ([]*kgo.Record, error) {
	var got []*kgo.Record
	for len(got) < n {
		fs := cl.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			return got, fmt.Errorf("%d of %d records came: %w", len(got), n, err)
		}
		if err := fs.Err(); err != nil {
			return got, fmt.Errorf("after %d of %d records: %w", len(got), n, err)
		}
		got = append(got, fs.Records()...)
	}
	if len(got) > n {
		return got, fmt.Errorf("%d records came, want %d", len(got), n)
	}
	return got, nil
}

// readFrom reads n records of a topic from its start, without a group.
func (e *env) readFrom(ctx context.Context, topic string, n int, opts ...kgo.Opt) ([]*kgo.Record, error) {
	cl, err := e.client(append([]kgo.Opt{
		kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
	}, opts...)...)
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	return pollN(ctx, cl, n)
}

// inOrder checks that each partition was read at offsets 0, 1, 2, ...
func inOrder(recs []*kgo.Record) error {
	next := map[int32]int64{}
	for _, r := range recs {
		if r.Offset != next[r.Partition] {
			return fmt.Errorf("partition %d: offset %d came, want %d", r.Partition, r.Offset, next[r.Partition])
		}
		next[r.Partition]++
	}
	return nil
}

// sameValues checks that the records carry exactly the values wanted, each once.
func sameValues(got, want []*kgo.Record) error {
	seen := map[string]int{}
	for _, r := range got {
		seen[string(r.Value)]++
	}
	for _, r := range want {
		if n := seen[string(r.Value)]; n != 1 {
			return fmt.Errorf("value %q came %d times, want once", r.Value, n)
		}
	}
	if len(got) != len(want) {
		return fmt.Errorf("%d records came, want %d", len(got), len(want))
	}
	return nil
}

// texts reads every public text of the data directory.
func (e *env) texts() (map[string][]byte, error) {
	dirs := []string{e.dataDir}
	if e.dataDir == "" {
		dirs = []string{"../data", "conformance/kafka/data", "data"}
		if exe, err := os.Executable(); err == nil {
			for d := filepath.Dir(exe); len(d) > 1; d = filepath.Dir(d) {
				dirs = append(dirs, filepath.Join(d, "../data"), filepath.Join(d, "conformance/kafka/data"))
			}
		}
	}
	for _, d := range dirs {
		paths, err := filepath.Glob(filepath.Join(d, "*.txt"))
		if err != nil {
			return nil, err
		}
		if len(paths) == 0 {
			continue
		}
		sort.Strings(paths)
		out := map[string][]byte{}
		for _, p := range paths {
			b, err := os.ReadFile(p)
			if err != nil {
				return nil, err
			}
			out[p] = b
		}
		return out, nil
	}
	return nil, fmt.Errorf("no *.txt in %s: name the directory with --data", strings.Join(dirs, ", "))
}

// joinLines puts the values of records back together as the text they came from.
func joinLines(recs []*kgo.Record) []byte {
	vals := make([][]byte, len(recs))
	for i, r := range recs {
		vals[i] = r.Value
	}
	return bytes.Join(vals, []byte("\n"))
}

// recent is a time in milliseconds that records are given: young enough that
// no retention takes them away, old enough to be past for the whole run.
var recent = time.Now().Add(-2 * time.Hour).Truncate(time.Second).UnixMilli()

// stamp is a time in milliseconds since 1970.
func stamp(ms int64) time.Time { return time.UnixMilli(ms) }
