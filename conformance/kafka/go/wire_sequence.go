package main

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// wireSequenceChecks are the idempotent producer batch by batch.
func wireSequenceChecks() []check {
	return []check{
		wired("wire/sequence/duplicates", sequenceDuplicates),
		wired("wire/sequence/gap", sequenceGap),
		wired("wire/sequence/old-duplicate", sequenceOldDuplicate),
		wired("wire/sequence/old-epoch", sequenceOldEpoch),
		wired("wire/sequence/new-epoch", sequenceNewEpoch),
		wired("wire/sequence/wraps", sequenceWraps),
		wired("wire/sequence/five-in-flight", sequenceFive),
		wired("wire/sequence/independent-producers", sequenceIndependent),
		wired("wire/init-producer-id", initProducerIDs),
		wired("wire/init-producer-id/epoch-bump", initEpochBump),
	}
}

// initProducer asks for a producer id; -1, -1 for the first time.
func (w *wire) initProducer(pid int64, epoch int16) (*kmsg.InitProducerIDResponse, error) {
	req := kmsg.NewPtrInitProducerIDRequest()
	req.ProducerID, req.ProducerEpoch = pid, epoch
	req.TransactionTimeoutMillis = 60_000
	r, err := ask[*kmsg.InitProducerIDResponse](w, req, 4)
	if err != nil {
		return nil, err
	}
	return r, wantCode("InitProducerId", r.ErrorCode, nil)
}

// newProducer is a new producer id at epoch 0.
func (w *wire) newProducer() (int64, error) {
	r, err := w.initProducer(-1, -1)
	if err != nil {
		return 0, err
	}
	if r.ProducerID < 0 || r.ProducerEpoch != 0 {
		return 0, fmt.Errorf("a new producer has id %d, epoch %d", r.ProducerID, r.ProducerEpoch)
	}
	return r.ProducerID, nil
}

// refused sends a batch that must get the error and not be stored.
func (w *wire) refused(topic string, b batch, want *kerr.Error) error {
	before, err := w.endOffset(topic)
	if err != nil {
		return err
	}
	p, err := w.produce(topic, b)
	if err != nil {
		return err
	}
	what := fmt.Sprintf("epoch %d sequence %d", b.epoch, b.seq)
	if err := wantCode(what, p.ErrorCode, want); err != nil {
		return err
	}
	after, err := w.endOffset(topic)
	if err != nil || after != before {
		return fmt.Errorf("%s: refused, yet the end went from %d to %d (%w)", what, before, after, err)
	}
	return nil
}

func sequenceDuplicates(_ context.Context, _ *env, w *wire, topic string) error {
	pid, err := w.newProducer()
	if err != nil {
		return err
	}
	var sent []batch
	for i := range int32(5) {
		b := sequenced(pid, 0, i*2, fmt.Sprint("a", i), fmt.Sprint("b", i))
		if err := w.produced(topic, b, int64(i)*2); err != nil {
			return err
		}
		sent = append(sent, b)
	}
	for i, b := range sent { // each of the last five gets its first offset again
		if err := w.produced(topic, b, int64(i)*2); err != nil {
			return fmt.Errorf("batch %d again: %w", i, err)
		}
	}
	end, err := w.endOffset(topic)
	if err != nil || end != 10 {
		return fmt.Errorf("end offset %d after duplicates, want 10 (%w)", end, err)
	}
	return w.produced(topic, sequenced(pid, 0, 10, "next"), 10)
}

func sequenceGap(_ context.Context, _ *env, w *wire, topic string) error {
	pid, err := w.newProducer()
	if err != nil {
		return err
	}
	return errors.Join(
		w.produced(topic, sequenced(pid, 0, 0, "a"), 0),
		w.refused(topic, sequenced(pid, 0, 2, "gap"), kerr.OutOfOrderSequenceNumber),
		w.produced(topic, sequenced(pid, 0, 1, "b"), 1),
	)
}

// sequenceOldDuplicate: what is older than the last five batches cannot be
// told from a fault.
func sequenceOldDuplicate(_ context.Context, _ *env, w *wire, topic string) error {
	pid, err := w.newProducer()
	if err != nil {
		return err
	}
	for i := range int32(7) {
		if err := w.produced(topic, sequenced(pid, 0, i, "x"), int64(i)); err != nil {
			return err
		}
	}
	p, err := w.produce(topic, sequenced(pid, 0, 0, "x"))
	if err != nil {
		return err
	}
	if p.ErrorCode != kerr.OutOfOrderSequenceNumber.Code && p.ErrorCode != kerr.DuplicateSequenceNumber.Code {
		return fmt.Errorf("a batch from before the last five: error %d at offset %d", p.ErrorCode, p.BaseOffset)
	}
	end, err := w.endOffset(topic)
	if err != nil || end != 7 {
		return fmt.Errorf("end offset %d, want 7 (%w)", end, err)
	}
	return nil
}

func sequenceOldEpoch(_ context.Context, _ *env, w *wire, topic string) error {
	pid, err := w.newProducer()
	if err != nil {
		return err
	}
	return errors.Join(
		w.produced(topic, sequenced(pid, 3, 0, "a"), 0),
		w.refused(topic, sequenced(pid, 2, 1, "old"), kerr.InvalidProducerEpoch),
		w.refused(topic, sequenced(pid, 2, 0, "old"), kerr.InvalidProducerEpoch),
		w.produced(topic, sequenced(pid, 3, 1, "b"), 1),
	)
}

func sequenceNewEpoch(_ context.Context, _ *env, w *wire, topic string) error {
	pid, err := w.newProducer()
	if err != nil {
		return err
	}
	return errors.Join(
		w.produced(topic, sequenced(pid, 0, 0, "a", "b"), 0),
		w.refused(topic, sequenced(pid, 1, 2, "starts at 2"), kerr.OutOfOrderSequenceNumber),
		w.produced(topic, sequenced(pid, 1, 0, "c"), 2),
		w.refused(topic, sequenced(pid, 0, 2, "old"), kerr.InvalidProducerEpoch),
		w.produced(topic, sequenced(pid, 1, 1, "d"), 3),
	)
}

// sequenceWraps: after 2³¹−1 comes 0, between batches and inside one.
func sequenceWraps(_ context.Context, _ *env, w *wire, topic string) error {
	one, err := w.newProducer()
	if err != nil {
		return err
	}
	two, err := w.newProducer()
	if err != nil {
		return err
	}
	inside := sequenced(two, 0, math.MaxInt32-1, "d", "e", "f", "g") // ends at sequence 1
	return errors.Join(
		w.produced(topic, sequenced(one, 0, math.MaxInt32-1, "a", "b"), 0),
		w.refused(topic, sequenced(one, 0, 1, "gap"), kerr.OutOfOrderSequenceNumber),
		w.produced(topic, sequenced(one, 0, 0, "c"), 2),
		w.produced(topic, inside, 3),
		w.produced(topic, inside, 3), // a duplicate
		w.refused(topic, sequenced(two, 0, 3, "gap"), kerr.OutOfOrderSequenceNumber),
		w.produced(topic, sequenced(two, 0, 2, "h"), 7),
	)
}

// sequenceFive sends five requests before reading an answer; a gap in the
// middle refuses what follows it, and resending repairs it.
func sequenceFive(_ context.Context, _ *env, w *wire, topic string) error {
	pid, err := w.newProducer()
	if err != nil {
		return err
	}
	round := func(seqs []int32, want []*kerr.Error, offsets []int64) error {
		var ids []int32
		var reqs []*kmsg.ProduceRequest
		for _, s := range seqs {
			req := produceRequest(topic, 0, sequenced(pid, 0, s, fmt.Sprint("s", s)).bytes())
			id, err := w.send(req, produceVersion)
			if err != nil {
				return err
			}
			ids, reqs = append(ids, id), append(reqs, req)
		}
		for i := range ids {
			r, err := w.receive(reqs[i], ids[i])
			if err != nil {
				return err
			}
			p, err := onePartition(r.(*kmsg.ProduceResponse))
			if err != nil {
				return err
			}
			if err := wantCode(fmt.Sprint("sequence ", seqs[i]), p.ErrorCode, want[i]); err != nil {
				return err
			}
			if want[i] == nil && p.BaseOffset != offsets[i] {
				return fmt.Errorf("sequence %d at offset %d, want %d", seqs[i], p.BaseOffset, offsets[i])
			}
		}
		return nil
	}
	gap := kerr.OutOfOrderSequenceNumber
	return errors.Join(
		round([]int32{0, 1, 2, 3, 4}, make([]*kerr.Error, 5), []int64{0, 1, 2, 3, 4}),
		round([]int32{5, 7, 8, 9, 6}, []*kerr.Error{nil, gap, gap, gap, nil}, []int64{5, 0, 0, 0, 6}),
		round([]int32{5, 6, 7, 8, 9}, make([]*kerr.Error, 5), []int64{5, 6, 7, 8, 9}),
	)
}

func sequenceIndependent(_ context.Context, _ *env, w *wire, topic string) error {
	one, err := w.newProducer()
	if err != nil {
		return err
	}
	two, err := w.newProducer()
	if err != nil {
		return err
	}
	if one == two {
		return fmt.Errorf("two producers have the id %d", one)
	}
	return errors.Join(
		w.produced(topic, sequenced(one, 0, 0, "a"), 0),
		w.produced(topic, sequenced(two, 0, 0, "a"), 1),
		w.produced(topic, plain("no producer"), 2),
		w.produced(topic, sequenced(one, 0, 1, "b"), 3),
		w.produced(topic, sequenced(two, 0, 0, "a"), 1),
	)
}

func initProducerIDs(_ context.Context, _ *env, w *wire, _ string) error {
	seen := map[int64]bool{}
	for version := range int16(5) {
		for range 20 {
			req := kmsg.NewPtrInitProducerIDRequest()
			req.ProducerID, req.ProducerEpoch = -1, -1
			r, err := ask[*kmsg.InitProducerIDResponse](w, req, version)
			if err != nil {
				return err
			}
			if r.ErrorCode != 0 || r.ProducerID < 0 || r.ProducerEpoch != 0 || seen[r.ProducerID] {
				return fmt.Errorf("v%d: error %d, id %d (seen before: %v), epoch %d",
					version, r.ErrorCode, r.ProducerID, seen[r.ProducerID], r.ProducerEpoch)
			}
			seen[r.ProducerID] = true
		}
	}
	return nil
}

// initEpochBump: a producer that gives its id and epoch gets a later epoch of
// that id or another id; either way it starts again at sequence 0.
func initEpochBump(_ context.Context, _ *env, w *wire, topic string) error {
	pid, err := w.newProducer()
	if err != nil {
		return err
	}
	if err := errors.Join(
		w.produced(topic, sequenced(pid, 0, 0, "a", "b"), 0),
		w.refused(topic, sequenced(pid, 0, 9, "gap"), kerr.OutOfOrderSequenceNumber),
	); err != nil {
		return err
	}
	r, err := w.initProducer(pid, 0)
	if err != nil {
		return err
	}
	same := r.ProducerID == pid
	if same && r.ProducerEpoch != 1 || !same && r.ProducerEpoch != 0 {
		return fmt.Errorf("producer %d at epoch 0 became %d at epoch %d", pid, r.ProducerID, r.ProducerEpoch)
	}
	if err := w.produced(topic, sequenced(r.ProducerID, r.ProducerEpoch, 0, "c"), 2); err != nil {
		return err
	}
	if same {
		return w.refused(topic, sequenced(pid, 0, 2, "old"), kerr.InvalidProducerEpoch)
	}
	return nil
}
