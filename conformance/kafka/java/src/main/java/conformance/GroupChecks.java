package conformance;

import static conformance.Harness.equal;
import static conformance.Harness.fails;
import static conformance.Harness.get;
import static conformance.Harness.that;
import static conformance.Harness.unique;
import static conformance.Harness.until;

import java.time.Duration;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.admin.GroupListing;
import org.apache.kafka.clients.admin.ListConsumerGroupOffsetsSpec;
import org.apache.kafka.clients.admin.ListGroupsOptions;
import org.apache.kafka.clients.admin.MemberToRemove;
import org.apache.kafka.clients.admin.RemoveMembersFromConsumerGroupOptions;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerGroupMetadata;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.FencedInstanceIdException;
import org.apache.kafka.common.errors.GroupIdNotFoundException;
import org.apache.kafka.common.errors.GroupNotEmptyException;
import org.apache.kafka.common.errors.UnknownMemberIdException;

/** Classic consumer groups with the Java consumer's assignors, and the Admin's view of them. */
final class GroupChecks {
    private static final String PACKAGE = "org.apache.kafka.clients.consumer.";

    private GroupChecks() {}

    static void register(Harness harness) {
        for (String assignor : List.of("RangeAssignor", "RoundRobinAssignor", "StickyAssignor", "CooperativeStickyAssignor")) {
            harness.check("java groups: " + assignor + " shares out, members come and go without loss", b -> assignor(b, assignor));
        }
        harness.check("java groups: a static member restarts in the same generation, its twin is fenced", GroupChecks::staticMember);
        harness.check("java groups: commits, with metadata, sync and async, are found again", GroupChecks::commits);
        harness.check("java groups: a removed member's commit fails and it joins again", GroupChecks::removed);
        harness.check("java groups: list, describe, delete, offsets of several groups", GroupChecks::administration);
    }

    /** A consumer polled by its own thread. */
    private static final class Polled implements AutoCloseable {
        final KafkaConsumer<byte[], byte[]> consumer;
        final Thread thread;
        volatile Set<TopicPartition> assigned = Set.of();
        volatile int generation = -1;
        volatile RuntimeException error;
        volatile boolean halt;
        final Set<String> seen = java.util.concurrent.ConcurrentHashMap.newKeySet();

        Polled(Broker broker, String group, String topic, String... more) {
            consumer = broker.consumer(group, more);
            thread = new Thread(() -> {
                try {
                    consumer.subscribe(List.of(topic));
                    while (!halt) {
                        var records = consumer.poll(Duration.ofMillis(50));
                        records.forEach(r -> seen.add(r.partition() + "/" + r.offset()));
                        if (!records.isEmpty()) {
                            try {
                                consumer.commitSync();
                            } catch (org.apache.kafka.common.errors.RebalanceInProgressException | CommitFailedException again) {
                                continue; // the next poll joins again, and reads again what was not committed
                            }
                        }
                        assigned = new HashSet<>(consumer.assignment());
                        generation = consumer.groupMetadata().generationId();
                    }
                } catch (RuntimeException failure) {
                    error = failure;
                } finally {
                    consumer.close(org.apache.kafka.clients.consumer.CloseOptions.timeout(Duration.ofSeconds(5)));
                }
            });
            thread.setDaemon(true);
            thread.start();
        }

        @Override
        public void close() throws InterruptedException {
            halt = true;
            thread.join(10_000);
        }
    }

    private static boolean shared(int partitions, Polled... members) {
        Set<TopicPartition> union = new HashSet<>();
        int sum = 0;
        for (Polled member : members) {
            if (member.assigned.isEmpty()) {
                return false;
            }
            union.addAll(member.assigned);
            sum += member.assigned.size();
        }
        return union.size() == partitions && sum == partitions;
    }

    private static void produce(Broker broker, String topic, int partitions, int each) throws Exception {
        try (KafkaProducer<byte[], byte[]> producer = broker.producer()) {
            List<String> values = new ArrayList<>();
            for (int i = 0; i < each; i++) {
                values.add("" + i);
            }
            for (int p = 0; p < partitions; p++) {
                broker.send(producer, topic, p, values);
            }
        }
    }

    private static void assignor(Broker broker, String assignor) throws Exception {
        String topic = unique("java-" + assignor);
        String group = unique(assignor);
        broker.create(topic, 6);
        String[] settings = {"partition.assignment.strategy", PACKAGE + assignor};
        Polled first = new Polled(broker, group, topic, settings);
        until("one member has everything", () -> shared(6, first));
        Polled second = new Polled(broker, group, topic, settings);
        until("two members share", () -> shared(6, first, second) && first.assigned.size() == 3);
        produce(broker, topic, 6, 40);
        until("everything is read", () -> union(first, second).size() == 240);
        Polled third = new Polled(broker, group, topic, settings);
        until("three members share", () -> shared(6, first, second, third) && third.assigned.size() == 2);
        until("one generation", () -> first.generation == second.generation && second.generation == third.generation);
        produce(broker, topic, 6, 40);
        second.close();
        until("two members share again", () -> shared(6, first, third));
        produce(broker, topic, 6, 40);
        until("everything is read", () -> union(first, second, third).size() == 720);
        for (Polled member : List.of(first, second, third)) {
            member.close();
            equal(member.error, null, "error of a member");
        }
        try (Admin admin = broker.admin()) {
            Map<TopicPartition, OffsetAndMetadata> offsets = get(admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata());
            equal(offsets.values().stream().map(OffsetAndMetadata::offset).collect(Collectors.toSet()), Set.of(120L), "committed offsets");
            equal(offsets.size(), 6, "partitions with committed offsets");
        }
    }

    private static Set<String> union(Polled... members) {
        Set<String> all = new HashSet<>();
        for (Polled member : members) {
            all.addAll(member.seen);
        }
        return all;
    }

    private static void staticMember(Broker broker) throws Exception {
        String topic = unique("java-static");
        String group = unique("java-static");
        broker.create(topic, 4);
        String[] one = {"group.instance.id", "one", "session.timeout.ms", "30000"};
        String[] two = {"group.instance.id", "two", "session.timeout.ms", "30000"};
        try (Polled first = new Polled(broker, group, topic, one); Polled second = new Polled(broker, group, topic, two)) {
            until("two members share", () -> shared(4, first, second));
            until("one generation", () -> first.generation == second.generation);
            int generation = first.generation;
            Set<TopicPartition> had = second.assigned;
            second.close();
            try (Polled again = new Polled(broker, group, topic, two)) {
                until("the member is back", () -> again.assigned.equals(had));
                equal(again.generation, generation, "generation after the restart");
                produce(broker, topic, 4, 5);
                until("both read", () -> union(first, again).size() == 20);
                equal(first.generation, generation, "generation of the other member");
                try (Polled twin = new Polled(broker, group, topic, two)) {
                    until("the older twin is fenced", () -> again.error != null);
                    that(again.error instanceof FencedInstanceIdException, "what the older twin gets: " + again.error);
                    until("the newer twin has the partitions", () -> twin.assigned.equals(had));
                    equal(twin.error, null, "error of the newer twin");
                }
            }
            try (Admin admin = broker.admin()) {
                get(admin.removeMembersFromConsumerGroup(group,
                    new RemoveMembersFromConsumerGroupOptions(List.of(new MemberToRemove("two")))).all());
            }
            until("the one left has everything", () -> shared(4, first));
        }
    }

    private static void commits(Broker broker) throws Exception {
        String topic = unique("java-commits");
        String group = unique("java-commits");
        broker.create(topic, 2);
        produce(broker, topic, 2, 10);
        TopicPartition zero = new TopicPartition(topic, 0);
        TopicPartition one = new TopicPartition(topic, 1);
        try (KafkaConsumer<byte[], byte[]> consumer = broker.consumer(group)) {
            consumer.subscribe(List.of(topic));
            Broker.read(consumer, 20);
            consumer.commitSync(Map.of(zero, new OffsetAndMetadata(4, "four")));
            boolean[] done = {false};
            consumer.commitAsync(Map.of(one, new OffsetAndMetadata(6)), (offsets, failure) -> done[0] = failure == null);
            until("the callback", () -> {
                consumer.poll(Duration.ofMillis(20));
                return done[0];
            });
            equal(consumer.committed(Set.of(zero)).get(zero).metadata(), "four", "metadata");
        }
        try (KafkaConsumer<byte[], byte[]> consumer = broker.consumer(group)) {
            equal(consumer.committed(Set.of(zero, one)).get(one).offset(), 6L, "committed");
            consumer.subscribe(List.of(topic));
            var records = Broker.read(consumer, 10);
            equal(records.stream().filter(r -> r.partition() == 0).mapToLong(r -> r.offset()).min().orElse(-1), 4L, "partition 0 goes on");
            equal(records.stream().filter(r -> r.partition() == 1).mapToLong(r -> r.offset()).min().orElse(-1), 6L, "partition 1 goes on");
        }
    }

    private static void removed(Broker broker) throws Exception {
        String topic = unique("java-removed");
        String group = unique("java-removed");
        broker.create(topic, 1);
        produce(broker, topic, 1, 3);
        try (KafkaConsumer<byte[], byte[]> consumer = broker.consumer(group); Admin admin = broker.admin()) {
            consumer.subscribe(List.of(topic));
            Broker.read(consumer, 3);
            ConsumerGroupMetadata before = consumer.groupMetadata();
            get(admin.removeMembersFromConsumerGroup(group, new RemoveMembersFromConsumerGroupOptions()).all());
            fails(CommitFailedException.class, "commit of the removed member", () -> consumer.commitSync());
            equal(Broker.read(consumer, 3).get(0).offset(), 0L, "it joins again and reads again what was not committed");
            consumer.commitSync();
            that(!consumer.groupMetadata().memberId().equals(before.memberId()), "it is another member");
        }
    }

    private static void administration(Broker broker) throws Exception {
        String topic = unique("java-groups");
        List<String> groups = List.of(unique("java-g1"), unique("java-g2"));
        broker.create(topic, 2);
        produce(broker, topic, 2, 5);
        try (Admin admin = broker.admin()) {
            for (String group : groups) {
                try (KafkaConsumer<byte[], byte[]> consumer = broker.consumer(group, "client.id", "the-client")) {
                    consumer.subscribe(List.of(topic));
                    Broker.read(consumer, 10);
                    consumer.commitSync();
                    ConsumerGroupDescription found = get(admin.describeConsumerGroups(List.of(group)).all()).get(group);
                    equal(found.groupState(), GroupState.STABLE, "state with a member");
                    equal(found.members().size(), 1, "members");
                    equal(found.members().iterator().next().clientId(), "the-client", "client id");
                    equal(found.members().iterator().next().assignment().topicPartitions().size(), 2, "assignment");
                    equal(found.partitionAssignor(), "range", "assignor");
                    fails(GroupNotEmptyException.class, "deleting it with a member", () -> get(admin.deleteConsumerGroups(List.of(group)).all()));
                    TopicPartition where = new TopicPartition(topic, 0);
                    fails(UnknownMemberIdException.class, "altering offsets beside a member",
                        () -> get(admin.alterConsumerGroupOffsets(group, Map.of(where, new OffsetAndMetadata(1))).all()));
                }
                until("it is empty", () -> get(admin.describeConsumerGroups(List.of(group)).all()).get(group).groupState() == GroupState.EMPTY);
            }
            Set<String> listed = get(admin.listGroups(ListGroupsOptions.forConsumerGroups()).all()).stream()
                .map(GroupListing::groupId).collect(Collectors.toSet());
            that(listed.containsAll(groups), "both are listed");
            TopicPartition where = new TopicPartition(topic, 1);
            get(admin.alterConsumerGroupOffsets(groups.get(0), Map.of(where, new OffsetAndMetadata(2))).all());
            Map<String, Map<TopicPartition, OffsetAndMetadata>> offsets = get(admin.listConsumerGroupOffsets(
                Map.of(groups.get(0), new ListConsumerGroupOffsetsSpec(), groups.get(1), new ListConsumerGroupOffsetsSpec())).all());
            equal(offsets.get(groups.get(0)).get(where).offset(), 2L, "altered offset");
            equal(offsets.get(groups.get(1)).get(where).offset(), 5L, "offset of the other group");
            get(admin.deleteConsumerGroups(groups).all());
            fails(GroupIdNotFoundException.class, "deleting it again", () -> get(admin.deleteConsumerGroups(groups).all()));
            fails(GroupIdNotFoundException.class, "describing it", () -> get(admin.describeConsumerGroups(groups).all()));
        }
    }
}
