package mews.client;

/** A call that was not answered with scores. The subclasses are what a caller may want to tell apart. */
public class MewsException extends RuntimeException {
    private static final long serialVersionUID = 1L;

    private final String url;
    private final String model;

    MewsException(String message, String url, String model, Throwable cause) {
        super(message, cause);
        this.url = url;
        this.model = model;
    }

    /** The server that was asked. */
    public String url() {
        return url;
    }

    /** The model that was asked. */
    public String model() {
        return model;
    }

    /** Nobody answers at the address, or the connection broke before an answer. */
    public static final class Unreachable extends MewsException {
        private static final long serialVersionUID = 1L;

        Unreachable(String message, String url, String model, Throwable cause) {
            super(message, url, model, cause);
        }
    }

    /** No answer within the time given. */
    public static final class TimedOut extends MewsException {
        private static final long serialVersionUID = 1L;

        TimedOut(String message, String url, String model, Throwable cause) {
            super(message, url, model, cause);
        }
    }

    /** The model cannot answer now: it is not ready, or its queue is full. */
    public static final class Busy extends MewsException {
        private static final long serialVersionUID = 1L;

        Busy(String message, String url, String model) {
            super(message, url, model, null);
        }
    }

    /** The server found the request wrong; the message ends with its words. */
    public static final class Refused extends MewsException {
        private static final long serialVersionUID = 1L;

        Refused(String message, String url, String model) {
            super(message, url, model, null);
        }
    }

    /** The server has no model of this name. */
    public static final class UnknownModel extends MewsException {
        private static final long serialVersionUID = 1L;

        UnknownModel(String message, String url, String model) {
            super(message, url, model, null);
        }
    }

    /** Rows that do not fit the model; nothing was sent. The message lists every problem. */
    public static final class InvalidRows extends MewsException {
        private static final long serialVersionUID = 1L;

        InvalidRows(String message, String url, String model) {
            super(message, url, model, null);
        }
    }
}
