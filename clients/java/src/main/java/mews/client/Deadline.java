package mews.client;

import java.time.Duration;

/** The moment by which a call must be answered. */
record Deadline(Duration whole, long ends) {
    static Deadline in(Duration whole) {
        return new Deadline(whole, System.nanoTime() + whole.toNanos());
    }

    Duration left() {
        return Duration.ofNanos(ends - System.nanoTime());
    }
}
