//! Where the objects come from: folders, or a cluster. What happens with them is the same.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tidegate_controller::cluster::{self, Cluster};
use tidegate_controller::manifests::{Manifests, Watch};
use tidegate_controller::resources::Resources;
use tidegate_controller::translate::{Options, Translation};
use tokio::time::Instant;

use crate::kubernetes::Kubernetes;

/// How long a change waits for Secrets and ConfigMaps that nothing named before.
const NAMED: Duration = Duration::from_secs(2);

/// What the command line says.
pub(crate) enum Origin {
    /// Files and folders.
    Files(Vec<PathBuf>),
    /// A cluster.
    Cluster(Kubernetes),
}

/// The same, opened.
pub(crate) enum Source {
    Files {
        manifests: Manifests,
        watch: Box<Watch>,
    },
    Cluster {
        cluster: Box<Cluster>,
        /// Whether all was known of it at the last reading.
        complete: bool,
    },
}

impl Source {
    /// Begins to watch. A cluster need not answer yet.
    ///
    /// # Errors
    /// When nothing says where the API server is.
    pub(crate) async fn open(origin: Origin, options: &Options) -> anyhow::Result<Self> {
        match origin {
            Origin::Files(paths) => Ok(Self::Files {
                manifests: Manifests::new(&paths),
                watch: Box::new(Watch::new(&paths)),
            }),
            Origin::Cluster(arguments) => {
                let client = cluster::client().await.context("--kubernetes")?;
                let name = &options.controller_name;
                let settings = arguments.settings(name, client.default_namespace());
                Ok(Self::Cluster {
                    cluster: Box::new(Cluster::start(client, settings)),
                    complete: false,
                })
            }
        }
    }

    /// Waits until something may have changed. Cancel safe.
    pub(crate) async fn changed(&mut self) {
        match self {
            Self::Files { watch, .. } => watch.changed().await,
            Self::Cluster { cluster, .. } => cluster.changed().await,
        }
    }

    /// The objects as they are now, and the options that go with them; `true` if a translation may come out different.
    pub(crate) fn reload(&mut self, resources: &mut Arc<Resources>, options: &mut Options) -> bool {
        match self {
            Self::Files { manifests, .. } => {
                let loaded = manifests.reload();
                *resources = loaded.resources;
                loaded.changed
            }
            Self::Cluster { cluster, complete } => {
                // What arrived last may have changed no object, and yet be what everything waits for.
                let became =
                    cluster.is_synced() && !std::mem::replace(complete, cluster.is_synced());
                let now = cluster.resources();
                let mut tuned = options.clone();
                cluster.tune(&now, &mut tuned);
                let changed = became || !Arc::ptr_eq(&now, resources) || tuned != *options;
                *resources = now;
                *options = tuned;
                changed
            }
        }
    }

    /// Whether there is a state to serve at all.
    pub(crate) fn may_serve(&self) -> bool {
        match self {
            Self::Files { .. } => true,
            Self::Cluster { cluster, .. } => cluster.may_serve(),
        }
    }

    /// Whether a state of it that serves may be called ready.
    pub(crate) fn may_be_ready(&self) -> bool {
        match self {
            Self::Files { .. } => true,
            Self::Cluster { cluster, .. } => cluster.may_be_ready(),
        }
    }

    /// Gets what the translation asked for and did not have. `true` if there is news, so that it should be done again.
    pub(crate) async fn fetch(&self, translation: &Translation) -> bool {
        let Self::Cluster { cluster, .. } = self else {
            return false;
        };
        cluster.want(translation);
        // With a state of last time there is something to serve in the meantime.
        if cluster.knows_wanted() || !cluster.is_synced() {
            return false;
        }
        cluster.wanted_known(Instant::now() + NAMED).await;
        true
    }

    /// What is said about the objects.
    pub(crate) fn report(&self, translation: &Arc<Translation>) {
        if let Self::Cluster { cluster, .. } = self {
            cluster.report(translation.clone());
        }
    }

    /// What is done from time to time.
    pub(crate) fn keep(&mut self) {
        if let Self::Cluster { cluster, .. } = self {
            cluster.keep_state();
        }
    }

    /// Metrics of a cluster.
    pub(crate) fn metrics(&self) -> Option<cluster::Metrics> {
        match self {
            Self::Files { .. } => None,
            Self::Cluster { cluster, .. } => Some(cluster.metrics()),
        }
    }

    /// Stops; another replica may lead from here on.
    pub(crate) async fn end(self) {
        if let Self::Cluster { cluster, .. } = self {
            cluster.end().await;
        }
    }
}
