//! Threads beside the workers, for what would hold a worker up: long calls of filters, and the birth of their VMs.
//!
//! Jobs of one namespace wait behind each other; namespaces take turns. Threads start when there is work for them.

use std::collections::{HashMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Guests may use 1 MiB of it.
const STACK: usize = 8 << 20;
/// Threads for births: compiled code starts in milliseconds, and a slow one must not keep all others from being born.
const BIRTHS: usize = 2;

/// The side threads of a data plane.
pub(crate) struct SideThreads {
    calls: Threads,
    births: Threads,
}

/// What kind of work it is. Calls never wait for births.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    Call,
    Birth,
}

type Job = Box<dyn FnOnce() + Send>;

struct Threads {
    name: &'static str,
    most: usize,
    queue: Arc<Queue>,
}

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    arrived: Condvar,
}

#[derive(Default)]
struct State {
    jobs: HashMap<Arc<str>, VecDeque<Job>>,
    /// Namespaces with jobs, the next one first.
    turns: VecDeque<Arc<str>>,
    threads: usize,
    idle: usize,
    closed: bool,
}

// === impl SideThreads ===

impl SideThreads {
    pub(crate) fn new() -> Arc<Self> {
        let cores = std::thread::available_parallelism().map_or(2, |cores| cores.get().max(2));
        Arc::new(Self {
            calls: Threads::new("side", cores),
            births: Threads::new("birth", BIRTHS),
        })
    }

    /// How many calls can run at the same time.
    pub(crate) fn width(&self) -> usize {
        self.calls.most
    }

    /// Runs a job when it is its namespace's turn. One that cannot be run, because no thread can be started, is dropped.
    pub(crate) fn submit(
        &self,
        work: Work,
        namespace: &Arc<str>,
        job: impl FnOnce() + Send + 'static,
    ) {
        match work {
            Work::Call => self.calls.submit(namespace, Box::new(job)),
            Work::Birth => self.births.submit(namespace, Box::new(job)),
        }
    }
}

// === impl Threads ===

impl Threads {
    fn new(name: &'static str, most: usize) -> Self {
        Self {
            name,
            most,
            queue: Arc::default(),
        }
    }

    fn submit(&self, namespace: &Arc<str>, job: Job) {
        let mut state = self.queue.locked();
        if state.idle == 0 && state.threads < self.most {
            let queue = self.queue.clone();
            let started = std::thread::Builder::new()
                .name(self.name.to_owned())
                .stack_size(STACK)
                .spawn(move || queue.work());
            match started {
                Ok(_) => state.threads += 1,
                Err(error) => {
                    tracing::error!(%error, "no side thread can be started");
                    if state.threads == 0 {
                        return;
                    }
                }
            }
        }
        state.push(namespace, job);
        drop(state);
        self.queue.arrived.notify_one();
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.queue.locked().closed = true;
        self.queue.arrived.notify_all();
    }
}

// === impl Queue ===

impl Queue {
    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let mut state = self.locked();
        loop {
            if let Some(job) = state.pop() {
                drop(state);
                // A bug in the host ends this job, whose owner hears of it, and no other.
                if std::panic::catch_unwind(AssertUnwindSafe(job)).is_err() {
                    tracing::error!("a side thread's job panicked");
                }
                state = self.locked();
            } else if state.closed {
                return;
            } else {
                state.idle += 1;
                state = self
                    .arrived
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
                state.idle -= 1;
            }
        }
    }
}

// === impl State ===

impl State {
    fn push(&mut self, namespace: &Arc<str>, job: Job) {
        let jobs = self.jobs.entry(namespace.clone()).or_default();
        if jobs.is_empty() {
            self.turns.push_back(namespace.clone());
        }
        jobs.push_back(job);
    }

    fn pop(&mut self) -> Option<Job> {
        let namespace = self.turns.pop_front()?;
        let jobs = self.jobs.get_mut(&namespace)?;
        let job = jobs.pop_front();
        if jobs.is_empty() {
            self.jobs.remove(&namespace);
        } else {
            self.turns.push_back(namespace);
        }
        job
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn namespaces_take_turns() {
        let mut state = State::default();
        let (sender, order) = channel();
        let (busy, quiet): (Arc<str>, Arc<str>) = ("busy".into(), "quiet".into());
        for at in 0..3 {
            let sender = sender.clone();
            state.push(&busy, Box::new(move || sender.send(at).unwrap()));
        }
        state.push(&quiet, Box::new(move || sender.send(10).unwrap()));
        while let Some(job) = state.pop() {
            job();
        }
        assert_eq!(order.iter().collect::<Vec<_>>(), [0, 10, 1, 2]);
        assert!(state.jobs.is_empty() && state.turns.is_empty());
    }

    #[test]
    fn a_job_that_panics_ends_alone_and_calls_do_not_wait_for_births() {
        let threads = SideThreads::new();
        let namespace: Arc<str> = "a".into();
        let (held, hold) = channel::<()>();
        let hold = Arc::new(Mutex::new(hold));
        for _ in 0..BIRTHS {
            let hold = hold.clone();
            threads.submit(Work::Birth, &namespace, move || {
                let _ = hold.lock().unwrap().recv();
            });
        }
        for _ in 0..threads.width() {
            threads.submit(Work::Call, &namespace, || panic!("on purpose"));
        }
        let (sender, done) = channel();
        threads.submit(Work::Call, &namespace, move || sender.send(1).unwrap());
        assert_eq!(done.recv(), Ok(1));
        drop(held);
    }
}
