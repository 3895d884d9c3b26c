package ottla.compat;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;

/** The records of compat-tests/harness/records.py: record i is a function of i, and every shape occurs. */
final class Samples {
    /** One second apart and an hour ago: explicit, but far from every retention and future-timestamp rule. */
    static final long BASE_MS = (System.currentTimeMillis() / 1000 - 3600) * 1000;

    private Samples() {
    }

    static ProducerRecord<byte[], byte[]> sample(String topic, int partition, int i) {
        byte[] key = i % 7 == 3 ? null : bytes("key-" + i);
        byte[] value = new byte[10 + (i * 37) % 2000];
        for (int j = 0; j < value.length; j++) {
            value[j] = (byte) (i * 31 + j * 7);
        }
        if (i % 13 == 6) {
            value = new byte[0];
        }
        if (i % 11 == 5) {
            key = bytes("gone-" + i);
            value = null;
        }
        List<Header> headers = new ArrayList<>();
        if (i % 2 == 0) {
            headers.add(new RecordHeader("trace", bytes("t-" + i)));
            headers.add(new RecordHeader("empty", new byte[0]));
            headers.add(new RecordHeader("trace", bytes("again")));
            headers.add(new RecordHeader("nothing", (byte[]) null));
        }
        return new ProducerRecord<>(topic, partition, BASE_MS + i * 1000L, key, value, headers);
    }

    /** A record that carries only a number, for checks in which nothing else matters. */
    static ProducerRecord<byte[], byte[]> number(String topic, int partition, int n) {
        return new ProducerRecord<>(topic, partition, null, bytes(Integer.toString(n)));
    }

    static int number(ConsumerRecord<byte[], byte[]> record) {
        return Integer.parseInt(new String(record.value(), StandardCharsets.UTF_8));
    }

    /** Raises unless what was read is what was sent, naming the first field that differs. */
    static void same(ProducerRecord<byte[], byte[]> sent, ConsumerRecord<byte[], byte[]> got) {
        String where = got.topic() + "-" + got.partition() + "@" + got.offset();
        Report.require(Arrays.equals(sent.key(), got.key()), "%s: key differs", where);
        Report.require(Arrays.equals(sent.value(), got.value()), "%s: value differs", where);
        Report.require(sent.timestamp() == got.timestamp(), "%s: timestamp differs", where);
        Header[] want = sent.headers().toArray();
        Header[] have = got.headers().toArray();
        Report.require(want.length == have.length, "%s: %d headers, sent %d", where, have.length, want.length);
        for (int h = 0; h < want.length; h++) {
            boolean equal = want[h].key().equals(have[h].key()) && Arrays.equals(want[h].value(), have[h].value());
            Report.require(equal, "%s: header %d differs", where, h);
        }
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }
}
