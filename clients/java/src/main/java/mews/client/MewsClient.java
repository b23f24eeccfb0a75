package mews.client;

import java.net.URI;
import java.net.http.HttpClient;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ThreadLocalRandom;
import java.util.function.Function;

/**
 * Asks one model of a Triton server for scores: raw rows in, one float for each row out.
 *
 * <p>A client is safe for use by many threads, and one for an application is enough. It reads from the server which
 * columns the model takes, and looks again after ten seconds or when a request was refused.
 */
public final class MewsClient {
    private static final long REFRESH_NANOS = Duration.ofSeconds(10).toNanos();

    private final String url;
    private final String model;
    private final String output;
    private final Duration timeout;
    private final Wire wire;
    private final Map<String, Model> known = new ConcurrentHashMap<>();

    private MewsClient(Builder builder) {
        url = builder.url;
        model = builder.model;
        output = builder.output;
        timeout = builder.timeout;
        HttpClient http = builder.http != null
                ? builder.http
                : HttpClient.newBuilder()
                        .version(HttpClient.Version.HTTP_1_1)
                        .connectTimeout(timeout)
                        .build();
        wire = new Wire(http, url, builder.attempts);
    }

    /** A builder of a client for the server at {@code uri}, such as {@code http://127.0.0.1:8000}. */
    public static Builder builder(String uri) {
        return new Builder(uri);
    }

    /**
     * One score for each row, in order; none for no rows. Rows beyond the model's largest batch go as several requests.
     *
     * @throws MewsException what its subclasses say
     */
    public float[] predict(Rows rows) {
        return ask(rows, null).scores();
    }

    /** The same without waiting; the future fails with a {@link MewsException}. */
    public CompletableFuture<float[]> predictAsync(Rows rows) {
        return askAsync(rows, null).thenApply(Prediction::scores);
    }

    /**
     * Scores with the version that answered. While a candidate serves beside the model, calls of one {@code key} (a
     * user, say) go to the same of the two; null is a throw.
     */
    public Prediction ask(Rows rows, String key) {
        CompletableFuture<Prediction> answer = askAsync(rows, key);
        try {
            return answer.get();
        } catch (InterruptedException interrupted) {
            answer.cancel(true);
            Thread.currentThread().interrupt();
            throw new MewsException("interrupted while waiting for " + url, url, model, interrupted);
        } catch (ExecutionException failed) {
            throw failed.getCause() instanceof MewsException known
                    ? known
                    : new MewsException("the call failed: " + failed.getCause(), url, model, failed.getCause());
        }
    }

    /** The same without waiting; the future fails with a {@link MewsException}. */
    public CompletableFuture<Prediction> askAsync(Rows rows, String key) {
        Deadline deadline = Deadline.in(timeout);
        return unwrapped(model(model, deadline).thenCompose(stable -> takes(stable, key)
                ? orStable(model(stable.candidate(), deadline).thenCompose(it -> send(it, rows, deadline)), rows, deadline)
                : send(stable, rows, deadline)));
    }

    /** A candidate that is gone or busy leaves its calls to the stable version. */
    private CompletableFuture<Prediction> orStable(
            CompletableFuture<Prediction> answer, Rows rows, Deadline deadline) {
        return answer.handle((given, error) -> {
                    Throwable cause = cause(error);
                    if (cause instanceof MewsException.UnknownModel || cause instanceof MewsException.Busy) {
                        known.clear();
                        return model(model, deadline).thenCompose(stable -> send(stable, rows, deadline));
                    }
                    return error == null
                            ? CompletableFuture.completedFuture(given)
                            : CompletableFuture.<Prediction>failedFuture(cause);
                })
                .thenCompose(Function.identity());
    }

    /** True for the candidate's share of all keys, the same ones as in the Python client. */
    static boolean takes(Model stable, String key) {
        if (stable.candidate().isEmpty()) {
            return false;
        }
        if (key == null) {
            return ThreadLocalRandom.current().nextDouble() < stable.share();
        }
        String salted = stable.candidate().replaceFirst("_v(\\d+)$", ":$1:") + key;
        try {
            byte[] digest = MessageDigest.getInstance("SHA-256").digest(salted.getBytes(StandardCharsets.UTF_8));
            double place = 0;
            for (int index = 7; index >= 0; index--) {
                place = (place + (digest[index] & 0xff)) / 256;
            }
            return place < stable.share();
        } catch (NoSuchAlgorithmException impossible) {
            throw new IllegalStateException(impossible);
        }
    }

    private CompletableFuture<Model> model(String name, Deadline deadline) {
        Model fresh = known.get(name);
        if (fresh != null && System.nanoTime() - fresh.known() < REFRESH_NANOS) {
            return CompletableFuture.completedFuture(fresh);
        }
        return wire.config(name, deadline).thenApply(config -> {
            try {
                Model model = Model.of(name, config);
                known.put(name, model);
                return model;
            } catch (IllegalArgumentException | ClassCastException wrong) {
                String message = "model '" + name + "' at " + url + " is not an export of Mews: " + wrong.getMessage();
                throw new MewsException(message, url, name, wrong);
            }
        });
    }

    private CompletableFuture<Prediction> send(Model to, Rows rows, Deadline deadline) {
        int height = rows.height();
        float[] scores = new float[height];
        List<String> versions = new ArrayList<>();
        int size = to.maxBatchSize() > 0 ? to.maxBatchSize() : Math.max(height, 1);
        if (height == 0) {
            encode(to, rows, 0);
        }
        CompletableFuture<Void> done = CompletableFuture.completedFuture(null);
        for (int start = 0; start < height; start += size) {
            int from = start;
            int count = Math.min(size, height - start);
            done = done.thenCompose(before -> {
                        Rows part = from == 0 && count == height ? rows : rows.slice(from, from + count);
                        return wire.infer(to.name(), encode(to, part, from), output, deadline);
                    })
                    .thenAccept(answer -> keep(answer, scores, from, count, versions));
        }
        return done.handle((nothing, error) -> {
            if (cause(error) instanceof MewsException.Refused) {
                known.clear();
            }
            if (error != null) {
                throw new CompletionException(cause(error));
            }
            return new Prediction(scores, versions, to.name());
        });
    }

    private void keep(Wire.Answer answer, float[] scores, int from, int count, List<String> versions) {
        if (answer.values().length != count) {
            String message = "output " + output + " has " + answer.values().length + " values for " + count + " rows";
            throw new MewsException(message, url, model, null);
        }
        System.arraycopy(answer.values(), 0, scores, from, count);
        versions.add(answer.version());
    }

    private List<Tensor> encode(Model to, Rows rows, int firstRow) {
        try {
            return Encoder.encode(rows, to.columns(), firstRow);
        } catch (Encoder.Misfit misfit) {
            throw new MewsException.InvalidRows(misfit.getMessage(), url, to.name());
        }
    }

    private static Throwable cause(Throwable error) {
        return error instanceof CompletionException && error.getCause() != null ? error.getCause() : error;
    }

    /** The same future, failing with what went wrong and not with a CompletionException around it. */
    private static <T> CompletableFuture<T> unwrapped(CompletableFuture<T> future) {
        CompletableFuture<T> plain = new CompletableFuture<>();
        future.whenComplete((value, error) -> {
            if (error == null) {
                plain.complete(value);
            } else {
                plain.completeExceptionally(cause(error));
            }
        });
        return plain;
    }

    /** What a client is made of. */
    public static final class Builder {
        private final String url;
        private String model = "mews";
        private String output = "score";
        private Duration timeout = Duration.ofSeconds(30);
        private int attempts = 3;
        private HttpClient http;

        private Builder(String uri) {
            URI parsed = URI.create(uri.contains("://") ? uri : "http://" + uri);
            if (parsed.getHost() == null || !List.of("http", "https").contains(parsed.getScheme())) {
                throw new IllegalArgumentException("expected a URI such as http://127.0.0.1:8000; received " + uri);
            }
            url = parsed.toString().replaceAll("/+$", "");
        }

        /** The ensemble's name; {@code mews} unless said. */
        public Builder model(String name) {
            model = name;
            return this;
        }

        /** The output that holds one number a row; {@code score} unless said. */
        public Builder output(String name) {
            output = name;
            return this;
        }

        /** How long a call may take in all, with every attempt; 30 seconds unless said. */
        public Builder timeout(Duration whole) {
            if (whole.isZero() || whole.isNegative()) {
                throw new IllegalArgumentException("expected a timeout above 0; received " + whole);
            }
            timeout = whole;
            return this;
        }

        /** How often a server that nobody reached, or that was busy, is asked; 3 unless said. */
        public Builder attempts(int most) {
            attempts = Math.max(most, 1);
            return this;
        }

        /** An HttpClient of yours, with its executor, proxy and TLS; it should speak HTTP/1.1. */
        public Builder httpClient(HttpClient client) {
            http = client;
            return this;
        }

        /** The client; nothing is sent yet. */
        public MewsClient build() {
            return new MewsClient(this);
        }
    }
}
