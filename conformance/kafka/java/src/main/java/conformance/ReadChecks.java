package conformance;

import static conformance.Broker.bytes;
import static conformance.Broker.string;
import static conformance.Harness.equal;
import static conformance.Harness.fails;
import static conformance.Harness.get;
import static conformance.Harness.that;
import static conformance.Harness.unique;

import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.Future;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ListOffsetsResult.ListOffsetsResultInfo;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.consumer.CloseOptions;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.NoOffsetForPartitionException;
import org.apache.kafka.clients.consumer.OffsetAndTimestamp;
import org.apache.kafka.clients.consumer.OffsetOutOfRangeException;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;

/** Positions, times, limits and incremental fetch sessions of KafkaConsumer. */
final class ReadChecks {
    private static final long BASE = 1_700_000_000_000L;

    private ReadChecks() {}

    static void register(Harness harness) {
        harness.check("java: seek, position, beginning and end offsets, out of range", ReadChecks::positions);
        for (String compression : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
            harness.check("java: offsets for times inside a batch, " + compression, b -> times(b, compression));
        }
        harness.check("java: a hundred partitions in one incremental fetch session", ReadChecks::sessions);
        harness.check("java: fetch limits smaller than a batch still make progress", ReadChecks::limits);
        harness.check("java: a waiting consumer is woken by a produce", ReadChecks::woken);
    }

    private static void positions(Broker broker) throws Exception {
        String topic = unique("java-positions");
        broker.create(topic, 1);
        TopicPartition where = new TopicPartition(topic, 0);
        List<TopicPartition> one = List.of(where);
        try (KafkaProducer<byte[], byte[]> producer = broker.producer();
                KafkaConsumer<byte[], byte[]> consumer = broker.consumer(null, "auto.offset.reset", "none")) {
            List<String> values = new ArrayList<>();
            for (int i = 0; i < 50; i++) {
                values.add("" + i);
            }
            broker.send(producer, topic, 0, values);
            consumer.assign(one);
            equal(consumer.beginningOffsets(one), Map.of(where, 0L), "beginning");
            equal(consumer.endOffsets(one), Map.of(where, 50L), "end");
            consumer.seek(where, 45);
            equal(Broker.read(consumer, 5).stream().map(ConsumerRecord::offset).toList(), List.of(45L, 46L, 47L, 48L, 49L), "after seek");
            equal(consumer.position(where), 50L, "position");
            equal(consumer.currentLag(where).orElse(-1), 0L, "lag");
            consumer.seekToBeginning(one);
            equal(consumer.position(where), 0L, "position at the beginning");
            consumer.seek(where, 5_000);
            fails(OffsetOutOfRangeException.class, "beyond the end", () -> Broker.read(consumer, 1));
        }
        try (KafkaConsumer<byte[], byte[]> consumer = broker.consumer(unique("java-positions"), "auto.offset.reset", "none")) {
            consumer.assign(one);
            fails(NoOffsetForPartitionException.class, "no committed offset", () -> Broker.read(consumer, 1));
        }
        try (KafkaConsumer<byte[], byte[]> consumer = broker.consumer(null)) {
            consumer.assign(one);
            consumer.seek(where, 5_000);
            equal(Broker.read(consumer, 50).get(0).offset(), 0L, "reset to the earliest");
        }
    }

    private static void times(Broker broker, String compression) throws Exception {
        String topic = unique("java-times");
        broker.create(topic, 1, "retention.ms", "-1");
        TopicPartition where = new TopicPartition(topic, 0);
        try (KafkaProducer<byte[], byte[]> producer = broker.producer("compression.type", compression, "linger.ms", "50")) {
            List<Future<RecordMetadata>> futures = new ArrayList<>();
            for (int i = 0; i < 60; i++) {
                futures.add(producer.send(new ProducerRecord<>(topic, 0, BASE + 1_000L * i, null, bytes("" + i))));
            }
            for (Future<RecordMetadata> future : futures) {
                get(future);
            }
        }
        try (KafkaConsumer<byte[], byte[]> consumer = broker.consumer(null)) {
            for (int i : new int[] {0, 1, 29, 59}) {
                OffsetAndTimestamp found = consumer.offsetsForTimes(Map.of(where, BASE + 1_000L * i - 999)).get(where);
                equal(found.offset(), (long) i, "offset at or after the time of record " + i);
                equal(found.timestamp(), BASE + 1_000L * i, "its timestamp");
            }
            equal(consumer.offsetsForTimes(Map.of(where, BASE + 100_000)).get(where), null, "past the end");
        }
        try (Admin admin = broker.admin()) {
            Map<OffsetSpec, Long> want = Map.of(OffsetSpec.earliest(), 0L, OffsetSpec.latest(), 60L, OffsetSpec.maxTimestamp(), 59L,
                OffsetSpec.forTimestamp(BASE + 30_500), 31L, OffsetSpec.forTimestamp(BASE + 100_000), -1L);
            for (Map.Entry<OffsetSpec, Long> entry : want.entrySet()) {
                ListOffsetsResultInfo info = get(admin.listOffsets(Map.of(where, entry.getKey())).partitionResult(where));
                equal(info.offset(), entry.getValue(), entry.getKey().getClass().getSimpleName());
            }
        }
    }

    private static void sessions(Broker broker) throws Exception {
        String topic = unique("java-sessions");
        int count = 100;
        broker.create(topic, count);
        List<TopicPartition> all = new ArrayList<>();
        for (int p = 0; p < count; p++) {
            all.add(new TopicPartition(topic, p));
        }
        Map<TopicPartition, Long> next = new HashMap<>();
        try (KafkaProducer<byte[], byte[]> producer = broker.producer();
                KafkaConsumer<byte[], byte[]> consumer = broker.consumer(null, "max.poll.records", "37")) {
            consumer.assign(all);
            consumer.seekToBeginning(all);
            for (int round = 0; round < 6; round++) {
                // one partition in (round + 1) changes: an incremental fetch names only those
                Set<String> want = new HashSet<>();
                for (int p = 0; p < count; p += round + 1) {
                    producer.send(new ProducerRecord<>(topic, p, null, bytes(round + "/" + p)));
                    want.add(round + "/" + p);
                }
                producer.flush();
                Set<String> got = new HashSet<>();
                for (ConsumerRecord<byte[], byte[]> record : Broker.read(consumer, want.size())) {
                    got.add(string(record.value()));
                    TopicPartition where = new TopicPartition(topic, record.partition());
                    equal(record.offset(), next.getOrDefault(where, 0L), "next offset of partition " + record.partition());
                    next.put(where, record.offset() + 1);
                }
                equal(got, want, "records of round " + round);
            }
            // paused partitions leave the session and come back
            List<TopicPartition> half = all.subList(0, 50);
            consumer.pause(half);
            for (int p = 0; p < count; p++) {
                producer.send(new ProducerRecord<>(topic, p, null, bytes("paused")));
            }
            producer.flush();
            that(Broker.read(consumer, 50).stream().allMatch(r -> r.partition() >= 50), "only partitions that are not paused");
            consumer.resume(half);
            that(Broker.read(consumer, 50).stream().allMatch(r -> r.partition() < 50), "the resumed partitions");
            // a smaller assignment forgets the others
            consumer.assign(Collections.singletonList(all.get(99)));
            consumer.seek(all.get(99), 0);
            that(Broker.read(consumer, (int) (long) next.get(all.get(99)) + 1).stream().allMatch(r -> r.partition() == 99), "only partition 99");
        }
    }

    private static void limits(Broker broker) throws Exception {
        String topic = unique("java-limits");
        broker.create(topic, 3);
        try (KafkaProducer<byte[], byte[]> producer = broker.producer("batch.size", "0");
                KafkaConsumer<byte[], byte[]> consumer = broker.consumer(unique("java-limits"), "fetch.max.bytes", "1000",
                    "max.partition.fetch.bytes", "500", "fetch.max.wait.ms", "100")) {
            for (int p = 0; p < 3; p++) {
                broker.send(producer, topic, p, List.of("a".repeat(20_000), "b".repeat(40_000), "c".repeat(10)));
            }
            consumer.subscribe(List.of(topic));
            long bytes = Broker.read(consumer, 9).stream().mapToLong(r -> r.value().length).sum();
            equal(bytes, 3 * 60_010L, "bytes read");
        }
    }

    private static void woken(Broker broker) throws Exception {
        String topic = unique("java-woken");
        broker.create(topic, 10);
        KafkaConsumer<byte[], byte[]> consumer = broker.consumer(null, "fetch.max.wait.ms", "25000", "request.timeout.ms", "60000");
        try (KafkaProducer<byte[], byte[]> producer = broker.producer()) {
            List<TopicPartition> all = new ArrayList<>();
            for (int p = 0; p < 10; p++) {
                all.add(new TopicPartition(topic, p));
            }
            consumer.assign(all);
            consumer.seekToEnd(all);
            that(consumer.poll(Duration.ofMillis(500)).isEmpty(), "nothing yet");
            long began = System.nanoTime();
            broker.send(producer, topic, 7, List.of("wake"));
            equal(Broker.read(consumer, 1).get(0).partition(), 7, "partition");
            that(System.nanoTime() - began < 15_000_000_000L, "it came before the wait was over");
        } finally {
            consumer.close(CloseOptions.timeout(Duration.ZERO)); // the next fetch is waiting already
        }
    }
}
