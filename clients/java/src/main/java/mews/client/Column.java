package mews.client;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/** One raw column of a request, as the model's parameter {@code mews.request} says. */
record Column(
        String name,
        Type type,
        Type arrives,
        boolean isList,
        int length,
        boolean nullable,
        boolean mask,
        Object sign,
        boolean offsets,
        String unit,
        boolean optional,
        String packed) {

    /** Types of tensors: how many bytes, which whole numbers fit. A length of 0 is a list of any length. */
    enum Type {
        BOOL("bool", "BOOL", 1, 0, 1),
        INT8("int8", "INT8", 1, Byte.MIN_VALUE, Byte.MAX_VALUE),
        INT16("int16", "INT16", 2, Short.MIN_VALUE, Short.MAX_VALUE),
        INT32("int32", "INT32", 4, Integer.MIN_VALUE, Integer.MAX_VALUE),
        INT64("int64", "INT64", 8, Long.MIN_VALUE, Long.MAX_VALUE),
        UINT8("uint8", "UINT8", 1, 0, 255),
        UINT16("uint16", "UINT16", 2, 0, 65535),
        UINT32("uint32", "UINT32", 4, 0, 4294967295L),
        UINT64("uint64", "UINT64", 8, 0, Long.MAX_VALUE),
        FLOAT16("float16", "FP16", 2, 0, 0),
        FLOAT32("float32", "FP32", 4, 0, 0),
        FLOAT64("float64", "FP64", 8, 0, 0),
        STRING("string", "BYTES", 0, 0, 0),
        DATETIME("datetime", "INT64", 8, Long.MIN_VALUE, Long.MAX_VALUE);

        final String label;
        final String triton;
        final int bytes;
        final long least;
        final long most;

        Type(String label, String triton, int bytes, long least, long most) {
            this.label = label;
            this.triton = triton;
            this.bytes = bytes;
            this.least = least;
            this.most = most;
        }

        boolean isFloat() {
            return triton.startsWith("FP");
        }

        boolean isInteger() {
            return triton.contains("INT") && this != DATETIME;
        }

        /** The value that says null in a request; null if none does. */
        Object sign() {
            if (isFloat()) {
                return Double.NaN;
            }
            return this == STRING ? "" : least < 0 ? (Object) least : null;
        }

        static Type of(String label) {
            for (Type type : values()) {
                if (type.label.equals(label)) {
                    return type;
                }
            }
            throw new IllegalArgumentException("unknown type " + label);
        }
    }

    /** The columns in the JSON of {@code mews.request}; IllegalArgumentException or ClassCastException for other JSON. */
    static List<Column> all(String json) {
        List<Column> columns = new ArrayList<>();
        for (Object each : (List<?>) Json.parse(json)) {
            columns.add(of((Map<?, ?>) each));
        }
        return columns;
    }

    private static Column of(Map<?, ?> said) {
        Map<?, ?> form = said.get("form") instanceof Map<?, ?> map ? map : Map.of();
        Type type = Type.of((String) said.get("dtype"));
        String unit = form.get("datetime") instanceof String text ? text : "us";
        boolean mask = Boolean.TRUE.equals(form.get("mask"));
        Type arrives = arrives(type, unit, form.get("dtype"));
        Object sign = mask ? none(arrives) : form.get("null") != null ? form.get("null") : arrives.sign();
        return new Column(
                (String) said.get("name"),
                type,
                arrives,
                Boolean.TRUE.equals(said.get("is_list")),
                said.get("length") instanceof Long length ? length.intValue() : 0,
                !Boolean.FALSE.equals(said.get("nullable")),
                mask,
                sign,
                Boolean.TRUE.equals(form.get("offsets")),
                unit,
                Boolean.TRUE.equals(form.get("optional")),
                said.get("packed") instanceof String packed ? packed : "");
    }

    private static Type arrives(Type type, String unit, Object width) {
        if (type == Type.DATETIME) {
            return unit.equals("iso") ? Type.STRING : Type.INT64;
        }
        return width == null ? type : Type.of((String) width);
    }

    /** What is sent beside a mask that says null. */
    private static Object none(Type type) {
        return type == Type.STRING ? "" : type.isFloat() ? (Object) 0.0 : (Object) 0L;
    }

    /** True for a list of any length. */
    boolean isRagged() {
        return isList && length == 0;
    }
}
