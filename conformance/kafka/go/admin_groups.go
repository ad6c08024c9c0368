package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// adminGroupChecks are groups and their offsets through kadm.
func adminGroupChecks() []check {
	return []check{
		administered("kadm/groups", adminGroups),
		administered("kadm/groups-delete", adminGroupsDelete),
		administered("kadm/offsets-of-several-groups", adminManyOffsets),
		administered("kadm/lag", adminLag),
		administered("kadm/find-coordinators", adminCoordinators),
		administered("kadm/offsets-go-with-topic", adminOffsetsGoWithTopic),
	}
}

// commit commits an offset of partition 0 for a group without members.
func commit(ctx context.Context, adm *kadm.Client, group, topic string, at int64, metadata string) error {
	var os kadm.Offsets
	os.Add(kadm.Offset{Topic: topic, Partition: 0, At: at, LeaderEpoch: -1, Metadata: metadata})
	return adm.CommitAllOffsets(ctx, group, os)
}

func adminGroups(ctx context.Context, e *env, adm *kadm.Client) error {
	topic, err := e.topic(ctx, "groups", 2)
	if err != nil {
		return err
	}
	idle, busy := unique("idle"), unique("busy")
	if err := commit(ctx, adm, idle, topic, 0, ""); err != nil {
		return err
	}
	m, err := e.member(ctx, busy, topic)
	if err != nil {
		return err
	}
	defer m.leave()
	if err := balanced(ctx, []int{2}, m); err != nil {
		return err
	}
	if err := describedAs(ctx, e, busy, "cooperative-sticky", 1); err != nil {
		return err
	}
	gs, err := adm.ListGroups(ctx)
	if err != nil {
		return err
	}
	if g := gs[busy]; g.State != "Stable" || g.ProtocolType != "consumer" {
		return fmt.Errorf("the group with a member is listed as %+v", g)
	}
	if g := gs[idle]; g.State != "Empty" || g.Group != idle {
		return fmt.Errorf("the group without members is listed as %+v", g)
	}
	gs, err = adm.ListGroups(ctx, "Empty")
	if err != nil {
		return err
	}
	if _, ok := gs[busy]; ok {
		return errors.New("a stable group is listed among the empty ones")
	}
	if _, ok := gs[idle]; !ok {
		return errors.New("an empty group is not listed among the empty ones")
	}
	ds, err := adm.DescribeGroups(ctx, busy, idle)
	if err != nil {
		return err
	}
	if d := ds[idle]; d.Err != nil || d.State != "Empty" || len(d.Members) != 0 {
		return fmt.Errorf("the group without members is described as %+v", d)
	}
	d := ds[busy]
	if len(d.Members) != 1 {
		return fmt.Errorf("the group with a member is described as %+v", d)
	}
	mem := d.Members[0]
	join, ok := mem.Join.AsConsumer()
	if !ok || len(join.Topics) != 1 || join.Topics[0] != topic {
		return fmt.Errorf("the member joined with %+v", join)
	}
	have, ok := mem.Assigned.AsConsumer()
	if !ok || len(have.Topics) != 1 || have.Topics[0].Topic != topic || len(have.Topics[0].Partitions) != 2 {
		return fmt.Errorf("the member has the assignment %+v", have)
	}
	if mem.MemberID == "" || mem.ClientID != "kgo" || mem.ClientHost == "" {
		return fmt.Errorf("the member is described as %q, client %q at %q", mem.MemberID, mem.ClientID, mem.ClientHost)
	}
	return nil
}

func adminGroupsDelete(ctx context.Context, e *env, adm *kadm.Client) error {
	topic, err := e.topic(ctx, "groups", 1)
	if err != nil {
		return err
	}
	idle, busy, nothing := unique("idle"), unique("busy"), unique("nothing")
	if err := commit(ctx, adm, idle, topic, 0, ""); err != nil {
		return err
	}
	m, err := e.member(ctx, busy, topic)
	if err != nil {
		return err
	}
	left := false
	defer func() {
		if !left {
			m.leave()
		}
	}()
	if err := balanced(ctx, []int{1}, m); err != nil {
		return err
	}
	rs, err := adm.DeleteGroups(ctx, idle, busy, nothing)
	if err != nil {
		return err
	}
	if err := errors.Join(
		wantErr("an empty group", rs[idle].Err, nil),
		wantErr("a group with a member", rs[busy].Err, kerr.NonEmptyGroup),
		wantErr("an unknown group", rs[nothing].Err, kerr.GroupIDNotFound),
	); err != nil {
		return err
	}
	m.leave()
	left = true
	if err := until(ctx, "the deletion of the group left", func() (bool, string) {
		rs, err := adm.DeleteGroups(ctx, busy)
		return err == nil && rs[busy].Err == nil, fmt.Sprint(err, rs[busy].Err)
	}); err != nil {
		return err
	}
	gs, err := adm.ListGroups(ctx)
	if err != nil {
		return err
	}
	for _, g := range []string{idle, busy} {
		if _, ok := gs[g]; ok {
			return fmt.Errorf("%s is listed after it was deleted", g)
		}
	}
	os, err := adm.FetchOffsets(ctx, idle)
	if err != nil {
		return err
	}
	if o, ok := os.Lookup(topic, 0); ok && o.At >= 0 {
		return fmt.Errorf("the deleted group has a committed offset %d", o.At)
	}
	return nil
}

func adminManyOffsets(ctx context.Context, e *env, adm *kadm.Client) error {
	topic, err := e.topic(ctx, "several", 1)
	if err != nil {
		return err
	}
	if _, err := e.spread(ctx, topic, "s", 1, 10); err != nil {
		return err
	}
	groups := []string{unique("g"), unique("g"), unique("g")}
	for i, g := range groups[:2] {
		if err := commit(ctx, adm, g, topic, int64(3+i), fmt.Sprint("note ", i)); err != nil {
			return err
		}
	}
	rs := adm.FetchManyOffsets(ctx, groups...)
	if err := rs.Error(); err != nil {
		return err
	}
	for i, g := range groups[:2] {
		o, ok := rs[g].Fetched.Lookup(topic, 0)
		if !ok || o.Err != nil || o.At != int64(3+i) || o.Metadata != fmt.Sprint("note ", i) {
			return fmt.Errorf("group %d has offset %d, metadata %q, error %v", i, o.At, o.Metadata, o.Err)
		}
	}
	if o, ok := rs[groups[2]].Fetched.Lookup(topic, 0); ok && o.At >= 0 {
		return fmt.Errorf("a group that committed nothing has offset %d", o.At)
	}
	return nil
}

func adminLag(ctx context.Context, e *env, adm *kadm.Client) error {
	topic, err := e.topic(ctx, "lag", 1)
	if err != nil {
		return err
	}
	if _, err := e.spread(ctx, topic, "l", 1, 10); err != nil {
		return err
	}
	group := unique("lag")
	if err := commit(ctx, adm, group, topic, 4, ""); err != nil {
		return err
	}
	lags, err := adm.Lag(ctx, group)
	if err := errors.Join(err, lags.Error()); err != nil {
		return err
	}
	if l, ok := lags[group].Lag.Lookup(topic, 0); !ok || l.Lag != 6 {
		return fmt.Errorf("lag %d, want 6", l.Lag)
	}
	return nil
}

func adminCoordinators(ctx context.Context, _ *env, adm *kadm.Client) error {
	m, err := adm.BrokerMetadata(ctx)
	if err != nil {
		return err
	}
	a, b := unique("a"), unique("b")
	rs := adm.FindGroupCoordinators(ctx, a, b)
	for _, g := range []string{a, b} {
		r, ok := rs[g]
		if !ok || r.Err != nil || len(m.Brokers) != 1 || r.NodeID != m.Brokers[0].NodeID || r.Port != m.Brokers[0].Port || r.Host != m.Brokers[0].Host {
			return fmt.Errorf("the coordinator of a group is %+v", r)
		}
	}
	return nil
}

// adminOffsetsGoWithTopic: deleting a topic removes its groups' offsets.
func adminOffsetsGoWithTopic(ctx context.Context, e *env, adm *kadm.Client) error {
	topic, err := e.topic(ctx, "gone", 1)
	if err != nil {
		return err
	}
	other, err := e.topic(ctx, "stays", 1)
	if err != nil {
		return err
	}
	group := unique("gone")
	if err := errors.Join(commit(ctx, adm, group, topic, 1, ""), commit(ctx, adm, group, other, 2, "")); err != nil {
		return err
	}
	if err := deleteTopic(ctx, adm, topic); err != nil {
		return err
	}
	if err := makeTopic(ctx, adm, topic, 1, nil); err != nil {
		return err
	}
	return until(ctx, "the offset gone with its topic", func() (bool, string) {
		os, err := adm.FetchOffsets(ctx, group)
		if err != nil {
			return false, err.Error()
		}
		o, _ := os.Lookup(other, 0)
		gone, ok := os.Lookup(topic, 0)
		return o.At == 2 && (!ok || gone.At < 0), fmt.Sprintf("offset %d of the other, %d of this (%v)", o.At, gone.At, ok)
	})
}
