package conformance;

import static conformance.Harness.fails;
import static conformance.Harness.get;
import static conformance.Harness.that;
import static conformance.Harness.unique;

import java.time.Duration;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.errors.InvalidConfigurationException;
import org.apache.kafka.common.errors.TimeoutException;
import org.apache.kafka.common.errors.UnsupportedVersionException;

/** What Millstream does not have yet is refused in words the Java clients understand. */
final class RefusalChecks {
    private static final String OURS = "millstream";

    private RefusalChecks() {}

    static void register(Harness harness) {
        harness.check("java refusals: initTransactions fails clearly and soon", OURS, RefusalChecks::transactions);
        harness.check("java refusals: compaction and LogAppendTime", OURS, RefusalChecks::configurations);
        harness.check("java refusals: the newer group protocol", OURS, RefusalChecks::newProtocol);
    }

    private static void transactions(Broker broker) {
        long began = System.nanoTime();
        try (KafkaProducer<byte[], byte[]> producer = broker.producer("transactional.id", unique("java-tx"), "max.block.ms", "20000")) {
            producer.initTransactions();
        } catch (KafkaException refused) {
            that(!(refused instanceof TimeoutException), "it timed out: " + refused.getMessage());
            that(System.nanoTime() - began < 15_000_000_000L, "it took as long as a hang");
            return;
        }
        throw new AssertionError("initTransactions went well");
    }

    private static void configurations(Broker broker) throws Exception {
        try (Admin admin = broker.admin()) {
            for (Map<String, String> config : List.of(Map.of("cleanup.policy", "compact"), Map.of("message.timestamp.type", "LogAppendTime"))) {
                fails(InvalidConfigurationException.class, "" + config,
                    () -> get(admin.createTopics(List.of(new NewTopic(unique("java-no"), 1, (short) 1).configs(config))).all()));
            }
        }
    }

    private static void newProtocol(Broker broker) throws Exception {
        String topic = unique("java-848");
        broker.create(topic, 1);
        Map<String, Object> settings = Map.of("bootstrap.servers", broker.bootstrap(), "group.id", unique("java-848"), "group.protocol", "consumer");
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(settings,
                new org.apache.kafka.common.serialization.ByteArrayDeserializer(),
                new org.apache.kafka.common.serialization.ByteArrayDeserializer())) {
            consumer.subscribe(List.of(topic));
            fails(UnsupportedVersionException.class, "subscribing", () -> {
                long deadline = System.nanoTime() + 15_000_000_000L;
                while (System.nanoTime() < deadline) {
                    consumer.poll(Duration.ofMillis(200));
                }
            });
        }
    }
}
