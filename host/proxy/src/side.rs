//! Threads beside the workers, for what would hold a worker up: long calls of filters, and the birth of their VMs.
//!
//! Namespaces take turns, and some threads are kept for those that have none at the moment: whose calls never end finds all others
//! served all the same. Threads start when there is work for them.

use std::collections::{HashMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Guests may use 1 MiB of it.
const STACK: usize = 8 << 20;
/// Births of one namespace at once: compiled code starts in milliseconds, and a slow one must not keep all others from being born.
const BIRTHS: usize = 2;
/// Threads beyond what one namespace may use, for namespaces that have none.
const RESERVED: usize = 4;

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
    /// How many one namespace may use.
    each: usize,
    queue: Arc<Queue>,
}

struct Queue {
    state: Mutex<State>,
    arrived: Condvar,
}

#[derive(Default)]
struct State {
    /// Threads that one namespace may use; there are [`RESERVED`] more.
    each: usize,
    jobs: HashMap<Arc<str>, VecDeque<Job>>,
    /// Namespaces with jobs that wait, the next one first.
    turns: VecDeque<Arc<str>>,
    /// How many jobs run, of each namespace and of all.
    running: HashMap<Arc<str>, usize>,
    busy: usize,
    /// How many wait.
    waiting: usize,
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

    /// How many calls of one namespace can run at the same time.
    pub(crate) fn width(&self) -> usize {
        self.calls.each
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
    fn new(name: &'static str, each: usize) -> Self {
        let state = State {
            each,
            ..State::default()
        };
        Self {
            name,
            each,
            queue: Arc::new(Queue {
                state: Mutex::new(state),
                arrived: Condvar::new(),
            }),
        }
    }

    fn submit(&self, namespace: &Arc<str>, job: Job) {
        let mut state = self.queue.locked();
        // One that was woken is idle until it has taken its job.
        if state.idle <= state.waiting && state.threads < state.most() {
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
            if let Some((namespace, job)) = state.pop() {
                // The job before this one may have been what kept others waiting.
                if state.waiting > 0 && state.idle > 0 {
                    self.arrived.notify_one();
                }
                drop(state);
                // A bug in the host ends this job, whose owner hears of it, and no other.
                if std::panic::catch_unwind(AssertUnwindSafe(job)).is_err() {
                    tracing::error!("a side thread's job panicked");
                }
                state = self.locked();
                state.done(&namespace);
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
    fn most(&self) -> usize {
        self.each + RESERVED
    }

    fn push(&mut self, namespace: &Arc<str>, job: Job) {
        let jobs = self.jobs.entry(namespace.clone()).or_default();
        if jobs.is_empty() {
            self.turns.push_back(namespace.clone());
        }
        jobs.push_back(job);
        self.waiting += 1;
    }

    /// The next job that may run; [`done`](Self::done) is told when it has.
    fn pop(&mut self) -> Option<(Arc<str>, Job)> {
        let at = self.turns.iter().position(|turn| self.may_run(turn))?;
        let namespace = self.turns.remove(at)?;
        let jobs = self.jobs.get_mut(&namespace)?;
        let job = jobs.pop_front()?;
        if jobs.is_empty() {
            self.jobs.remove(&namespace);
        } else {
            self.turns.push_back(namespace.clone());
        }
        self.waiting -= 1;
        self.busy += 1;
        *self.running.entry(namespace.clone()).or_default() += 1;
        Some((namespace, job))
    }

    /// The last free threads are for namespaces that have none.
    fn may_run(&self, namespace: &Arc<str>) -> bool {
        let free = self.most().saturating_sub(self.busy);
        free > RESERVED || (free > 0 && !self.running.contains_key(namespace))
    }

    fn done(&mut self, namespace: &Arc<str>) {
        self.busy -= 1;
        if let Some(count) = self.running.get_mut(namespace) {
            *count -= 1;
            if *count == 0 {
                self.running.remove(namespace);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn namespaces_take_turns() {
        let mut state = State {
            each: 10,
            ..State::default()
        };
        let (sender, order) = channel();
        let (busy, quiet): (Arc<str>, Arc<str>) = ("busy".into(), "quiet".into());
        for at in 0..3 {
            let sender = sender.clone();
            state.push(&busy, Box::new(move || sender.send(at).unwrap()));
        }
        state.push(&quiet, Box::new(move || sender.send(10).unwrap()));
        while let Some((_, job)) = state.pop() {
            job();
        }
        assert_eq!(order.iter().collect::<Vec<_>>(), [0, 10, 1, 2]);
        assert!(state.jobs.is_empty() && state.turns.is_empty());
    }

    #[test]
    fn the_last_threads_are_for_namespaces_that_have_none() {
        let mut state = State {
            each: 2,
            ..State::default()
        };
        let greedy: Arc<str> = "greedy".into();
        let others: Vec<Arc<str>> = (0..=RESERVED).map(|at| at.to_string().into()).collect();
        for _ in 0..3 {
            state.push(&greedy, Box::new(|| ()));
        }
        let next = |state: &mut State| state.pop().map(|(namespace, _)| namespace);
        assert_eq!(next(&mut state), Some(greedy.clone()));
        assert_eq!(next(&mut state), Some(greedy.clone()));
        assert_eq!(next(&mut state), None, "it has what one may have");
        for other in &others {
            state.push(other, Box::new(|| ()));
        }
        for other in &others[..RESERVED] {
            assert_eq!(next(&mut state).as_ref(), Some(other));
        }
        assert_eq!(next(&mut state), None, "all are busy");
        state.done(&others[0]);
        assert_eq!(next(&mut state).as_ref(), others.last());
        state.done(&greedy);
        assert_eq!(next(&mut state), None, "it has one still");
        state.done(&greedy);
        assert_eq!(next(&mut state), Some(greedy));
        assert_eq!((state.waiting, state.busy), (0, RESERVED + 1));
    }

    #[test]
    fn jobs_that_never_end_hold_up_their_own_namespace_alone() {
        let threads = SideThreads::new();
        let (held, hold) = channel::<()>();
        let hold = Arc::new(Mutex::new(hold));
        for _ in 0..100 {
            let hold = hold.clone();
            threads.submit(Work::Call, &"greedy".into(), move || {
                let _ = hold.lock().unwrap().recv();
            });
        }
        let (sender, done) = channel();
        threads.submit(Work::Call, &"other".into(), move || {
            sender.send(1).unwrap();
        });
        assert_eq!(done.recv(), Ok(1));
        drop(held);
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
