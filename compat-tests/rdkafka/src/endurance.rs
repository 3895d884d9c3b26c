//! The checks in which the broker restarts or things are deleted.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::{Duration, Instant};

use crate::Checked;
use crate::client::{Admin, Consumer, LIMIT, PARTITIONS, Producer, fill, read_all};
use crate::report::{control, require};
use crate::samples::{number, number_of};

/// What was read, by partition and offset.
type Seen = BTreeMap<(i32, i64), usize>;

pub fn restart_resume(admin: &Admin) -> Checked {
    admin.create("restart", PARTITIONS, &[])?;
    let producer = Producer::new("lz4", false)?;
    let consumer = Consumer::member("survivor", "restart")?;
    let (mut seen, mut sent) = (Seen::new(), 0);
    for word in ["restart", "restart", "crash", "crash"] {
        producer.send_numbers("restart", PARTITIONS, sent..sent + 60)?;
        sent += 60;
        commit_everything(&consumer, &mut seen, sent)?;
        // The same producer and the same consumer go on afterwards as if nothing had happened.
        control(word)?;
    }
    drop(consumer);
    let different: BTreeSet<_> = seen.values().collect();
    require(seen.len() == sent && different.len() == sent, || format!("sent {sent}, read {}", different.len()))?;
    let late = Consumer::member("survivor", "restart")?;
    producer.send_numbers("restart", PARTITIONS, sent..sent + 3)?;
    for r in late.read(3)? {
        let n = number_of(&r.record)?;
        require(n >= sent, || format!("the group resumed too early, at {n}"))?;
    }
    Ok(())
}

/// Reads and commits until the broker says that everything sent is committed; a member may have to rejoin.
fn commit_everything(consumer: &Consumer, seen: &mut Seen, sent: usize) -> Checked {
    let deadline = Instant::now() + LIMIT;
    let mut committed = 0;
    while seen.len() < sent || committed < sent as i64 {
        require(Instant::now() < deadline, || format!("read {}, committed {committed} of {sent}", seen.len()))?;
        for r in consumer.poll(Duration::from_millis(100))? {
            seen.insert((r.partition, r.offset), number_of(&r.record)?);
        }
        consumer.commit_if_possible()?;
        // A broker that has just started may not say yet.
        committed = consumer.committed("restart", PARTITIONS).map_or(0, |offsets| offsets.iter().sum());
    }
    Ok(())
}

pub fn idempotence(admin: &Admin) -> Checked {
    const COUNT: usize = 6000;
    admin.create("idempotent", PARTITIONS, &[])?;
    let producer = Producer::new("none", true)?;
    let join = |crash: thread::JoinHandle<Checked>| crash.join().map_err(|_| "the control line panicked")?;
    let mut crash: Option<thread::JoinHandle<Checked>> = None;
    for n in 0..COUNT {
        producer.send("idempotent", i32::try_from(n % PARTITIONS)?, &number(n))?;
        if n == 1500 || n == 4000 {
            crash.take().map(join).transpose()?;
            crash = Some(thread::spawn(|| control("crash")));
        }
    }
    crash.take().map(join).transpose()?;
    producer.flush()?;
    for (partition, found) in read_all("idempotent", PARTITIONS)?.iter().enumerate() {
        require(found.len() == COUNT / PARTITIONS, || format!("partition {partition}: {} records", found.len()))?;
        for (n, r) in found.iter().enumerate() {
            let have = number_of(&r.record)?;
            require(have == n * PARTITIONS + partition, || format!("partition {partition}: {have} at offset {n}"))?;
        }
    }
    Ok(())
}

pub fn administration(admin: &Admin) -> Checked {
    admin.create("admin", 1, &[])?;
    admin.grow("admin", 3)?;
    // Of several brokers the one that is asked may hear of a change after the one that was told.
    let deadline = Instant::now() + LIMIT;
    while admin.partitions("admin")? < 3 {
        require(Instant::now() < deadline, || "the new partitions are not listed".to_owned())?;
    }
    fill("admin", 3, 30)?;
    admin.alter("admin", "max.message.bytes", "2000000")?;
    let deadline = Instant::now() + LIMIT;
    while admin.setting("admin", "max.message.bytes")?.as_deref() != Some("2000000") {
        require(Instant::now() < deadline, || "the altered setting is not read back".to_owned())?;
    }
    admin.delete_records("admin", 0, 4)?;
    let consumer = Consumer::member("admin-group", "admin")?;
    for r in consumer.read(26)? {
        require(r.partition != 0 || r.offset >= 4, || "a deleted record was read".to_owned())?;
    }
    consumer.commit_if_possible()?;
    drop(consumer);
    admin.delete_group("admin-group")?;
    admin.delete("admin")?;
    let deadline = Instant::now() + LIMIT;
    while admin.exists("admin")? {
        require(Instant::now() < deadline, || "the deleted topic is still listed".to_owned())?;
    }
    Ok(())
}
