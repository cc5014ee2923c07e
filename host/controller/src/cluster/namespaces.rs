//! The labels of single Namespaces, where the process is restricted to some: a Role allows `get` of its own Namespace, and
//! nothing more.

use std::sync::Arc;
use std::time::Duration;

use kube::api::Api;
use kube::core::DynamicObject;
use kube::{Client, Error};
use tokio::time::sleep;

use super::kinds;
use super::object::read;
use super::store::{Scope, Store};
use crate::api::Kind;

/// How often they are read.
const INTERVAL: Duration = Duration::from_secs(30);
/// How soon after a failure.
const RETRY: Duration = Duration::from_secs(2);

/// Reads them by name, again and again.
pub(super) async fn run(client: Client, names: Vec<String>, store: Arc<Store>) {
    let resource = kinds::resource(Kind::Namespace, "v1");
    let api: Api<DynamicObject> = Api::all_with(client, &resource);
    let scopes: Vec<Scope> = names
        .into_iter()
        .map(|name| (Kind::Namespace, Some(name)))
        .collect();
    scopes.iter().for_each(|scope| store.add_scope(scope, "v1"));
    loop {
        let mut pause = INTERVAL;
        for scope in &scopes {
            let name = scope.1.as_deref().unwrap_or_default();
            match api.get_opt(name).await {
                Ok(found) => {
                    store.begin(scope);
                    if let Some(object) = found {
                        store.listed(scope, read(Kind::Namespace, object, store.keeps_raw()));
                    }
                    store.complete(scope);
                }
                Err(Error::Api(status)) if status.is_forbidden() => {
                    // Its name is the one label that is known without asking.
                    tracing::debug!(namespace = name, "may not be read: its labels are unknown");
                    store.begin(scope);
                    store.complete(scope);
                }
                Err(error) => {
                    tracing::debug!(namespace = name, %error, "cannot be read now");
                    pause = RETRY;
                }
            }
        }
        sleep(pause).await;
    }
}
