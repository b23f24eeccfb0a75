package mews.client;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * Reads and writes JSON (RFC 8259), no more than a request needs.
 *
 * <p>Objects are LinkedHashMaps, of two equal keys the last counts; arrays are ArrayLists; whole numbers that fit are
 * Longs, all others Doubles; null is null.
 */
final class Json {
    private static final int DEEPEST = 256;

    private final String text;
    private int at;
    private int depth;

    private Json(String text) {
        this.text = text;
    }

    /** Text that is not JSON; says where. */
    static final class Malformed extends IllegalArgumentException {
        private static final long serialVersionUID = 1L;

        Malformed(String what, int at) {
            super("not JSON: " + what + " at character " + at);
        }
    }

    /** The value that a text holds; Malformed for anything else than one JSON value. */
    static Object parse(String text) {
        Json json = new Json(text);
        Object value = json.value();
        json.space();
        if (json.at < text.length()) {
            throw json.malformed("something after the value");
        }
        return value;
    }

    @SuppressWarnings("unchecked")
    static Map<String, Object> parseObject(String text) {
        if (parse(text) instanceof Map<?, ?> map) {
            return (Map<String, Object>) map;
        }
        throw new Malformed("no object", 0);
    }

    private Object value() {
        space();
        char next = peek();
        switch (next) {
            case '{':
                return object();
            case '[':
                return array();
            case '"':
                return string();
            case 't':
                return word("true", Boolean.TRUE);
            case 'f':
                return word("false", Boolean.FALSE);
            case 'n':
                return word("null", null);
            default:
                return number();
        }
    }

    private Map<String, Object> object() {
        Map<String, Object> found = new LinkedHashMap<>();
        open();
        if (!closes('}')) {
            do {
                space();
                if (peek() != '"') {
                    throw malformed("no name");
                }
                String name = string();
                space();
                take(':');
                found.put(name, value());
            } while (goesOn('}'));
        }
        depth--;
        return found;
    }

    private List<Object> array() {
        List<Object> found = new ArrayList<>();
        open();
        if (!closes(']')) {
            do {
                found.add(value());
            } while (goesOn(']'));
        }
        depth--;
        return found;
    }

    private void open() {
        at++;
        if (++depth > DEEPEST) {
            throw malformed("more than " + DEEPEST + " levels");
        }
    }

    private boolean closes(char end) {
        space();
        if (peek() != end) {
            return false;
        }
        at++;
        return true;
    }

    /** True after a comma, false after the end. */
    private boolean goesOn(char end) {
        if (closes(end)) {
            return false;
        }
        take(',');
        return true;
    }

    private Object word(String word, Object meaning) {
        if (!text.startsWith(word, at)) {
            throw malformed("an unknown word");
        }
        at += word.length();
        return meaning;
    }

    private String string() {
        StringBuilder found = new StringBuilder();
        at++;
        while (true) {
            char next = peek();
            at++;
            if (next == '"') {
                return found.toString();
            }
            if (next < ' ') {
                at--;
                throw malformed("a control character");
            }
            found.append(next == '\\' ? escaped() : next);
        }
    }

    private char escaped() {
        char next = peek();
        at++;
        int simple = "\"\\/bfnrt".indexOf(next);
        if (simple >= 0) {
            return "\"\\/\b\f\n\r\t".charAt(simple);
        }
        if (next != 'u') {
            throw malformed("an unknown escape");
        }
        int code = 0;
        for (int digit = 0; digit < 4; digit++, at++) {
            int value = peek() < 128 ? Character.digit(peek(), 16) : -1;
            if (value < 0) {
                throw malformed("a digit that is none");
            }
            code = code * 16 + value;
        }
        return (char) code;
    }

    private Object number() {
        int start = at;
        skip('-');
        if (!skip('0') && !digits()) {
            at = start;
            throw malformed("no value");
        }
        boolean fraction = skip('.');
        if (fraction && !digits()) {
            throw malformed("no digit after the point");
        }
        boolean exponent = skip('e') || skip('E');
        if (exponent && !skip('+')) {
            skip('-');
        }
        if (exponent && !digits()) {
            throw malformed("no digit in the exponent");
        }
        String found = text.substring(start, at);
        try {
            return fraction || exponent ? (Object) Double.valueOf(found) : (Object) Long.valueOf(found);
        } catch (NumberFormatException tooLarge) {
            return Double.valueOf(found);
        }
    }

    private boolean digits() {
        int start = at;
        while (at < text.length() && text.charAt(at) >= '0' && text.charAt(at) <= '9') {
            at++;
        }
        return at > start;
    }

    private boolean skip(char wanted) {
        boolean there = at < text.length() && text.charAt(at) == wanted;
        at += there ? 1 : 0;
        return there;
    }

    private void take(char wanted) {
        if (peek() != wanted) {
            throw malformed("no '" + wanted + "'");
        }
        at++;
    }

    private void space() {
        while (at < text.length() && " \t\r\n".indexOf(text.charAt(at)) >= 0) {
            at++;
        }
    }

    private char peek() {
        if (at >= text.length()) {
            throw malformed("an early end");
        }
        return text.charAt(at);
    }

    private Malformed malformed(String what) {
        return new Malformed(what, at);
    }

    /** JSON of Maps, Lists, Strings, Numbers, Booleans and nulls. */
    static String write(Object value) {
        StringBuilder out = new StringBuilder();
        write(value, out);
        return out.toString();
    }

    private static void write(Object value, StringBuilder out) {
        if (value instanceof Map<?, ?> map) {
            String before = "{";
            for (Map.Entry<?, ?> entry : map.entrySet()) {
                out.append(before);
                quote(String.valueOf(entry.getKey()), out);
                write(entry.getValue(), out.append(':'));
                before = ",";
            }
            out.append(map.isEmpty() ? "{}" : "}");
        } else if (value instanceof List<?> list) {
            String before = "[";
            for (Object each : list) {
                write(each, out.append(before));
                before = ",";
            }
            out.append(list.isEmpty() ? "[]" : "]");
        } else if (value instanceof String string) {
            quote(string, out);
        } else {
            out.append(value);
        }
    }

    private static void quote(String string, StringBuilder out) {
        out.append('"');
        for (int index = 0; index < string.length(); index++) {
            char each = string.charAt(index);
            if (each == '"' || each == '\\') {
                out.append('\\').append(each);
            } else if (each < ' ' || Character.isSurrogate(each)) {
                out.append(String.format("\\u%04x", (int) each));
            } else {
                out.append(each);
            }
        }
        out.append('"');
    }
}
