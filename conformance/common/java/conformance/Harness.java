package conformance;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.UUID;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

/** Runs named checks side by side and prints one line for each; holds what checks say with. */
final class Harness {
    private static final long CHECK_MILLIS_MAX = 90_000;

    interface Body {
        void run(Broker broker) throws Exception;
    }

    interface Call {
        void run() throws Exception;
    }

    interface Condition {
        boolean holds() throws Exception;
    }

    private record Check(String name, String peer, Body body) {}

    private record Outcome(String name, String failure, long millis) {}

    private final Broker broker;
    private final String peer;
    private final List<Check> checks = new ArrayList<>();

    Harness(Broker broker, String peer) {
        this.broker = broker;
        this.peer = peer;
    }

    void check(String name, Body body) {
        checks.add(new Check(name, null, body));
    }

    /** A check for one peer only. */
    void check(String name, String onlyPeer, Body body) {
        checks.add(new Check(name, onlyPeer, body));
    }

    int run(String only, int jobs) throws InterruptedException {
        ConcurrentLinkedQueue<Check> todo = new ConcurrentLinkedQueue<>();
        for (Check check : checks) {
            if (check.name.contains(only) && (check.peer == null || check.peer.equals(peer))) {
                todo.add(check);
            }
        }
        int total = todo.size();
        BlockingQueue<Outcome> outcomes = new LinkedBlockingQueue<>();
        Map<String, Long> running = new ConcurrentHashMap<>();
        for (int i = 0; i < jobs; i++) {
            work(todo, outcomes, running);
        }
        boolean times = System.getenv("CONFORMANCE_TIMES") != null;
        int passed = 0;
        int failed = 0;
        while (passed + failed < total) {
            Outcome outcome = outcomes.poll(1, TimeUnit.SECONDS);
            if (outcome == null) {
                for (Map.Entry<String, Long> entry : running.entrySet()) {
                    if (now() - entry.getValue() > CHECK_MILLIS_MAX && running.remove(entry.getKey()) != null) {
                        outcomes.add(new Outcome(entry.getKey(), "still running after 90 s", CHECK_MILLIS_MAX));
                        work(todo, outcomes, running);
                    }
                }
                continue;
            }
            if (outcome.failure == null) {
                passed++;
            } else {
                failed++;
            }
            String line = outcome.failure == null ? "ok " + outcome.name : "FAIL " + outcome.name + ": " + outcome.failure;
            System.out.println(times ? line + "  [" + outcome.millis + " ms]" : line);
            System.out.flush();
        }
        System.out.println(passed + " passed, " + failed + " failed");
        return failed == 0 && passed > 0 ? 0 : 1;
    }

    private void work(ConcurrentLinkedQueue<Check> todo, BlockingQueue<Outcome> outcomes, Map<String, Long> running) {
        Thread thread = new Thread(() -> {
            for (Check check = todo.poll(); check != null; check = todo.poll()) {
                running.put(check.name, now());
                String failure = null;
                try {
                    check.body.run(broker);
                } catch (Throwable error) { // a check may fail in any way; the others go on
                    failure = reason(error);
                }
                Long began = running.remove(check.name);
                if (began != null) {
                    outcomes.add(new Outcome(check.name, failure, now() - began));
                }
            }
        });
        thread.setDaemon(true);
        thread.start();
    }

    private static String reason(Throwable error) {
        String place = "";
        for (StackTraceElement element : error.getStackTrace()) {
            if (element.getClassName().startsWith("conformance.") && !element.getClassName().endsWith("Harness")) {
                place = " (" + element.getFileName() + ":" + element.getLineNumber() + ")";
                break;
            }
        }
        return (error.getClass().getSimpleName() + ": " + error.getMessage()).replace('\n', ' ') + place;
    }

    private static long now() {
        return System.nanoTime() / 1_000_000;
    }

    static String unique(String prefix) {
        return prefix + "-" + UUID.randomUUID().toString().substring(0, 8);
    }

    static void that(boolean condition, String what) {
        if (!condition) {
            throw new AssertionError(what);
        }
    }

    static void equal(Object got, Object want, String what) {
        if (!Objects.equals(got, want)) {
            String text = what + ": got " + got + ", want " + want;
            throw new AssertionError(text.length() > 600 ? text.substring(0, 600) : text);
        }
    }

    /** Waits for the condition, at most half a minute. */
    static void until(String what, Condition condition) throws Exception {
        long deadline = now() + 30_000;
        while (!condition.holds()) {
            that(now() < deadline, "not within 30 s: " + what);
            Thread.sleep(30); // tidy: pacing
        }
    }

    /** The future's value; what it failed with is thrown itself. */
    static <T> T get(Future<T> future) throws Exception {
        try {
            return future.get(30, TimeUnit.SECONDS);
        } catch (ExecutionException error) {
            if (error.getCause() instanceof Exception cause) {
                throw cause;
            }
            throw error;
        }
    }

    /** Fails unless the call throws that kind of exception, and gives it. */
    static <T extends Exception> T fails(Class<T> kind, Call call) {
        return fails(kind, "the call", call);
    }

    /** Fails unless the call throws that kind of exception, alone or as a cause, and gives it. */
    static <T extends Exception> T fails(Class<T> kind, String what, Call call) {
        try {
            call.run();
        } catch (Exception error) {
            for (Throwable cause = error; cause != null; cause = cause.getCause()) {
                if (kind.isInstance(cause)) {
                    return kind.cast(cause);
                }
            }
            throw new AssertionError(what + ": " + error + ", want " + kind.getSimpleName(), error);
        }
        throw new AssertionError(what + ": went well, want " + kind.getSimpleName());
    }
}
