package mews.client;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.net.ConnectException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpConnectTimeoutException;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.net.http.HttpTimeoutException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.Executor;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;

/** KServe v2 over HTTP: sends, tries again what is safe, and turns failures into MewsExceptions. */
final class Wire {
    private static final String HEADER_SIZE = "Inference-Header-Content-Length";
    private static final int UNAVAILABLE = 503;

    private final HttpClient http;
    private final String url;
    private final int attempts;

    Wire(HttpClient http, String url, int attempts) {
        this.http = http;
        this.url = url;
        this.attempts = attempts;
    }

    /** One output of one request, and the version that made it. */
    record Answer(float[] values, String version) {}

    CompletableFuture<Map<String, Object>> config(String model, Deadline deadline) {
        HttpRequest.Builder request = HttpRequest.newBuilder(uri("/v2/models/" + model + "/config")).GET();
        return send(request, model, deadline, 1).thenApply(response -> object(text(response.body()), model));
    }

    CompletableFuture<Answer> infer(String model, List<Tensor> tensors, String output, Deadline deadline) {
        List<Object> inputs = new ArrayList<>();
        tensors.forEach(tensor -> inputs.add(tensor.header()));
        Map<String, Object> wanted = Map.of("name", output, "parameters", Map.of("binary_data", true));
        byte[] header = Json.write(Map.of("inputs", inputs, "outputs", List.of(wanted)))
                .getBytes(StandardCharsets.UTF_8);
        ByteArrayOutputStream body = new ByteArrayOutputStream();
        body.writeBytes(header);
        tensors.forEach(tensor -> body.writeBytes(tensor.data()));
        HttpRequest.Builder request = HttpRequest.newBuilder(uri("/v2/models/" + model + "/infer"))
                .header(HEADER_SIZE, Integer.toString(header.length))
                .header("Content-Type", "application/octet-stream")
                .POST(HttpRequest.BodyPublishers.ofByteArray(body.toByteArray()));
        return send(request, model, deadline, 1).thenApply(response -> answer(response, model));
    }

    private Answer answer(HttpResponse<byte[]> response, String model) {
        byte[] body = response.body();
        int size = response.headers().firstValue(HEADER_SIZE).map(Integer::parseInt).orElse(body.length);
        Map<String, Object> said = object(new String(body, 0, size, StandardCharsets.UTF_8), model);
        try {
            Map<?, ?> output = (Map<?, ?>) ((List<?>) said.get("outputs")).get(0);
            ByteBuffer data = ByteBuffer.wrap(body, size, body.length - size).order(ByteOrder.LITTLE_ENDIAN);
            boolean wide = output.get("datatype").equals("FP64");
            if (!wide && !output.get("datatype").equals("FP32")) {
                throw new IllegalArgumentException("an output of type " + output.get("datatype"));
            }
            float[] values = new float[data.remaining() / (wide ? Double.BYTES : Float.BYTES)];
            for (int index = 0; index < values.length; index++) {
                values[index] = wide ? (float) data.getDouble() : data.getFloat();
            }
            return new Answer(values, String.valueOf(said.get("model_version")));
        } catch (ClassCastException | NullPointerException | IllegalArgumentException | IndexOutOfBoundsException wrong) {
            throw new MewsException("the answer of " + at(model) + " makes no sense: " + wrong, url, model, wrong);
        }
    }

    /** The answer to a request, asked again while nobody answered or the server said not now. */
    private CompletableFuture<HttpResponse<byte[]>> send(
            HttpRequest.Builder request, String model, Deadline deadline, int attempt) {
        Duration left = deadline.left();
        if (left.isZero() || left.isNegative()) {
            return CompletableFuture.failedFuture(late(model, deadline, null));
        }
        return http.sendAsync(request.timeout(left).build(), HttpResponse.BodyHandlers.ofByteArray())
                .handle((response, error) -> {
                    MewsException failure = error != null
                            ? failure(error, model, deadline)
                            : response.statusCode() == UNAVAILABLE ? busy(text(response.body()), model) : null;
                    if (failure == null) {
                        return checked(response, model, deadline);
                    }
                    long pause = pause(attempt);
                    boolean again = failure instanceof MewsException.Busy || failure instanceof MewsException.Unreachable;
                    if (!again || attempt >= attempts || deadline.left().toMillis() <= pause) {
                        return CompletableFuture.<HttpResponse<byte[]>>failedFuture(failure);
                    }
                    Executor later = CompletableFuture.delayedExecutor(pause, TimeUnit.MILLISECONDS);
                    return CompletableFuture.supplyAsync(() -> send(request, model, deadline, attempt + 1), later)
                            .thenCompose(next -> next);
                })
                .thenCompose(next -> next);
    }

    private static long pause(int attempt) {
        return Math.min(100L << Math.min(attempt - 1, 5), 2000L) + ThreadLocalRandom.current().nextLong(50);
    }

    private CompletableFuture<HttpResponse<byte[]>> checked(HttpResponse<byte[]> response, String model, Deadline deadline) {
        if (response.statusCode() == 200) {
            return CompletableFuture.completedFuture(response);
        }
        String words = words(text(response.body()));
        if (!words.toLowerCase(java.util.Locale.ROOT).contains("unknown model") && !words.contains("is not found")) {
            String message = "the server at " + url + " refused the request to '" + model + "': " + words;
            return CompletableFuture.failedFuture(new MewsException.Refused(message, url, model));
        }
        HttpRequest index = HttpRequest.newBuilder(uri("/v2/repository/index"))
                .timeout(deadline.left().plusMillis(1))
                .POST(HttpRequest.BodyPublishers.noBody())
                .build();
        return http.sendAsync(index, HttpResponse.BodyHandlers.ofString()).handle((known, error) -> {
            throw error == null ? unknown(known.body(), model) : unknown("[]", model);
        });
    }

    private MewsException unknown(String index, String model) {
        Map<String, String> reasons = new LinkedHashMap<>();
        for (Object each : (List<?>) Json.parse(index)) {
            Map<?, ?> known = (Map<?, ?>) each;
            reasons.put((String) known.get("name"), String.valueOf(known.get("reason")));
        }
        if (reasons.containsKey(model)) {
            String why = reasons.get(model);
            return new MewsException.Busy(at(model) + " is not ready: " + why, url, model);
        }
        String message = "unknown " + at(model) + "; known are " + String.join(", ", reasons.keySet());
        return new MewsException.UnknownModel(message, url, model);
    }

    private MewsException failure(Throwable error, String model, Deadline deadline) {
        Throwable cause = error instanceof CompletionException && error.getCause() != null ? error.getCause() : error;
        if (cause instanceof HttpTimeoutException && !(cause instanceof HttpConnectTimeoutException)) {
            return late(model, deadline, cause);
        }
        if (cause instanceof IOException) {
            Throwable root = cause;
            while (root.getCause() != null) {
                root = root.getCause();
            }
            boolean unknown = root instanceof java.nio.channels.UnresolvedAddressException;
            String why = unknown ? "unknown host" : cause instanceof ConnectException ? "nobody listens" : root.toString();
            String message = "no answer from Triton at " + url + ": " + why
                    + ". Start it with `mews serve`, or check the address and that the port is the one for HTTP.";
            return new MewsException.Unreachable(message, url, model, cause);
        }
        return new MewsException("the request to " + at(model) + " failed: " + cause, url, model, cause);
    }

    private MewsException late(String model, Deadline deadline, Throwable cause) {
        String message = "no answer from Triton at " + url + " within " + deadline.whole().toMillis() + " ms";
        return new MewsException.TimedOut(message, url, model, cause);
    }

    private MewsException busy(String body, String model) {
        return new MewsException.Busy(at(model) + " cannot answer now: " + words(body), url, model);
    }

    private Map<String, Object> object(String text, String model) {
        try {
            return Json.parseObject(text);
        } catch (Json.Malformed wrong) {
            throw new MewsException("the answer of " + at(model) + " is " + wrong.getMessage(), url, model, wrong);
        }
    }

    private static String words(String body) {
        try {
            return String.valueOf(Json.parseObject(body).getOrDefault("error", body));
        } catch (Json.Malformed plain) {
            return body;
        }
    }

    private static String text(byte[] body) {
        return new String(body, StandardCharsets.UTF_8);
    }

    private String at(String model) {
        return "model '" + model + "' at " + url;
    }

    private URI uri(String path) {
        return URI.create(url + path);
    }
}
