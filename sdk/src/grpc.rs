//! Unary gRPC calls to the clusters that the filter may call. Messages are bytes: bring your own protobuf.

use std::fmt;
use std::time::Duration;

use crate::hostcalls::{self, Pairs};
use crate::http::CallError;
use crate::runtime::{Outcome, Slot};

/// A call to be made.
#[derive(Clone, Debug)]
pub struct Call {
    cluster: String,
    service: String,
    method: String,
    metadata: Pairs,
    message: Vec<u8>,
    timeout: Duration,
}

/// Why there is no message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The call was not made.
    Call(CallError),
    /// It ended with another status than OK.
    Status {
        /// gRPC status.
        code: u32,
        /// What the server or the host says about it.
        message: String,
    },
}

const TIMEOUT: Duration = Duration::from_secs(5);

impl Call {
    /// A call of `service` (with its package) and `method` at `cluster`.
    #[must_use]
    pub fn new(cluster: &str, service: &str, method: &str, message: impl Into<Vec<u8>>) -> Self {
        Self {
            cluster: cluster.to_owned(),
            service: service.to_owned(),
            method: method.to_owned(),
            metadata: Pairs::new(),
            message: message.into(),
            timeout: TIMEOUT,
        }
    }

    /// Adds metadata.
    #[must_use]
    pub fn metadata(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.metadata.push((name.into(), value.as_ref().to_vec()));
        self
    }

    /// The time that it may take. 5 seconds where nothing else is said.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Makes the call and waits for its message.
    ///
    /// # Errors
    ///
    /// Both.
    pub async fn send(self) -> Result<Vec<u8>, Error> {
        let timeout = u32::try_from(self.timeout.as_millis())
            .unwrap_or(u32::MAX)
            .max(1);
        let token = hostcalls::grpc_call(
            &self.cluster,
            &self.service,
            &self.method,
            &self.metadata,
            &self.message,
            timeout,
        )
        .map_err(|status| Error::Call(CallError::refused(self.cluster, status)))?;
        match Slot::grpc(token).await {
            Outcome::Grpc(message) => Ok(message),
            Outcome::GrpcFailed { status, message } => Err(Error::Status {
                code: status,
                message: String::from_utf8_lossy(&message).into_owned(),
            }),
            Outcome::Http { .. } => Err(Error::Call(CallError::NoAnswer)),
        }
    }
}

/// The call's target as both hosts read it: `envoy.config.core.v3.GrpcService` with 1 `envoy_grpc`, and in it 1 `cluster_name`. A
/// bare name would do for most clusters; but hosts try to read it as this message first, and some names happen to be one.
#[cfg(any(all(target_arch = "wasm32", not(target_env = "p2")), test))]
pub(crate) fn target(cluster: &str) -> Vec<u8> {
    field_one(&field_one(cluster.as_bytes()))
}

/// A message with this field 1, of bytes.
#[cfg(any(all(target_arch = "wasm32", not(target_env = "p2")), test))]
fn field_one(value: &[u8]) -> Vec<u8> {
    const FIELD_ONE_OF_BYTES: u8 = 0x0a;
    let mut message = vec![FIELD_ONE_OF_BYTES];
    let mut rest = value.len();
    while rest > 0x7f {
        message.push(u8::try_from(rest & 0x7f).expect("seven bits") | 0x80);
        rest >>= 7;
    }
    message.push(u8::try_from(rest).expect("seven bits"));
    message.extend_from_slice(value);
    message
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call(error) => error.fmt(f),
            Self::Status { code, message } => {
                write!(f, "the call ended with gRPC status {code}: {message}")
            }
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        assert_eq!(target("authz"), b"\x0a\x07\x0a\x05authz");
        let long = target(&"a".repeat(200));
        assert_eq!(long[..6], [0x0a, 0xcb, 0x01, 0x0a, 0xc8, 0x01]);
        assert_eq!(long.len(), 206);
    }
}
