package conformance;

import static conformance.Broker.bytes;
import static conformance.Broker.string;
import static conformance.Harness.equal;
import static conformance.Harness.fails;
import static conformance.Harness.get;
import static conformance.Harness.that;
import static conformance.Harness.unique;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.Future;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RecordTooLargeException;
import org.apache.kafka.common.errors.TimeoutException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;

/** A public text and odd records through KafkaProducer and KafkaConsumer. */
final class TextChecks {
    private TextChecks() {}

    static void register(Harness harness) {
        for (String compression : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
            harness.check("java: a public text there and back, byte for byte, " + compression, b -> text(b, compression));
        }
        harness.check("java: null keys and values, repeated and null headers, timestamps", TextChecks::oddRecords);
        harness.check("java: acks 0, 1 and all", TextChecks::acks);
        harness.check("java: a record over max.message.bytes is refused, the next one is stored", TextChecks::tooLarge);
        harness.check("java: many small idempotent batches in flight stay in order and single", TextChecks::inFlight);
        harness.check("java: keys choose partitions, readers of all partitions get each record once", TextChecks::spread);
        harness.check("java: an unknown partition is never written to", TextChecks::unknownPartition);
    }

    private static void text(Broker broker, String compression) throws Exception {
        String topic = unique("java-text-" + compression);
        broker.create(topic, 1);
        List<String> lines = Broker.text();
        try (KafkaProducer<byte[], byte[]> producer = broker.producer("compression.type", compression, "linger.ms", "20",
                "acks", "all", "enable.idempotence", "true", "max.in.flight.requests.per.connection", "5")) {
            List<RecordMetadata> sent = broker.send(producer, topic, 0, lines);
            for (int i = 0; i < lines.size(); i++) {
                equal(sent.get(i).offset(), (long) i, "offset acknowledged");
            }
        }
        List<ConsumerRecord<byte[], byte[]>> got = broker.readFrom(topic, 0, 0, lines.size());
        StringBuilder whole = new StringBuilder();
        for (ConsumerRecord<byte[], byte[]> record : got) {
            whole.append(string(record.value())).append('\n');
        }
        that(whole.toString().equals(String.join("\n", lines) + "\n"), "the text differs");
        equal(string(broker.readFrom(topic, 0, 600, lines.size() - 600).get(0).value()), lines.get(600), "line 600");
    }

    private static void oddRecords(Broker broker) throws Exception {
        String topic = unique("java-odd");
        broker.create(topic, 1);
        List<Header> headers = List.of(new RecordHeader("a", bytes("1")), new RecordHeader("a", bytes("2")),
            new RecordHeader("b", (byte[]) null), new RecordHeader("c", new byte[0]));
        byte[] big = new byte[700_000];
        Arrays.fill(big, (byte) 0xEE);
        List<ProducerRecord<byte[], byte[]>> records = List.of(
            new ProducerRecord<>(topic, 0, 5L, null, bytes("no key")),
            new ProducerRecord<>(topic, 0, 1_700_000_000_000L, bytes("tombstone"), (byte[]) null),
            new ProducerRecord<>(topic, 0, 1_600_000_000_000L, (byte[]) null, (byte[]) null),
            new ProducerRecord<>(topic, 0, 1_800_000_000L, new byte[0], new byte[0]),
            new ProducerRecord<>(topic, 0, 7L, bytes("h"), bytes("v"), headers),
            new ProducerRecord<>(topic, 0, 8L, bytes("big"), big));
        try (KafkaProducer<byte[], byte[]> producer = broker.producer("linger.ms", "50", "compression.type", "snappy")) {
            List<Future<RecordMetadata>> futures = new ArrayList<>();
            for (ProducerRecord<byte[], byte[]> record : records) {
                futures.add(producer.send(record));
            }
            for (int i = 0; i < futures.size(); i++) {
                RecordMetadata at = get(futures.get(i));
                equal(at.offset(), (long) i, "offset");
                equal(at.timestamp(), records.get(i).timestamp(), "timestamp acknowledged");
            }
        }
        List<ConsumerRecord<byte[], byte[]>> got = broker.readFrom(topic, 0, 0, records.size());
        for (int i = 0; i < records.size(); i++) {
            that(Arrays.equals(got.get(i).key(), records.get(i).key()), "key " + i);
            that(Arrays.equals(got.get(i).value(), records.get(i).value()), "value " + i);
            equal(got.get(i).timestamp(), records.get(i).timestamp(), "timestamp " + i);
            equal(List.of(got.get(i).headers().toArray()), List.of(records.get(i).headers().toArray()), "headers " + i);
        }
    }

    private static void acks(Broker broker) throws Exception {
        String topic = unique("java-acks");
        broker.create(topic, 1);
        for (String acks : List.of("1", "all", "0")) {
            try (KafkaProducer<byte[], byte[]> producer = broker.producer("acks", acks, "enable.idempotence", "false")) {
                RecordMetadata at = broker.send(producer, topic, 0, List.of(acks)).get(0);
                equal(at.hasOffset(), !acks.equals("0"), "an offset is told, acks " + acks);
            }
        }
        List<ConsumerRecord<byte[], byte[]>> got = broker.readFrom(topic, 0, 0, 3);
        equal(got.stream().map(r -> string(r.value())).toList(), List.of("1", "all", "0"), "values");
    }

    private static void tooLarge(Broker broker) throws Exception {
        String topic = unique("java-large");
        broker.create(topic, 1, "max.message.bytes", "10000");
        try (KafkaProducer<byte[], byte[]> producer = broker.producer("max.request.size", "5000000")) {
            fails(RecordTooLargeException.class, "a large record", () -> broker.send(producer, topic, 0, List.of("x".repeat(20_000))));
            equal(broker.send(producer, topic, 0, List.of("small")).get(0).offset(), 0L, "offset of the small record");
        }
    }

    private static void inFlight(Broker broker) throws Exception {
        String topic = unique("java-in-flight");
        broker.create(topic, 3);
        List<String> values = new ArrayList<>();
        for (int i = 0; i < 2_000; i++) {
            values.add("value " + i);
        }
        try (KafkaProducer<byte[], byte[]> producer = broker.producer("enable.idempotence", "true", "linger.ms", "0", "batch.size", "100",
                "max.in.flight.requests.per.connection", "5", "acks", "all")) {
            List<Future<RecordMetadata>> futures = new ArrayList<>();
            for (int i = 0; i < values.size(); i++) {
                futures.add(producer.send(new ProducerRecord<>(topic, i % 3, null, bytes(values.get(i)))));
            }
            for (int i = 0; i < values.size(); i++) {
                equal(get(futures.get(i)).offset(), (long) (i / 3), "offset");
            }
        }
        try (KafkaConsumer<byte[], byte[]> consumer = broker.consumer(null)) {
            List<TopicPartition> all = List.of(new TopicPartition(topic, 0), new TopicPartition(topic, 1), new TopicPartition(topic, 2));
            consumer.assign(all);
            consumer.seekToBeginning(all);
            for (ConsumerRecord<byte[], byte[]> record : Broker.read(consumer, values.size())) {
                equal(string(record.value()), values.get((int) record.offset() * 3 + record.partition()), "value");
            }
            equal(consumer.endOffsets(all).values().stream().mapToLong(Long::longValue).sum(), 2_000L, "records in the topic");
        }
    }

    private static void spread(Broker broker) throws Exception {
        String topic = unique("java-spread");
        broker.create(topic, 5);
        List<String> lines = Broker.text();
        try (KafkaProducer<byte[], byte[]> producer = broker.producer("linger.ms", "5")) {
            List<Future<RecordMetadata>> futures = new ArrayList<>();
            for (int i = 0; i < lines.size(); i++) {
                futures.add(producer.send(new ProducerRecord<>(topic, bytes("" + i % 50), bytes(i + ":" + lines.get(i)))));
            }
            for (Future<RecordMetadata> future : futures) {
                get(future);
            }
        }
        try (KafkaConsumer<byte[], byte[]> consumer = broker.consumer(unique("java-spread"))) {
            consumer.subscribe(List.of(topic));
            String[] got = new String[lines.size()];
            int[] last = new int[50];
            Arrays.fill(last, -1);
            for (ConsumerRecord<byte[], byte[]> record : Broker.read(consumer, lines.size())) {
                String value = string(record.value());
                int number = Integer.parseInt(value.substring(0, value.indexOf(':')));
                int key = Integer.parseInt(string(record.key()));
                that(number > last[key], "order of key " + key);
                last[key] = number;
                got[number] = value.substring(value.indexOf(':') + 1);
            }
            equal(Arrays.asList(got), lines, "text");
        }
    }

    private static void unknownPartition(Broker broker) throws Exception {
        String topic = unique("java-unknown");
        broker.create(topic, 1);
        try (KafkaProducer<byte[], byte[]> producer = broker.producer("max.block.ms", "1500")) {
            fails(TimeoutException.class, "partition 9", () -> broker.send(producer, topic, 9, List.of("x")));
        }
    }
}
