//! Watches: a kind in one namespace or in all, for ever.

use std::fmt::Debug;
use std::sync::Arc;

use futures::StreamExt;
use kube::api::{Api, ApiResource};
use kube::core::DynamicObject;
use kube::runtime::watcher::{self, Config, Event};
use kube::{Client, Error, Resource};
use serde::de::DeserializeOwned;
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

/// What a watch tells.
pub(super) enum News<'w, K> {
    /// Of an object, or of a listing.
    Event(Event<K>),
    /// It cannot be followed now, and will be tried again.
    Broken {
        error: &'w watcher::Error,
        /// Whether it had worked until now: what follows need not be said aloud.
        first: bool,
    },
    /// It could not be followed and now can.
    Works,
}

/// Watches until it is aborted. A watch that breaks goes on where it was, after pauses that grow until something is heard
/// again; one that is too old (410) lists anew.
pub(super) async fn follow<K>(api: Api<K>, config: Config, mut tell: impl FnMut(News<'_, K>))
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let config = config.timeout(TIMEOUT);
    let anew = || Box::pin(watcher::watcher(api.clone(), config.clone()));
    let mut events = anew();
    let mut backoff = Backoff::of_watches();
    let mut broken = false;
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                // That a listing begins was said by nobody else.
                let heard = !matches!(event, Event::Init | Event::InitApply(_));
                if heard {
                    backoff.reset();
                    if std::mem::take(&mut broken) {
                        tell(News::Works);
                    }
                }
                tell(News::Event(event));
            }
            Err(error) => {
                let first = !std::mem::replace(&mut broken, true);
                tell(News::Broken {
                    error: &error,
                    first,
                });
                if is_gone(&error) {
                    events = anew();
                }
                sleep(backoff.pause()).await;
            }
        }
    }
}

/// Keeps the store at what the API server has of the subject. What is known stays until a listing is complete.
pub(super) async fn run(client: Client, store: Arc<Store>, subject: Subject) {
    let (kind, namespace) = &subject.scope;
    let api: Api<DynamicObject> = match namespace {
        Some(namespace) => Api::namespaced_with(client, namespace, &subject.resource),
        None => Api::all_with(client, &subject.resource),
    };
    let mut config = Config::default();
    if let Some(labels) = &subject.labels {
        config = config.labels(labels);
    }
    let tell = |news: News<'_, DynamicObject>| match news {
        News::Event(event) => take(&store, &subject.scope, event),
        News::Works => tracing::info!(kind = %kind, "the watch works again"),
        News::Broken { error, first } => {
            store.count_watch_error();
            if subject.optional && is_forbidden(error) {
                store.hide(&subject.scope);
            }
            if first {
                complain(&subject, error);
            } else {
                tracing::debug!(kind = %kind, %error, "the watch is broken still");
            }
        }
    };
    follow(api, config, tell).await;
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
