package ottla.compat;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RebalanceInProgressException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Producers and consumers with the settings of these checks, and the control line to the driver. */
final class Clients {
    static final String BOOTSTRAP = System.getenv("OTTLA_BOOTSTRAP");
    static final int LIMIT_S = 60;

    private Clients() {
    }

    static KafkaProducer<byte[], byte[]> producer(String codec, boolean idempotent) {
        Map<String, Object> settings = new HashMap<>();
        settings.put("bootstrap.servers", BOOTSTRAP);
        settings.put("compression.type", codec);
        settings.put("acks", "all");
        settings.put("enable.idempotence", idempotent);
        // Without idempotence a retried batch would otherwise land behind its successors, and order is checked.
        settings.put("max.in.flight.requests.per.connection", idempotent ? 5 : 1);
        settings.put("linger.ms", 5);
        settings.put("batch.size", idempotent ? 1000 : 16384); // many small batches for a crash to fall between
        settings.put("reconnect.backoff.max.ms", 500);
        return new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer());
    }

    static KafkaConsumer<byte[], byte[]> consumer(String group, String assignor) {
        Map<String, Object> settings = new HashMap<>();
        settings.put("bootstrap.servers", BOOTSTRAP);
        settings.put("auto.offset.reset", "earliest");
        settings.put("enable.auto.commit", false);
        settings.put("session.timeout.ms", 10000);
        settings.put("heartbeat.interval.ms", 500);
        settings.put("fetch.max.wait.ms", 100);
        settings.put("reconnect.backoff.max.ms", 500);
        if (group != null) {
            settings.put("group.id", group);
        }
        if (assignor != null) {
            settings.put("partition.assignment.strategy", assignor);
        }
        return new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    /** Polls until that many records are there; a deadline, not a pause, ends a wait for records that never come. */
    static List<ConsumerRecord<byte[], byte[]>> read(KafkaConsumer<byte[], byte[]> consumer, int count) {
        List<ConsumerRecord<byte[], byte[]>> got = new ArrayList<>();
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(LIMIT_S);
        while (got.size() < count) {
            Report.require(System.nanoTime() < deadline, "%d of %d records after %d s", got.size(), count, LIMIT_S);
            consumer.poll(Duration.ofMillis(500)).forEach(got::add);
        }
        return got;
    }

    /** Every record of a topic, by partition, from the first offset to the end as it is now. */
    static List<List<ConsumerRecord<byte[], byte[]>>> readAll(String topic, int partitions) {
        List<TopicPartition> places = places(topic, partitions);
        List<List<ConsumerRecord<byte[], byte[]>>> byPartition = new ArrayList<>();
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(null, null)) {
            Map<TopicPartition, Long> ends = consumer.endOffsets(places);
            consumer.assign(places);
            consumer.seekToBeginning(places);
            places.forEach(place -> byPartition.add(new ArrayList<>()));
            int total = ends.values().stream().mapToInt(Long::intValue).sum();
            read(consumer, total).forEach(record -> byPartition.get(record.partition()).add(record));
        }
        for (List<ConsumerRecord<byte[], byte[]>> records : byPartition) {
            for (int n = 0; n < records.size(); n++) {
                Report.require(records.get(n).offset() == n, "%s: offset %d is missing or out of order", topic, n);
            }
        }
        return byPartition;
    }

    static List<TopicPartition> places(String topic, int partitions) {
        List<TopicPartition> places = new ArrayList<>();
        for (int p = 0; p < partitions; p++) {
            places.add(new TopicPartition(topic, p));
        }
        return places;
    }

    /** Sends the numbers from..until as values, round robin over the partitions; waits for every acknowledgement. */
    static void sendNumbers(KafkaProducer<byte[], byte[]> producer, String topic, int partitions, int from, int until)
            throws Exception {
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        for (int n = from; n < until; n++) {
            sent.add(producer.send(Samples.number(topic, n % partitions, n)));
        }
        producer.flush();
        for (Future<RecordMetadata> one : sent) {
            one.get(LIMIT_S, TimeUnit.SECONDS);
        }
    }

    /** A commit that a rebalance may refuse; what it covered is then read again by the next owner. */
    static void commitIfPossible(KafkaConsumer<byte[], byte[]> consumer) {
        try {
            consumer.commitSync();
        } catch (CommitFailedException | RebalanceInProgressException refused) {
            // The next poll rejoins.
        }
    }

    /** Sends a word over the control line (harness/control.py) and waits until the broker is ready again. */
    static void control(String word) throws Exception {
        String[] address = System.getenv("OTTLA_CONTROL").split(":");
        try (Socket socket = new Socket(address[0], Integer.parseInt(address[1]))) {
            socket.getOutputStream().write((word + "\n").getBytes(StandardCharsets.UTF_8));
            InputStreamReader in = new InputStreamReader(socket.getInputStream(), StandardCharsets.UTF_8);
            String answer = new BufferedReader(in).readLine();
            Report.require(answer != null && answer.startsWith("ready"), "%s: %s", word, answer);
            System.out.println("# " + word + ": " + answer + " s");
        }
    }
}
