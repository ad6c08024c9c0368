package conformance;

import static conformance.Broker.bodies;
import static conformance.Harness.equal;
import static conformance.Harness.fails;
import static conformance.Broker.refused;
import static conformance.Harness.that;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.CompletableFuture;
import java.util.stream.IntStream;
import software.amazon.awssdk.core.SdkBytes;
import software.amazon.awssdk.services.sqs.model.BatchEntryIdsNotDistinctException;
import software.amazon.awssdk.services.sqs.model.BatchRequestTooLongException;
import software.amazon.awssdk.services.sqs.model.BatchResultErrorEntry;
import software.amazon.awssdk.services.sqs.model.ChangeMessageVisibilityBatchRequestEntry;
import software.amazon.awssdk.services.sqs.model.DeleteMessageBatchRequestEntry;
import software.amazon.awssdk.services.sqs.model.EmptyBatchRequestException;
import software.amazon.awssdk.services.sqs.model.InvalidBatchEntryIdException;
import software.amazon.awssdk.services.sqs.model.InvalidMessageContentsException;
import software.amazon.awssdk.services.sqs.model.Message;
import software.amazon.awssdk.services.sqs.model.MessageAttributeValue;
import software.amazon.awssdk.services.sqs.model.MessageNotInflightException;
import software.amazon.awssdk.services.sqs.model.ReceiptHandleIsInvalidException;
import software.amazon.awssdk.services.sqs.model.SendMessageBatchRequestEntry;
import software.amazon.awssdk.services.sqs.model.TooManyEntriesInBatchRequestException;

/** Messages: what is sent comes so, batches, waiting, visibility. The SDK compares the digests of bodies and attributes itself. */
final class MessageChecks {
    private static final String OURS = "millstream";

    private MessageChecks() {}

    static void register(Harness harness) {
        harness.check("bodies come as they were sent, with the digests that the SDK compares", MessageChecks::texts);
        harness.check("attributes of every type come as they were sent, with their digest", MessageChecks::attributes);
        // ElasticMQ: InvalidAttributeValue for all.
        harness.check("of a batch the entries fail one by one", OURS, MessageChecks::partly);
        harness.check("a batch is sent, put off and deleted as a whole", MessageChecks::batch);
        harness.check("batches with ids twice or too many entries are errors of their own classes", MessageChecks::badBatches);
        // ElasticMQ takes an empty batch, and has another code for one that is too long.
        harness.check("batches that are empty, too long or name their entries wrongly are errors of their own classes", OURS, MessageChecks::worseBatches);
        harness.check("a waiting receive gets what is sent meanwhile", MessageChecks::waiting);
        harness.check("a receive that waits in vain gives an empty list", broker -> equal(broker.receive(broker.queue(), 1), List.of(), "messages"));
        harness.check("a message comes again when its time is over, and counts its receives", MessageChecks::again);
        harness.check("visibility is lengthened and ended by the handle", MessageChecks::visibility);
        harness.check("a handle of a message that nobody took since still deletes it", MessageChecks::late);
        // ElasticMQ has other codes.
        harness.check("a handle from before another receive deletes nothing", OURS, MessageChecks::stale);
        harness.check("what cannot be is an error of its own class", OURS, MessageChecks::wrong);
    }

    private static MessageAttributeValue text(String type, String value) {
        return MessageAttributeValue.builder().dataType(type).stringValue(value).build();
    }

    private static MessageAttributeValue bytes(String type, byte[] value) {
        return MessageAttributeValue.builder().dataType(type).binaryValue(SdkBytes.fromByteArray(value)).build();
    }

    /** An attribute of every type. */
    private static Map<String, MessageAttributeValue> kinds() {
        byte[] every = new byte[256];
        for (int i = 0; i < every.length; i++) {
            every[i] = (byte) i;
        }
        return Map.of(
                "text", text("String", "a <&> \"b\" \u00e9\u4e16\ud83d\ude00\n\ttab"),
                "labelled", text("String.mine", "x"),
                "number", text("Number", "12345678901234567890.5"),
                "float", text("Number.float", "1.50"),
                "bytes", bytes("Binary", every),
                "picture", bytes("Binary.png", new byte[] {(byte) 0x89, 'P', 'N', 'G'}));
    }

    /** The digest of attributes as AWS documents it. */
    private static String digest(Map<String, MessageAttributeValue> attributes) throws Exception {
        MessageDigest hash = MessageDigest.getInstance("MD5");
        for (var entry : new TreeMap<>(attributes).entrySet()) {
            MessageAttributeValue value = entry.getValue();
            part(hash, entry.getKey().getBytes(StandardCharsets.UTF_8));
            part(hash, value.dataType().getBytes(StandardCharsets.UTF_8));
            boolean textual = value.stringValue() != null;
            hash.update((byte) (textual ? 1 : 2));
            part(hash, textual ? value.stringValue().getBytes(StandardCharsets.UTF_8) : value.binaryValue().asByteArray());
        }
        return HexFormat.of().formatHex(hash.digest());
    }

    private static void part(MessageDigest hash, byte[] bytes) {
        hash.update(ByteBuffer.allocate(4).putInt(bytes.length).array());
        hash.update(bytes);
    }

    private static List<SendMessageBatchRequestEntry> entries(int n, String body) {
        return IntStream.range(0, n).mapToObj(i -> entry("" + i, body)).toList();
    }

    private static SendMessageBatchRequestEntry entry(String id, String body) {
        return SendMessageBatchRequestEntry.builder().id(id).messageBody(body).build();
    }

    private static void texts(Broker broker) throws Exception {
        String url = broker.queue();
        for (String body : List.of("plain", "a <&> \"b\" 'c'", "\u00e9\u4e16\ud83d\ude00\n\t", "{\"json\": [1, \"\\u0041\"]}", " ", "x".repeat(200_000))) {
            String id = broker.send(url, body).messageId();
            Message got = broker.take(url);
            equal(got.body() + got.messageId(), body + id, "message");
            broker.delete(url, got);
        }
    }

    private static void attributes(Broker broker) throws Exception {
        String url = broker.queue();
        String sent = broker.sqs.sendMessage(b -> b.queueUrl(url).messageBody("x").messageAttributes(kinds())).md5OfMessageAttributes();
        Message got = broker.take(url);
        equal(got.messageAttributes(), kinds(), "attributes");
        equal(List.of(sent, got.md5OfMessageAttributes()), List.of(digest(kinds()), digest(kinds())), "digests");
    }

    private static void partly(Broker broker) throws Exception {
        String url = broker.queue();
        var all = List.of(entry("good", "x"), entry("late", "x").toBuilder().delaySeconds(901).build(), entry("bad", "a\u0000b"));
        var sent = broker.sqs.sendMessageBatch(b -> b.queueUrl(url).entries(all));
        equal(sent.successful().stream().map(e -> e.id()).toList(), List.of("good"), "sent");
        equal(sent.failed().stream().map(MessageChecks::told).toList(),
                List.of("late InvalidParameterValue true", "bad InvalidMessageContents true"), "not sent");
        String handle = broker.take(url).receiptHandle();
        var deleted = broker.sqs.deleteMessageBatch(b -> b.queueUrl(url).entries(
                DeleteMessageBatchRequestEntry.builder().id("a").receiptHandle(handle).build(),
                DeleteMessageBatchRequestEntry.builder().id("b").receiptHandle("nobody").build()));
        equal(deleted.successful().stream().map(e -> e.id()).toList(), List.of("a"), "deleted");
        equal(deleted.failed().stream().map(MessageChecks::told).toList(), List.of("b ReceiptHandleIsInvalid true"), "not deleted");
    }

    private static String told(BatchResultErrorEntry entry) {
        return entry.id() + " " + entry.code() + " " + entry.senderFault();
    }

    private static void batch(Broker broker) throws Exception {
        String url = broker.queue();
        that(broker.sqs.sendMessageBatch(b -> b.queueUrl(url).entries(entries(10, "x"))).successful().size() == 10, "not all were sent");
        List<ChangeMessageVisibilityBatchRequestEntry> off = new ArrayList<>();
        List<DeleteMessageBatchRequestEntry> gone = new ArrayList<>();
        for (Message message : broker.take(url, 10)) {
            String id = "" + off.size();
            off.add(ChangeMessageVisibilityBatchRequestEntry.builder().id(id).receiptHandle(message.receiptHandle()).visibilityTimeout(60).build());
            gone.add(DeleteMessageBatchRequestEntry.builder().id(id).receiptHandle(message.receiptHandle()).build());
        }
        equal(broker.sqs.changeMessageVisibilityBatch(b -> b.queueUrl(url).entries(off)).successful().size(), 10, "put off");
        equal(broker.sqs.deleteMessageBatch(b -> b.queueUrl(url).entries(gone)).successful().size(), 10, "deleted");
        equal(broker.counts(url), "0 0 0", "counts");
    }

    private static void send(Broker broker, String url, List<SendMessageBatchRequestEntry> entries) {
        broker.sqs.sendMessageBatch(b -> b.queueUrl(url).entries(entries));
    }

    private static void badBatches(Broker broker) {
        String url = broker.queue();
        fails(TooManyEntriesInBatchRequestException.class, () -> send(broker, url, entries(11, "x")));
        fails(BatchEntryIdsNotDistinctException.class, () -> send(broker, url, List.of(entry("a", "x"), entry("a", "x"))));
        equal(broker.counts(url), "0 0 0", "counts");
    }

    private static void worseBatches(Broker broker) {
        String url = broker.queue();
        fails(EmptyBatchRequestException.class, () -> send(broker, url, List.of()));
        fails(InvalidBatchEntryIdException.class, () -> send(broker, url, List.of(entry("a b", "x"))));
        fails(BatchRequestTooLongException.class, () -> send(broker, url, entries(10, "x".repeat(110_000))));
        equal(broker.counts(url), "0 0 0", "counts");
    }

    private static void waiting(Broker broker) {
        String url = broker.queue();
        var sent = CompletableFuture.runAsync(() -> broker.send(url, "x"));
        equal(bodies(broker.receive(url, 15)), List.of("x"), "bodies");
        sent.join();
    }

    private static void again(Broker broker) throws Exception {
        String url = broker.queue("VisibilityTimeout", "1");
        broker.send(url, "x");
        for (String times : List.of("1", "2")) {
            equal(broker.take(url).attributesAsStrings().get("ApproximateReceiveCount"), times, "receives");
        }
    }

    private static void visibility(Broker broker) throws Exception {
        String url = broker.queue("VisibilityTimeout", "1");
        broker.send(url, "x");
        Message message = broker.take(url);
        broker.visible(url, message, 60);
        equal(broker.receive(url, 2), List.of(), "messages");
        broker.visible(url, message, 0);
        broker.take(url);
    }

    private static void late(Broker broker) throws Exception {
        String url = broker.queue("VisibilityTimeout", "1");
        broker.send(url, "x");
        Message message = broker.take(url);
        broker.timedOut(url);
        broker.delete(url, message);
        equal(broker.counts(url), "0 0 0", "counts");
    }

    private static void stale(Broker broker) throws Exception {
        String url = broker.queue("VisibilityTimeout", "1");
        broker.send(url, "x");
        Message old = broker.take(url);
        broker.timedOut(url);
        fails(MessageNotInflightException.class, () -> broker.visible(url, old, 9));
        Message message = broker.take(url);
        broker.visible(url, message, 60);
        broker.delete(url, old);
        equal(broker.counts(url), "0 1 0", "counts");
        broker.delete(url, message);
        equal(broker.counts(url), "0 0 0", "counts");
    }

    private static void wrong(Broker broker) throws Exception {
        String url = broker.queue();
        broker.send(url, "x");
        Message message = broker.take(url);
        Message nobody = Message.builder().receiptHandle("nobody").build();
        fails(ReceiptHandleIsInvalidException.class, () -> broker.delete(url, nobody));
        fails(InvalidMessageContentsException.class, () -> broker.send(url, "a\u0000b"));
        refused("InvalidParameterValue", () -> broker.visible(url, message, 43_201));
        refused("InvalidParameterValue", () -> broker.sqs.receiveMessage(b -> b.queueUrl(url).maxNumberOfMessages(11)));
        refused("MissingParameter", () -> broker.send(url, ""));
    }
}
