package mews.client;

import java.time.Instant;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * Raw rows, column by column; immutable.
 *
 * <p>A null in a list of values is a missing value. A column of integers takes {@code longs}, one of floats {@code
 * doubles}, {@code floats} or {@code longs}; a datetime takes {@code instants}, or {@code longs} in the unit that the
 * model was exported with.
 */
public final class Rows {
    private final Map<String, Values> columns;
    private final int height;

    private Rows(Map<String, Values> columns, int height) {
        this.columns = columns;
        this.height = height;
    }

    enum Kind {
        WHOLE,
        REAL,
        TEXT,
        TRUTH,
        MOMENT
    }

    /** A column: one value a row, or one List of values. */
    record Values(Kind kind, boolean isList, List<?> values) {
        Values slice(int start, int end) {
            return new Values(kind, isList, values.subList(start, end));
        }

        @Override
        public String toString() {
            return (isList ? "a list of " : "") + kind.name().toLowerCase(java.util.Locale.ROOT);
        }
    }

    /** A builder without columns. */
    public static Builder builder() {
        return new Builder();
    }

    /** How many rows there are. */
    public int height() {
        return height;
    }

    Map<String, Values> columns() {
        return columns;
    }

    Rows slice(int start, int end) {
        Map<String, Values> parts = new LinkedHashMap<>();
        columns.forEach((name, values) -> parts.put(name, values.slice(start, end)));
        return new Rows(parts, end - start);
    }

    /** Takes columns, one by one. */
    public static final class Builder {
        private final Map<String, Values> columns = new LinkedHashMap<>();

        private Builder() {}

        /** A column of whole numbers; a null is a missing value. */
        public Builder longs(String name, List<Long> values) {
            return put(name, Kind.WHOLE, false, values);
        }

        /** A column of whole numbers without missing values. */
        public Builder longs(String name, long... values) {
            return put(name, Kind.WHOLE, false, Arrays.stream(values).boxed().toList());
        }

        /** A column of floating-point numbers; a null is a missing value. */
        public Builder doubles(String name, List<Double> values) {
            return put(name, Kind.REAL, false, values);
        }

        /** A column of floating-point numbers; NaN is a missing value. */
        public Builder doubles(String name, double... values) {
            return put(name, Kind.REAL, false, Arrays.stream(values).boxed().toList());
        }

        /** A column of floating-point numbers; a null is a missing value. */
        public Builder floats(String name, List<Float> values) {
            return put(name, Kind.REAL, false, values);
        }

        /** A column of floating-point numbers; NaN is a missing value. */
        public Builder floats(String name, float... values) {
            List<Float> boxed = new ArrayList<>(values.length);
            for (float value : values) {
                boxed.add(value);
            }
            return put(name, Kind.REAL, false, boxed);
        }

        /** A column of strings; a null is a missing value. */
        public Builder strings(String name, List<String> values) {
            return put(name, Kind.TEXT, false, values);
        }

        /** A column of strings; a null is a missing value. */
        public Builder strings(String name, String... values) {
            return put(name, Kind.TEXT, false, Arrays.asList(values));
        }

        /** A column of booleans; a null is a missing value, which only some models take. */
        public Builder booleans(String name, List<Boolean> values) {
            return put(name, Kind.TRUTH, false, values);
        }

        /** A column of booleans. */
        public Builder booleans(String name, boolean... values) {
            List<Boolean> boxed = new ArrayList<>(values.length);
            for (boolean value : values) {
                boxed.add(value);
            }
            return put(name, Kind.TRUTH, false, boxed);
        }

        /** A column of datetimes; a null is a missing value. */
        public Builder instants(String name, List<Instant> values) {
            return put(name, Kind.MOMENT, false, values);
        }

        /** A column of lists of whole numbers; a null list is an empty one. */
        public Builder longLists(String name, List<? extends List<Long>> values) {
            return put(name, Kind.WHOLE, true, values);
        }

        /** A column of lists of floating-point numbers; a null list is an empty one. */
        public Builder doubleLists(String name, List<? extends List<Double>> values) {
            return put(name, Kind.REAL, true, values);
        }

        /** A column of lists of floating-point numbers; a null list is an empty one. */
        public Builder floatLists(String name, List<? extends List<Float>> values) {
            return put(name, Kind.REAL, true, values);
        }

        /** A column of lists of strings; a null list is an empty one. */
        public Builder stringLists(String name, List<? extends List<String>> values) {
            return put(name, Kind.TEXT, true, values);
        }

        /** The rows; IllegalArgumentException for columns of different height. */
        public Rows build() {
            Map<String, Integer> heights = new LinkedHashMap<>();
            columns.forEach((name, values) -> heights.put(name, values.values().size()));
            if (heights.values().stream().distinct().count() > 1) {
                throw new IllegalArgumentException("columns of different height: " + heights);
            }
            int height = heights.values().stream().findFirst().orElse(0);
            return new Rows(Collections.unmodifiableMap(new LinkedHashMap<>(columns)), height);
        }

        private Builder put(String name, Kind kind, boolean isList, List<?> values) {
            List<Object> copy = new ArrayList<>(values.size());
            for (Object value : values) {
                copy.add(value instanceof List<?> list ? new ArrayList<>(list) : value);
            }
            if (columns.put(name, new Values(kind, isList, copy)) != null) {
                throw new IllegalArgumentException("column " + name + " is given twice");
            }
            return this;
        }
    }
}
