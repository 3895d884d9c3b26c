//! A group that grows from one member to three and shrinks to one, under load; compat-tests/harness/groups.py says
//! more. At each size the members own every partition once in equal shares; every record that was produced is read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::client::{Admin, Consumer, Producer};
use crate::samples::number_of;
use crate::{Checked, Failure};

const TOPIC: &str = "group-load";
const PARTITIONS: usize = 6;
const PER_SIZE: usize = 300;
const LIMIT: Duration = Duration::from_secs(90);

/// What the members own and have read.
#[derive(Default)]
struct State {
    owned: BTreeMap<usize, Vec<i32>>,
    read: BTreeMap<(i32, i64), usize>,
    failure: Option<Failure>,
}

impl State {
    fn shares(&self, sizes: &[usize]) -> bool {
        let mut have: Vec<usize> = self.owned.values().map(Vec::len).collect();
        have.sort_unstable();
        have == sizes && self.owned.values().flatten().collect::<BTreeSet<_>>().len() == PARTITIONS
    }
}

/// The state, and the announcement of every change of it.
#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn change(&self, update: impl FnOnce(&mut State)) {
        update(&mut self.state.lock().expect("nobody panics with it"));
        self.changed.notify_all();
    }

    /// Waits until the condition holds; fails at the deadline or when a thread failed.
    fn wait(&self, what: &str, holds: impl Fn(&State) -> bool) -> Checked {
        let state = self.state.lock().expect("nobody panics with it");
        let on = |state: &mut State| state.failure.is_none() && !holds(state);
        let (mut state, late) = self.changed.wait_timeout_while(state, LIMIT, on).expect("nobody panics with it");
        match state.failure.take() {
            Some(failure) => Err(failure),
            None if late.timed_out() => {
                Err(format!("{what}: owned {:?}, read {}", state.owned, state.read.len()).into())
            }
            None => Ok(()),
        }
    }

    fn progress(&self) -> Checked {
        let goal = self.state.lock().expect("nobody panics with it").read.len() + PER_SIZE;
        self.wait("progress", |state| state.read.len() >= goal)
    }
}

/// A thread that works until it is told to stop.
struct Worker {
    stopping: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Worker {
    /// `body` is given the question whether it goes on; its failure ends the check.
    fn start(
        shared: &Arc<Shared>,
        body: impl FnOnce(&Shared, &dyn Fn() -> bool) -> Checked + Send + 'static,
    ) -> Worker {
        let stopping = Arc::new(AtomicBool::new(false));
        let (shared, told) = (shared.clone(), stopping.clone());
        let thread = thread::spawn(move || {
            if let Err(failure) = body(&shared, &|| !told.load(Ordering::Relaxed)) {
                shared.change(|state| state.failure = Some(failure));
            }
        });
        Worker { stopping, thread }
    }

    fn stop(self) -> Checked {
        self.stopping.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| "a thread of the check panicked".into())
    }
}

fn member(shared: &Shared, name: usize, goes_on: &dyn Fn() -> bool) -> Checked {
    let consumer = Consumer::member("three", TOPIC)?;
    while goes_on() {
        let got = consumer.poll(Duration::from_millis(200))?;
        let owned = consumer.assignment()?;
        let mut numbers = Vec::new();
        for r in &got {
            numbers.push(((r.partition, r.offset), number_of(&r.record)?));
        }
        shared.change(|state| {
            state.owned.insert(name, owned);
            state.read.extend(numbers);
        });
        consumer.commit_if_possible()?;
    }
    drop(consumer);
    shared.change(|state| drop(state.owned.remove(&name)));
    Ok(())
}

/// Produces numbers to all partitions; how many is in `sent`.
fn load(goes_on: &dyn Fn() -> bool, sent: &Mutex<usize>) -> Checked {
    let producer = Producer::new("none", true)?;
    while goes_on() {
        let mut sent = sent.lock().expect("nobody panics with it");
        producer.send_numbers(TOPIC, PARTITIONS, *sent..*sent + PARTITIONS)?;
        *sent += PARTITIONS;
        drop(sent);
        // Paces the load, so that the last member has something to read.
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

pub fn grow_and_shrink(admin: &Admin) -> Checked {
    admin.create(TOPIC, PARTITIONS, &[])?;
    let (shared, sent) = (Arc::new(Shared::default()), Arc::new(Mutex::new(0)));
    let counted = sent.clone();
    let load = Worker::start(&shared, move |_, goes_on| load(goes_on, &counted));
    let mut members = Vec::new();
    for sizes in [&[6][..], &[3, 3], &[2, 2, 2]] {
        let name = members.len();
        members.push(Worker::start(&shared, move |shared, goes_on| member(shared, name, goes_on)));
        shared.wait(&format!("growing to {sizes:?}"), |state| state.shares(sizes))?;
        shared.progress()?;
    }
    for sizes in [&[3, 3][..], &[6]] {
        members.pop().expect("three were started").stop()?;
        shared.wait(&format!("shrinking to {sizes:?}"), |state| state.shares(sizes))?;
        shared.progress()?;
    }
    load.stop()?;
    let sent = *sent.lock().expect("nobody panics with it");
    shared.wait("reading the rest", |state| state.read.len() >= sent)?;
    members.pop().expect("one is left").stop()?;
    shared.wait("every record once", |state| {
        state.read.len() == sent && state.read.values().collect::<BTreeSet<_>>().len() == sent
    })
}
