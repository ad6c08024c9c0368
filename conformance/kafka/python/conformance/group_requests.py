"""The requests of the classic group protocol, in one version with instance ids each, on one connection per member."""

from .wire import Connection, body


class Member:
    """One member's side of the protocol. It does nothing by itself: no heartbeat unless `heartbeat` is called."""

    def __init__(self, context, group, instance=None, member_id="", session_ms=10_000, rebalance_ms=10_000):
        self.connection = Connection(context, seconds=40)
        self.group = group
        self.instance = instance
        self.id = member_id
        self.generation = -1
        self.session_ms = session_ms
        self.rebalance_ms = rebalance_ms
        self.members = []
        self.leader = None
        self.protocol = None

    def close(self):
        self.connection.close()

    def join_send(self, protocols=("range",), version=5, kind="consumer", metadata=b"m"):
        w = body("JoinGroup", version).string(self.group).i32(self.session_ms).i32(self.rebalance_ms).string(self.id)
        if version >= 5:
            w.string(self.instance)
        w.string(kind)

        def each(p):
            w.string(p).bytes(metadata).tags()

        w.array(list(protocols), each)
        if version >= 8:
            w.string(None)
        self._join_version = version
        self._correlation = self.connection.send_request("JoinGroup", version, w.tags())

    def join_receive(self):
        version = self._join_version
        r = self.connection.receive("JoinGroup", version, self._correlation)
        r.i32()
        error, generation = r.i16(), r.i32()
        if version >= 7:
            r.string()
        protocol, leader = r.string(), r.string()
        if version >= 9:
            r.i8()
        member = r.string()

        def each():
            name = r.string()
            instance = r.string() if version >= 5 else None
            metadata = r.bytes()
            r.tags()
            return name, instance, metadata

        members = r.array(each)
        r.tags()
        r.end()
        if member:
            self.id = member
        if error == 0:
            self.generation, self.protocol, self.leader, self.members = generation, protocol, leader, members
        return error

    def join(self, protocols=("range",), version=5, kind="consumer", metadata=b"m"):
        """Joins, with the second request that error 79 asks for; returns the error."""
        self.join_send(protocols, version, kind, metadata)
        error = self.join_receive()
        if error == 79:
            self.join_send(protocols, version, kind, metadata)
            error = self.join_receive()
        return error

    def sync_send(self, assignments=None):
        w = body("SyncGroup", 3).string(self.group).i32(self.generation).string(self.id).string(self.instance)
        w.array(sorted((assignments or {}).items()), lambda a: w.string(a[0]).bytes(a[1]))
        self._correlation = self.connection.send_request("SyncGroup", 3, w)

    def sync_receive(self):
        r = self.connection.receive("SyncGroup", 3, self._correlation)
        r.i32()
        error, assignment = r.i16(), r.bytes()
        r.end()
        return error, assignment

    def sync(self, assignments=None):
        self.sync_send(assignments)
        return self.sync_receive()

    def heartbeat(self, generation=None):
        w = body("Heartbeat", 3).string(self.group).i32(self.generation if generation is None else generation)
        r = self.connection.call("Heartbeat", 3, w.string(self.id).string(self.instance))
        r.i32()
        return r.i16()

    def leave(self):
        """(error, errors of the members)."""
        w = body("LeaveGroup", 3).string(self.group)
        w.array([0], lambda _: w.string(self.id).string(self.instance))
        r = self.connection.call("LeaveGroup", 3, w)
        r.i32()
        return r.i16(), r.array(lambda: (r.string(), r.string(), r.i16())[2])

    def commit(self, topic, offsets, generation=None, version=7, metadata="note"):
        """{partition: error}; a topic is a name, from version 10 on a topic id."""
        w = body("OffsetCommit", version).string(self.group).i32(self.generation if generation is None else generation).string(self.id)
        if version >= 7:
            w.string(self.instance)
        if 2 <= version <= 4:
            w.i64(-1)

        def each_partition(p):
            w.i32(p[0]).i64(p[1])
            if version >= 6:
                w.i32(-1)
            w.string(metadata).tags()

        def each_topic(_):
            w.uuid(topic) if version >= 10 else w.string(topic)
            w.array(sorted(offsets.items()), each_partition).tags()

        w.array([0], each_topic)
        r = self.connection.call("OffsetCommit", version, w.tags())
        if version >= 3:
            r.i32()
        found = {}

        def partition():
            index = r.i32()
            found[index] = r.i16()
            r.tags()

        def topic_answer():
            r.uuid() if version >= 10 else r.string()
            r.array(partition), r.tags()

        r.array(topic_answer)
        r.tags()
        r.end()
        return found


def offset_fetch(connection, groups, version=8):
    """OffsetFetch for {group: None or [(topic, [partitions])]}:
    {group: (error, {(topic, partition): (offset, metadata, error)})}. One group below version 8."""
    w = body("OffsetFetch", version)

    def each_topic(t):
        w.uuid(t[0]) if version >= 10 else w.string(t[0])
        w.array(t[1], w.i32).tags()

    def each_group(g):
        w.string(g[0])
        if version >= 9:
            w.string(None).i32(-1)
        w.array(g[1], each_topic)
        if version >= 8:
            w.tags()

    if version >= 8:
        w.array(sorted(groups.items()), each_group)
    else:
        each_group(next(iter(groups.items())))
    if version >= 7:
        w.i8(0)
    r = connection.call("OffsetFetch", version, w.tags())
    if version >= 3:
        r.i32()
    found = {}

    def topics_into(target):
        def each():
            topic = r.uuid() if version >= 10 else r.string()

            def partition():
                index, offset = r.i32(), r.i64()
                if version >= 5:
                    r.i32()
                target[topic, index] = offset, r.string(), r.i16()
                r.tags()

            r.array(partition), r.tags()

        r.array(each)

    if version >= 8:
        def each_answer():
            group, offsets = r.string(), {}
            topics_into(offsets)
            found[group] = r.i16(), offsets
            r.tags()

        r.array(each_answer)
    else:
        offsets = {}
        topics_into(offsets)
        found[next(iter(groups))] = (r.i16() if version >= 2 else 0), offsets
    r.tags()
    r.end()
    return found
