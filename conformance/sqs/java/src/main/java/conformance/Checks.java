package conformance;

/** The checks of SQS's client library. */
final class Checks {
    /** What {@code --peer} calls the broker that Millstream is compared with. */
    static final String ORIGINAL = "elasticmq";

    private Checks() {}

    static void register(Harness harness) {
        QueueChecks.register(harness);
        MessageChecks.register(harness);
        FifoChecks.register(harness);
        CallingChecks.register(harness);
    }
}
