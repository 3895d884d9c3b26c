package ottla.compat;

import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;
import java.util.function.Predicate;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.JoinWindows;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.TimeWindows;

/**
 * Kafka Streams, at least once: jobs whose results are computed here a second time and compared. A clean end commits
 * everything, so a job that is restarted cleanly counts exactly; over crashes of the broker it may count again.
 */
public final class Streams {
    private static final int PARTITIONS = 4;
    private static final Duration JOIN_DISTANCE = Duration.ofMillis(500);
    private static final Duration WINDOW = Duration.ofMinutes(1);
    private static final Duration GRACE = Duration.ofHours(1);

    private static Admin admin;

    private Streams() {
    }

    public static void main(String[] arguments) {
        int lines = Integer.parseInt(arguments[0]);
        Report report = new Report();
        admin = Admin.create(Map.of("bootstrap.servers", Clients.BOOTSTRAP));
        report.check("word-count", () -> wordCount(lines));
        report.check("internal-topics", Streams::internalTopics);
        report.check("windows", Streams::windows);
        report.check("broker-restarts", () -> brokerRestarts(lines));
        report.check("reset", Streams::reset);
        admin.close();
        System.exit(report.exitCode());
    }

    /** Half the lines, then a new instance without any state of the first: it restores the store from its changelog. */
    private static void wordCount(int lines) throws Exception {
        create("lines", PARTITIONS, Map.of());
        create("counts", PARTITIONS, Map.of("cleanup.policy", "compact"));
        Map<String, Long> expected = new TreeMap<>();
        Topology topology = counting("lines", "counts");
        try (Job first = new Job("word-count", "first", topology)) {
            sendLines("lines", 0, lines / 2, expected);
            await("counts", "half of the words", counts -> counts.equals(text(expected)));
        }
        sendLines("lines", lines / 2, lines / 2 + 50, expected); // while nobody counts
        try (Job second = new Job("word-count", "second", topology);
                Job third = new Job("word-count", "third", topology)) {
            sendLines("lines", lines / 2 + 50, lines, expected);
            await("counts", "all words", counts -> counts.equals(text(expected)));
        }
        require(total(latest("counts")) == 3L * lines, "not every word is counted once");
    }

    /** What Streams made for the job, with the settings it asked for. */
    private static void internalTopics() throws Exception {
        Set<String> topics = admin.listTopics().names().get(Clients.LIMIT_S, TimeUnit.SECONDS);
        String repartition = "word-count-words-repartition";
        String changelog = "word-count-store-changelog";
        require(topics.containsAll(List.of(repartition, changelog)), "internal topics are missing: " + topics);
        require(setting(repartition, "cleanup.policy").equals("delete"), "the repartition topic is not deleted from");
        require(setting(repartition, "retention.ms").equals("-1"), "the repartition topic expires");
        require(setting(changelog, "cleanup.policy").equals("compact"), "the changelog is not compacted");
        int partitions = admin.describeTopics(List.of(repartition)).allTopicNames()
                .get(Clients.LIMIT_S, TimeUnit.SECONDS).get(repartition).partitions().size();
        require(partitions == PARTITIONS, "the repartition topic has " + partitions + " partitions");
        // Streams deletes from it what it has processed, so it starts where it ends, or will.
        long end = Clients.places(repartition, PARTITIONS).stream().mapToLong(Streams::end).sum();
        require(end > 0, "nothing went through the repartition topic");
    }

    /** A join of two streams and a count by minute, over a clean restart that keeps the state directory. */
    private static void windows() throws Exception {
        for (String topic : List.of("left", "right", "joined", "by-minute")) {
            create(topic, 2, Map.of());
        }
        StreamsBuilder builder = new StreamsBuilder();
        KStream<String, String> left = builder.stream("left");
        KStream<String, String> right = builder.stream("right");
        left.join(right, (l, r) -> l + "+" + r, JoinWindows.ofTimeDifferenceAndGrace(JOIN_DISTANCE, GRACE))
                .map((key, pair) -> KeyValue.pair(pair, pair)).to("joined");
        left.groupByKey().windowedBy(TimeWindows.ofSizeAndGrace(WINDOW, GRACE)).count().toStream()
                .map((key, n) -> KeyValue.pair(key.key() + "@" + key.window().start(), n.toString())).to("by-minute");
        Topology topology = builder.build();
        Map<String, String> pairs = new TreeMap<>();
        Map<String, Long> minutes = new TreeMap<>();
        for (int half = 0; half < 2; half++) {
            try (Job job = new Job("windows", "kept", topology)) {
                sendPairs(half * 300, half * 300 + 300, pairs, minutes);
                await("joined", "pairs", found -> found.equals(pairs));
                await("by-minute", "counts by minute", found -> found.equals(text(minutes)));
            }
        }
    }

    /** The broker restarts and crashes while the job runs: no word is lost; some may be counted again. */
    private static void brokerRestarts(int lines) throws Exception {
        create("more-lines", PARTITIONS, Map.of());
        create("more-counts", PARTITIONS, Map.of("cleanup.policy", "compact"));
        Map<String, Long> expected = new TreeMap<>();
        try (Job job = new Job("survivor", "survivor", counting("more-lines", "more-counts"))) {
            // Once it runs: what a job meets that cannot make its topics is another matter, and takes minutes.
            int sent = lines / 4;
            sendLines("more-lines", 0, sent, expected);
            await("more-counts", "the first words", counts -> counts.equals(text(expected)));
            for (String word : List.of("restart", "crash", "crash")) {
                sendLines("more-lines", sent, sent + lines / 4, expected);
                sent += lines / 4;
                Clients.control(word); // whatever the job has done by then
            }
            await("more-counts", "all words at least once", counts -> expected.entrySet().stream()
                    .allMatch(e -> Long.parseLong(counts.getOrDefault(e.getKey(), "0")) >= e.getValue()));
        }
        long again = total(latest("more-counts")) - 3L * lines;
        System.out.println("figure words-counted-again " + again + " words");
    }

    /** A job that ended can be wiped: its group and its topics deleted; it then counts from the start again. */
    private static void reset() throws Exception {
        admin.deleteConsumerGroups(List.of("word-count")).all().get(Clients.LIMIT_S, TimeUnit.SECONDS);
        List<String> internal = List.of("word-count-words-repartition", "word-count-store-changelog", "counts");
        admin.deleteTopics(internal).all().get(Clients.LIMIT_S, TimeUnit.SECONDS);
        Map<String, Long> expected = new TreeMap<>();
        read("lines", record -> count(record.value(), expected));
        create("recounts", PARTITIONS, Map.of("cleanup.policy", "compact"));
        try (Job again = new Job("word-count", "again", counting("lines", "recounts"))) {
            await("recounts", "all words anew", counts -> counts.equals(text(expected)));
        }
    }

    /** Words of lines, repartitioned by word and counted in a store. */
    private static Topology counting(String from, String to) {
        StreamsBuilder builder = new StreamsBuilder();
        builder.<String, String>stream(from)
                .flatMapValues(line -> Arrays.asList(line.split(" ")))
                .groupBy((key, word) -> word, Grouped.as("words"))
                .count(Materialized.as("store"))
                .toStream().mapValues(n -> n.toString()).to(to);
        return builder.build();
    }

    /** One running instance of a job. */
    private static final class Job implements AutoCloseable {
        private final KafkaStreams inner;
        private volatile Throwable failure;

        Job(String application, String directory, Topology topology) {
            Properties settings = new Properties();
            settings.put("bootstrap.servers", Clients.BOOTSTRAP);
            settings.put("application.id", application);
            settings.put("processing.guarantee", "at_least_once");
            settings.put("state.dir", Path.of(System.getenv("OTTLA_WORK"), "state-" + directory).toString());
            settings.put("num.stream.threads", 2);
            settings.put("commit.interval.ms", 200);
            settings.put("default.key.serde", Serdes.StringSerde.class);
            settings.put("default.value.serde", Serdes.StringSerde.class);
            settings.put("auto.offset.reset", "earliest");
            settings.put("session.timeout.ms", 10000);
            settings.put("heartbeat.interval.ms", 500);
            settings.put("reconnect.backoff.max.ms", 500);
            inner = new KafkaStreams(topology, settings);
            inner.setUncaughtExceptionHandler(error -> {
                failure = error;
                error.printStackTrace(System.out);
                return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
            });
            inner.start();
        }

        @Override
        public void close() {
            boolean ended = inner.close(Duration.ofSeconds(Clients.LIMIT_S));
            require(failure == null, "the job failed: " + failure);
            require(ended, "the job did not end");
        }
    }

    private static void create(String topic, int partitions, Map<String, String> settings) throws Exception {
        NewTopic wanted = new NewTopic(topic, partitions, (short) 1).configs(settings);
        admin.createTopics(List.of(wanted)).all().get(Clients.LIMIT_S, TimeUnit.SECONDS);
        // A broker may answer before its metadata has the topic; whoever asks about it next must find it.
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(Clients.LIMIT_S);
        while (!admin.listTopics().names().get(Clients.LIMIT_S, TimeUnit.SECONDS).contains(topic)) {
            require(System.nanoTime() < deadline, "the new topic " + topic + " is not listed");
        }
    }

    private static String setting(String topic, String key) throws Exception {
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        Map<ConfigResource, Config> found =
                admin.describeConfigs(List.of(resource)).all().get(Clients.LIMIT_S, TimeUnit.SECONDS);
        return found.get(resource).get(key).value();
    }

    private static String line(int i) {
        return "a" + i * 7 % 97 + " b" + i * 13 % 89 + " c" + i % 53;
    }

    private static void count(byte[] line, Map<String, Long> into) {
        for (String word : new String(line, StandardCharsets.UTF_8).split(" ")) {
            into.merge(word, 1L, Long::sum);
        }
    }

    /** Sends lines, waits until they are acknowledged, and adds their words to what is expected. */
    private static void sendLines(String topic, int from, int until, Map<String, Long> expected) throws Exception {
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        try (KafkaProducer<byte[], byte[]> producer = Clients.producer("lz4", true)) {
            for (int i = from; i < until; i++) {
                byte[] line = Samples.bytes(line(i));
                sent.add(producer.send(new ProducerRecord<>(topic, i % PARTITIONS, null, line)));
                count(line, expected);
            }
        }
        for (Future<RecordMetadata> one : sent) {
            one.get(); // closing the producer has waited for it; a refusal is thrown here
        }
    }

    /** Pairs a fifth of a second apart; the next pair of the same key is 20 seconds later. */
    private static void sendPairs(int from, int until, Map<String, String> pairs, Map<String, Long> minutes) {
        try (KafkaProducer<byte[], byte[]> producer = Clients.producer("none", true)) {
            for (int i = from; i < until; i++) {
                String key = "k" + i % 20;
                long stamp = Samples.BASE_MS + i * 1000L;
                byte[] bytes = Samples.bytes(key);
                producer.send(new ProducerRecord<>("left", i % 2, stamp, bytes, Samples.bytes("l" + i)));
                producer.send(new ProducerRecord<>("right", i % 2, stamp + 200, bytes, Samples.bytes("r" + i)));
                pairs.put("l" + i + "+r" + i, "l" + i + "+r" + i);
                minutes.merge(key + "@" + stamp / WINDOW.toMillis() * WINDOW.toMillis(), 1L, Long::sum);
            }
        }
    }

    /** Follows a topic until the latest value of every key is as it should be. */
    private static void await(String topic, String what, Predicate<Map<String, String>> done) throws Exception {
        int partitions = admin.describeTopics(List.of(topic)).allTopicNames()
                .get(Clients.LIMIT_S, TimeUnit.SECONDS).get(topic).partitions().size();
        Map<String, String> latest = new TreeMap<>();
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(2 * Clients.LIMIT_S);
        try (KafkaConsumer<byte[], byte[]> consumer = Clients.consumer(null, null)) {
            consumer.assign(Clients.places(topic, partitions));
            consumer.seekToBeginning(consumer.assignment());
            while (!done.test(latest)) {
                require(System.nanoTime() < deadline, what + ": not reached, " + latest.size() + " keys");
                consumer.poll(Duration.ofMillis(500)).forEach(record -> note(record, latest));
            }
        }
    }

    private static void note(ConsumerRecord<byte[], byte[]> record, Map<String, String> latest) {
        String key = new String(record.key(), StandardCharsets.UTF_8);
        latest.put(key, new String(record.value(), StandardCharsets.UTF_8));
    }

    private static Map<String, String> latest(String topic) {
        Map<String, String> latest = new HashMap<>();
        read(topic, record -> note(record, latest));
        return latest;
    }

    /** Every record of a topic up to its end as it is now; a compacted one may have gaps. */
    private static void read(String topic, Consumer<ConsumerRecord<byte[], byte[]>> each) {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(Clients.LIMIT_S);
        try (KafkaConsumer<byte[], byte[]> consumer = Clients.consumer(null, null)) {
            var places = new ArrayList<>(Clients.places(topic, PARTITIONS));
            var ends = consumer.endOffsets(places);
            consumer.assign(places);
            consumer.seekToBeginning(places);
            while (places.stream().anyMatch(place -> consumer.position(place) < ends.get(place))) {
                require(System.nanoTime() < deadline, topic + " cannot be read to its end");
                consumer.poll(Duration.ofMillis(500)).forEach(each);
            }
        }
    }

    private static long end(TopicPartition place) {
        try (KafkaConsumer<byte[], byte[]> consumer = Clients.consumer(null, null)) {
            return consumer.endOffsets(List.of(place)).get(place);
        }
    }

    private static Map<String, String> text(Map<String, Long> counts) {
        Map<String, String> text = new TreeMap<>();
        counts.forEach((word, n) -> text.put(word, n.toString()));
        return text;
    }

    private static long total(Map<String, String> counts) {
        return counts.values().stream().mapToLong(Long::parseLong).sum();
    }

    private static void require(boolean holds, String why) {
        if (!holds) {
            throw new AssertionError(why);
        }
    }
}
