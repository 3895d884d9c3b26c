//! The checks that leave the broker alone.

use std::time::Instant;

use crate::Checked;
use crate::client::{Admin, Consumer, LIMIT, PARTITIONS, Producer, fill, read_all};
use crate::report::require;
use crate::samples::{base_ms, now_ms, same, sample};

const RECORDS: usize = 200;

pub fn topics(admin: &Admin) -> Checked {
    let values = [("retention.ms", "86400000"), ("cleanup.policy", "delete")];
    require(admin.create("topics-a", PARTITIONS, &values)?, || "the topic is there already".to_owned())?;
    require(!admin.create("topics-a", 1, &[])?, || "creating a topic twice succeeded".to_owned())?;
    // Of several brokers the one that is asked may hear of the topic after the one that was told.
    let deadline = Instant::now() + LIMIT;
    while !admin.exists("topics-a")? {
        require(Instant::now() < deadline, || "the new topic is not listed".to_owned())?;
    }
    let value = admin.setting("topics-a", "retention.ms")?;
    require(value.as_deref() == Some("86400000"), || format!("retention.ms is {value:?}"))
}

pub fn codec(admin: &Admin, codec: &str) -> Checked {
    let topic = format!("codec-{codec}");
    admin.create(&topic, PARTITIONS, &[])?;
    let producer = Producer::new(codec, false)?;
    for i in 0..RECORDS {
        producer.send(&topic, i32::try_from(i % PARTITIONS)?, &sample(i))?;
    }
    for (i, place) in producer.flush()?.into_iter().enumerate() {
        let want = (i32::try_from(i % PARTITIONS)?, i64::try_from(i / PARTITIONS)?);
        require(place == want, || format!("record {i} was acknowledged at {place:?}"))?;
    }
    let got = read_all(&topic, PARTITIONS)?;
    require(got.iter().map(Vec::len).sum::<usize>() == RECORDS, || "not as many records as sent".to_owned())?;
    for (partition, records) in got.iter().enumerate() {
        for (n, record) in records.iter().enumerate() {
            same(&sample(n * PARTITIONS + partition), record)?;
        }
    }
    Ok(())
}

pub fn append_time(admin: &Admin) -> Checked {
    admin.create("append-time", 1, &[("message.timestamp.type", "LogAppendTime")])?;
    let before = now_ms();
    fill("append-time", 1, 20)?;
    let after = now_ms();
    for r in &read_all("append-time", 1)?[0] {
        let stamp = r.record.timestamp_ms;
        require((before..=after).contains(&stamp), || format!("{stamp} is not the broker's time of appending"))?;
    }
    Ok(())
}

pub fn commit_resume(admin: &Admin) -> Checked {
    admin.create("commit", PARTITIONS, &[])?;
    fill("commit", PARTITIONS, 90)?;
    let first = Consumer::member("resume", "commit")?;
    first.read(90)?;
    // Half of each partition: what follows must be exactly the other half.
    first.commit("commit", &[(0, 15), (1, 15), (2, 15)])?;
    let committed = first.committed("commit", PARTITIONS)?;
    require(committed == [15; PARTITIONS], || format!("committed offsets are {committed:?}"))?;
    drop(first);
    let second = Consumer::member("resume", "commit")?;
    let mut rest: Vec<_> = second.read(45)?.iter().map(|r| (r.partition, r.offset)).collect();
    rest.sort_unstable();
    let want: Vec<_> = (0..3).flat_map(|p| (15..30).map(move |offset| (p, offset))).collect();
    require(rest == want, || "the second consumer did not resume at the committed offsets".to_owned())
}

pub fn seek(admin: &Admin) -> Checked {
    admin.create("seek", 1, &[])?;
    let producer = Producer::new("none", false)?;
    for i in 0..100 {
        producer.send("seek", 0, &sample(i))?;
    }
    producer.flush()?;
    let consumer = Consumer::alone()?;
    consumer.assign("seek", &[(0, 0)])?;
    consumer.read(100)?;
    // Between two records: the later one is meant.
    let found = consumer.offset_for_time("seek", 0, base_ms() + 60_500)?;
    require(found == Some(61), || format!("the offset for a time between 60 and 61 is {found:?}"))?;
    for to in [40, 0, 61] {
        consumer.seek("seek", 0, to)?;
        let next = consumer.read(1)?[0].offset;
        require(next == to, || format!("after seeking to {to} the next record is {next}"))?;
    }
    let late = consumer.offset_for_time("seek", 0, base_ms() + 3_000_000)?;
    require(late.is_none(), || format!("the offset for a time after the last record is {late:?}"))
}
