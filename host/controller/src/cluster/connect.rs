//! The connection to the API server.

use std::time::Duration;

use kube::{Client, Config};

/// Why there is no way to an API server.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Neither in a pod nor a kubeconfig.
    #[error(
        "no cluster: neither KUBECONFIG nor ~/.kube/config nor a pod's service account says where the API server is: {0}"
    )]
    Config(#[source] Box<kube::config::InferConfigError>),
    /// The configuration is of no use.
    #[error("the cluster's configuration cannot be used: {0}")]
    Client(#[source] Box<kube::Error>),
}

/// A client from KUBECONFIG or, in a pod, from the service account. Nothing is asked of the API server yet.
///
/// # Errors
/// When nothing says where the API server is, or certificates or keys cannot be read.
pub async fn client() -> Result<Client, ConnectError> {
    let mut config = Config::infer()
        .await
        .map_err(|error| ConnectError::Config(Box::new(error)))?;
    config.connect_timeout = Some(Duration::from_secs(5));
    // A bookmark comes about once a minute, so silence for this long is a dead connection.
    config.read_timeout = Some(Duration::from_secs(150));
    config.write_timeout = Some(Duration::from_secs(30));
    Client::try_from(config).map_err(|error| ConnectError::Client(Box::new(error)))
}
