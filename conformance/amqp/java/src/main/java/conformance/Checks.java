package conformance;

/** The checks of AMQP's client library. */
final class Checks {
    /** What {@code --peer} calls the broker that Millstream is compared with. */
    static final String ORIGINAL = "rabbitmq";

    private Checks() {}

    static void register(Harness harness) {
        ChannelChecks.register(harness);
        ConnectionChecks.register(harness);
    }
}
