package mews.client;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Base64;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletionException;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

/** Does what the Python tests ask, a line of JSON at a time, and prints what came of it as a line of JSON. */
final class Tool {
    private Tool() {}

    public static void main(String[] arguments) throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            out.println(Json.write(answer(line, arguments[0])));
        }
    }

    private static Object answer(String line, String job) throws Exception {
        try {
            return switch (job) {
                case "json" -> List.of("ok", Json.write(Json.parse(decoded(line))));
                case "half" -> half();
                case "encode" -> encoded(Json.parseObject(line));
                case "canary" -> taken(Json.parseObject(line));
                case "ask" -> ask(Json.parseObject(line));
                default -> throw new IllegalStateException(job);
            };
        } catch (IllegalArgumentException | MewsException error) {
            Map<String, Object> told = new LinkedHashMap<>();
            told.put("error", error.getClass().getSimpleName());
            told.put("message", error.getMessage());
            if (error instanceof MewsException mews) {
                told.put("url", mews.url());
                told.put("model", mews.model());
            }
            return told;
        }
    }

    private static String decoded(String line) {
        return new String(Base64.getDecoder().decode(line), StandardCharsets.UTF_8);
    }

    /** For every half: the float that it is, and the half that this float is. */
    private static Object half() {
        List<Object> all = new ArrayList<>();
        for (int bits = 0; bits < 1 << 16; bits++) {
            float single = Tensor.single((short) bits);
            float next = Tensor.single((short) (bits + 1));
            float between = (single + next) / 2;
            all.add(List.of(
                    (long) Float.floatToRawIntBits(single),
                    Tensor.half(single) & 0xffffL,
                    (long) Float.floatToRawIntBits(between),
                    Tensor.half(between) & 0xffffL));
        }
        return all;
    }

    private static Object encoded(Map<String, Object> said) {
        List<Object> all = new ArrayList<>();
        List<Column> schema = Column.all(Json.write(said.get("schema")));
        for (Tensor tensor : Encoder.encode(rows((List<?>) said.get("columns")), schema, 0)) {
            String data = Base64.getEncoder().encodeToString(tensor.data());
            all.add(List.of(tensor.name(), tensor.datatype(), tensor.shape(), data));
        }
        return all;
    }

    private static Object taken(Map<String, Object> said) {
        Model model = new Model("shop", List.of(), 0, "shop_v2", (Double) said.get("share"), 0);
        return ((List<?>) said.get("keys")).stream().map(key -> MewsClient.takes(model, (String) key)).toList();
    }

    private static Object ask(Map<String, Object> said) throws Exception {
        MewsClient client = MewsClient.builder((String) said.get("url"))
                .model((String) said.get("model"))
                .timeout(Duration.ofMillis(said.get("timeout_ms") instanceof Long ms ? ms : 30_000))
                .attempts(said.get("attempts") instanceof Long most ? most.intValue() : 3)
                .build();
        Rows rows = rows((List<?>) said.get("columns"));
        String key = (String) said.get("key");
        String how = said.get("how") instanceof String text ? text : "wait";
        if (how.equals("threads")) {
            return List.of(threads(client, rows));
        }
        Prediction prediction;
        try {
            prediction = how.equals("async") ? client.askAsync(rows, key).join() : client.ask(rows, key);
        } catch (CompletionException error) {
            throw (RuntimeException) error.getCause();
        }
        return Map.of(
                "scores", bits(prediction.scores()), "versions", prediction.versions(), "model", prediction.model());
    }

    /** The scores of eight threads with one client, ten calls each. */
    private static List<Object> threads(MewsClient client, Rows rows) throws Exception {
        ExecutorService pool = Executors.newFixedThreadPool(8);
        List<Future<Object>> waiting = new ArrayList<>();
        for (int call = 0; call < 80; call++) {
            waiting.add(pool.submit(() -> bits(client.predict(rows))));
        }
        List<Object> found = new ArrayList<>();
        for (Future<Object> each : waiting) {
            found.add(each.get());
        }
        List<CompletableFuture<float[]>> futures = new ArrayList<>();
        for (int call = 0; call < 40; call++) {
            futures.add(client.predictAsync(rows));
        }
        futures.forEach(each -> found.add(bits(each.join())));
        pool.shutdown();
        return found;
    }

    private static List<Object> bits(float[] scores) {
        List<Object> bits = new ArrayList<>();
        for (float score : scores) {
            bits.add((long) Float.floatToRawIntBits(score));
        }
        return bits;
    }

    @SuppressWarnings("unchecked")
    private static Rows rows(List<?> columns) {
        Rows.Builder rows = Rows.builder();
        for (Object each : columns) {
            Map<?, ?> column = (Map<?, ?>) each;
            String name = (String) column.get("name");
            List<?> values = (List<?>) column.get("values");
            switch ((String) column.get("kind")) {
                case "long" -> rows.longs(name, (List<Long>) values);
                case "double" -> rows.doubles(name, (List<Double>) values);
                case "string" -> rows.strings(name, (List<String>) values);
                case "boolean" -> rows.booleans(name, (List<Boolean>) values);
                case "instant" -> rows.instants(
                        name, values.stream().map(text -> text == null ? null : Instant.parse((String) text)).toList());
                case "longs" -> rows.longLists(name, (List<List<Long>>) values);
                case "doubles" -> rows.doubleLists(name, (List<List<Double>>) values);
                case "strings" -> rows.stringLists(name, (List<List<String>>) values);
                default -> throw new IllegalStateException();
            }
        }
        return rows.build();
    }
}
