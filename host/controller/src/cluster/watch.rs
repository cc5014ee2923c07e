//! One watch: a kind in one namespace or in all, for ever.

use std::sync::Arc;

use futures::StreamExt;
use kube::api::{Api, ApiResource};
use kube::core::DynamicObject;
use kube::runtime::watcher::{self, Event};
use kube::{Client, Error};
use tokio::time::sleep;

use super::backoff::Backoff;
use super::kinds;
use super::object::read;
use super::store::{Scope, Store};

/// How long the API server keeps a watch open, in seconds.
const TIMEOUT: u32 = 290;

/// What is watched, and how.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    pub(super) scope: Scope,
    pub(super) resource: ApiResource,
    pub(super) labels: Option<String>,
    /// Whether we can do without, where we may not read it.
    pub(super) optional: bool,
}

/// Watches until it is aborted. A watch that breaks goes on where it was; one that is too old (410) lists anew, and what
/// is known stays until the listing is complete.
pub(super) async fn run(client: Client, store: Arc<Store>, subject: Subject) {
    let (kind, namespace) = &subject.scope;
    let api: Api<DynamicObject> = match namespace {
        Some(namespace) => Api::namespaced_with(client, namespace, &subject.resource),
        None => Api::all_with(client, &subject.resource),
    };
    let mut config = watcher::Config::default().timeout(TIMEOUT);
    if let Some(labels) = &subject.labels {
        config = config.labels(labels);
    }
    let anew = || Box::pin(watcher::watcher(api.clone(), config.clone()));
    let mut events = anew();
    let mut backoff = Backoff::of_watches();
    let mut complained = false;
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                if matches!(event, Event::InitDone | Event::Apply(_) | Event::Delete(_)) {
                    if complained {
                        tracing::info!(kind = %kind, "the watch works again");
                    }
                    complained = false;
                    backoff.reset();
                }
                take(&store, &subject.scope, event);
            }
            Err(error) => {
                store.count_watch_error();
                if subject.optional && is_forbidden(&error) {
                    store.hide(&subject.scope);
                }
                if complained {
                    tracing::debug!(kind = %kind, %error, "the watch is broken still");
                } else {
                    complain(&subject, &error);
                }
                complained = true;
                if is_gone(&error) {
                    events = anew();
                }
                sleep(backoff.pause()).await;
            }
        }
    }
}

fn take(store: &Store, scope: &Scope, event: Event<DynamicObject>) {
    let raw = store.keeps_raw();
    match event {
        Event::Init => store.begin(scope),
        Event::InitApply(object) => store.listed(scope, read(scope.0, object, raw)),
        Event::InitDone => store.complete(scope),
        Event::Apply(object) => store.apply(scope.0, read(scope.0, object, raw)),
        Event::Delete(object) => store.delete(scope.0, &read(scope.0, object, false).key),
    }
}

fn complain(subject: &Subject, error: &watcher::Error) {
    let (kind, namespace) = &subject.scope;
    let place = namespace.as_deref().unwrap_or("all namespaces");
    if is_forbidden(error) && !subject.optional {
        tracing::error!(
            %kind, place, %error,
            "may not be read: grant list and watch of {}.{} to the service account",
            kinds::plural(*kind), kind.group()
        );
    } else if is_forbidden(error) {
        tracing::warn!(%kind, place, "may not be read; going on without");
    } else if is_gone(error) {
        tracing::info!(%kind, place, "the watch is too old and lists anew");
    } else {
        tracing::warn!(%kind, place, %error, "the watch broke; what is known stays, and it is tried again");
    }
}

fn code(error: &watcher::Error) -> Option<u16> {
    match error {
        watcher::Error::WatchError(status) => Some(status.code),
        watcher::Error::InitialListFailed(Error::Api(status))
        | watcher::Error::WatchStartFailed(Error::Api(status))
        | watcher::Error::WatchFailed(Error::Api(status)) => Some(status.code),
        _ => None,
    }
}

fn is_forbidden(error: &watcher::Error) -> bool {
    code(error) == Some(403)
}

fn is_gone(error: &watcher::Error) -> bool {
    code(error) == Some(410)
}
