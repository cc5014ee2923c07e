//! Clients of one tenant, each on a connection and a thread of its own, and what they were answered.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tidegate_bench_harness::{Client, Samples};

use crate::tenants;

/// What the clients of a tenant ask for.
pub(crate) struct Load<'a> {
    pub(crate) port: u16,
    pub(crate) tenant: &'a str,
    pub(crate) connections: usize,
    /// Of a hundred requests so many ask the filter to fail.
    pub(crate) faults: u32,
    /// How it is to fail, each kind as likely as the others.
    pub(crate) kinds: &'a [&'a str],
    /// What chance begins with, another one in each window.
    pub(crate) seed: u64,
}

/// What came of it.
#[derive(Default)]
pub(crate) struct Outcome {
    /// Requests that were answered with 200.
    pub(crate) served: u64,
    /// Requests that were answered with 503.
    pub(crate) failed: u64,
    /// Requests that asked the filter to fail.
    pub(crate) faults: u64,
    /// Anything else: other answers, broken connections, an answer that the filter has not seen.
    pub(crate) odd: u64,
    /// The first of these.
    pub(crate) oddity: Option<String>,
    /// Times of the requests that were served.
    pub(crate) times: Samples,
    pub(crate) took: Duration,
}

impl Outcome {
    pub(crate) fn total(&self) -> u64 {
        self.served + self.failed + self.odd
    }

    /// Requests served in a second.
    pub(crate) fn rate(&self) -> f64 {
        self.served as f64 / self.took.as_secs_f64()
    }

    /// What came after it.
    pub(crate) fn add(&mut self, other: Self) {
        self.took += other.took;

        self.served += other.served;
        self.failed += other.failed;
        self.faults += other.faults;
        self.odd += other.odd;
        self.oddity = self.oddity.take().or(other.oddity);
        self.times.extend(other.times);
    }
}

/// Until when clients go on.
pub(crate) enum Until<'a> {
    /// So many requests were sent by all together.
    Sent(u64),
    /// Somebody says so.
    Told(&'a AtomicBool),
    Over(Duration),
}

impl Load<'_> {
    /// Runs the clients to the end.
    pub(crate) fn run(&self, until: &Until<'_>) -> Outcome {
        let (sent, start) = (AtomicU64::new(0), Instant::now());
        let goes_on = || match until {
            Until::Sent(most) => sent.fetch_add(1, Ordering::Relaxed) < *most,
            Until::Told(stop) => !stop.load(Ordering::Relaxed),
            Until::Over(limit) => start.elapsed() < *limit,
        };
        let mut all = Outcome::default();
        thread::scope(|scope| {
            let clients: Vec<_> = (0..self.connections)
                .map(|number| {
                    scope.spawn({
                        let goes_on = &goes_on;
                        move || self.client(number as u64, goes_on)
                    })
                })
                .collect();
            for client in clients {
                match client.join() {
                    Ok(outcome) => all.add(outcome),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
        });
        // Clients run side by side: their own times are none.
        all.took = start.elapsed();
        all
    }

    fn client(&self, number: u64, goes_on: &dyn Fn() -> bool) -> Outcome {
        let mut random = fastrand::Rng::with_seed(self.seed + number);
        let mut outcome = Outcome::default();
        let host = tenants::host(self.tenant);
        let mut client = None;
        while goes_on() {
            let fault = random.u32(..100) < self.faults;
            let fields = if fault {
                outcome.faults += 1;
                format!(
                    "x-fault: {}\r\n",
                    self.kinds[random.usize(..self.kinds.len())]
                )
            } else {
                String::new()
            };
            let connected = match client.take() {
                Some(client) => Ok(client),
                None => Client::connect(self.port).map_err(anyhow::Error::from),
            };
            let answer = connected.and_then(|mut open| {
                let answer = open.get(&host, "/", &fields, "x-filtered")?;
                client = Some(open);
                Ok(answer)
            });
            match answer {
                Ok(answer) if answer.status == 503 => outcome.failed += 1,
                Ok(answer)
                    if answer.status == 200 && answer.field.as_deref() == Some("yes") && !fault =>
                {
                    outcome.served += 1;
                    outcome.times.push(answer.took);
                }
                Ok(answer) => outcome.note(format!(
                    "{} with x-filtered {:?}",
                    answer.status, answer.field
                )),
                Err(error) => outcome.note(format!("{error:#}")),
            }
        }
        outcome
    }
}

impl Outcome {
    fn note(&mut self, oddity: String) {
        self.odd += 1;
        self.oddity.get_or_insert(oddity);
    }
}
