//! What the host knows about connection, request and response, in Envoy's vocabulary of attributes.

use std::net::IpAddr;

use crate::hostcalls::{self, Status};
use crate::{address, log};

/// A type that a property may have.
pub trait Value: Sized {
    /// Reads the host's bytes; `None` when they are no such value.
    fn from_bytes(bytes: Vec<u8>) -> Option<Self>;
}

/// The property at `path`, `["source", "address"]` for example; `None` when there is none of this type.
#[must_use]
pub fn get<T: Value>(path: &[&str]) -> Option<T> {
    T::from_bytes(hostcalls::property(&path.join("\0")).ok()?)
}

/// Text that is there and not empty.
#[must_use]
pub fn text(path: &[&str]) -> Option<String> {
    get::<String>(path).filter(|text| !text.is_empty())
}

/// An address as hosts write it, with a port or without.
#[must_use]
pub fn address(path: &[&str]) -> Option<IpAddr> {
    address::parse(&hostcalls::property(&path.join("\0")).ok()?)
}

/// Leaves a value of the filter's own for filters behind this one and for the access log.
pub fn set(path: &[&str], value: &[u8]) {
    if let Err(status) = hostcalls::set_property(&path.join("\0"), value) {
        refused(path, status);
    }
}

fn refused(path: &[&str], status: Status) {
    log::refused(&format!("to set the property {}", path.join(".")), status);
}

impl Value for Vec<u8> {
    fn from_bytes(bytes: Vec<u8>) -> Option<Self> {
        Some(bytes)
    }
}

impl Value for String {
    fn from_bytes(bytes: Vec<u8>) -> Option<Self> {
        Self::from_utf8(bytes).ok()
    }
}

impl Value for bool {
    fn from_bytes(bytes: Vec<u8>) -> Option<Self> {
        match *bytes {
            [0] => Some(false),
            [1] => Some(true),
            _ => None,
        }
    }
}

impl Value for i64 {
    fn from_bytes(bytes: Vec<u8>) -> Option<Self> {
        Some(Self::from_le_bytes(bytes.try_into().ok()?))
    }
}

impl Value for u64 {
    fn from_bytes(bytes: Vec<u8>) -> Option<Self> {
        Some(Self::from_le_bytes(bytes.try_into().ok()?))
    }
}
