//! The published state: a snapshot, its TLS configurations and its filters, replaced as a whole.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tidegate_model::{FailureCause, Snapshot};

use crate::plugin::Plugin;
use crate::tls::TlsConfigs;

/// Whether a filter of the snapshot can run, by slot.
#[derive(Clone)]
pub enum FilterState {
    /// It can; possibly an earlier version than the snapshot's, which is the last good one.
    Ready(Arc<Plugin>),
    /// It cannot, and no earlier version is good.
    Unavailable {
        /// Which step failed; [`FailureCause::Load`] also while it is still loading.
        cause: FailureCause,
        /// What is wrong.
        message: Arc<str>,
    },
}

/// One published state.
#[derive(Default)]
pub(crate) struct Published {
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) filters: Vec<FilterState>,
    pub(crate) tls: TlsConfigs,
}

/// The current state, and those that requests may still hold.
///
/// A large table takes milliseconds to drop, so the last reference to an old state is always kept here, on the control thread.
pub(crate) struct Current {
    pub(crate) cell: Arc<ArcSwap<Published>>,
    graveyard: Mutex<Vec<Arc<Published>>>,
}

impl Current {
    pub(crate) fn new() -> Self {
        Self {
            cell: Arc::new(ArcSwap::from_pointee(Published::default())),
            graveyard: Mutex::default(),
        }
    }

    /// Replaces the state; the next request sees the new one.
    pub(crate) fn replace(&self, published: Published) {
        let old = self.cell.swap(Arc::new(published));
        self.graveyard
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(old);
        self.bury();
    }

    /// Drops old states that nobody holds any more.
    pub(crate) fn bury(&self) {
        let mut graveyard = self
            .graveyard
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let (dead, held) = std::mem::take(&mut *graveyard)
            .into_iter()
            .partition(|old| Arc::strong_count(old) == 1);
        *graveyard = held;
        drop(graveyard);
        drop::<Vec<_>>(dead);
    }
}
