//! Bundled filter `fault`: delays and aborts a percentage of requests. See README.md.

pub mod policy;

use std::cell::Cell;

use tidegate_sdk::{ConfigError, Filter, Reply, Request, time, warn};

use policy::Policy;

tidegate_sdk::filter!(Plugin, "../schema.json");

/// The filter.
#[derive(Debug)]
pub struct Plugin {
    policy: Policy,
    /// Requests that are delayed at the moment.
    delayed: Cell<u32>,
}

/// One that is, until it is dropped: also when the client goes away.
struct Delayed<'a>(&'a Cell<u32>);

impl Filter for Plugin {
    type Memo = ();

    fn configure(configuration: &[u8]) -> Result<Self, ConfigError> {
        let policy = Policy::parse(configuration)?;
        if policy.delays() {
            time::check_timers().map_err(|error| {
                let problem = format!("needs the capability timers: {error}");
                ConfigError::new("delay", problem)
            })?;
        }
        let delayed = Cell::new(0);
        Ok(Self { policy, delayed })
    }

    async fn request(&self, request: &Request) -> Result<(), Reply> {
        let headers = request.headers();
        if !self.policy.concerns(&|name| headers.get(name)) {
            return Ok(());
        }
        if let Some(time) = self.policy.delay(random)
            && self.delayed.get() < self.policy.max_delayed()
        {
            let _delayed = Delayed::new(&self.delayed);
            if let Err(error) = time::sleep(time).await {
                warn!("a request goes on without its delay: {error}");
            }
        }
        match self.policy.abort(random) {
            Some(reply) => Err(reply),
            None => Ok(()),
        }
    }
}

impl<'a> Delayed<'a> {
    fn new(count: &'a Cell<u32>) -> Self {
        count.set(count.get() + 1);
        Self(count)
    }
}

impl Drop for Delayed<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// 0 where the host has no random numbers: then every request is concerned, which shows.
fn random() -> u32 {
    let mut bytes = [0; 4];
    match getrandom::fill(&mut bytes) {
        Ok(()) => u32::from_le_bytes(bytes),
        Err(_) => 0,
    }
}
