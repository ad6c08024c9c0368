package conformance;

import static conformance.Harness.equal;
import static conformance.Harness.fails;
import static conformance.Harness.that;
import static conformance.Harness.unique;

import java.nio.charset.StandardCharsets;
import java.util.Map;
import software.amazon.awssdk.core.exception.SdkClientException;
import software.amazon.awssdk.services.sqs.SqsClient;
import software.amazon.awssdk.services.sqs.model.QueueDoesNotExistException;

/** How the SDK calls: where to, again after which answers, and what it finds out by digests. */
final class CallingChecks {
    private static final String FAULT = "{\"__type\":\"com.amazonaws.sqs#InternalError\",\"message\":\"told by the check\"}";
    private static final String THROTTLED = "{\"__type\":\"com.amazonaws.sqs#RequestThrottled\",\"message\":\"told by the check\"}";

    private CallingChecks() {}

    static void register(Harness harness) {
        harness.check("a call is repeated after a fault and a throttling, and its message is there once", CallingChecks::repeated);
        harness.check("a body changed on its way is found out by its digest", CallingChecks::forged);
        harness.check("an endpoint is called whatever host the URL names", CallingChecks::elsewhere);
        // ElasticMQ gives no request id.
        harness.check("an error has its class, the code of the Query form, status and request id", "millstream", CallingChecks::error);
    }

    private static void repeated(Broker broker) throws Exception {
        String url = broker.fifo();
        Map<Integer, Front.Reply> replies = Map.of(1, new Front.Reply(500, FAULT), 2, new Front.Reply(400, THROTTLED));
        try (Front front = new Front(broker.address, (number, body) -> replies.get(number)); SqsClient sqs = Broker.client(front.address(), 4)) {
            String id = sqs.sendMessage(b -> b.queueUrl(url).messageBody("x").messageGroupId("g").messageDeduplicationId("d")).messageId();
            equal(front.requests(), 3, "requests");
            equal(broker.take(url).messageId(), id, "id");
            equal(broker.counts(url), "0 1 0", "counts");
        }
    }

    private static void forged(Broker broker) throws Exception {
        String url = broker.queue();
        broker.send(url, "honest");
        Front.Answer answer = (number, body) ->
                new Front.Reply(200, new String(body, StandardCharsets.UTF_8).replace("honest", "forged"));
        try (Front front = new Front(broker.address, answer); SqsClient sqs = Broker.client(front.address(), 1)) {
            SdkClientException error = fails(SdkClientException.class, () -> sqs.receiveMessage(b -> b.queueUrl(url).waitTimeSeconds(5)));
            that(error.getMessage().contains("MD5"), error.getMessage());
        }
    }

    private static void elsewhere(Broker broker) throws Exception {
        String url = broker.queue();
        broker.send("http://127.0.0.1:1/" + url.split("/", 4)[3], "x");
        broker.take(url);
    }

    private static void error(Broker broker) {
        QueueDoesNotExistException error =
                fails(QueueDoesNotExistException.class, () -> broker.sqs.getQueueUrl(b -> b.queueName(unique("none"))));
        equal(error.awsErrorDetails().errorCode() + " " + error.statusCode(), "AWS.SimpleQueueService.NonExistentQueue 400", "error");
        that(error.requestId() != null && !error.requestId().isEmpty(), "no request id");
    }
}
