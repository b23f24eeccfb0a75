package mews.client;

import java.math.BigInteger;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;

/** Turns rows into the tensors of a request, and says everything that is wrong with them. */
final class Encoder {
    /** Padded lists are multiples of this wide, so that requests with nearly equal lists share a batch. */
    private static final int WIDTH_STEP = 4;

    private static final Map<String, Long> PER_SECOND =
            Map.of("s", 1L, "ms", 1_000L, "us", 1_000_000L, "ns", 1_000_000_000L);

    private final List<Tensor> tensors = new ArrayList<>();
    private final Map<String, List<Cells>> packed = new LinkedHashMap<>();
    private final Set<String> problems = new LinkedHashSet<>();
    private final int height;
    private final int firstRow;

    private Encoder(int height, int firstRow) {
        this.height = height;
        this.firstRow = firstRow;
    }

    /** Rows that do not fit; the message lists every problem. */
    static final class Misfit extends IllegalArgumentException {
        private static final long serialVersionUID = 1L;

        Misfit(Set<String> problems) {
            super("the rows do not fit the model's request:\n  - " + String.join("\n  - ", problems));
        }
    }

    static List<Tensor> encode(Rows rows, List<Column> schema, int firstRow) {
        Encoder encoder = new Encoder(rows.height(), firstRow);
        Set<String> unknown = new LinkedHashSet<>(rows.columns().keySet());
        for (Column column : schema) {
            unknown.remove(column.name());
            Rows.Values values = rows.columns().get(column.name());
            if (values != null) {
                encoder.column(column, values);
            } else if (!column.optional()) {
                encoder.problems.add("missing column '" + column.name() + "'");
            }
        }
        unknown.forEach(name -> encoder.problems.add("unknown column '" + name + "'"));
        if (!encoder.problems.isEmpty()) {
            throw new Misfit(encoder.problems);
        }
        encoder.packed.forEach(encoder::sideBySide);
        return encoder.tensors;
    }

    private void sideBySide(String name, List<Cells> columns) {
        Column.Type type = Column.Type.of(name.substring(name.lastIndexOf("__") + 2));
        Cells all = Cells.room(type, height * columns.size());
        for (int index = 0; index < columns.size(); index++) {
            all.spread(columns.get(index), index, columns.size());
        }
        tensors.add(Tensor.of(name, type, List.of((long) height, (long) columns.size()), all));
    }

    private void column(Column column, Rows.Values given) {
        if (given.isList() != column.isList() || !takes(column, given.kind())) {
            String wanted = (column.isList() ? "a list of " : "") + column.type().label;
            problems.add("column '" + column.name() + "': expected " + wanted + "; received " + given);
        } else if (!column.isList()) {
            scalars(column, given.values());
        } else if (column.isRagged() && column.offsets()) {
            offsets(column, given.values());
        } else {
            padded(column, given.values());
        }
    }

    private static boolean takes(Column column, Rows.Kind kind) {
        return switch (column.type()) {
            case STRING -> kind == Rows.Kind.TEXT;
            case BOOL -> kind == Rows.Kind.TRUTH;
            case DATETIME -> kind == Rows.Kind.MOMENT
                    || kind == (column.unit().equals("iso") ? Rows.Kind.TEXT : Rows.Kind.WHOLE);
            default -> kind == Rows.Kind.WHOLE || kind == Rows.Kind.REAL && column.type().isFloat();
        };
    }

    private void scalars(Column column, List<?> values) {
        Cells cells = Cells.room(column.arrives(), height);
        for (int row = 0; row < height; row++) {
            set(cells, row, column, values.get(row), row);
        }
        if (!column.packed().isEmpty()) {
            packed.computeIfAbsent(column.packed(), name -> new ArrayList<>()).add(cells);
            return;
        }
        add(column.name(), column.arrives(), List.of((long) height, 1L), cells);
        mask(column, values, List.of((long) height, 1L));
    }

    private void padded(Column column, List<?> lists) {
        int width = column.isRagged() ? width(lists) : column.length();
        Cells cells = Cells.room(column.arrives(), height * width);
        List<Object> flat = new ArrayList<>();
        List<Long> lengths = new ArrayList<>();
        for (int row = 0; row < height; row++) {
            List<?> list = list(lists.get(row));
            if (!column.isRagged() && list.size() != width) {
                problems.add("column '" + column.name() + "' is not a list of " + width + " values (row "
                        + (firstRow + row) + ")");
                return;
            }
            for (int place = 0; place < width; place++) {
                boolean inside = place < list.size();
                Object value = inside ? list.get(place) : null;
                flat.add(inside ? value : Boolean.FALSE);
                if (inside) {
                    set(cells, row * width + place, column, value, row);
                } else if (cells.texts() != null) {
                    cells.texts()[row * width + place] = new byte[0];
                }
            }
            lengths.add((long) list.size());
        }
        List<Long> shape = List.of((long) height, (long) width);
        add(column.name(), column.arrives(), shape, cells);
        if (column.isRagged()) {
            add(column.name() + "__length", Column.Type.INT32, List.of((long) height, 1L), Cells.wholes(lengths));
        }
        mask(column, flat, shape);
    }

    private void offsets(Column column, List<?> lists) {
        List<Object> flat = new ArrayList<>();
        List<Integer> rows = new ArrayList<>();
        List<Long> ends = new ArrayList<>(List.of(0L));
        for (int row = 0; row < height; row++) {
            flat.addAll(list(lists.get(row)));
            while (rows.size() < flat.size()) {
                rows.add(row);
            }
            ends.add((long) flat.size());
        }
        Cells cells = Cells.room(column.arrives(), flat.size());
        for (int index = 0; index < flat.size(); index++) {
            set(cells, index, column, flat.get(index), rows.get(index));
        }
        List<Long> shape = List.of((long) flat.size());
        add(column.name() + "__values", column.arrives(), shape, cells);
        add(column.name() + "__offsets", Column.Type.INT32, List.of((long) ends.size()), Cells.wholes(ends));
        mask(column, flat, shape);
    }

    private void mask(Column column, List<?> values, List<Long> shape) {
        if (column.mask()) {
            List<Long> nulls = new ArrayList<>(values.size());
            values.forEach(value -> nulls.add(value == null ? 1L : 0L));
            add(column.name() + "__null", Column.Type.BOOL, shape, Cells.wholes(nulls));
        }
    }

    private void add(String name, Column.Type type, List<Long> shape, Cells cells) {
        if (problems.isEmpty()) {
            tensors.add(Tensor.of(name, type, shape, cells));
        }
    }

    private static List<?> list(Object value) {
        return value == null ? List.of() : (List<?>) value;
    }

    private static int width(List<?> lists) {
        int longest = lists.stream().mapToInt(value -> list(value).size()).max().orElse(0);
        return (Math.max(longest, 1) + WIDTH_STEP - 1) / WIDTH_STEP * WIDTH_STEP;
    }

    /** Puts one value in its cell; a problem is noted, once for a column. */
    private void set(Cells cells, int index, Column column, Object value, int row) {
        String problem = "";
        Object sent = value;
        if (value == null) {
            sent = column.sign();
            if (sent == null || !column.nullable()) {
                problem = " holds null, which " + (sent == null ? column.arrives().label + " cannot say" : "it may not");
            }
        } else if (value instanceof Instant moment) {
            sent = column.arrives() == Column.Type.STRING ? moment.toString() : number(moment, column.unit());
            problem = sent == null ? " cannot be said exactly in " + column.unit() : "";
        }
        if (problem.isEmpty()) {
            problem = put(cells, index, column, sent, value != null);
        }
        if (!problem.isEmpty() && problems.stream().noneMatch(each -> each.startsWith("column '" + column.name() + "'"))) {
            problems.add("column '" + column.name() + "'" + problem + " (row " + (firstRow + row) + ")");
        }
    }

    /** Returns what is wrong, or nothing. */
    private static String put(Cells cells, int index, Column column, Object value, boolean given) {
        Column.Type type = column.arrives();
        if (cells.texts() != null) {
            cells.texts()[index] = value.toString().getBytes(StandardCharsets.UTF_8);
            return "";
        }
        if (cells.reals() != null) {
            double rounded = rounded(type, (Number) value);
            cells.reals()[index] = rounded;
            boolean lost = Double.isInfinite(rounded) && !Double.isInfinite(((Number) value).doubleValue());
            return lost ? " is out of the range of " + type.label : "";
        }
        long whole = value instanceof Boolean truth ? (truth ? 1 : 0) : ((Number) value).longValue();
        cells.wholes()[index] = whole;
        for (Column.Type each : Arrays.asList(type, column.type())) {
            if (given && (whole < each.least || whole > each.most)) {
                return " is out of the range of " + each.label;
            }
        }
        boolean taken = given && type.least < 0 && whole == type.least;
        return taken ? " holds " + whole + ", the value that stands for null" : "";
    }

    private static double rounded(Column.Type type, Number value) {
        return switch (type) {
            case FLOAT64 -> value.doubleValue();
            case FLOAT16 -> Tensor.single(Tensor.half(value.floatValue()));
            default -> value.floatValue();
        };
    }

    /** A moment in a unit since 1970; null if it cannot be said exactly. */
    private static Long number(Instant moment, String unit) {
        BigInteger perSecond = BigInteger.valueOf(PER_SECOND.get(unit));
        BigInteger nanos = BigInteger.valueOf(moment.getEpochSecond())
                .multiply(BigInteger.valueOf(1_000_000_000L))
                .add(BigInteger.valueOf(moment.getNano()));
        BigInteger[] parts = nanos.multiply(perSecond).divideAndRemainder(BigInteger.valueOf(1_000_000_000L));
        return parts[1].signum() != 0 || parts[0].bitLength() > 63 ? null : (Long) parts[0].longValue();
    }
}
