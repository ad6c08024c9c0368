package conformance;

import static conformance.Broker.get;
import static conformance.Broker.publish;
import static conformance.Broker.queue;
import static conformance.Broker.refused;
import static conformance.Broker.text;
import static conformance.Harness.equal;
import static conformance.Harness.that;
import static conformance.Harness.unique;
import static conformance.Harness.until;

import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.DefaultConsumer;
import com.rabbitmq.client.Delivery;
import com.rabbitmq.client.GetResponse;
import com.rabbitmq.client.LongString;
import com.rabbitmq.client.ShutdownSignalException;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

/** Confirms, returns, consumers, dead letters, transactions, refusals: as the client's users write them. */
final class ChannelChecks {
    private ChannelChecks() {}

    static void register(Harness harness) {
        harness.check("waitForConfirms tells of all, and waitForConfirmsOrDie dies of a nack", ChannelChecks::waitForConfirms);
        harness.check("confirm listeners hear of each message once", ChannelChecks::listeners);
        harness.check("a returned message is heard of before its confirm", ChannelChecks::returned);
        harness.check("basicRecover gives back to whoever consumes", ChannelChecks::recover);
        harness.check("a consumer hears handleCancel when its queue goes, and handleCancelOk when it is cancelled", ChannelChecks::cancel);
        harness.check("basicQos holds for each consumer, and globally for the channel", ChannelChecks::qos);
        harness.check("dead letters have Java's types", ChannelChecks::dead);
        harness.check("a transaction is committed, and rolled back", ChannelChecks::transactions);
        harness.check("refusals have their codes, and close only their channel", ChannelChecks::refusals);
        harness.check("counts of messages and consumers", ChannelChecks::counts);
        harness.check("bodies and headers come back", ChannelChecks::contents);
    }

    private static void waitForConfirms(Broker broker) throws Exception {
        try (Connection connection = broker.connect(); Channel channel = connection.createChannel()) {
            channel.confirmSelect();
            String all = queue(channel, "java-confirms", null);
            for (int n = 0; n < 500; n++) {
                publish(channel, all, "" + n);
            }
            that(channel.waitForConfirms(20_000), "all are acks");
            equal(channel.messageCount(all), 500L, "messages");
            String full = queue(channel, "java-full", Map.of("x-max-length", 1, "x-overflow", "reject-publish"));
            publish(channel, full, "first");
            channel.waitForConfirmsOrDie(20_000);
            publish(channel, full, "second");
            that(!channel.waitForConfirms(20_000), "the second is refused");
            channel.queueDelete(all);
            channel.queueDelete(full);
        }
    }

    private static void listeners(Broker broker) throws Exception {
        try (Connection connection = broker.connect(); Channel channel = connection.createChannel()) {
            channel.confirmSelect();
            String queue = queue(channel, "java-listeners", null);
            List<Long> confirmed = new CopyOnWriteArrayList<>();
            long[] low = {1};
            channel.addConfirmListener((tag, multiple) -> {
                for (long n = multiple ? low[0] : tag; n <= tag; n++) {
                    confirmed.add(n);
                }
                low[0] = Math.max(low[0], tag + 1);
            }, (tag, multiple) -> confirmed.add(-tag));
            for (int n = 1; n <= 200; n++) {
                equal(channel.getNextPublishSeqNo(), (long) n, "number");
                publish(channel, queue, "" + n);
            }
            until("all are confirmed", () -> confirmed.size() >= 200);
            equal(confirmed.stream().sorted().distinct().filter(n -> n > 0).count(), 200L, "confirms");
            channel.queueDelete(queue);
        }
    }

    private static void returned(Broker broker) throws Exception {
        try (Connection connection = broker.connect(); Channel channel = connection.createChannel()) {
            channel.confirmSelect();
            List<String> heard = new CopyOnWriteArrayList<>();
            channel.addReturnListener(message -> heard.add("return " + message.getReplyCode() + " " + message.getReplyText()));
            channel.addConfirmListener((tag, multiple) -> heard.add("ack"), (tag, multiple) -> heard.add("nack"));
            channel.basicPublish("amq.direct", unique("nowhere"), true, null, new byte[1]);
            until("both are heard", () -> heard.size() == 2);
            equal(heard, List.of("return 312 NO_ROUTE", "ack"), "heard");
        }
    }

    private static void recover(Broker broker) throws Exception {
        try (Connection keeper = broker.connect(); Channel keeping = keeper.createChannel()) {
            Channel channel = broker.connect().createChannel(); // the last refusal closes its connection
            String queue = queue(keeping, "java-recover", null);
            for (int n = 0; n < 3; n++) {
                publish(channel, queue, "" + n);
            }
            BlockingQueue<Delivery> got = new LinkedBlockingQueue<>();
            channel.basicConsume(queue, false, (tag, delivery) -> got.add(delivery), tag -> {});
            for (int round = 0; round < 2; round++) {
                for (int n = 0; n < 3; n++) {
                    Delivery delivery = got.poll(20, TimeUnit.SECONDS);
                    that(delivery != null, "a delivery");
                    equal(text(delivery.getBody()) + delivery.getEnvelope().isRedeliver(), "" + n + (round == 1), "delivery");
                }
                if (round == 0) {
                    channel.basicRecover(true);
                }
            }
            refused(540, () -> channel.basicRecover(false));
            keeping.queueDelete(queue);
        }
    }

    private static void cancel(Broker broker) throws Exception {
        try (Connection connection = broker.connect(); Channel channel = connection.createChannel(); Channel other = connection.createChannel()) {
            String queue = queue(channel, "java-cancel", null);
            BlockingQueue<String> heard = new LinkedBlockingQueue<>();
            DefaultConsumer consumer = new DefaultConsumer(channel) {
                @Override public void handleCancel(String tag) {
                    heard.add("cancel " + tag);
                }

                @Override public void handleCancelOk(String tag) {
                    heard.add("ok " + tag);
                }
            };
            channel.basicConsume(queue, false, "first", consumer);
            channel.basicCancel("first");
            equal(heard.poll(20, TimeUnit.SECONDS), "ok first", "heard");
            channel.basicConsume(queue, false, "second", consumer);
            other.queueDelete(queue);
            equal(heard.poll(20, TimeUnit.SECONDS), "cancel second", "heard");
        }
    }

    private static void qos(Broker broker) throws Exception {
        for (boolean global : new boolean[] {false, true}) {
            try (Connection connection = broker.connect(); Channel channel = connection.createChannel()) {
                String queue = queue(channel, "java-qos", null);
                for (int n = 0; n < 10; n++) {
                    publish(channel, queue, "" + n);
                }
                channel.basicQos(2, global);
                List<Long> tags = new CopyOnWriteArrayList<>();
                for (int n = 0; n < 2; n++) {
                    channel.basicConsume(queue, false, (tag, delivery) -> tags.add(delivery.getEnvelope().getDeliveryTag()), tag -> {});
                }
                int most = global ? 2 : 4;
                until(most + " come", () -> tags.size() == most);
                Thread.sleep(300); // tidy: pacing
                equal(tags.size(), most, "deliveries");
                channel.basicAck(tags.get(0), false);
                until("one more comes", () -> tags.size() == most + 1);
                channel.queueDelete(queue);
            }
        }
    }

    @SuppressWarnings("unchecked")
    private static void dead(Broker broker) throws Exception {
        try (Connection connection = broker.connect(); Channel channel = connection.createChannel()) {
            String graves = queue(channel, "java-dead", null);
            String queue = queue(channel, "java-mortal", Map.of("x-dead-letter-exchange", "", "x-dead-letter-routing-key", graves));
            publish(channel, queue, "x");
            channel.basicNack(get(channel, queue).getEnvelope().getDeliveryTag(), false, false);
            Map<String, Object> headers = get(channel, graves).getProps().getHeaders();
            Map<String, Object> death = ((List<Map<String, Object>>) headers.get("x-death")).get(0);
            equal(death.get("reason") instanceof LongString, true, "the reason is text");
            equal(death.get("reason").toString() + death.get("queue") + death.get("count"), "rejected" + queue + 1L, "death");
            that(death.get("time") instanceof java.util.Date, "the time is a date");
            equal(headers.get("x-first-death-reason").toString(), "rejected", "the first reason");
            channel.queueDelete(queue);
            channel.queueDelete(graves);
        }
    }

    private static void transactions(Broker broker) throws Exception {
        try (Connection connection = broker.connect(); Channel channel = connection.createChannel()) {
            String queue = queue(channel, "java-tx", null);
            Channel tx = connection.createChannel();
            tx.txSelect();
            publish(tx, queue, "rolled back");
            tx.txRollback();
            publish(tx, queue, "committed");
            that(channel.basicGet(queue, true) == null, "nothing before the commit");
            tx.txCommit();
            GetResponse got = get(tx, queue);
            equal(text(got.getBody()), "committed", "body");
            tx.basicAck(got.getEnvelope().getDeliveryTag(), false);
            tx.txCommit();
            tx.close();
            equal(channel.messageCount(queue), 0L, "left");
            channel.queueDelete(queue);
        }
    }

    private static void refusals(Broker broker) throws Exception {
        try (Connection connection = broker.connect(); Channel stays = connection.createChannel()) {
            String queue = queue(stays, "java-refusals", null);
            refused(404, () -> connection.createChannel().queueDeclarePassive(unique("absent")));
            refused(404, () -> connection.createChannel().basicConsume(unique("absent"), new DefaultConsumer(stays)));
            refused(406, () -> connection.createChannel().queueDeclare(queue, false, false, false, null));
            refused(406, () -> connection.createChannel().exchangeDeclare("amq.direct", "fanout", true));
            refused(403, () -> connection.createChannel().exchangeDelete("amq.direct"));
            refused(403, () -> connection.createChannel().queueDeclare("amq.mine", false, false, false, null));
            try (Connection other = broker.connect()) {
                String mine = other.createChannel().queueDeclare().getQueue();
                refused(405, () -> connection.createChannel().basicGet(mine, true));
            }
            CompletableFuture<Integer> code = new CompletableFuture<>();
            Channel wrong = connection.createChannel();
            wrong.addShutdownListener(why -> code.complete(Broker.code(why)));
            wrong.basicAck(99, false);
            equal(Harness.get(code), 406, "an unknown tag");
            that(stays.isOpen() && connection.isOpen(), "the others stay open");
            stays.queueDelete(queue);
            Channel taken = connection.createChannel();
            String own = taken.queueDeclare().getQueue();
            taken.basicConsume(own, true, "taken", new DefaultConsumer(taken));
            refused(530, () -> taken.basicConsume(own, true, "taken", new DefaultConsumer(taken)));
            until("the connection is closed", () -> !connection.isOpen());
        } catch (ShutdownSignalException closed) {
            equal(Broker.code(closed), 530, "what closed it");
        }
    }

    private static void counts(Broker broker) throws Exception {
        try (Connection connection = broker.connect(); Channel channel = connection.createChannel()) {
            channel.confirmSelect();
            String queue = queue(channel, "java-counts", null);
            publish(channel, queue, "x");
            publish(channel, queue, "y");
            channel.waitForConfirmsOrDie(20_000);
            equal(channel.messageCount(queue), 2L, "messages");
            channel.basicQos(1);
            channel.basicConsume(queue, false, (tag, delivery) -> {}, tag -> {});
            equal(channel.consumerCount(queue), 1L, "consumers");
            until("one is out", () -> channel.messageCount(queue) == 1);
            equal(channel.queuePurge(queue).getMessageCount(), 1, "purged");
            equal(channel.queueDelete(queue).getMessageCount(), 0, "deleted with it");
        }
    }

    private static void contents(Broker broker) throws Exception {
        try (Connection connection = broker.connect(); Channel channel = connection.createChannel()) {
            String queue = queue(channel, "java-contents", null);
            Map<String, Object> headers = Map.of("int", 5, "long", 6L, "short", (short) 7, "byte", (byte) 8, "double", 1.5, "yes", true,
                "list", List.of(1, 2), "date", new java.util.Date(1_700_000_000_000L), "bytes", new byte[] {0, -1}, "big", new java.math.BigDecimal("12.34"));
            for (int size : new int[] {0, 1, 131_064, 3_000_000}) {
                byte[] body = new byte[size];
                java.util.Arrays.fill(body, (byte) size);
                channel.basicPublish("", queue, new AMQP.BasicProperties.Builder().headers(headers).messageId("m").build(), body);
                GetResponse got = get(channel, queue);
                that(java.util.Arrays.equals(got.getBody(), body), "a body of " + size + " bytes");
                for (Map.Entry<String, Object> header : headers.entrySet()) {
                    Object value = got.getProps().getHeaders().get(header.getKey());
                    boolean same = value instanceof byte[] bytes ? java.util.Arrays.equals(bytes, (byte[]) header.getValue()) : header.getValue().equals(value);
                    that(same, header.getKey() + " came back as " + value);
                }
            }
            channel.queueDelete(queue);
        }
    }
}
