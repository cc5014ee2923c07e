//! VMs of one request each where there is no snapshot to begin from: components, and modules that do not suit. A snapshot counts
//! its own.

use std::sync::Arc;

use tidegate_wasm::Failure;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many such VMs a filter may have at the same time, over all workers.
#[derive(Clone, Debug)]
pub struct Instances {
    limit: usize,
    free: Arc<Semaphore>,
}

/// A place among them, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Permit {
    _permit: OwnedSemaphorePermit,
}

impl Instances {
    /// So many, all of them free.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            free: Arc::new(Semaphore::new(limit.min(Semaphore::MAX_PERMITS))),
        }
    }

    pub(super) fn take(&self) -> Result<Permit, Failure> {
        let permit = self.free.clone().try_acquire_owned();
        let permit = permit.map_err(|_| Failure::Instances { limit: self.limit })?;
        Ok(Permit { _permit: permit })
    }
}
