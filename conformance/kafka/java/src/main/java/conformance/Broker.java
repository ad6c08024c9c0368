package conformance;

import static conformance.Harness.get;
import static conformance.Harness.that;
import static conformance.Harness.until;

import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Future;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.Consumer;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** The broker under check, and clients for it. */
record Broker(String bootstrap) {
    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    static String string(byte[] data) {
        return data == null ? null : new String(data, StandardCharsets.UTF_8);
    }

    /** The public text's lines, each without its line feed. */
    static List<String> text() throws Exception {
        String folder = System.getenv().getOrDefault("CONFORMANCE_DATA", "../data");
        String text = Files.readString(Path.of(folder, "opticks.txt"));
        that(text.endsWith("\n"), "the text ends with a line feed");
        return List.of(text.substring(0, text.length() - 1).split("\n", -1));
    }

    private Map<String, Object> settings(String... more) {
        Map<String, Object> settings = new HashMap<>();
        settings.put("bootstrap.servers", bootstrap);
        settings.put("enable.metrics.push", "false");
        for (int i = 0; i + 1 < more.length; i += 2) {
            settings.put(more[i], more[i + 1]);
        }
        return settings;
    }

    Admin admin() {
        return Admin.create(settings("default.api.timeout.ms", "30000"));
    }

    KafkaProducer<byte[], byte[]> producer(String... more) {
        return new KafkaProducer<>(settings(more), new ByteArraySerializer(), new ByteArraySerializer());
    }

    KafkaConsumer<byte[], byte[]> consumer(String group, String... more) {
        Map<String, Object> settings = settings("auto.offset.reset", "earliest", "enable.auto.commit", "false",
            "session.timeout.ms", "6000", "heartbeat.interval.ms", "300", "group.protocol", "classic", "metadata.max.age.ms", "2000");
        if (group != null) {
            settings.put("group.id", group);
        }
        settings.putAll(settings(more));
        return new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    /** Creates the topic and waits until every partition answers. */
    void create(String topic, int partitions, String... configs) throws Exception {
        Map<String, String> map = new HashMap<>();
        for (int i = 0; i + 1 < configs.length; i += 2) {
            map.put(configs[i], configs[i + 1]);
        }
        try (Admin admin = admin()) {
            get(admin.createTopics(List.of(new NewTopic(topic, partitions, (short) 1).configs(map))).all());
            until("metadata of " + topic, () -> {
                try {
                    return get(admin.describeTopics(List.of(topic)).allTopicNames()).get(topic).partitions().stream()
                        .filter(p -> p.leader() != null).count() == partitions;
                } catch (org.apache.kafka.common.errors.UnknownTopicOrPartitionException early) {
                    return false;
                }
            });
        }
    }

    /** Sends values to one partition and returns what was acknowledged, in order. */
    List<RecordMetadata> send(KafkaProducer<byte[], byte[]> producer, String topic, int partition, List<String> values) throws Exception {
        List<Future<RecordMetadata>> futures = new ArrayList<>();
        for (String value : values) {
            futures.add(producer.send(new ProducerRecord<>(topic, partition, null, bytes(value))));
        }
        List<RecordMetadata> acknowledged = new ArrayList<>();
        for (Future<RecordMetadata> future : futures) {
            acknowledged.add(get(future));
        }
        return acknowledged;
    }

    /** Polls until `count` records came. */
    static List<ConsumerRecord<byte[], byte[]>> read(Consumer<byte[], byte[]> consumer, int count) {
        List<ConsumerRecord<byte[], byte[]>> records = new ArrayList<>();
        long deadline = System.nanoTime() + 30_000_000_000L;
        while (records.size() < count) {
            consumer.poll(Duration.ofMillis(200)).forEach(records::add);
            that(System.nanoTime() < deadline, "read " + records.size() + " of " + count + " records in 30 s");
        }
        that(records.size() == count, "read " + records.size() + " records, want " + count);
        return records;
    }

    /** The values from an offset of one partition. */
    List<ConsumerRecord<byte[], byte[]>> readFrom(String topic, int partition, long offset, int count) {
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(null)) {
            TopicPartition where = new TopicPartition(topic, partition);
            consumer.assign(List.of(where));
            consumer.seek(where, offset);
            return read(consumer, count);
        }
    }
}
