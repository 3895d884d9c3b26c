package ottla.compat;

import static ottla.compat.Clients.LIMIT_S;
import static ottla.compat.Clients.consumer;
import static ottla.compat.Clients.control;
import static ottla.compat.Clients.places;
import static ottla.compat.Clients.producer;
import static ottla.compat.Clients.read;
import static ottla.compat.Clients.readAll;
import static ottla.compat.Clients.sendNumbers;
import static ottla.compat.Report.require;

import java.io.IOException;
import java.io.InputStream;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.OffsetAndTimestamp;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.TopicExistsException;

/** Kafka's Java client, unmodified, through the checks of compat-tests/harness/scenario.py. */
public final class Main {
    private static final int RECORDS = 200;
    private static final int PARTITIONS = 3;

    private final Admin admin;

    private Main(Admin admin) {
        this.admin = admin;
    }

    public static void main(String[] arguments) throws IOException {
        System.out.println("# kafka-clients " + libraryVersion());
        Report report = new Report();
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", Clients.BOOTSTRAP))) {
            Main checks = new Main(admin);
            report.check("topics", checks::topics);
            for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
                report.check("codec-" + codec, () -> checks.codec(codec));
            }
            report.check("append-time", checks::appendTime);
            report.check("group-of-three", () -> checks.group("group-range", "RangeAssignor"));
            report.check("group-cooperative", () -> checks.group("group-sticky", "CooperativeStickyAssignor"));
            report.check("commit-resume", checks::commitResume);
            report.check("seek", checks::seek);
            report.check("restart-resume", checks::restartResume);
            report.check("idempotence", checks::idempotence);
            report.check("administration", checks::administration);
        }
        System.exit(report.exitCode());
    }

    /** What the jar says of itself; the class that reads it is not the same one in all three versions. */
    private static String libraryVersion() throws IOException {
        Properties said = new Properties();
        try (InputStream text = Admin.class.getResourceAsStream("/kafka/kafka-version.properties")) {
            said.load(text);
        }
        return said.getProperty("version");
    }

    private void create(String topic, int partitions, Map<String, String> settings) throws Exception {
        NewTopic wanted = new NewTopic(topic, partitions, (short) 1).configs(settings);
        admin.createTopics(List.of(wanted)).all().get(LIMIT_S, TimeUnit.SECONDS);
    }

    private String setting(String topic, String key) throws Exception {
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        Config answer = admin.describeConfigs(List.of(resource)).all().get(LIMIT_S, TimeUnit.SECONDS).get(resource);
        return answer.get(key).value();
    }

    private Set<String> names() throws Exception {
        return admin.listTopics().names().get(LIMIT_S, TimeUnit.SECONDS);
    }

    private void topics() throws Exception {
        create("topics-a", PARTITIONS, Map.of("retention.ms", "86400000", "cleanup.policy", "delete"));
        try {
            create("topics-a", 1, Map.of());
            throw new AssertionError("creating a topic twice succeeded");
        } catch (ExecutionException expected) {
            require(expected.getCause() instanceof TopicExistsException, "creating twice: %s", expected.getCause());
        }
        // Whoever is asked may hear of it a moment later than the controller that decided it.
        long until = System.nanoTime() + TimeUnit.SECONDS.toNanos(LIMIT_S);
        while (!names().contains("topics-a")) {
            require(System.nanoTime() < until, "the new topic is not listed");
        }
        require(setting("topics-a", "retention.ms").equals("86400000"), "retention.ms is not what was asked for");
        var described = admin.describeTopics(List.of("topics-a")).allTopicNames().get(LIMIT_S, TimeUnit.SECONDS);
        require(described.get("topics-a").partitions().size() == PARTITIONS, "the topic has the wrong size");
    }

    private void codec(String codec) throws Exception {
        String topic = "codec-" + codec;
        create(topic, PARTITIONS, Map.of());
        List<ProducerRecord<byte[], byte[]>> samples = new ArrayList<>();
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        try (KafkaProducer<byte[], byte[]> producer = producer(codec, false)) {
            for (int i = 0; i < RECORDS; i++) {
                samples.add(Samples.sample(topic, i % PARTITIONS, i));
                sent.add(producer.send(samples.get(i)));
            }
        }
        for (int i = 0; i < RECORDS; i++) {
            long offset = sent.get(i).get(LIMIT_S, TimeUnit.SECONDS).offset();
            require(offset == i / PARTITIONS, "record %d was acknowledged at %d", i, offset);
        }
        List<List<ConsumerRecord<byte[], byte[]>>> got = readAll(topic, PARTITIONS);
        int count = got.stream().mapToInt(List::size).sum();
        require(count == RECORDS, "%d records read, %d sent", count, RECORDS);
        for (int i = 0; i < RECORDS; i++) {
            Samples.same(samples.get(i), got.get(i % PARTITIONS).get(i / PARTITIONS));
        }
    }

    private void appendTime() throws Exception {
        create("append-time", 1, Map.of("message.timestamp.type", "LogAppendTime"));
        long before = System.currentTimeMillis();
        try (KafkaProducer<byte[], byte[]> producer = producer("none", false)) {
            sendNumbers(producer, "append-time", 1, 0, 20);
        }
        long after = System.currentTimeMillis();
        for (ConsumerRecord<byte[], byte[]> record : readAll("append-time", 1).get(0)) {
            require(before <= record.timestamp() && record.timestamp() <= after, "timestamp %d", record.timestamp());
        }
    }

    private void group(String topic, String assignor) throws Exception {
        create(topic, 6, Map.of());
        new Group(topic, "org.apache.kafka.clients.consumer." + assignor).growAndShrink();
    }

    private void commitResume() throws Exception {
        create("commit", PARTITIONS, Map.of());
        try (KafkaProducer<byte[], byte[]> producer = producer("none", false)) {
            sendNumbers(producer, "commit", PARTITIONS, 0, 90);
        }
        Map<TopicPartition, OffsetAndMetadata> half = new HashMap<>();
        places("commit", PARTITIONS).forEach(place -> half.put(place, new OffsetAndMetadata(15, "half way")));
        try (KafkaConsumer<byte[], byte[]> first = consumer("resume", null)) {
            first.subscribe(List.of("commit"));
            read(first, 90);
            first.commitSync(half);
            Map<TopicPartition, OffsetAndMetadata> committed = first.committed(half.keySet());
            for (OffsetAndMetadata each : committed.values()) {
                require(each.offset() == 15 && each.metadata().equals("half way"), "committed %s", each);
            }
        }
        try (KafkaConsumer<byte[], byte[]> second = consumer("resume", null)) {
            second.subscribe(List.of("commit"));
            Set<String> seen = new HashSet<>();
            for (ConsumerRecord<byte[], byte[]> record : read(second, 45)) {
                require(record.offset() >= 15, "the second consumer read offset %d", record.offset());
                seen.add(record.partition() + "@" + record.offset());
            }
            require(seen.size() == 45, "%d different records", seen.size());
        }
    }

    private void seek() throws Exception {
        create("seek", 1, Map.of());
        try (KafkaProducer<byte[], byte[]> producer = producer("none", false)) {
            for (int i = 0; i < 100; i++) {
                producer.send(Samples.sample("seek", 0, i));
            }
        }
        TopicPartition place = new TopicPartition("seek", 0);
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(null, null)) {
            consumer.assign(List.of(place));
            consumer.seekToBeginning(List.of(place));
            read(consumer, 100);
            consumer.seek(place, 40);
            require(read(consumer, 1).get(0).offset() == 40, "seeking to 40 went elsewhere");
            consumer.seekToBeginning(List.of(place));
            require(read(consumer, 1).get(0).offset() == 0, "seeking to the beginning went elsewhere");
            // Between two records: the later one is meant.
            OffsetAndTimestamp found = consumer.offsetsForTimes(Map.of(place, Samples.BASE_MS + 60_500)).get(place);
            require(found.offset() == 61, "the offset for a time between 60 and 61 is %d", found.offset());
            require(found.timestamp() == Samples.BASE_MS + 61_000, "its timestamp is %d", found.timestamp());
            consumer.seek(place, found.offset());
            require(read(consumer, 1).get(0).offset() == 61, "seeking to a time went elsewhere");
            require(consumer.offsetsForTimes(Map.of(place, Samples.BASE_MS + 3_000_000)).get(place) == null,
                "there is an offset for a time after the last record");
        }
    }

    private void restartResume() throws Exception {
        create("restart", PARTITIONS, Map.of());
        Set<TopicPartition> places = new HashSet<>(places("restart", PARTITIONS));
        Map<String, Integer> seen = new HashMap<>();
        int sent = 0;
        try (KafkaProducer<byte[], byte[]> producer = producer("lz4", false);
                KafkaConsumer<byte[], byte[]> consumer = consumer("survivor", null)) {
            consumer.subscribe(List.of("restart"));
            for (String word : List.of("restart", "restart", "crash", "crash")) {
                sendNumbers(producer, "restart", PARTITIONS, sent, sent + 60);
                sent += 60;
                commitEverything(consumer, places, seen, sent);
                // The same producer and the same consumer go on afterwards as if nothing had happened.
                control(word);
            }
        }
        require(new TreeSet<>(seen.values()).size() == sent && seen.size() == sent, "read %d of %d", seen.size(), sent);
        try (KafkaProducer<byte[], byte[]> producer = producer("none", false);
                KafkaConsumer<byte[], byte[]> late = consumer("survivor", null)) {
            late.subscribe(List.of("restart"));
            sendNumbers(producer, "restart", PARTITIONS, sent, sent + 3);
            for (ConsumerRecord<byte[], byte[]> record : read(late, 3)) {
                require(Samples.number(record) >= sent, "the group resumed too early, at %d", Samples.number(record));
            }
        }
    }

    /** Reads and commits until the broker says that everything sent is committed; a member may have to rejoin. */
    private static void commitEverything(KafkaConsumer<byte[], byte[]> consumer, Set<TopicPartition> places,
            Map<String, Integer> seen, int sent) {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(LIMIT_S);
        long committed = 0;
        while (seen.size() < sent || committed < sent) {
            require(System.nanoTime() < deadline, "read %d, committed %d of %d", seen.size(), committed, sent);
            consumer.poll(Duration.ofMillis(100))
                .forEach(record -> seen.put(record.partition() + "@" + record.offset(), Samples.number(record)));
            Clients.commitIfPossible(consumer);
            committed = consumer.committed(places).values().stream()
                .mapToLong(each -> each == null ? 0 : each.offset()).sum();
        }
    }

    private void idempotence() throws Exception {
        create("idempotent", PARTITIONS, Map.of());
        int count = 6000;
        List<Throwable> errors = Collections.synchronizedList(new ArrayList<>());
        Thread crash = new Thread(() -> { });
        // A bound on what is unacknowledged, so that a crash meets a stream and not a queue.
        Semaphore room = new Semaphore(500);
        try (KafkaProducer<byte[], byte[]> producer = producer("none", true)) {
            for (int n = 0; n < count; n++) {
                require(room.tryAcquire(LIMIT_S, TimeUnit.SECONDS), "nothing acknowledged for %d s", LIMIT_S);
                producer.send(Samples.number("idempotent", n % PARTITIONS, n), (metadata, error) -> {
                    room.release();
                    if (error != null) {
                        errors.add(error);
                    }
                });
                if (n == 1500 || n == 4000) {
                    crash.join();
                    crash = new Thread(() -> {
                        try {
                            control("crash");
                        } catch (Exception error) {
                            errors.add(error);
                        }
                    });
                    crash.start();
                }
            }
            crash.join();
            producer.flush();
        }
        require(errors.isEmpty(), "%d errors, first: %s", errors.size(), errors.isEmpty() ? "" : errors.get(0));
        List<List<ConsumerRecord<byte[], byte[]>>> got = readAll("idempotent", PARTITIONS);
        for (int p = 0; p < PARTITIONS; p++) {
            require(got.get(p).size() == count / PARTITIONS, "partition %d has %d records", p, got.get(p).size());
            for (int n = 0; n < got.get(p).size(); n++) {
                int value = Samples.number(got.get(p).get(n));
                require(value == n * PARTITIONS + p, "partition %d: %d at offset %d", p, value, n);
            }
        }
    }

    private void administration() throws Exception {
        create("admin", 1, Map.of());
        admin.createPartitions(Map.of("admin", NewPartitions.increaseTo(3))).all().get(LIMIT_S, TimeUnit.SECONDS);
        try (KafkaProducer<byte[], byte[]> producer = producer("none", false)) {
            sendNumbers(producer, "admin", 3, 0, 30);
        }
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, "admin");
        ConfigEntry larger = new ConfigEntry("max.message.bytes", "2000000");
        AlterConfigOp set = new AlterConfigOp(larger, AlterConfigOp.OpType.SET);
        admin.incrementalAlterConfigs(Map.of(resource, List.of(set))).all().get(LIMIT_S, TimeUnit.SECONDS);
        // Whoever is asked may hear of it a moment later than the controller that decided it.
        long until = System.nanoTime() + TimeUnit.SECONDS.toNanos(LIMIT_S);
        while (!setting("admin", "max.message.bytes").equals("2000000")) {
            require(System.nanoTime() < until, "the altered setting is not read back");
        }
        TopicPartition place = new TopicPartition("admin", 0);
        long low = admin.deleteRecords(Map.of(place, RecordsToDelete.beforeOffset(4))).lowWatermarks().get(place)
            .get(LIMIT_S, TimeUnit.SECONDS).lowWatermark();
        require(low == 4, "deleting records answered %d", low);
        try (KafkaConsumer<byte[], byte[]> consumer = consumer("admin-group", null)) {
            consumer.subscribe(List.of("admin"));
            for (ConsumerRecord<byte[], byte[]> record : read(consumer, 26)) {
                require(record.partition() != 0 || record.offset() >= 4, "a deleted record was read");
            }
            consumer.commitSync();
        }
        var groups = admin.describeConsumerGroups(List.of("admin-group")).all().get(LIMIT_S, TimeUnit.SECONDS);
        require(groups.get("admin-group").members().isEmpty(), "the group still has members");
        admin.deleteConsumerGroups(List.of("admin-group")).all().get(LIMIT_S, TimeUnit.SECONDS);
        admin.deleteTopics(List.of("admin")).all().get(LIMIT_S, TimeUnit.SECONDS);
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(LIMIT_S);
        while (names().contains("admin")) {
            require(System.nanoTime() < deadline, "the deleted topic is still listed");
        }
    }
}
