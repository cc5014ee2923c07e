//! The gateway from end to end. One program, for every further one would link the whole gateway once more: forty of them took six gigabytes
//! and most of the time of a build.
//!
//! `cargo test --test gateway tls::` runs one module. Tests with real parts are ignored unless asked for (`-- --ignored openid::`).

mod annotations;
mod annotations_streams;
mod backends;
mod balancing;
mod births;
mod change;
mod client_certificates;
mod cluster;
mod components;
mod drain;
mod envoy_example;
mod ext_auth;
mod failures;
mod filter_bodies;
mod filter_registry;
mod filter_test;
mod filters;
mod forwarding;
mod grpc_calls;
mod heads;
mod http;
mod http_calls;
mod isolation;
mod ledger;
mod lifecycle;
mod limits;
mod modules;
mod openid;
mod outputs;
mod paths;
mod queues;
mod quickstart;
mod rate_limit_service;
mod sessions;
mod settings;
mod shadow;
mod streaming;
mod suites;
mod tcp_routes;
mod tls;
mod tls_routes;
mod udp_routes;
mod upgrade;
mod upstream;
mod upstream_http2;
mod workbench;
