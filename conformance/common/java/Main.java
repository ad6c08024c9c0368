/** Where the program starts: Main --bootstrap HOST:PORT [--peer PEER] [--only SUBSTRING] [--jobs N]. */
public final class Main {
    private Main() {}

    public static void main(String[] arguments) throws Exception {
        System.exit(conformance.Program.run(arguments));
    }
}
