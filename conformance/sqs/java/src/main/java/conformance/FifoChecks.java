package conformance;

import static conformance.Broker.bodies;
import static conformance.Harness.equal;
import static conformance.Broker.refused;
import static conformance.Harness.unique;

import java.util.List;
import software.amazon.awssdk.services.sqs.model.Message;
import software.amazon.awssdk.services.sqs.model.SendMessageResponse;

/** FIFO queues: groups, deduplication, handles. */
final class FifoChecks {
    private static final String OURS = "millstream";

    private FifoChecks() {}

    static void register(Harness harness) {
        harness.check("a group comes in its order, and waits for what is in flight", FifoChecks::order);
        harness.check("what comes back is before the later ones of its group", FifoChecks::back);
        harness.check("a deduplication id is taken once", FifoChecks::once);
        harness.check("the content is the id where the queue says so", FifoChecks::content);
        // ElasticMQ takes it.
        harness.check("a handle whose time is over is refused", OURS, FifoChecks::late);
        // ElasticMQ has another code for the name.
        harness.check("what a FIFO queue needs and what it has not is said", OURS, FifoChecks::wrong);
    }

    private static void order(Broker broker) throws Exception {
        String url = broker.fifo();
        for (String body : List.of("0", "1", "2")) {
            broker.send(url, body, "g", unique("d"));
        }
        Message first = broker.take(url);
        equal(first.body(), "0", "first");
        broker.send(url, "other", "h", unique("d"));
        equal(bodies(broker.receive(url, 0)), List.of("other"), "of another group");
        broker.delete(url, first);
        equal(bodies(broker.take(url, 2)), List.of("1", "2"), "rest");
    }

    private static void back(Broker broker) throws Exception {
        String url = broker.fifo();
        for (String body : List.of("0", "1", "2")) {
            broker.send(url, body, "g", unique("d"));
        }
        broker.visible(url, broker.take(url), 0);
        equal(bodies(broker.take(url, 3)), List.of("0", "1", "2"), "bodies");
    }

    private static void once(Broker broker) throws Exception {
        String url = broker.fifo();
        SendMessageResponse one = broker.send(url, "first", "g", "same");
        SendMessageResponse two = broker.send(url, "second", "g", "same");
        equal(two.messageId() + two.sequenceNumber(), one.messageId() + one.sequenceNumber(), "id and number");
        equal(broker.take(url).body(), "first", "body");
        equal(broker.counts(url), "0 1 0", "counts");
    }

    private static void content(Broker broker) throws Exception {
        String url = broker.fifo("ContentBasedDeduplication", "true");
        for (String body : List.of("a", "b", "a")) {
            broker.sqs.sendMessage(b -> b.queueUrl(url).messageBody(body).messageGroupId("g"));
        }
        equal(bodies(broker.take(url, 2)), List.of("a", "b"), "bodies");
        equal(broker.counts(url), "0 2 0", "counts");
    }

    private static void late(Broker broker) throws Exception {
        String url = broker.fifo("VisibilityTimeout", "1");
        broker.send(url, "x", "g", "d");
        Message message = broker.take(url);
        broker.timedOut(url);
        refused("InvalidParameterValue", () -> broker.delete(url, message));
    }

    private static void wrong(Broker broker) {
        String url = broker.fifo();
        refused("MissingParameter", () -> broker.send(url, "x"));
        refused("InvalidParameterValue", () -> broker.sqs.sendMessage(b -> b.queueUrl(url).messageBody("x").messageGroupId("g")));
        refused("InvalidParameterValue", () -> broker.queue("FifoQueue", "true"));
        equal(broker.counts(url), "0 0 0", "counts");
    }
}
