package conformance;

/** Reads the command line, registers the protocol's checks ({@code Checks}) and runs what was chosen. */
public final class Program {
    private Program() {}

    /** The exit code. */
    public static int run(String[] arguments) throws Exception {
        String bootstrap = null;
        String peer = "millstream";
        String only = "";
        int jobs = 4;
        for (int i = 0; i + 1 < arguments.length; i += 2) {
            switch (arguments[i]) {
                case "--bootstrap" -> bootstrap = arguments[i + 1];
                case "--peer" -> peer = arguments[i + 1];
                case "--only" -> only = arguments[i + 1];
                case "--jobs" -> jobs = Integer.parseInt(arguments[i + 1]);
                default -> throw new IllegalArgumentException("unknown option " + arguments[i]);
            }
        }
        if (bootstrap == null) {
            System.err.println("usage: Main --bootstrap HOST:PORT [--peer " + Checks.ORIGINAL + "|millstream] [--only SUBSTRING] [--jobs N]");
            return 2;
        }
        Harness harness = new Harness(new Broker(bootstrap), peer);
        Checks.register(harness);
        return harness.run(only, jobs);
    }
}
