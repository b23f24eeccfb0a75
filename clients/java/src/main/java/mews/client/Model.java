package mews.client;

import java.util.List;
import java.util.Map;

/** What the server says of a model: its columns, the largest request, and the candidate beside it. */
record Model(String name, List<Column> columns, int maxBatchSize, String candidate, double share, long known) {

    /** IllegalArgumentException for a model that Mews did not export. */
    static Model of(String name, Map<String, Object> config) {
        Map<?, ?> parameters = config.get("parameters") instanceof Map<?, ?> map ? map : Map.of();
        String request = text(parameters, "mews.request");
        if (request == null) {
            throw new IllegalArgumentException("it has no parameter mews.request");
        }
        int largest = config.get("max_batch_size") instanceof Long size ? size.intValue() : 0;
        String canary = text(parameters, "mews.canary");
        String candidate = "";
        double share = 0;
        if (canary != null && !canary.isEmpty()) {
            Map<String, Object> said = Json.parseObject(canary);
            candidate = name + "_v" + said.get("version");
            share = said.get("share") instanceof Number number ? number.doubleValue() : 0;
        }
        return new Model(name, Column.all(request), largest, candidate, share, System.nanoTime());
    }

    private static String text(Map<?, ?> parameters, String name) {
        return parameters.get(name) instanceof Map<?, ?> value ? (String) value.get("string_value") : null;
    }
}
