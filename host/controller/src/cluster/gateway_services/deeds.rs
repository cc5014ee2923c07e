//! Carrying out what has to be done about Services and EndpointSlices of ours.

use std::time::Duration;

use kube::Error;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::DynamicObject;
use serde_json::Value;
use tokio::time::timeout;

use super::GatewayServices;
use super::objects::OWN_LABEL;
use super::seen::{What, key_of, keyed};
use crate::api::Key;
use crate::cluster::kinds;

/// How long a request may take.
const PATIENCE: Duration = Duration::from_secs(15);
const FIELD_MANAGER: &str = "tidegate";

/// Something to do about an object.
#[derive(Debug, PartialEq)]
pub(super) enum Deed {
    Create(Value),
    Change { seen: Value, patch: Value },
    Delete(Value),
}

impl GatewayServices {
    /// Whether it need not be tried again.
    pub(super) async fn carry_out(&self, deed: &Deed) -> bool {
        let object = match deed {
            Deed::Create(object) | Deed::Delete(object) | Deed::Change { seen: object, .. } => {
                object
            }
        };
        let key = key_of(object);
        let what = if object["kind"] == "Service" {
            What::Services
        } else {
            What::Slices
        };
        let resource = kinds::resource(what.kind(), "v1");
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), &key.namespace, &resource);
        let answer = timeout(PATIENCE, Self::send(&api, &key, deed)).await;
        match answer {
            Ok(Ok(Some(object))) => {
                // The next round need not wait for the watch.
                let (key, value) = keyed(&object);
                self.learn(|seen| seen.put(what, key, value));
                true
            }
            Ok(Ok(None)) => {
                self.learn(|seen| seen.remove(what, &key));
                true
            }
            Ok(Err(error)) => {
                self.lock().futile.remove(&(what.kind(), key.clone()));
                self.explain(what, &key, deed, &error);
                false
            }
            Err(_) => {
                self.lock().futile.remove(&(what.kind(), key));
                false
            }
        }
    }

    async fn send(
        api: &Api<DynamicObject>,
        key: &Key,
        deed: &Deed,
    ) -> Result<Option<DynamicObject>, Error> {
        match deed {
            Deed::Create(object) => {
                let object = serde_json::from_value(object.clone()).map_err(Error::SerdeError)?;
                let params = PostParams {
                    field_manager: Some(FIELD_MANAGER.to_owned()),
                    ..PostParams::default()
                };
                api.create(&params, &object).await.map(Some)
            }
            Deed::Change { seen, patch } => {
                // The label may be gone since: then the version is another.
                let mut patch = patch.clone();
                patch["metadata"]["resourceVersion"] = seen["metadata"]["resourceVersion"].clone();
                let params = PatchParams {
                    field_manager: Some(FIELD_MANAGER.to_owned()),
                    ..PatchParams::default()
                };
                api.patch(&key.name, &params, &Patch::Merge(&patch))
                    .await
                    .map(Some)
            }
            Deed::Delete(seen) => {
                let text = |value: &Value| value.as_str().map(str::to_owned);
                let params = DeleteParams {
                    preconditions: Some(Preconditions {
                        uid: text(&seen["metadata"]["uid"]),
                        resource_version: text(&seen["metadata"]["resourceVersion"]),
                    }),
                    ..DeleteParams::default()
                };
                match api.delete(&key.name, &params).await {
                    Ok(_) => Ok(None),
                    Err(Error::Api(status)) if status.is_not_found() => Ok(None),
                    Err(error) => Err(error),
                }
            }
        }
    }

    fn explain(&self, what: What, key: &Key, deed: &Deed, error: &Error) {
        let kind = what.kind();
        match error {
            Error::Api(status) if status.is_conflict() => {
                tracing::debug!(%kind, object = %key, "somebody was faster; it is looked at again");
            }
            Error::Api(status) if status.is_already_exists() && matches!(deed, Deed::Create(_)) => {
                tracing::warn!(%kind, object = %key, "an object of that name is there and not ours: rename it, or give it the label {OWN_LABEL}={} to hand it over; until then the Gateway has no address", self.mark);
            }
            Error::Api(status) if status.is_forbidden() => {
                tracing::warn!(%kind, object = %key, error = status.message, "--gateway-services needs create, patch and delete of services and endpointslices");
            }
            error => {
                tracing::warn!(%kind, object = %key, %error, "cannot be made what it should be; it is tried again");
            }
        }
    }
}
