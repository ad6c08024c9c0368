package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// franzGroupChecks are the consumer groups of franz-go.
func franzGroupChecks() []check {
	checks := []check{
		{"franz/group/member-dies", franzMemberDies},
		{"franz/group/static-restart", franzStaticRestart},
		{"franz/group/static-removed", franzStaticRemoved},
		{"franz/group/commit-and-resume", franzResume},
		{"franz/group/independent-groups", franzIndependentGroups},
		{"franz/group/protocol-vote", franzProtocolVote},
		{"franz/group/new-partitions", franzNewPartitions},
	}
	for _, b := range []kgo.GroupBalancer{
		kgo.CooperativeStickyBalancer(), kgo.RangeBalancer(), kgo.RoundRobinBalancer(), kgo.StickyBalancer(),
	} {
		checks = append(checks, check{"franz/group/share-and-leave/" + b.ProtocolName(), func(ctx context.Context, e *env) error {
			return franzShareAndLeave(ctx, e, b)
		}})
	}
	return checks
}

// member is one consumer of a group, polling in the background and committing
// what it has seen after each poll.
type member struct {
	cl   *kgo.Client
	stop context.CancelFunc
	done chan struct{}

	mu       sync.Mutex
	assigned map[int32]bool
	revoked  int
	seen     map[string]int
	fault    error
}

func (e *env) member(ctx context.Context, group, topic string, opts ...kgo.Opt) (*member, error) {
	ctx, stop := context.WithCancel(ctx)
	m := &member{stop: stop, done: make(chan struct{}), assigned: map[int32]bool{}, seen: map[string]int{}}
	gone := func(_ context.Context, _ *kgo.Client, ps map[string][]int32) {
		m.mu.Lock()
		defer m.mu.Unlock()
		for _, p := range ps[topic] {
			delete(m.assigned, p)
			m.revoked++
		}
	}
	cl, err := e.client(append([]kgo.Opt{
		kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(),
		kgo.HeartbeatInterval(150 * time.Millisecond), kgo.SessionTimeout(6 * time.Second),
		kgo.RebalanceTimeout(15 * time.Second), kgo.MetadataMaxAge(300 * time.Millisecond),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, ps map[string][]int32) {
			m.mu.Lock()
			defer m.mu.Unlock()
			for _, p := range ps[topic] {
				m.assigned[p] = true
			}
		}),
		kgo.OnPartitionsRevoked(gone), kgo.OnPartitionsLost(gone),
	}, opts...)...)
	if err != nil {
		stop()
		return nil, err
	}
	m.cl = cl
	go m.run(ctx)
	return m, nil
}

func (m *member) run(ctx context.Context) {
	defer close(m.done)
	for ctx.Err() == nil {
		fs := m.cl.PollFetches(ctx)
		recs := fs.Records()
		m.mu.Lock()
		for _, r := range recs {
			m.seen[string(r.Value)]++
		}
		if err := fs.Err(); err != nil && ctx.Err() == nil {
			m.fault = err
		}
		m.mu.Unlock()
		if len(recs) > 0 {
			// A commit refused during a rebalance means reading again.
			_ = m.cl.CommitUncommittedOffsets(ctx)
		}
		m.cl.AllowRebalance()
	}
}

// leave ends the member; a dynamic one tells the group, a static one does not.
func (m *member) leave() {
	m.stop()
	<-m.done
	m.cl.AllowRebalance()
	m.cl.Close()
}

func (m *member) partitions() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.assigned)
}

func (m *member) revocations() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.revoked
}

// balanced waits until the members hold exactly the given numbers of distinct partitions.
func balanced(ctx context.Context, want []int, members ...*member) error {
	return until(ctx, fmt.Sprintf("an assignment of %v", want), func() (bool, string) {
		var have []int
		all := map[int32]int{}
		ok := true
		for i, m := range members {
			have = append(have, m.partitions())
			ok = ok && have[i] == want[i]
			m.mu.Lock()
			for p := range m.assigned {
				all[p]++
			}
			if m.fault != nil {
				ok = false
			}
			fault := m.fault
			m.mu.Unlock()
			if fault != nil {
				return false, fault.Error()
			}
		}
		for _, n := range all {
			ok = ok && n == 1
		}
		return ok, fmt.Sprintf("they hold %v", have)
	})
}

// allSeen waits until every record was seen by some member.
func allSeen(ctx context.Context, recs []*kgo.Record, members ...*member) error {
	return until(ctx, "every record seen", func() (bool, string) {
		missing := 0
		for _, r := range recs {
			n := 0
			for _, m := range members {
				m.mu.Lock()
				n += m.seen[string(r.Value)]
				m.mu.Unlock()
			}
			if n == 0 {
				missing++
			}
		}
		return missing == 0, fmt.Sprintf("%d of %d are missing", missing, len(recs))
	})
}

// spread produces n distinct records evenly over the partitions.
func (e *env) spread(ctx context.Context, topic, tag string, partitions int32, n int) ([]*kgo.Record, error) {
	cl, err := e.client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	recs := make([]*kgo.Record, n)
	for i := range recs {
		recs[i] = &kgo.Record{Topic: topic, Partition: int32(i) % partitions, Value: fmt.Appendf(nil, "%s-%d", tag, i)}
	}
	return recs, produceAll(ctx, cl, recs...)
}

func franzShareAndLeave(ctx context.Context, e *env, b kgo.GroupBalancer) error {
	topic, err := e.topic(ctx, "share", 6)
	if err != nil {
		return err
	}
	group := unique("share")
	one, err := e.member(ctx, group, topic, kgo.Balancers(b))
	if err != nil {
		return err
	}
	defer one.leave()
	if err := balanced(ctx, []int{6}, one); err != nil {
		return err
	}
	first, err := e.spread(ctx, topic, "first", 6, 300)
	if err != nil {
		return err
	}
	two, err := e.member(ctx, group, topic, kgo.Balancers(b))
	if err != nil {
		return err
	}
	left := false
	defer func() {
		if !left {
			two.leave()
		}
	}()
	if err := balanced(ctx, []int{3, 3}, one, two); err != nil {
		return err
	}
	if n := one.revocations(); b.IsCooperative() && n != 3 {
		return fmt.Errorf("the first member gave up %d partitions for 3: not cooperative", n)
	}
	second, err := e.spread(ctx, topic, "second", 6, 300)
	if err != nil {
		return err
	}
	if err := allSeen(ctx, append(first, second...), one, two); err != nil {
		return err
	}
	for i, m := range []*member{one, two} {
		m.mu.Lock()
		n := 0
		for _, r := range second {
			n += m.seen[string(r.Value)]
		}
		m.mu.Unlock()
		if n != 150 {
			return fmt.Errorf("member %d saw %d of the 150 records of its partitions", i+1, n)
		}
	}
	if err := describedAs(ctx, e, group, b.ProtocolName(), 2); err != nil {
		return err
	}
	two.leave()
	left = true
	if err := balanced(ctx, []int{6}, one); err != nil {
		return err
	}
	third, err := e.spread(ctx, topic, "third", 6, 300)
	if err != nil {
		return err
	}
	return allSeen(ctx, third, one)
}

// describedAs checks what the coordinator says of a stable group.
func describedAs(ctx context.Context, e *env, group, protocol string, members int) error {
	adm, err := e.admin()
	if err != nil {
		return err
	}
	defer adm.Close()
	return until(ctx, "a stable group", func() (bool, string) {
		gs, err := adm.DescribeGroups(ctx, group)
		if err != nil {
			return false, err.Error()
		}
		g := gs[group]
		return g.Err == nil && g.State == "Stable" && g.ProtocolType == "consumer" && g.Protocol == protocol && len(g.Members) == members,
			fmt.Sprintf("state %s, type %s, protocol %s, %d members, error %v", g.State, g.ProtocolType, g.Protocol, len(g.Members), g.Err)
	})
}

// franzMemberDies: a member that falls silent loses its partitions after its
// session timeout. A static member that closes says nothing to the group.
func franzMemberDies(ctx context.Context, e *env) error {
	topic, err := e.topic(ctx, "dies", 4)
	if err != nil {
		return err
	}
	group := unique("dies")
	one, err := e.member(ctx, group, topic)
	if err != nil {
		return err
	}
	defer one.leave()
	two, err := e.member(ctx, group, topic, kgo.InstanceID("two"))
	if err != nil {
		return err
	}
	if err := balanced(ctx, []int{2, 2}, one, two); err != nil {
		two.leave()
		return err
	}
	two.leave()
	recs, err := e.spread(ctx, topic, "after", 4, 200)
	if err != nil {
		return err
	}
	if err := balanced(ctx, []int{4}, one); err != nil {
		return err
	}
	return allSeen(ctx, recs, one)
}

// franzStaticRestart: a static member that comes back in time has its
// partitions again and the others see no rebalance.
func franzStaticRestart(ctx context.Context, e *env) error {
	topic, err := e.topic(ctx, "static", 4)
	if err != nil {
		return err
	}
	group := unique("static")
	start := func(id string) (*member, error) {
		return e.member(ctx, group, topic, kgo.InstanceID(id), kgo.SessionTimeout(20*time.Second), kgo.Balancers(kgo.RangeBalancer()))
	}
	one, err := start("one")
	if err != nil {
		return err
	}
	defer one.leave()
	two, err := start("two")
	if err != nil {
		return err
	}
	if err := balanced(ctx, []int{2, 2}, one, two); err != nil {
		two.leave()
		return err
	}
	if err := describedAs(ctx, e, group, "range", 2); err != nil {
		two.leave()
		return err
	}
	_, generation := one.cl.GroupMetadata()
	id, _ := two.cl.GroupMetadata()
	before := one.revocations()
	two.mu.Lock()
	held := map[int32]bool{}
	for p := range two.assigned {
		held[p] = true
	}
	two.mu.Unlock()
	two.leave()

	again, err := start("two")
	if err != nil {
		return err
	}
	defer again.leave()
	if err := balanced(ctx, []int{2, 2}, one, again); err != nil {
		return err
	}
	again.mu.Lock()
	for p := range again.assigned {
		if !held[p] {
			err = fmt.Errorf("it came back to partition %d, which it had not held", p)
		}
	}
	again.mu.Unlock()
	if err != nil {
		return err
	}
	recs, err := e.spread(ctx, topic, "static", 4, 100)
	if err != nil {
		return err
	}
	if err := allSeen(ctx, recs, one, again); err != nil {
		return err
	}
	if newID, _ := again.cl.GroupMetadata(); newID == id || newID == "" {
		return fmt.Errorf("the member that came back has member id %q, before %q", newID, id)
	}
	if _, g := one.cl.GroupMetadata(); g != generation || one.revocations() != before {
		return fmt.Errorf("the other member went from generation %d to %d", generation, g)
	}
	return nil
}

// franzStaticRemoved: an administrator removes a static member by its instance id.
func franzStaticRemoved(ctx context.Context, e *env) error {
	topic, err := e.topic(ctx, "removed", 4)
	if err != nil {
		return err
	}
	group := unique("removed")
	one, err := e.member(ctx, group, topic, kgo.InstanceID("one"), kgo.SessionTimeout(30*time.Second))
	if err != nil {
		return err
	}
	defer one.leave()
	two, err := e.member(ctx, group, topic, kgo.InstanceID("two"), kgo.SessionTimeout(30*time.Second))
	if err != nil {
		return err
	}
	err = balanced(ctx, []int{2, 2}, one, two)
	two.leave()
	if err != nil {
		return err
	}
	adm, err := e.admin()
	if err != nil {
		return err
	}
	defer adm.Close()
	if err := removeInstance(ctx, adm, group, "two"); err != nil {
		return err
	}
	if err := balanced(ctx, []int{4}, one); err != nil {
		return err
	}
	return removeInstance(ctx, adm, group, "one")
}

func removeInstance(ctx context.Context, adm *kadm.Client, group, instance string) error {
	rs, err := adm.LeaveGroup(ctx, kadm.LeaveGroup(group).InstanceIDs(instance).Reason("conformance"))
	if err != nil {
		return err
	}
	if r, ok := rs[instance]; !ok || r.Err != nil {
		return fmt.Errorf("removing %s: %v (answered: %v)", instance, r.Err, ok)
	}
	return nil
}

func franzResume(ctx context.Context, e *env) error {
	topic, err := e.topic(ctx, "resume", 1)
	if err != nil {
		return err
	}
	group := unique("resume")
	recs, err := e.spread(ctx, topic, "r", 1, 100)
	if err != nil {
		return err
	}
	for _, part := range []struct{ from, read, commit int }{{0, 100, 40}, {40, 60, 30}, {70, 30, 30}} {
		cl, err := e.client(kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(),
			kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
		if err != nil {
			return err
		}
		got, err := pollN(ctx, cl, part.read)
		if err == nil && (string(got[0].Value) != string(recs[part.from].Value) || got[0].Offset != int64(part.from)) {
			err = fmt.Errorf("read from offset %d (%s), want %d", got[0].Offset, got[0].Value, part.from)
		}
		if err == nil {
			err = cl.CommitRecords(ctx, got[:part.commit]...)
		}
		cl.Close()
		if err != nil {
			return err
		}
	}
	adm, err := e.admin()
	if err != nil {
		return err
	}
	defer adm.Close()
	os, err := adm.FetchOffsets(ctx, group)
	if err != nil {
		return err
	}
	if o, ok := os.Lookup(topic, 0); !ok || o.At != 100 {
		return fmt.Errorf("committed offset %d, want 100", o.At)
	}
	return nil
}

func franzIndependentGroups(ctx context.Context, e *env) error {
	topic, err := e.topic(ctx, "independent", 3)
	if err != nil {
		return err
	}
	recs, err := e.spread(ctx, topic, "i", 3, 300)
	if err != nil {
		return err
	}
	for range 2 {
		got, err := e.readFrom(ctx, topic, len(recs), kgo.ConsumerGroup(unique("independent")))
		if err != nil {
			return err
		}
		if err := errors.Join(inOrder(got), sameValues(got, recs)); err != nil {
			return err
		}
	}
	return nil
}

// franzProtocolVote: the group takes the assignor that every member knows.
func franzProtocolVote(ctx context.Context, e *env) error {
	topic, err := e.topic(ctx, "vote", 4)
	if err != nil {
		return err
	}
	group := unique("vote")
	one, err := e.member(ctx, group, topic, kgo.Balancers(kgo.StickyBalancer(), kgo.RoundRobinBalancer()))
	if err != nil {
		return err
	}
	defer one.leave()
	if err := describedAs(ctx, e, group, "sticky", 1); err != nil {
		return err
	}
	two, err := e.member(ctx, group, topic, kgo.Balancers(kgo.RangeBalancer(), kgo.RoundRobinBalancer()))
	if err != nil {
		return err
	}
	defer two.leave()
	if err := balanced(ctx, []int{2, 2}, one, two); err != nil {
		return err
	}
	return describedAs(ctx, e, group, "roundrobin", 2)
}

// franzNewPartitions: partitions added to a topic reach its group's members.
func franzNewPartitions(ctx context.Context, e *env) error {
	topic, err := e.topic(ctx, "grows", 2)
	if err != nil {
		return err
	}
	one, err := e.member(ctx, unique("grows"), topic)
	if err != nil {
		return err
	}
	defer one.leave()
	if err := balanced(ctx, []int{2}, one); err != nil {
		return err
	}
	adm, err := e.admin()
	if err != nil {
		return err
	}
	defer adm.Close()
	rs, err := adm.UpdatePartitions(ctx, 5, topic)
	if err != nil {
		return err
	}
	if err := rs.Error(); err != nil {
		return err
	}
	if err := balanced(ctx, []int{5}, one); err != nil {
		return err
	}
	recs, err := e.spread(ctx, topic, "grown", 5, 50)
	if err != nil {
		return err
	}
	return allSeen(ctx, recs, one)
}
