package ottla.compat;

import java.time.Duration;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Deque;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.TimeUnit;
import java.util.function.BooleanSupplier;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.common.TopicPartition;

/**
 * A group that grows from one member to three and shrinks to one, under load; compat-tests/harness/groups.py says more.
 * At each size the members own every partition once in equal shares; every record that was produced is read.
 */
final class Group {
    private static final int PARTITIONS = 6;
    private static final int PER_SIZE = 300;
    private static final int LIMIT_S = 90;

    private final String topic;
    private final String assignor;
    private final Map<Integer, Set<Integer>> owned = new HashMap<>();
    private final Map<String, Integer> read = new HashMap<>();
    private Throwable error;
    private int sent;
    private volatile boolean loading = true;

    Group(String topic, String assignor) {
        this.topic = topic;
        this.assignor = assignor;
    }

    private final class Member extends Thread {
        private final int name;
        private volatile boolean leaving;

        Member(int name) {
            this.name = name;
            setDaemon(true);
        }

        @Override
        public void run() {
            try (KafkaConsumer<byte[], byte[]> consumer = Clients.consumer(topic, assignor)) {
                consumer.subscribe(List.of(topic));
                while (!leaving) {
                    note(name, consumer.poll(Duration.ofMillis(200)), consumer.assignment());
                    Clients.commitIfPossible(consumer);
                }
            } catch (Throwable failure) {
                fail(failure);
            } finally {
                forget(name);
            }
        }

        void leave() throws InterruptedException {
            leaving = true;
            join(TimeUnit.SECONDS.toMillis(LIMIT_S));
        }
    }

    private synchronized void note(int member, Iterable<ConsumerRecord<byte[], byte[]>> records,
            Set<TopicPartition> assigned) {
        Set<Integer> partitions = new HashSet<>();
        assigned.forEach(place -> partitions.add(place.partition()));
        owned.put(member, partitions);
        for (ConsumerRecord<byte[], byte[]> record : records) {
            read.put(record.partition() + "@" + record.offset(), Samples.number(record));
        }
        notifyAll();
    }

    private synchronized void forget(int member) {
        owned.remove(member);
        notifyAll();
    }

    private synchronized void fail(Throwable failure) {
        error = failure;
        notifyAll();
    }

    private synchronized void await(String what, BooleanSupplier holds) throws Exception {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(LIMIT_S);
        while (!holds.getAsBoolean()) {
            if (error != null) {
                throw new AssertionError(what, error);
            }
            long left = TimeUnit.NANOSECONDS.toMillis(deadline - System.nanoTime());
            Report.require(left > 0, "%s: owned %s, read %d", what, owned, read.size());
            wait(left);
        }
    }

    private boolean shares(int... sizes) {
        Set<Integer> all = new TreeSet<>();
        owned.values().forEach(all::addAll);
        int[] have = owned.values().stream().mapToInt(Set::size).sorted().toArray();
        return Arrays.equals(have, sizes) && all.size() == PARTITIONS;
    }

    private void load() {
        try (KafkaProducer<byte[], byte[]> producer = Clients.producer("none", true)) {
            while (loading) {
                Clients.sendNumbers(producer, topic, PARTITIONS, sent, sent + PARTITIONS);
                sent += PARTITIONS;
                synchronized (this) {
                    wait(10); // paces the load, so that the last member has something to read
                }
            }
        } catch (Throwable failure) {
            fail(failure);
        }
    }

    private void awaitProgress() throws Exception {
        int goal;
        synchronized (this) {
            goal = read.size() + PER_SIZE;
        }
        await("progress", () -> read.size() >= goal);
    }

    /** The check itself. The topic must have six partitions. */
    void growAndShrink() throws Exception {
        Thread producer = new Thread(this::load);
        producer.setDaemon(true);
        producer.start();
        Deque<Member> members = new ArrayDeque<>();
        for (int[] sizes : new int[][] {{6}, {3, 3}, {2, 2, 2}}) {
            Member member = new Member(members.size());
            members.push(member);
            member.start();
            await("growing to " + sizes.length, () -> shares(sizes));
            awaitProgress();
        }
        for (int[] sizes : new int[][] {{3, 3}, {6}}) {
            members.pop().leave();
            await("shrinking to " + sizes.length, () -> shares(sizes));
            awaitProgress();
        }
        loading = false;
        producer.join(TimeUnit.SECONDS.toMillis(LIMIT_S));
        await("reading the rest", () -> read.size() >= sent);
        members.pop().leave();
        List<Integer> values = new ArrayList<>(new TreeSet<>(read.values()));
        Report.require(read.size() == sent && values.size() == sent && values.get(sent - 1) == sent - 1,
            "sent %d records, read %d different ones", sent, values.size());
    }
}
