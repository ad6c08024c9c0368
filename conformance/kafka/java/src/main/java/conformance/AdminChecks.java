package conformance;

import static conformance.Harness.equal;
import static conformance.Harness.fails;
import static conformance.Harness.get;
import static conformance.Harness.that;
import static conformance.Harness.unique;
import static conformance.Harness.until;

import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.AlterConfigOp.OpType;
import org.apache.kafka.clients.admin.AlterConfigsOptions;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ConfigEntry.ConfigSource;
import org.apache.kafka.clients.admin.CreateTopicsOptions;
import org.apache.kafka.clients.admin.CreateTopicsResult;
import org.apache.kafka.clients.admin.DescribeClusterResult;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.common.TopicCollection;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.InvalidConfigurationException;
import org.apache.kafka.common.errors.InvalidPartitionsException;
import org.apache.kafka.common.errors.InvalidReplicationFactorException;
import org.apache.kafka.common.errors.InvalidTopicException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.UnknownTopicIdException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;

/** Topics and configuration through Java's Admin. */
final class AdminChecks {
    private AdminChecks() {}

    static void register(Harness harness) {
        harness.check("java admin: create tells id, partitions and configuration; list, describe, delete", AdminChecks::life);
        harness.check("java admin: describe and delete by topic id, unknown ids", AdminChecks::byId);
        harness.check("java admin: errors of creation", AdminChecks::creationErrors);
        harness.check("java admin: partitions are added", AdminChecks::partitions);
        harness.check("java admin: configuration is described and altered", AdminChecks::configuration);
        harness.check("java admin: the cluster", AdminChecks::cluster);
    }

    private static NewTopic topic(String name, int partitions, int replicas) {
        return new NewTopic(name, partitions, (short) replicas);
    }

    private static void gone(Admin admin, String name) throws Exception {
        until("the topic is gone", () -> !get(admin.listTopics().names()).contains(name));
    }

    private static void life(Broker broker) throws Exception {
        String name = unique("java-life");
        try (Admin admin = broker.admin()) {
            CreateTopicsResult created = admin.createTopics(List.of(topic(name, 3, 1).configs(Map.of("retention.ms", "77000"))));
            get(created.all());
            equal(get(created.numPartitions(name)), 3, "partitions told at creation");
            equal(get(created.replicationFactor(name)), 1, "replication factor told at creation");
            equal(get(created.config(name)).get("retention.ms").value(), "77000", "configuration told at creation");
            Uuid id = get(created.topicId(name));
            that(!id.equals(Uuid.ZERO_UUID), "an id is told at creation");
            until("it is listed", () -> get(admin.listTopics().names()).contains(name));
            equal(get(admin.listTopics().namesToListings()).get(name).topicId(), id, "id in the list");
            TopicDescription found = get(admin.describeTopics(List.of(name)).allTopicNames()).get(name);
            equal(found.partitions().size(), 3, "partitions");
            equal(found.topicId(), id, "id in the description");
            that(found.partitions().stream().allMatch(p -> p.leader() != null && p.replicas().size() == 1 && p.isr().size() == 1), "leaders");
            get(admin.deleteTopics(List.of(name)).all());
            gone(admin, name);
            fails(UnknownTopicOrPartitionException.class, "describing it", () -> get(admin.describeTopics(List.of(name)).allTopicNames()));
            fails(UnknownTopicOrPartitionException.class, "deleting it again", () -> get(admin.deleteTopics(List.of(name)).all()));
            CreateTopicsResult again = admin.createTopics(List.of(topic(name, 1, 1)));
            that(!get(again.topicId(name)).equals(id), "made again it has another id");
        }
    }

    private static void byId(Broker broker) throws Exception {
        String name = unique("java-by-id");
        broker.create(name, 2);
        try (Admin admin = broker.admin()) {
            Uuid id = get(admin.describeTopics(List.of(name)).allTopicNames()).get(name).topicId();
            TopicDescription found = get(admin.describeTopics(TopicCollection.ofTopicIds(List.of(id))).allTopicIds()).get(id);
            equal(found.name(), name, "name by id");
            equal(found.partitions().size(), 2, "partitions by id");
            Uuid stranger = Uuid.randomUuid();
            fails(UnknownTopicIdException.class, "describing an unknown id",
                () -> get(admin.describeTopics(TopicCollection.ofTopicIds(List.of(stranger))).allTopicIds()));
            fails(UnknownTopicIdException.class, "deleting an unknown id",
                () -> get(admin.deleteTopics(TopicCollection.ofTopicIds(List.of(stranger))).all()));
            get(admin.deleteTopics(TopicCollection.ofTopicIds(List.of(id))).all());
            gone(admin, name);
        }
    }

    private static void creationErrors(Broker broker) throws Exception {
        String name = unique("java-errors");
        broker.create(name, 1);
        try (Admin admin = broker.admin()) {
            fails(TopicExistsException.class, "an existing name", () -> get(admin.createTopics(List.of(topic(name, 1, 1))).all()));
            for (String bad : List.of("a b", "a/b", "..", "x".repeat(250))) {
                fails(InvalidTopicException.class, "the name " + bad, () -> get(admin.createTopics(List.of(topic(bad, 1, 1))).all()));
            }
            fails(InvalidPartitionsException.class, "no partitions", () -> get(admin.createTopics(List.of(topic(unique("zero"), 0, 1))).all()));
            fails(InvalidReplicationFactorException.class, "three replicas",
                () -> get(admin.createTopics(List.of(topic(unique("three"), 1, 3))).all()));
            fails(InvalidConfigurationException.class, "an unknown setting",
                () -> get(admin.createTopics(List.of(topic(unique("config"), 1, 1).configs(Map.of("no.such", "1")))).all()));
            // one bad topic does not spoil the others of its request
            String good = unique("java-good");
            CreateTopicsResult mixed = admin.createTopics(List.of(topic(good, 1, 1), topic("bad name", 1, 1)));
            get(mixed.values().get(good));
            fails(InvalidTopicException.class, "the bad one of two", () -> get(mixed.values().get("bad name")));
            String validated = unique("java-validated");
            get(admin.createTopics(List.of(topic(validated, 4, 1)), new CreateTopicsOptions().validateOnly(true)).all());
            that(!get(admin.listTopics().names()).contains(validated), "validate only created it");
            String defaults = unique("java-defaults");
            CreateTopicsResult made = admin.createTopics(List.of(new NewTopic(defaults, Optional.empty(), Optional.empty())));
            that(get(made.numPartitions(defaults)) >= 1, "default partitions");
        }
    }

    private static void partitions(Broker broker) throws Exception {
        String name = unique("java-grow");
        broker.create(name, 2);
        try (Admin admin = broker.admin()) {
            get(admin.createPartitions(Map.of(name, NewPartitions.increaseTo(6))).all());
            until("six partitions", () -> get(admin.describeTopics(List.of(name)).allTopicNames()).get(name).partitions().size() == 6);
            fails(InvalidPartitionsException.class, "fewer", () -> get(admin.createPartitions(Map.of(name, NewPartitions.increaseTo(2))).all()));
            fails(UnknownTopicOrPartitionException.class, "of an unknown topic",
                () -> get(admin.createPartitions(Map.of(unique("unknown"), NewPartitions.increaseTo(2))).all()));
        }
    }

    private static void configuration(Broker broker) throws Exception {
        String name = unique("java-config");
        broker.create(name, 1, "retention.bytes", "9999999");
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, name);
        try (Admin admin = broker.admin()) {
            Config before = get(admin.describeConfigs(List.of(resource)).all()).get(resource);
            equal(before.get("retention.bytes").value(), "9999999", "retention.bytes");
            equal(before.get("retention.bytes").source(), ConfigSource.DYNAMIC_TOPIC_CONFIG, "source of what was set");
            that(before.get("retention.ms").isDefault(), "retention.ms is a default");
            equal(before.get("cleanup.policy").value(), "delete", "cleanup.policy");
            equal(before.get("retention.ms").type(), ConfigEntry.ConfigType.LONG, "type of retention.ms");
            get(alter(admin, resource, false, op("retention.ms", "123000", OpType.SET), op("retention.bytes", "", OpType.DELETE)));
            until("the change", () -> {
                Config after = get(admin.describeConfigs(List.of(resource)).all()).get(resource);
                return after.get("retention.ms").value().equals("123000") && after.get("retention.bytes").value().equals("-1");
            });
            get(alter(admin, resource, true, op("retention.ms", "5", OpType.SET)));
            fails(InvalidConfigurationException.class, "an unknown setting",
                () -> get(alter(admin, resource, false, op("no.such", "1", OpType.SET))));
            fails(InvalidConfigurationException.class, "a bad value",
                () -> get(alter(admin, resource, false, op("retention.ms", "never", OpType.SET))));
            equal(get(admin.describeConfigs(List.of(resource)).all()).get(resource).get("retention.ms").value(), "123000", "after refusals");
            ConfigResource unknown = new ConfigResource(ConfigResource.Type.TOPIC, unique("unknown"));
            fails(UnknownTopicOrPartitionException.class, "an unknown topic", () -> get(admin.describeConfigs(List.of(unknown)).all()));
        }
    }

    private static AlterConfigOp op(String name, String value, OpType type) {
        return new AlterConfigOp(new ConfigEntry(name, value), type);
    }

    private static java.util.concurrent.Future<Void> alter(Admin admin, ConfigResource resource, boolean validateOnly, AlterConfigOp... ops) {
        return admin.incrementalAlterConfigs(Map.of(resource, List.of(ops)), new AlterConfigsOptions().validateOnly(validateOnly)).all();
    }

    private static void cluster(Broker broker) throws Exception {
        try (Admin admin = broker.admin()) {
            DescribeClusterResult found = admin.describeCluster();
            equal(get(found.nodes()).size(), 1, "nodes");
            equal(get(found.nodes()).iterator().next().host() + ":" + get(found.nodes()).iterator().next().port(), broker.bootstrap(), "address");
            that(get(found.controller()) != null, "a controller");
            that(!get(found.clusterId()).isEmpty(), "a cluster id");
        }
    }
}
