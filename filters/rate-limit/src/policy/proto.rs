//! The messages of Envoy's rate limit service, as far as they are used here.
//!
//! Field numbers from Envoy v1.40.0: `envoy/service/ratelimit/v3/rls.proto`, `envoy/extensions/common/ratelimit/v3/ratelimit.proto` and
//! `envoy/config/core/v3/base.proto` (<https://github.com/envoyproxy/envoy/tree/v1.40.0/api>). Fields that are not listed are skipped
//! when they come; of those, `dynamic_metadata` has no place to go, since proxy-wasm cannot write Envoy's dynamic metadata.

use prost::Message;

/// What is asked.
#[derive(Clone, PartialEq, Message)]
pub struct RateLimitRequest {
    /// Whose limits.
    #[prost(string, tag = "1")]
    pub domain: String,
    /// What is counted.
    #[prost(message, repeated, tag = "2")]
    pub descriptors: Vec<RateLimitDescriptor>,
    /// How much this request counts; 0 means 1.
    #[prost(uint32, tag = "3")]
    pub hits_addend: u32,
}

/// One thing that is counted.
#[derive(Clone, PartialEq, Message)]
pub struct RateLimitDescriptor {
    /// Its parts, in the order in which the service's configuration nests them.
    #[prost(message, repeated, tag = "1")]
    pub entries: Vec<Entry>,
}

/// A part of it.
#[derive(Clone, PartialEq, Message)]
pub struct Entry {
    /// Its name.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Its value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// What is answered.
#[derive(Clone, PartialEq, Message)]
pub struct RateLimitResponse {
    /// Of everything together.
    #[prost(enumeration = "Code", tag = "1")]
    pub overall_code: i32,
    /// Of each descriptor.
    #[prost(message, repeated, tag = "2")]
    pub statuses: Vec<DescriptorStatus>,
    /// For the client.
    #[prost(message, repeated, tag = "3")]
    pub response_headers_to_add: Vec<HeaderValue>,
    /// For the upstream.
    #[prost(message, repeated, tag = "4")]
    pub request_headers_to_add: Vec<HeaderValue>,
    /// Body of a refusal.
    #[prost(bytes = "vec", tag = "5")]
    pub raw_body: Vec<u8>,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum Code {
    /// Nothing said.
    Unknown = 0,
    /// It passes.
    Ok = 1,
    /// It does not.
    OverLimit = 2,
}

/// What the service says about a descriptor.
#[derive(Clone, PartialEq, Message)]
pub struct DescriptorStatus {
    /// Of it alone.
    #[prost(enumeration = "Code", tag = "1")]
    pub code: i32,
    /// The limit that holds; none where the service has none for it.
    #[prost(message, optional, tag = "2")]
    pub current_limit: Option<Limit>,
    /// What is left of it.
    #[prost(uint32, tag = "3")]
    pub limit_remaining: u32,
    /// The time until all of it is back.
    #[prost(message, optional, tag = "4")]
    pub duration_until_reset: Option<Duration>,
}

/// A limit of the service.
#[derive(Clone, PartialEq, Message)]
pub struct Limit {
    /// Requests.
    #[prost(uint32, tag = "1")]
    pub requests_per_unit: u32,
    /// In this time.
    #[prost(enumeration = "Unit", tag = "2")]
    pub unit: i32,
    /// Its name, if it has one.
    #[prost(string, tag = "3")]
    pub name: String,
}

/// A unit of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum Unit {
    /// Nothing said.
    Unknown = 0,
    /// A second.
    Second = 1,
    /// 60 seconds.
    Minute = 2,
    /// 60 minutes.
    Hour = 3,
    /// 24 hours.
    Day = 4,
    /// 30 days.
    Month = 5,
    /// 365 days.
    Year = 6,
    /// 7 days.
    Week = 7,
}

/// A time.
#[derive(Clone, PartialEq, Message)]
pub struct Duration {
    /// Seconds.
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    /// And nanoseconds.
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

/// A header.
#[derive(Clone, PartialEq, Message)]
pub struct HeaderValue {
    /// Its name.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Its value as text.
    #[prost(string, tag = "2")]
    pub value: String,
    /// Or as bytes.
    #[prost(bytes = "vec", tag = "3")]
    pub raw_value: Vec<u8>,
}
