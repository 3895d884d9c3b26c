// Prints the shape of every request and response that the Kafka on the class path speaks, as src/wire/schemas.txt holds it.
//
// Rerun it with the jars that a Kafka installation keeps in its libs folder, from the root of the repository:
//
//   java -cp '<kafka>/libs/*' scripts/schemas/SchemaDump.java > src/wire/schemas.txt
//
// It reads the classes that Kafka's build generates from its message definitions: ApiMessageType gives each API's key, name,
// versions and header versions, and the Schema objects give the fields in the order they have on the wire.

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.apache.kafka.common.message.ApiMessageType;
import org.apache.kafka.common.protocol.types.BoundField;
import org.apache.kafka.common.protocol.types.CompactArrayOf;
import org.apache.kafka.common.protocol.types.Field;
import org.apache.kafka.common.protocol.types.Schema;
import org.apache.kafka.common.protocol.types.TaggedFields;
import org.apache.kafka.common.protocol.types.Type;
import org.apache.kafka.common.utils.AppInfoParser;

public final class SchemaDump {
    // The names that Kafka's types give themselves, and the shorter ones of the table.
    private static final Map<String, String> NAMES = Map.ofEntries(
        Map.entry("BOOLEAN", "bool"), Map.entry("INT8", "i8"), Map.entry("INT16", "i16"), Map.entry("UINT16", "u16"),
        Map.entry("INT32", "i32"), Map.entry("UINT32", "u32"), Map.entry("INT64", "i64"), Map.entry("FLOAT64", "f64"),
        Map.entry("UUID", "uuid"),
        Map.entry("STRING", "str"), Map.entry("NULLABLE_STRING", "str?"),
        Map.entry("COMPACT_STRING", "~str"), Map.entry("COMPACT_NULLABLE_STRING", "~str?"),
        Map.entry("BYTES", "bytes"), Map.entry("NULLABLE_BYTES", "bytes?"),
        Map.entry("COMPACT_BYTES", "~bytes"), Map.entry("COMPACT_NULLABLE_BYTES", "~bytes?"),
        Map.entry("RECORDS", "records"), Map.entry("NULLABLE_RECORDS", "records?"),
        Map.entry("COMPACT_RECORDS", "~records"), Map.entry("COMPACT_NULLABLE_RECORDS", "~records?"));

    public static void main(String[] args) {
        System.out.println("# The shape of every Kafka request and response: facts of the protocol, read from the classes of Apache Kafka "
            + AppInfoParser.getVersion());
        System.out.println("# by scripts/schemas/SchemaDump.java. Do not edit by hand; rerun that program.");
        System.out.println("#");
        System.out.println("# line   key name request|response versions header-version fields");
        System.out.println("# field  name:type, or {tag=name:type ...} where tagged fields may follow");
        System.out.println("# type   bool i8 i16 u16 i32 u32 i64 f64 uuid str bytes records, [element], (fields)");
        System.out.println("#        ~ before a type: compact length; ? after a type: may be null");
        for (ApiMessageType api : ApiMessageType.values()) {
            print(api, "request", api.requestSchemas());
            print(api, "response", api.responseSchemas());
        }
    }

    // One line per run of versions with the same header version and the same fields.
    private static void print(ApiMessageType api, String kind, Schema[] schemas) {
        short last = api.highestSupportedVersion(true);
        short from = api.lowestSupportedVersion();
        for (short version = from; version <= last; version++) {
            String shape = line(api, kind, schemas, version);
            boolean runEnds = version == last || !line(api, kind, schemas, (short) (version + 1)).equals(shape);
            if (runEnds) {
                System.out.printf("%d %s %s %d-%d %s%n", api.apiKey(), api.name, kind, from, version, shape);
                from = (short) (version + 1);
            }
        }
    }

    private static String line(ApiMessageType api, String kind, Schema[] schemas, short version) {
        short header = kind.equals("request") ? api.requestHeaderVersion(version) : api.responseHeaderVersion(version);
        return (header + " " + fields(schemas[version])).stripTrailing();
    }

    private static String fields(Schema schema) {
        List<String> parts = new ArrayList<>();
        for (BoundField bound : schema.fields()) {
            Field field = bound.def;
            if (field.type instanceof TaggedFields) {
                parts.add(tagged((TaggedFields) field.type));
            } else {
                parts.add(field.name + ":" + type(field.type));
            }
        }
        return String.join(" ", parts);
    }

    private static String tagged(TaggedFields type) {
        List<String> parts = new ArrayList<>();
        for (Map.Entry<Integer, Field> entry : new TreeMap<>(type.fields()).entrySet()) {
            parts.add(entry.getKey() + "=" + entry.getValue().name + ":" + type(entry.getValue().type));
        }
        return "{" + String.join(" ", parts) + "}";
    }

    private static String type(Type type) {
        String nullable = type.isNullable() ? "?" : "";
        if (type instanceof Schema) {
            return "(" + fields((Schema) type) + ")" + nullable;
        }
        if (type.isArray()) {
            String compact = type instanceof CompactArrayOf ? "~" : "";
            return compact + "[" + type(type.arrayElementType().get()) + "]" + nullable;
        }
        String name = NAMES.get(type.toString());
        if (name == null) {
            throw new IllegalStateException("no name for the type " + type);
        }
        return name;
    }
}
