package conformance;

import static conformance.Harness.that;

import java.net.URI;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import software.amazon.awssdk.auth.credentials.AwsBasicCredentials;
import software.amazon.awssdk.auth.credentials.StaticCredentialsProvider;
import software.amazon.awssdk.awscore.retry.AwsRetryStrategy;
import software.amazon.awssdk.http.urlconnection.UrlConnectionHttpClient;
import software.amazon.awssdk.regions.Region;
import software.amazon.awssdk.services.sqs.SqsClient;
import software.amazon.awssdk.services.sqs.model.Message;
import software.amazon.awssdk.services.sqs.model.MessageSystemAttributeName;
import software.amazon.awssdk.services.sqs.model.QueueAttributeName;
import software.amazon.awssdk.services.sqs.model.SendMessageResponse;
import software.amazon.awssdk.services.sqs.model.SqsException;

/** The broker under test, and how checks call it. */
final class Broker {
    private static final int RECEIVE_MAX = 10;

    final String address;
    final SqsClient sqs;

    Broker(String address) {
        this.address = address;
        this.sqs = client(address, 1);
    }

    /** A client that tries so often. */
    static SqsClient client(String address, int attempts) {
        return SqsClient.builder()
                .endpointOverride(URI.create("http://" + address))
                .region(Region.US_EAST_1)
                .credentialsProvider(StaticCredentialsProvider.create(AwsBasicCredentials.create("test", "test")))
                .httpClient(UrlConnectionHttpClient.create())
                .overrideConfiguration(c -> c.retryStrategy(
                        AwsRetryStrategy.standardRetryStrategy().toBuilder().maxAttempts(attempts).build()))
                .build();
    }

    /** The URL of a new queue with attributes by their names and values in turn. */
    String queue(String... attributes) {
        return named(Harness.unique("java"), attributes);
    }

    String fifo(String... attributes) {
        List<String> all = new ArrayList<>(List.of(attributes));
        all.addAll(List.of("FifoQueue", "true"));
        return named(Harness.unique("java") + ".fifo", all.toArray(String[]::new));
    }

    String named(String name, String... attributes) {
        return sqs.createQueue(b -> b.queueName(name).attributesWithStrings(map(attributes))).queueUrl();
    }

    static Map<String, String> map(String... pairs) {
        Map<String, String> map = new HashMap<>();
        for (int i = 0; i + 1 < pairs.length; i += 2) {
            map.put(pairs[i], pairs[i + 1]);
        }
        return map;
    }

    Map<String, String> attributes(String url) {
        return sqs.getQueueAttributes(b -> b.queueUrl(url).attributeNames(QueueAttributeName.ALL)).attributesAsStrings();
    }

    String arn(String url) {
        return attributes(url).get("QueueArn");
    }

    /** How many messages are ready, in flight and delayed. */
    String counts(String url) {
        Map<String, String> got = attributes(url);
        String name = "ApproximateNumberOfMessages";
        return got.get(name) + " " + got.get(name + "NotVisible") + " " + got.get(name + "Delayed");
    }

    SendMessageResponse send(String url, String body) {
        return sqs.sendMessage(b -> b.queueUrl(url).messageBody(body));
    }

    SendMessageResponse send(String url, String body, String group, String id) {
        return sqs.sendMessage(b -> b.queueUrl(url).messageBody(body).messageGroupId(group).messageDeduplicationId(id));
    }

    /** What is there now, or comes within some seconds. */
    List<Message> receive(String url, int seconds) {
        return receive(url, seconds, RECEIVE_MAX);
    }

    private List<Message> receive(String url, int seconds, int most) {
        return sqs.receiveMessage(b -> b.queueUrl(url).waitTimeSeconds(seconds).maxNumberOfMessages(most)
                .messageAttributeNames("All").messageSystemAttributeNames(MessageSystemAttributeName.ALL)).messages();
    }

    /** The next messages, waited for; they stay in flight. */
    List<Message> take(String url, int n) throws Exception {
        List<Message> taken = new ArrayList<>();
        Harness.until(n + " messages", () -> {
            taken.addAll(receive(url, 1, Math.min(RECEIVE_MAX, n - taken.size())));
            return taken.size() >= n;
        });
        that(taken.size() == n, "more than was asked for");
        return taken;
    }

    Message take(String url) throws Exception {
        return take(url, 1).get(0);
    }

    void delete(String url, Message message) {
        sqs.deleteMessage(b -> b.queueUrl(url).receiptHandle(message.receiptHandle()));
    }

    /** Lets a message be seen again after some seconds. */
    void visible(String url, Message message, int seconds) {
        sqs.changeMessageVisibility(b -> b.queueUrl(url).receiptHandle(message.receiptHandle()).visibilityTimeout(seconds));
    }

    /** Waits until the only message of a queue is visible. */
    void timedOut(String url) throws Exception {
        Harness.until("it is visible again", () -> counts(url).equals("1 0 0"));
    }

    static List<String> bodies(List<Message> messages) {
        return messages.stream().map(Message::body).toList();
    }

    /** Fails unless the call gets an error of this code, which the SDK has no class for. */
    static void refused(String code, Harness.Call call) {
        SqsException error = Harness.fails(SqsException.class, code, call);
        Harness.equal(error.awsErrorDetails().errorCode(), code, error.getMessage());
    }
}
