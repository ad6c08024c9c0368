package conformance;

import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import com.rabbitmq.client.GetResponse;
import com.rabbitmq.client.MessageProperties;
import com.rabbitmq.client.ShutdownSignalException;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/** The broker under test: connections to it, queues, and what checks do with both. */
final class Broker {
    final String host;
    final int port;

    Broker(String bootstrap) {
        int colon = bootstrap.lastIndexOf(':');
        host = bootstrap.substring(0, colon);
        port = Integer.parseInt(bootstrap.substring(colon + 1));
    }

    ConnectionFactory factory() {
        ConnectionFactory factory = new ConnectionFactory();
        factory.setHost(host);
        factory.setPort(port);
        factory.setAutomaticRecoveryEnabled(false);
        return factory;
    }

    Connection connect() throws Exception {
        return factory().newConnection();
    }

    /** A durable queue of a new name. */
    static String queue(Channel channel, String prefix, Map<String, Object> arguments) throws IOException {
        return channel.queueDeclare(Harness.unique(prefix), true, false, false, arguments).getQueue();
    }

    static void publish(Channel channel, String queue, String body) throws IOException {
        channel.basicPublish("", queue, MessageProperties.PERSISTENT_BASIC, body.getBytes(StandardCharsets.UTF_8));
    }

    /** The next message, waited for; unacknowledged. */
    static GetResponse get(Channel channel, String queue) throws Exception {
        List<GetResponse> got = new ArrayList<>();
        Harness.until("a message in " + queue, () -> {
            GetResponse message = channel.basicGet(queue, false);
            return message != null && got.add(message);
        });
        return got.get(0);
    }

    static String text(byte[] body) {
        return new String(body, StandardCharsets.UTF_8);
    }

    /** Fails unless the broker closes the channel or connection with this code. */
    static void refused(int code, Harness.Call call) {
        try {
            call.run();
        } catch (Exception error) {
            for (Throwable cause = error; cause != null; cause = cause.getCause()) {
                if (cause instanceof ShutdownSignalException shutdown) {
                    Harness.equal(code(shutdown), code, "reply code");
                    return;
                }
            }
            throw new AssertionError("refused by " + error, error);
        }
        throw new AssertionError("not refused with " + code);
    }

    static int code(ShutdownSignalException why) {
        if (why.getReason() instanceof com.rabbitmq.client.AMQP.Channel.Close close) {
            return close.getReplyCode();
        }
        return ((com.rabbitmq.client.AMQP.Connection.Close) why.getReason()).getReplyCode();
    }
}
