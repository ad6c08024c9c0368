package conformance;

import static conformance.Harness.equal;
import static conformance.Harness.fails;
import static conformance.Broker.refused;
import static conformance.Harness.that;
import static conformance.Harness.unique;
import static conformance.Harness.until;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import software.amazon.awssdk.services.sqs.model.ListMessageMoveTasksResultEntry;
import software.amazon.awssdk.services.sqs.model.Message;
import software.amazon.awssdk.services.sqs.model.PurgeQueueInProgressException;
import software.amazon.awssdk.services.sqs.model.QueueAttributeName;
import software.amazon.awssdk.services.sqs.model.QueueDeletedRecentlyException;
import software.amazon.awssdk.services.sqs.model.QueueDoesNotExistException;
import software.amazon.awssdk.services.sqs.model.QueueNameExistsException;
import software.amazon.awssdk.services.sqs.model.ResourceNotFoundException;

/** Queues: making, finding, listing in pages, tags, dead letters. */
final class QueueChecks {
    private static final String OURS = "millstream";

    private QueueChecks() {}

    private static String[] redrive(String arn, int times) {
        return new String[] {"RedrivePolicy", "{\"deadLetterTargetArn\":\"" + arn + "\",\"maxReceiveCount\":\"" + times + "\"}"};
    }

    static void register(Harness harness) {
        harness.check("a queue is made, found by its name, described and deleted", QueueChecks::made);
        harness.check("a queue with other attributes exists already", QueueChecks::exists);
        // ElasticMQ gives all in one page.
        harness.check("the paginator of queues gives each once", OURS, QueueChecks::pages);
        harness.check("the paginator of dead-letter sources gives each once", OURS, QueueChecks::sources);
        harness.check("what was received too often goes to the dead letters", QueueChecks::dead);
        // ElasticMQ forgets tasks that are over.
        harness.check("dead letters go back by a task", OURS, QueueChecks::back);
        harness.check("tags are set, listed and removed", QueueChecks::tags);
        // ElasticMQ lets both be done at once.
        harness.check("a second purge, and a queue of a name just deleted, have to wait", OURS, QueueChecks::soon);
        // ElasticMQ takes attributes that it does not know.
        harness.check("attributes that cannot be are refused", OURS, QueueChecks::attributes);
    }

    private static void made(Broker broker) {
        String name = unique("made");
        String url = broker.named(name, "VisibilityTimeout", "7");
        equal(broker.sqs.getQueueUrl(b -> b.queueName(name)).queueUrl(), url, "URL");
        equal(broker.attributes(url).get("VisibilityTimeout"), "7", "timeout");
        broker.sqs.setQueueAttributes(b -> b.queueUrl(url).attributes(Map.of(QueueAttributeName.DELAY_SECONDS, "3")));
        equal(broker.attributes(url).get("DelaySeconds"), "3", "delay");
        broker.sqs.deleteQueue(b -> b.queueUrl(url));
        fails(QueueDoesNotExistException.class, () -> broker.sqs.getQueueUrl(b -> b.queueName(name)));
    }

    private static void exists(Broker broker) {
        String name = unique("again");
        String url = broker.named(name, "VisibilityTimeout", "40");
        equal(broker.named(name, "VisibilityTimeout", "40"), url, "URL");
        fails(QueueNameExistsException.class, () -> broker.named(name, "VisibilityTimeout", "41"));
    }

    private static void pages(Broker broker) {
        String prefix = unique("page");
        List<String> made = new ArrayList<>();
        for (int n = 0; n < 5; n++) {
            made.add(broker.named(prefix + "-" + n));
        }
        var pages = broker.sqs.listQueuesPaginator(b -> b.queueNamePrefix(prefix).maxResults(2));
        equal(pages.queueUrls().stream().toList(), made, "URLs");
        equal(pages.stream().map(page -> page.queueUrls().size()).toList(), List.of(2, 2, 1), "sizes");
    }

    private static void sources(Broker broker) {
        String dead = broker.queue();
        String arn = broker.arn(dead);
        List<String> made = new ArrayList<>();
        for (int n = 0; n < 3; n++) {
            made.add(broker.queue(redrive(arn, 3)));
        }
        var pages = broker.sqs.listDeadLetterSourceQueuesPaginator(b -> b.queueUrl(dead).maxResults(2));
        equal(pages.queueUrls().stream().sorted().toList(), made.stream().sorted().toList(), "URLs");
        equal(pages.stream().map(page -> page.queueUrls().size()).toList(), List.of(2, 1), "sizes");
    }

    /** A queue whose one message died, and where it is. */
    private record Grave(String url, String dead, String id) {
        static Grave of(Broker broker) throws Exception {
            String dead = broker.queue();
            String url = broker.queue(redrive(broker.arn(dead), 1));
            String id = broker.send(url, "poison").messageId();
            broker.visible(url, broker.take(url), 0);
            until("it is dead", () -> broker.receive(url, 0).isEmpty() && broker.counts(dead).equals("1 0 0"));
            return new Grave(url, dead, id);
        }
    }

    private static void dead(Broker broker) throws Exception {
        Grave grave = Grave.of(broker);
        Message got = broker.take(grave.dead);
        equal(got.body() + got.messageId(), "poison" + grave.id, "dead letter");
    }

    private static void back(Broker broker) throws Exception {
        Grave grave = Grave.of(broker);
        String arn = broker.arn(grave.dead);
        String handle = broker.sqs.startMessageMoveTask(b -> b.sourceArn(arn)).taskHandle();
        equal(broker.take(grave.url).messageId(), grave.id, "id");
        until("the task is over", () -> {
            ListMessageMoveTasksResultEntry task = broker.sqs.listMessageMoveTasks(b -> b.sourceArn(arn)).results().get(0);
            return task.status().equals("COMPLETED") && task.approximateNumberOfMessagesMoved() == 1;
        });
        refused("InvalidParameterValue", () -> broker.sqs.cancelMessageMoveTask(b -> b.taskHandle(handle)));
        fails(ResourceNotFoundException.class, () -> broker.sqs.cancelMessageMoveTask(b -> b.taskHandle("nobody")));
    }

    private static void tags(Broker broker) {
        String url = broker.queue();
        broker.sqs.tagQueue(b -> b.queueUrl(url).tags(Map.of("team", "red", "env", "test")));
        broker.sqs.untagQueue(b -> b.queueUrl(url).tagKeys("env", "absent"));
        equal(broker.sqs.listQueueTags(b -> b.queueUrl(url)).tags(), Map.of("team", "red"), "tags");
    }

    private static void soon(Broker broker) {
        String name = unique("soon");
        String url = broker.named(name);
        broker.send(url, "x");
        broker.sqs.purgeQueue(b -> b.queueUrl(url));
        equal(broker.counts(url), "0 0 0", "counts");
        fails(PurgeQueueInProgressException.class, () -> broker.sqs.purgeQueue(b -> b.queueUrl(url)));
        broker.sqs.deleteQueue(b -> b.queueUrl(url));
        fails(QueueDeletedRecentlyException.class, () -> broker.named(name));
    }

    private static void attributes(Broker broker) {
        refused("InvalidAttributeName", () -> broker.queue("Colour", "red"));
        refused("InvalidAttributeValue", () -> broker.queue("DelaySeconds", "901"));
        refused("InvalidParameterValue", () -> broker.named("a b"));
        String url = broker.queue();
        refused("InvalidAttributeName",
                () -> broker.sqs.getQueueAttributes(b -> b.queueUrl(url).attributeNamesWithStrings("Colour")));
        that(broker.attributes(url).containsKey("CreatedTimestamp"), "no time of creation");
    }
}
