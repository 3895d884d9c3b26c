package ottla.compat;

/** The lines that the driver reads (compat-tests/harness/report.py), and the count of failures behind the exit code. */
final class Report {
    /** The body of a check: passes by returning, fails by throwing. */
    interface Body {
        void run() throws Exception;
    }

    private int failed;

    /** Runs one check. A failure is reported and does not stop the checks that follow. */
    void check(String name, Body body) {
        long began = System.nanoTime();
        try {
            body.run();
            System.out.printf("check %s ok %.1f s%n", name, (System.nanoTime() - began) / 1e9);
        } catch (Throwable error) {
            failed++;
            error.printStackTrace(System.out);
            System.out.printf("check %s failed %s%n", name, String.valueOf(error).replaceAll("\\s+", " "));
        }
        System.out.flush();
    }

    int exitCode() {
        return failed == 0 ? 0 : 1;
    }

    /** Raises with a reason unless the condition holds. */
    static void require(boolean condition, String why, Object... details) {
        if (!condition) {
            throw new AssertionError(String.format(why, details));
        }
    }
}
