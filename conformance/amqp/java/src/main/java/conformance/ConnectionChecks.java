package conformance;

import static conformance.Broker.publish;
import static conformance.Broker.queue;
import static conformance.Broker.text;
import static conformance.Harness.equal;
import static conformance.Harness.that;
import static conformance.Harness.unique;
import static conformance.Harness.until;

import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.AuthenticationFailureException;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import com.rabbitmq.client.Delivery;
import com.rabbitmq.client.Recoverable;
import com.rabbitmq.client.RecoverableConnection;
import com.rabbitmq.client.RecoveryListener;
import com.rabbitmq.client.RpcClient;
import com.rabbitmq.client.RpcClientParams;
import com.rabbitmq.client.RpcServer;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;

/** Automatic recovery over a broken network, calls with direct reply-to, credentials. */
final class ConnectionChecks {
    private ConnectionChecks() {}

    static void register(Harness harness) {
        harness.check("after a break the client recovers its queues, bindings and consumers", ConnectionChecks::recovery);
        harness.check("what was unacknowledged at a break comes again, marked", ConnectionChecks::redelivered);
        harness.check("RpcClient calls with direct reply-to", ConnectionChecks::calls);
        harness.check("a wrong password is an AuthenticationFailureException", ConnectionChecks::wrongPassword);
        harness.check("the server's properties name its capabilities", ConnectionChecks::capabilities);
    }

    /** A recovering connection through the proxy, and a count of its recoveries. */
    private static RecoverableConnection recovering(Proxy proxy, AtomicInteger recoveries) throws Exception {
        ConnectionFactory factory = new ConnectionFactory();
        factory.setHost("127.0.0.1");
        factory.setPort(proxy.port());
        factory.setNetworkRecoveryInterval(50);
        RecoverableConnection connection = (RecoverableConnection) factory.newConnection();
        connection.addRecoveryListener(new RecoveryListener() {
            @Override public void handleRecovery(Recoverable recovered) {
                recoveries.incrementAndGet();
            }

            @Override public void handleRecoveryStarted(Recoverable recovered) {}
        });
        return connection;
    }

    private static void recovery(Broker broker) throws Exception {
        AtomicInteger recoveries = new AtomicInteger();
        try (Proxy proxy = new Proxy(broker); RecoverableConnection connection = recovering(proxy, recoveries)) {
            Channel channel = connection.createChannel();
            String exchange = unique("java-recovered");
            channel.exchangeDeclare(exchange, "topic", false, true, null);
            String mine = channel.queueDeclare().getQueue(); // exclusive, named by the server: it goes with the connection
            channel.queueBind(mine, exchange, "a.*");
            BlockingQueue<String> got = new LinkedBlockingQueue<>();
            channel.basicConsume(mine, true, (tag, delivery) -> got.add(text(delivery.getBody())), tag -> {});
            for (int round = 0; round < 3; round++) {
                channel.basicPublish(exchange, "a.b", null, ("round " + round).getBytes(StandardCharsets.UTF_8));
                equal(got.poll(20, TimeUnit.SECONDS), "round " + round, "what came");
                int before = recoveries.get();
                proxy.cut();
                until("it has recovered", () -> recoveries.get() > before);
            }
        }
    }

    private static void redelivered(Broker broker) throws Exception {
        AtomicInteger recoveries = new AtomicInteger();
        try (Proxy proxy = new Proxy(broker); RecoverableConnection connection = recovering(proxy, recoveries)) {
            Channel channel = connection.createChannel();
            String queue = queue(channel, "java-redelivered", null);
            channel.basicQos(2);
            BlockingQueue<Delivery> got = new LinkedBlockingQueue<>();
            channel.basicConsume(queue, false, (tag, delivery) -> got.add(delivery), tag -> {});
            for (int n = 0; n < 2; n++) {
                publish(channel, queue, "" + n);
            }
            for (int n = 0; n < 2; n++) {
                that(got.poll(20, TimeUnit.SECONDS) != null, "a delivery");
            }
            proxy.cut();
            for (int n = 0; n < 2; n++) {
                Delivery delivery = got.poll(20, TimeUnit.SECONDS);
                that(delivery != null, "a delivery after the break");
                equal(text(delivery.getBody()) + delivery.getEnvelope().isRedeliver(), n + "true", "delivery");
                channel.basicAck(delivery.getEnvelope().getDeliveryTag(), false);
            }
            channel.queueDelete(queue);
        }
    }

    private static void calls(Broker broker) throws Exception {
        try (Connection connection = broker.connect(); Connection other = broker.connect()) {
            Channel serving = other.createChannel();
            String queue = queue(serving, "java-rpc", null);
            RpcServer server = new RpcServer(serving, queue) {
                @Override public byte[] handleCall(Delivery request, AMQP.BasicProperties properties) {
                    return ("answer to " + text(request.getBody())).getBytes(StandardCharsets.UTF_8);
                }
            };
            Thread loop = new Thread(() -> {
                try {
                    server.mainloop();
                } catch (Exception closed) {
                    // the end
                }
            });
            loop.setDaemon(true);
            loop.start();
            RpcClientParams parameters = new RpcClientParams().channel(connection.createChannel()).exchange("").routingKey(queue).timeout(20_000);
            RpcClient client = new RpcClient(parameters);
            for (int n = 0; n < 20; n++) {
                equal(client.stringCall("" + n), "answer to " + n, "answer");
            }
            client.close();
            server.terminateMainloop();
            connection.createChannel().queueDelete(queue);
        }
    }

    private static void wrongPassword(Broker broker) {
        ConnectionFactory factory = broker.factory();
        factory.setPassword("wrong");
        Harness.fails(AuthenticationFailureException.class, "a wrong password", factory::newConnection);
    }

    private static void capabilities(Broker broker) throws Exception {
        try (Connection connection = broker.connect()) {
            Object named = connection.getServerProperties().get("capabilities");
            for (String capability : new String[] {"publisher_confirms", "basic.nack", "consumer_cancel_notify", "exchange_exchange_bindings",
                "authentication_failure_close", "per_consumer_qos", "direct_reply_to", "consumer_priorities", "connection.blocked"}) {
                equal(((java.util.Map<?, ?>) named).get(capability), true, capability);
            }
        }
    }
}
