package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// wireGroupChecks are the classic group protocol request by request.
func wireGroupChecks() []check {
	return []check{
		wired("wire/group/member-id-required", groupMemberIDRequired),
		wired("wire/group/join-and-sync", groupJoinAndSync),
		wired("wire/group/two-members", groupTwoMembers),
		wired("wire/group/errors", groupErrors),
		wired("wire/group/join-errors", groupJoinErrors),
		wired("wire/group/rebalance-in-progress", groupRebalancing),
		wired("wire/group/static-fenced", groupStaticFenced),
		wired("wire/group/leave", groupLeave),
		wired("wire/group/session-expires", groupSessionExpires),
		wired("wire/group/member-that-does-not-rejoin", groupNoRejoin),
		wired("wire/group/describe", groupDescribe),
		wired("wire/group/find-coordinator", groupFindCoordinator),
	}
}

// joiner is one member of a group, its requests made by hand.
type joiner struct {
	w          *wire
	group, id  string
	instance   *string
	generation int32
	leader     bool
	session    int32
	rebalance  int32
}

func newJoiner(w *wire, group string) *joiner {
	return &joiner{w: w, group: group, session: 30_000, rebalance: 30_000}
}

func (j *joiner) joinRequest() *kmsg.JoinGroupRequest {
	req := kmsg.NewPtrJoinGroupRequest()
	req.Group, req.MemberID, req.InstanceID = j.group, j.id, j.instance
	req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = j.session, j.rebalance
	req.ProtocolType = "consumer"
	p := kmsg.NewJoinGroupRequestProtocol()
	p.Name, p.Metadata = "by-hand", subscription()
	req.Protocols = []kmsg.JoinGroupRequestProtocol{p}
	return req
}

// subscription is the metadata of a consumer of one topic. It must parse:
// Apache Kafka leaves a join of the type "consumer" unanswered where it does not.
func subscription() []byte {
	m := kmsg.NewConsumerMemberMetadata()
	m.Topics = []string{"some-topic"}
	return m.AppendTo(nil)
}

func (j *joiner) took(r *kmsg.JoinGroupResponse) {
	j.id, j.generation = r.MemberID, r.Generation
	j.leader = r.LeaderID == r.MemberID
}

const joinVersion = 9

// join joins, with the member id the coordinator hands out where it has none.
func (j *joiner) join() (*kmsg.JoinGroupResponse, error) {
	r, err := ask[*kmsg.JoinGroupResponse](j.w, j.joinRequest(), joinVersion)
	if err != nil {
		return nil, err
	}
	if r.ErrorCode == kerr.MemberIDRequired.Code {
		j.id = r.MemberID
		if r, err = ask[*kmsg.JoinGroupResponse](j.w, j.joinRequest(), joinVersion); err != nil {
			return nil, err
		}
	}
	if err := wantCode("join", r.ErrorCode, nil); err != nil {
		return nil, err
	}
	j.took(r)
	return r, nil
}

func (j *joiner) syncRequest(assignments map[string]string) *kmsg.SyncGroupRequest {
	req := kmsg.NewPtrSyncGroupRequest()
	req.Group, req.Generation, req.MemberID, req.InstanceID = j.group, j.generation, j.id, j.instance
	req.ProtocolType, req.Protocol = ptr("consumer"), ptr("by-hand")
	for id, a := range assignments {
		g := kmsg.NewSyncGroupRequestGroupAssignment()
		g.MemberID, g.MemberAssignment = id, []byte(a)
		req.GroupAssignment = append(req.GroupAssignment, g)
	}
	return req
}

func (j *joiner) sync(assignments map[string]string) (*kmsg.SyncGroupResponse, error) {
	return ask[*kmsg.SyncGroupResponse](j.w, j.syncRequest(assignments), 5)
}

// stable joins alone and syncs.
func (j *joiner) stable() error {
	if _, err := j.join(); err != nil {
		return err
	}
	r, err := j.sync(map[string]string{j.id: "all"})
	if err != nil {
		return err
	}
	return wantCode("sync", r.ErrorCode, nil)
}

// heartbeat is the error code of a heartbeat.
func (j *joiner) heartbeat() (int16, error) {
	req := kmsg.NewPtrHeartbeatRequest()
	req.Group, req.Generation, req.MemberID, req.InstanceID = j.group, j.generation, j.id, j.instance
	r, err := ask[*kmsg.HeartbeatResponse](j.w, req, 4)
	if err != nil {
		return 0, err
	}
	return r.ErrorCode, nil
}

func (j *joiner) wantHeartbeat(what string, want *kerr.Error) error {
	code, err := j.heartbeat()
	if err != nil {
		return err
	}
	return wantCode("heartbeat: "+what, code, want)
}

// commit is the error code of a commit of offset 0 of partition 0.
func (j *joiner) commit(topic string) (int16, error) {
	req := commitRequest(j.group, topic, 0)
	req.Generation, req.MemberID, req.InstanceID = j.generation, j.id, j.instance
	r, err := ask[*kmsg.OffsetCommitResponse](j.w, req, 9)
	if err != nil {
		return 0, err
	}
	return r.Topics[0].Partitions[0].ErrorCode, nil
}

func (j *joiner) wantCommit(what, topic string, want *kerr.Error) error {
	code, err := j.commit(topic)
	if err != nil {
		return err
	}
	return wantCode("commit: "+what, code, want)
}

func groupMemberIDRequired(_ context.Context, _ *env, w *wire, _ string) error {
	j := newJoiner(w, unique("g"))
	r, err := ask[*kmsg.JoinGroupResponse](w, j.joinRequest(), joinVersion)
	if err != nil {
		return err
	}
	if err := wantCode("the first join", r.ErrorCode, kerr.MemberIDRequired); err != nil {
		return err
	}
	if r.MemberID == "" {
		return errors.New("no member id was handed out")
	}
	j.id = r.MemberID
	if r, err = ask[*kmsg.JoinGroupResponse](w, j.joinRequest(), joinVersion); err != nil {
		return err
	}
	if r.ErrorCode != 0 || r.MemberID != j.id {
		return fmt.Errorf("the second join: error %d, member id %q for %q", r.ErrorCode, r.MemberID, j.id)
	}
	// Before version 4 nobody is asked to come again.
	old := newJoiner(w, unique("g"))
	if r, err = ask[*kmsg.JoinGroupResponse](w, old.joinRequest(), 3); err != nil {
		return err
	}
	return wantCode("a join of version 3", r.ErrorCode, nil)
}

func groupJoinAndSync(_ context.Context, _ *env, w *wire, topic string) error {
	j := newJoiner(w, unique("g"))
	r, err := j.join()
	if err != nil {
		return err
	}
	if r.Generation != 1 || !j.leader || *r.Protocol != "by-hand" || *r.ProtocolType != "consumer" ||
		len(r.Members) != 1 || r.Members[0].MemberID != j.id || !bytes.Equal(r.Members[0].ProtocolMetadata, subscription()) {
		return fmt.Errorf("the first member joined with %+v", r)
	}
	s, err := j.sync(map[string]string{j.id: "everything"})
	if err != nil {
		return err
	}
	if s.ErrorCode != 0 || string(s.MemberAssignment) != "everything" || *s.Protocol != "by-hand" {
		return fmt.Errorf("sync answers error %d, %q", s.ErrorCode, s.MemberAssignment)
	}
	// Once stable, sync gives the same again.
	if s, err = j.sync(nil); err != nil {
		return err
	}
	if s.ErrorCode != 0 || string(s.MemberAssignment) != "everything" {
		return fmt.Errorf("sync again answers error %d, %q", s.ErrorCode, s.MemberAssignment)
	}
	return errors.Join(j.wantHeartbeat("of a stable member", nil), j.wantCommit("of a stable member", topic, nil))
}

// pair makes a stable group of two members, each on its own connection.
func pair(ctx context.Context, e *env, w *wire, group string, instances ...string) (one, two *joiner, done func(), err error) {
	other, err := e.wire(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	one, two = newJoiner(w, group), newJoiner(other, group)
	if len(instances) == 2 {
		one.instance, two.instance = &instances[0], &instances[1]
	}
	if err := one.stable(); err != nil {
		other.close()
		return nil, nil, nil, err
	}
	if err := joinBoth(ctx, one, two); err != nil {
		other.close()
		return nil, nil, nil, err
	}
	return one, two, other.close, nil
}

// joinBoth lets the second join, the first notice and join again, and both sync.
func joinBoth(ctx context.Context, one, two *joiner) error {
	if two.id == "" && two.instance == nil {
		r, err := ask[*kmsg.JoinGroupResponse](two.w, two.joinRequest(), joinVersion)
		if err != nil {
			return err
		}
		if err := wantCode("the join of the second", r.ErrorCode, kerr.MemberIDRequired); err != nil {
			return err
		}
		two.id = r.MemberID
	}
	req := two.joinRequest()
	id, err := two.w.send(req, joinVersion)
	if err != nil {
		return err
	}
	if err := until(ctx, "the first member told of the rebalance", func() (bool, string) {
		code, err := one.heartbeat()
		return err == nil && code == kerr.RebalanceInProgress.Code, fmt.Sprintf("heartbeat %d, %v", code, err)
	}); err != nil {
		return err
	}
	r1, err := one.join()
	if err != nil {
		return err
	}
	r, err := two.w.receive(req, id)
	if err != nil {
		return err
	}
	r2 := r.(*kmsg.JoinGroupResponse)
	if err := wantCode("the join of the second", r2.ErrorCode, nil); err != nil {
		return err
	}
	two.took(r2)
	if one.generation != two.generation || one.leader == two.leader || len(r1.Members)+len(r2.Members) != 2 {
		return fmt.Errorf("generations %d and %d, leaders %v and %v, members %d and %d",
			one.generation, two.generation, one.leader, two.leader, len(r1.Members), len(r2.Members))
	}
	leader, follower := one, two
	if two.leader {
		leader, follower = two, one
	}
	waiting := follower.syncRequest(nil)
	if id, err = follower.w.send(waiting, 5); err != nil {
		return err
	}
	s, err := leader.sync(map[string]string{one.id: "one", two.id: "two"})
	if err != nil {
		return err
	}
	fr, err := follower.w.receive(waiting, id)
	if err != nil {
		return err
	}
	f := fr.(*kmsg.SyncGroupResponse)
	got := map[*joiner]string{leader: string(s.MemberAssignment), follower: string(f.MemberAssignment)}
	if s.ErrorCode != 0 || f.ErrorCode != 0 || got[one] != "one" || got[two] != "two" {
		return fmt.Errorf("sync: errors %d and %d, assignments %q and %q", s.ErrorCode, f.ErrorCode, got[one], got[two])
	}
	return nil
}

func groupTwoMembers(ctx context.Context, e *env, w *wire, topic string) error {
	one, two, done, err := pair(ctx, e, w, unique("g"))
	if err != nil {
		return err
	}
	defer done()
	if one.generation != 2 {
		return fmt.Errorf("generation %d after the second joined, want 2", one.generation)
	}
	return errors.Join(
		one.wantHeartbeat("of the first", nil), two.wantHeartbeat("of the second", nil),
		one.wantCommit("of the first", topic, nil), two.wantCommit("of the second", topic, nil),
	)
}

// groupErrors: stale generations and unknown members are told so.
func groupErrors(_ context.Context, _ *env, w *wire, topic string) error {
	j := newJoiner(w, unique("g"))
	if err := j.stable(); err != nil {
		return err
	}
	stale, future, stranger, nowhere := *j, *j, *j, *j
	stale.generation--
	future.generation++
	stranger.id = "nobody-knows-me"
	nowhere.group = unique("nothing")
	admin := *j
	admin.id, admin.generation = "", -1
	err := errors.Join(
		stale.wantHeartbeat("of an old generation", kerr.IllegalGeneration),
		future.wantHeartbeat("of a later generation", kerr.IllegalGeneration),
		stranger.wantHeartbeat("of an unknown member", kerr.UnknownMemberID),
		nowhere.wantHeartbeat("in an unknown group", kerr.UnknownMemberID),
		stale.wantCommit("of an old generation", topic, kerr.IllegalGeneration),
		stranger.wantCommit("of an unknown member", topic, kerr.UnknownMemberID),
		admin.wantCommit("of nobody while there are members", topic, kerr.UnknownMemberID),
		nowhere.wantCommit("with a generation in an unknown group", topic, kerr.GroupIDNotFound),
	)
	for _, c := range []struct {
		j    joiner
		want *kerr.Error
	}{{stale, kerr.IllegalGeneration}, {stranger, kerr.UnknownMemberID}, {nowhere, kerr.UnknownMemberID}} {
		s, e := c.j.sync(nil)
		if e != nil {
			return errors.Join(err, e)
		}
		err = errors.Join(err, wantCode("sync", s.ErrorCode, c.want))
	}
	r, e := ask[*kmsg.JoinGroupResponse](w, stranger.joinRequest(), joinVersion)
	if e != nil {
		return errors.Join(err, e)
	}
	return errors.Join(err, wantCode("join of an unknown member", r.ErrorCode, kerr.UnknownMemberID),
		j.wantHeartbeat("after all of it", nil))
}

func groupJoinErrors(_ context.Context, _ *env, w *wire, _ string) error {
	member := newJoiner(w, unique("g"))
	if err := member.stable(); err != nil {
		return err
	}
	for _, c := range []struct {
		what   string
		change func(*kmsg.JoinGroupRequest)
		want   *kerr.Error
	}{
		{"an empty group id", func(r *kmsg.JoinGroupRequest) { r.Group = "" }, kerr.InvalidGroupID},
		{"a session of 1 ms", func(r *kmsg.JoinGroupRequest) { r.SessionTimeoutMillis = 1 }, kerr.InvalidSessionTimeout},
		{"a session of a day", func(r *kmsg.JoinGroupRequest) { r.SessionTimeoutMillis = 86_400_000 }, kerr.InvalidSessionTimeout},
		{"another protocol type", func(r *kmsg.JoinGroupRequest) { r.ProtocolType = "connect" }, kerr.InconsistentGroupProtocol},
		{"a protocol no member has", func(r *kmsg.JoinGroupRequest) { r.Protocols[0].Name = "strange" }, kerr.InconsistentGroupProtocol},
		{"no protocols", func(r *kmsg.JoinGroupRequest) { r.Protocols = nil }, kerr.InconsistentGroupProtocol},
	} {
		req := newJoiner(w, member.group).joinRequest()
		c.change(req)
		// Version 3 gets its member id at once: the refusal is of the join itself.
		r, err := ask[*kmsg.JoinGroupResponse](w, req, 3)
		if err != nil {
			return err
		}
		if err := wantCode(c.what, r.ErrorCode, c.want); err != nil {
			return err
		}
	}
	return member.wantHeartbeat("of the member that was there", nil)
}

func groupRebalancing(ctx context.Context, e *env, w *wire, topic string) error {
	one := newJoiner(w, unique("g"))
	if err := one.stable(); err != nil {
		return err
	}
	other, err := e.wire(ctx)
	if err != nil {
		return err
	}
	defer other.close()
	two := newJoiner(other, one.group)
	r, err := ask[*kmsg.JoinGroupResponse](other, two.joinRequest(), joinVersion)
	if err != nil {
		return err
	}
	two.id = r.MemberID
	if _, err := other.send(two.joinRequest(), joinVersion); err != nil {
		return err
	}
	if err := until(ctx, "error 27", func() (bool, string) {
		code, err := one.heartbeat()
		return err == nil && code == kerr.RebalanceInProgress.Code, fmt.Sprintf("heartbeat %d, %v", code, err)
	}); err != nil {
		return err
	}
	s, err := one.sync(nil)
	if err != nil {
		return err
	}
	if err := wantCode("sync while members join", s.ErrorCode, kerr.RebalanceInProgress); err != nil {
		return err
	}
	// Who is about to join again may still commit what it has done.
	if err := one.wantCommit("while members join", topic, nil); err != nil {
		return err
	}
	if _, err := one.join(); err != nil {
		return err
	}
	// Now everyone joined and the assignment is missing.
	return one.wantCommit("before the assignment", topic, kerr.RebalanceInProgress)
}

// groupStaticFenced: the newer holder of an instance id displaces the older.
func groupStaticFenced(ctx context.Context, e *env, w *wire, topic string) error {
	one, two, done, err := pair(ctx, e, w, unique("g"), "first", "second")
	if err != nil {
		return err
	}
	defer done()
	old := *two
	again := newJoiner(two.w, two.group)
	again.instance = two.instance
	r, err := again.join()
	if err != nil {
		return err
	}
	if r.MemberID == old.id || r.MemberID == "" {
		return fmt.Errorf("the newer member has id %q, the older %q", r.MemberID, old.id)
	}
	if r.Generation != old.generation {
		return fmt.Errorf("generation %d became %d although nothing changed", old.generation, r.Generation)
	}
	s, err := again.sync(nil)
	if err != nil {
		return err
	}
	if s.ErrorCode != 0 || string(s.MemberAssignment) != "two" {
		return fmt.Errorf("the newer member gets error %d, assignment %q", s.ErrorCode, s.MemberAssignment)
	}
	if err := errors.Join(
		old.wantHeartbeat("of the displaced member", kerr.FencedInstanceID),
		old.wantCommit("of the displaced member", topic, kerr.FencedInstanceID),
		again.wantHeartbeat("of the newer member", nil),
		one.wantHeartbeat("of the other member", nil),
	); err != nil {
		return err
	}
	if s, err = old.sync(nil); err != nil {
		return err
	}
	if err := wantCode("sync of the displaced member", s.ErrorCode, kerr.FencedInstanceID); err != nil {
		return err
	}
	j, err := ask[*kmsg.JoinGroupResponse](two.w, old.joinRequest(), joinVersion)
	if err != nil {
		return err
	}
	return wantCode("join of the displaced member", j.ErrorCode, kerr.FencedInstanceID)
}

func groupLeave(ctx context.Context, e *env, w *wire, topic string) error {
	one, two, done, err := pair(ctx, e, w, unique("g"))
	if err != nil {
		return err
	}
	defer done()
	req := kmsg.NewPtrLeaveGroupRequest()
	req.Group = one.group
	for _, id := range []string{two.id, "nobody-knows-me"} {
		m := kmsg.NewLeaveGroupRequestMember()
		m.MemberID = id
		req.Members = append(req.Members, m)
	}
	r, err := ask[*kmsg.LeaveGroupResponse](two.w, req, 5)
	if err != nil {
		return err
	}
	if r.ErrorCode != 0 || len(r.Members) != 2 {
		return fmt.Errorf("leave answers error %d, %d members", r.ErrorCode, len(r.Members))
	}
	for _, m := range r.Members {
		want := kerr.UnknownMemberID
		if m.MemberID == two.id {
			want = nil
		}
		if err := wantCode("leaving of "+m.MemberID, m.ErrorCode, want); err != nil {
			return err
		}
	}
	if err := errors.Join(
		two.wantHeartbeat("of who left", kerr.UnknownMemberID),
		one.wantHeartbeat("of who stays", kerr.RebalanceInProgress),
		one.stable(),
		one.wantHeartbeat("of who stays, joined again", nil),
	); err != nil {
		return err
	}
	// Before version 3 one member leaves, by its id.
	old := kmsg.NewPtrLeaveGroupRequest()
	old.Group, old.MemberID = one.group, one.id
	if r, err = ask[*kmsg.LeaveGroupResponse](w, old, 2); err != nil {
		return err
	}
	return errors.Join(wantCode("leave v2", r.ErrorCode, nil), one.wantHeartbeat("after leaving", kerr.UnknownMemberID))
}

// groupSessionExpires: silence for longer than the session timeout ends a membership.
func groupSessionExpires(ctx context.Context, e *env, w *wire, _ string) error {
	one := newJoiner(w, unique("g"))
	other, err := e.wire(ctx)
	if err != nil {
		return err
	}
	defer other.close()
	two := newJoiner(other, one.group)
	two.session = 6000
	if err := one.stable(); err != nil {
		return err
	}
	if err := joinBoth(ctx, one, two); err != nil {
		return err
	}
	if err := until(ctx, "the rebalance after the silence", func() (bool, string) {
		code, err := one.heartbeat()
		return err == nil && code == kerr.RebalanceInProgress.Code, fmt.Sprintf("heartbeat %d, %v", code, err)
	}); err != nil {
		return err
	}
	r, err := one.join()
	if err != nil {
		return err
	}
	if len(r.Members) != 1 {
		return fmt.Errorf("%d members after one fell silent", len(r.Members))
	}
	return two.wantHeartbeat("of the silent member", kerr.UnknownMemberID)
}

// groupNoRejoin: who heartbeats yet does not join again within its rebalance
// timeout is left out.
func groupNoRejoin(ctx context.Context, e *env, w *wire, _ string) error {
	one := newJoiner(w, unique("g"))
	one.rebalance = 1500
	if err := one.stable(); err != nil {
		return err
	}
	other, err := e.wire(ctx)
	if err != nil {
		return err
	}
	defer other.close()
	two := newJoiner(other, one.group)
	two.rebalance = 1500
	r, err := two.join() // waits for the first, who never comes
	if err != nil {
		return err
	}
	if !two.leader || len(r.Members) != 1 {
		return fmt.Errorf("the second member leads: %v, members %d", two.leader, len(r.Members))
	}
	return one.wantHeartbeat("of the member left out", kerr.UnknownMemberID)
}

func groupDescribe(ctx context.Context, e *env, w *wire, _ string) error {
	one, two, done, err := pair(ctx, e, w, unique("g"))
	if err != nil {
		return err
	}
	defer done()
	keys, err := e.versions(ctx)
	if err != nil {
		return err
	}
	for version := int16(0); version <= keys[kmsg.DescribeGroups].MaxVersion; version++ {
		req := kmsg.NewPtrDescribeGroupsRequest()
		nothing := unique("nothing")
		req.Groups = []string{one.group, nothing}
		r, err := ask[*kmsg.DescribeGroupsResponse](w, req, version)
		if err != nil {
			return err
		}
		if len(r.Groups) != 2 {
			return fmt.Errorf("v%d answers %d groups", version, len(r.Groups))
		}
		for _, g := range r.Groups {
			if g.Group == nothing {
				want := (*kerr.Error)(nil)
				if version >= 6 {
					want = kerr.GroupIDNotFound
				}
				if g.State != "Dead" {
					return fmt.Errorf("v%d: an unknown group is %s", version, g.State)
				}
				if err := wantCode(fmt.Sprintf("v%d: an unknown group", version), g.ErrorCode, want); err != nil {
					return err
				}
				continue
			}
			if g.ErrorCode != 0 || g.State != "Stable" || g.Protocol != "by-hand" || g.ProtocolType != "consumer" || len(g.Members) != 2 {
				return fmt.Errorf("v%d describes %+v", version, g)
			}
			for _, m := range g.Members {
				want := map[string]string{one.id: "one", two.id: "two"}[m.MemberID]
				if string(m.MemberAssignment) != want || want == "" || !bytes.Equal(m.ProtocolMetadata, subscription()) || m.ClientID != "conformance-go" {
					return fmt.Errorf("v%d describes member %+v", version, m)
				}
			}
		}
	}
	return nil
}

func groupFindCoordinator(ctx context.Context, e *env, w *wire, _ string) error {
	keys, err := e.versions(ctx)
	if err != nil {
		return err
	}
	for version := int16(0); version <= keys[kmsg.FindCoordinator].MaxVersion; version++ {
		req := kmsg.NewPtrFindCoordinatorRequest()
		req.CoordinatorKey, req.CoordinatorKeys = "g", []string{"g"}
		r, err := ask[*kmsg.FindCoordinatorResponse](w, req, version)
		if err != nil {
			return err
		}
		c := kmsg.FindCoordinatorResponseCoordinator{ErrorCode: r.ErrorCode, NodeID: r.NodeID, Host: r.Host, Port: r.Port, Key: "g"}
		if version >= 4 {
			if len(r.Coordinators) != 1 {
				return fmt.Errorf("v%d answers %d coordinators", version, len(r.Coordinators))
			}
			c = r.Coordinators[0]
		}
		if c.ErrorCode != 0 || c.Host == "" || c.Port == 0 || c.Key != "g" {
			return fmt.Errorf("v%d answers %+v", version, c)
		}
	}
	return nil
}
