package mews.client;

import java.util.List;

/** Values on their way: whole numbers (and booleans), floating-point numbers, or UTF-8; one of the three. */
record Cells(long[] wholes, double[] reals, byte[][] texts) {

    static Cells room(Column.Type type, int size) {
        if (type == Column.Type.STRING) {
            return new Cells(null, null, new byte[size][]);
        }
        return type.isFloat() ? new Cells(null, new double[size], null) : new Cells(new long[size], null, null);
    }

    static Cells wholes(List<Long> values) {
        return new Cells(values.stream().mapToLong(Long::longValue).toArray(), null, null);
    }

    int size() {
        return wholes != null ? wholes.length : reals != null ? reals.length : texts.length;
    }

    long whole(int index) {
        return wholes[index];
    }

    double real(int index) {
        return reals[index];
    }

    /** Puts all of `from` at `start`, `step` apart. */
    void spread(Cells from, int start, int step) {
        for (int index = 0; index < from.size(); index++) {
            int at = start + index * step;
            if (wholes != null) {
                wholes[at] = from.wholes[index];
            } else if (reals != null) {
                reals[at] = from.reals[index];
            } else {
                texts[at] = from.texts[index];
            }
        }
    }
}
