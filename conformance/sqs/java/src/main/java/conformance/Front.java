package conformance;

import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.util.Set;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.atomic.AtomicInteger;

/** A server before the broker that passes every request on; a check may give another answer than the broker's. */
final class Front implements AutoCloseable {
    /** What is answered instead. */
    record Reply(int status, String body) {}

    /** What is answered to the request of a number, from 1; null for what the broker said. */
    interface Answer {
        Reply to(int number, byte[] body);
    }

    /** Headers that are each connection's own. */
    private static final Set<String> OWN = Set.of("host", "connection", "content-length", "expect", "upgrade");

    private final String broker;
    private final Answer answer;
    private final HttpServer server;
    private final ExecutorService threads = Executors.newCachedThreadPool();
    private final HttpClient onward = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
    private final AtomicInteger requests = new AtomicInteger();

    Front(String broker, Answer answer) throws IOException {
        this.broker = broker;
        this.answer = answer;
        server = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0);
        server.createContext("/", this::pass);
        server.setExecutor(threads);
        server.start();
    }

    String address() {
        return "127.0.0.1:" + server.getAddress().getPort();
    }

    int requests() {
        return requests.get();
    }

    private void pass(HttpExchange exchange) throws IOException {
        int number = requests.incrementAndGet();
        HttpRequest.Builder request = HttpRequest.newBuilder(URI.create("http://" + broker + exchange.getRequestURI()))
                .POST(HttpRequest.BodyPublishers.ofByteArray(exchange.getRequestBody().readAllBytes()));
        exchange.getRequestHeaders().forEach((name, values) -> {
            if (!OWN.contains(name.toLowerCase())) {
                values.forEach(value -> request.header(name, value));
            }
        });
        HttpResponse<byte[]> got;
        try {
            got = onward.send(request.build(), HttpResponse.BodyHandlers.ofByteArray());
        } catch (InterruptedException interrupted) {
            throw new IOException(interrupted);
        }
        Reply other = answer.to(number, got.body());
        byte[] body = other == null ? got.body() : other.body.getBytes(StandardCharsets.UTF_8);
        got.headers().firstValue("content-type").ifPresent(type -> exchange.getResponseHeaders().set("Content-Type", type));
        exchange.sendResponseHeaders(other == null ? got.statusCode() : other.status, body.length == 0 ? -1 : body.length);
        exchange.getResponseBody().write(body);
        exchange.close();
    }

    @Override
    public void close() {
        server.stop(0);
        threads.shutdownNow();
    }
}
