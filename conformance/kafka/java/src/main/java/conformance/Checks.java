package conformance;

/** The checks of Kafka's client library. */
final class Checks {
    /** What {@code --peer} calls the broker that Millstream is compared with. */
    static final String ORIGINAL = "kafka";

    private Checks() {}

    static void register(Harness harness) {
        GroupChecks.register(harness);
        TextChecks.register(harness);
        ReadChecks.register(harness);
        AdminChecks.register(harness);
        RefusalChecks.register(harness);
    }
}
