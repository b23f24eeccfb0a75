package mews.client;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.List;
import java.util.Map;

/** One input of a request: its values in Triton's binary form. */
record Tensor(String name, String datatype, List<Long> shape, byte[] data) {

    /** What the JSON header of the request says of it. */
    Map<String, Object> header() {
        return Map.of(
                "name", name,
                "shape", shape,
                "datatype", datatype,
                "parameters", Map.of("binary_data_size", (long) data.length));
    }

    static Tensor of(String name, Column.Type type, List<Long> shape, Cells cells) {
        return new Tensor(name, type.triton, shape, type == Column.Type.STRING ? text(cells) : numbers(type, cells));
    }

    private static byte[] text(Cells cells) {
        int size = 0;
        for (byte[] value : cells.texts()) {
            size += 4 + value.length;
        }
        ByteBuffer out = ByteBuffer.allocate(size).order(ByteOrder.LITTLE_ENDIAN);
        for (byte[] value : cells.texts()) {
            out.putInt(value.length).put(value);
        }
        return out.array();
    }

    private static byte[] numbers(Column.Type type, Cells cells) {
        ByteBuffer out = ByteBuffer.allocate(cells.size() * type.bytes).order(ByteOrder.LITTLE_ENDIAN);
        for (int index = 0; index < cells.size(); index++) {
            switch (type) {
                case FLOAT16 -> out.putShort(half((float) cells.real(index)));
                case FLOAT32 -> out.putFloat((float) cells.real(index));
                case FLOAT64 -> out.putDouble(cells.real(index));
                default -> whole(out, type.bytes, cells.whole(index));
            }
        }
        return out.array();
    }

    private static void whole(ByteBuffer out, int bytes, long value) {
        switch (bytes) {
            case 1 -> out.put((byte) value);
            case 2 -> out.putShort((short) value);
            case 4 -> out.putInt((int) value);
            default -> out.putLong(value);
        }
    }

    /** IEEE 754 binary16, rounded to the nearest, ties to even. */
    static short half(float value) {
        int bits = Float.floatToRawIntBits(value);
        int sign = bits >>> 16 & 0x8000;
        int size = bits & 0x7fffffff;
        if (size > 0x7f800000) {
            return (short) (sign | 0x7e00);
        }
        if (size >= 0x477ff000) { // 65520 and more
            return (short) (sign | 0x7c00);
        }
        if (size >= 0x38800000) { // 2^-14 and more
            return (short) (sign | size - 0x38000000 + 0xfff + (size >>> 13 & 1) >>> 13);
        }
        int shift = 126 - (size >>> 23);
        if (shift > 24) {
            return (short) sign;
        }
        int mantissa = size & 0x7fffff | 0x800000;
        int rounded = mantissa + (1 << shift - 1) - 1 + (mantissa >>> shift & 1) >>> shift;
        return (short) (sign | rounded);
    }

    /** The float that a half is. */
    static float single(short half) {
        int sign = (half & 0x8000) << 16;
        int size = half & 0x7fff;
        if (size >= 0x7c00) {
            return Float.intBitsToFloat(sign | 0x7f800000 | (size & 0x3ff) << 13);
        }
        if (size < 0x400) {
            return Float.intBitsToFloat(sign | Float.floatToRawIntBits(size * 0x1p-24f));
        }
        return Float.intBitsToFloat(sign | (size << 13) + 0x38000000);
    }
}
