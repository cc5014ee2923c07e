//! The thread that advances the engine's epoch, and so lets a running guest be interrupted.
//!
//! ```text
//!   entry:   flag = true;  if !active { active = true; unpark }      one store and one load on the hot path
//!   ticker:  sleep; epoch += 1; now and then: no flag set? active = false; one more TICK; still none? park
//! ```
//!
//! It sleeps for a TICK while calls last that long, and for two while all are short: each time it wakes it may push a worker off its
//! core, and nearly all calls end within microseconds.
//!
//! The extra tick closes the window in which an entry has read `active` while its own flag was not yet visible here: a
//! store reaches the other cores within nanoseconds, the ticker looks again milliseconds later.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::{self, Thread};
use std::time::Duration;

/// Time between two epochs while a call lasts: a running guest is looked at this often.
pub(crate) const TICK: Duration = Duration::from_millis(2);

/// The same while all calls are short.
const LONG_TICK: Duration = Duration::from_millis(4);

/// Ticks between two looks at whether anything is in flight.
const TICKS_BEFORE_REST: u32 = 32;

/// Set while a VM executes guest code. On a cache line of its own: each worker writes its VMs' flags all the time.
#[repr(align(64))]
#[derive(Default)]
pub(crate) struct InFlight(AtomicBool);

/// What the ticker's thread and the VMs share.
#[derive(Default)]
struct State {
    active: AtomicBool,
    /// A call was in flight at the last tick.
    lasts: AtomicBool,
    stop: AtomicBool,
    vms: Mutex<Vec<Weak<InFlight>>>,
}

/// Where a VM says that its call has seen a tick.
pub(crate) struct Lasting(Arc<State>);

/// Handle on the thread; dropping it ends the thread.
pub(crate) struct Ticker {
    state: Arc<State>,
    thread: Thread,
}

// === impl Ticker ===

impl Ticker {
    /// Starts the thread, at rest.
    pub(crate) fn start(engine: wasmtime::Engine) -> std::io::Result<Self> {
        let state = Arc::<State>::default();
        let shared = Arc::clone(&state);
        let handle = thread::Builder::new()
            .name("wasm-epoch".to_owned())
            .stack_size(128 * 1024)
            .spawn(move || shared.run(&engine))?;
        Ok(Self {
            state,
            thread: handle.thread().clone(),
        })
    }

    /// A flag for one more VM.
    pub(crate) fn register(&self) -> Arc<InFlight> {
        let flag = Arc::<InFlight>::default();
        self.state
            .vms
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Arc::downgrade(&flag));
        flag
    }

    /// For one more VM.
    pub(crate) fn lasting(&self) -> Lasting {
        Lasting(Arc::clone(&self.state))
    }

    /// A guest is about to run.
    #[inline]
    pub(crate) fn enter(&self, flag: &InFlight) {
        flag.0.store(true, Ordering::Release);
        if !self.state.active.load(Ordering::Acquire)
            && !self.state.active.swap(true, Ordering::SeqCst)
        {
            self.thread.unpark();
        }
    }

    /// The guest has come back.
    #[inline]
    pub(crate) fn leave(flag: &InFlight) {
        flag.0.store(false, Ordering::Release);
    }

    /// Whether epochs advance at the moment.
    #[cfg(test)]
    fn is_active(&self) -> bool {
        self.state.active.load(Ordering::SeqCst)
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}

// === impl Lasting ===

impl Lasting {
    /// A call is in flight while the epoch moves on.
    pub(crate) fn note(&self) {
        self.0.lasts.store(true, Ordering::Relaxed);
    }
}

// === impl State ===

impl State {
    fn run(&self, engine: &wasmtime::Engine) {
        let mut ticks = 0;
        while !self.stop.load(Ordering::SeqCst) {
            if !self.active.load(Ordering::SeqCst) {
                thread::park();
                continue;
            }
            thread::sleep(self.next_tick());
            engine.increment_epoch();
            ticks += 1;
            if ticks >= TICKS_BEFORE_REST {
                ticks = 0;
                self.rest(engine);
            }
        }
    }

    /// How long until the next one.
    fn next_tick(&self) -> Duration {
        if self.lasts.swap(false, Ordering::Relaxed) {
            TICK
        } else {
            LONG_TICK
        }
    }

    /// Goes to rest unless something is in flight.
    fn rest(&self, engine: &wasmtime::Engine) {
        if self.any_in_flight() {
            return;
        }
        self.active.store(false, Ordering::SeqCst);
        thread::sleep(TICK);
        engine.increment_epoch();
        if self.any_in_flight() {
            self.active.store(true, Ordering::SeqCst);
        }
    }

    fn any_in_flight(&self) -> bool {
        let mut any = false;
        self.vms
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|flag| match flag.upgrade() {
                Some(flag) => {
                    any |= flag.0.load(Ordering::SeqCst);
                    true
                }
                None => false,
            });
        any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn until(what: &str, mut condition: impl FnMut() -> bool) {
        for _ in 0..10_000 {
            if condition() {
                return;
            }
            thread::sleep(Duration::from_millis(1));
        }
        panic!("never: {what}");
    }

    #[test]
    fn rests_when_nothing_runs_and_wakes_on_entry() {
        let mut config = wasmtime::Config::new();
        config.epoch_interruption(true);
        let engine = wasmtime::Engine::new(&config).unwrap();
        let ticker = Ticker::start(engine).unwrap();
        let flag = ticker.register();
        assert!(!ticker.is_active());
        ticker.enter(&flag);
        assert!(ticker.is_active());
        Ticker::leave(&flag);
        until("rest", || !ticker.is_active());
        ticker.enter(&flag);
        assert!(ticker.is_active());
    }

    #[test]
    fn it_ticks_faster_while_a_call_lasts() {
        let state = Arc::<State>::default();
        let lasting = Lasting(Arc::clone(&state));
        assert_eq!(state.next_tick(), LONG_TICK);
        lasting.note();
        assert_eq!(state.next_tick(), TICK);
        assert_eq!(state.next_tick(), LONG_TICK);
    }

    #[test]
    fn a_call_in_flight_keeps_it_awake() {
        let mut config = wasmtime::Config::new();
        config.epoch_interruption(true);
        let engine = wasmtime::Engine::new(&config).unwrap();
        let state = State::default();
        let flag = Arc::<InFlight>::default();
        flag.0.store(true, Ordering::SeqCst);
        state.vms.lock().unwrap().push(Arc::downgrade(&flag));
        state.active.store(true, Ordering::SeqCst);
        state.rest(&engine);
        assert!(state.active.load(Ordering::SeqCst));
        drop(flag);
        state.rest(&engine);
        assert!(!state.active.load(Ordering::SeqCst));
        assert!(state.vms.lock().unwrap().is_empty());
    }
}
