//! Annotations of ingress-nginx, each by its cases: Ingresses, requests, and what client and upstream must see.
//!
//! `annotations/<annotation>/<case>.yaml` says all of it ([`case::Case`]). All cases are served by one gateway process, each in a namespace and
//! under hosts of its own. Where nginx can show the behaviour, the case has the equivalent lines of its configuration, and
//! `cargo test --test gateway -- --ignored annotations::` sends the same requests to a real nginx and expects the same.

#![expect(
    clippy::unwrap_used,
    reason = "a case that cannot be run ends the test, and the line tells what it was"
)]

mod case;
mod nginx;
mod objects;
mod send;

use std::time::Duration;

use tidegate_testing::{Certificate, Process, Tls};

use case::Case;
use send::{Target, Upstreams};

/// What the tables of the documentation count.
const LEAST: usize = 80;

#[tokio::test]
async fn every_case_by_a_gateway_process() {
    let cases = case::all();
    assert!(cases.len() >= LEAST, "only {} cases", cases.len());
    let certificate = certificate(&cases);
    let upstreams = Upstreams::start().await;
    let folder = tempfile::tempdir().unwrap();
    let manifests = objects::manifests(&cases, &certificate, &upstreams);
    std::fs::write(folder.path().join("cases.yaml"), manifests).unwrap();
    let (http, https) = (
        tidegate_testing::Port::reserve(),
        tidegate_testing::Port::reserve(),
    );
    let ports = format!("80:{},443:{}", http.number(), https.number());
    let (http_port, https_port) = (http.number().to_string(), https.number().to_string());
    let process = Process::start(
        env!("CARGO_BIN_EXE_tidegate"),
        &[
            "--manifests",
            folder.path().to_str().unwrap(),
            "--port-map",
            &ports,
            "--http-port",
            &http_port,
            "--https-port",
            &https_port,
            "--workers",
            "2",
        ],
    );
    ready(&process).await;
    let status = process.admin("/status").await.json();
    let target = Target {
        http: http.address(),
        https: https.address(),
        tls: Tls::trusting(&[&certificate], &["http/1.1"]),
        is_nginx: false,
    };
    let mut failures = Vec::new();
    for case in &cases {
        failures.extend(objects::check_status(case, &status));
        failures.extend(send::run(case, &target, &upstreams).await);
    }
    assert_none(&failures, &cases);
}

/// Waits longer than tests do otherwise: a dozen modules are compiled first, by a compiler that is not optimised itself.
async fn ready(process: &Process) {
    let patience = 6 * tidegate_testing::PATIENCE;
    let ready = async {
        while process.admin("/readyz").await.status != 200 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let waited = tokio::time::timeout(patience, ready).await;
    waited.expect("every filter has its verdict");
}

/// The configurations are real ones: nginx itself answers as the cases say.
#[tokio::test]
#[ignore = "real parts"]
async fn the_same_by_a_real_nginx() {
    let cases: Vec<Case> = case::all()
        .into_iter()
        .filter(|case| case.nginx.is_some())
        .collect();
    assert!(!cases.is_empty());
    let certificate = certificate(&cases);
    let upstreams = Upstreams::start().await;
    let nginx = nginx::Nginx::start(&cases, &certificate, &upstreams).await;
    let target = Target {
        http: nginx.http.address(),
        https: nginx.https.address(),
        tls: Tls::trusting(&[&certificate], &["http/1.1"]),
        is_nginx: true,
    };
    let mut failures = Vec::new();
    for case in &cases {
        failures.extend(send::run(case, &target, &upstreams).await);
    }
    assert_none(&failures, &cases);
}

fn assert_none(failures: &[String], cases: &[Case]) {
    assert!(
        failures.is_empty(),
        "{} differences in {} cases:\n{}",
        failures.len(),
        cases.len(),
        failures.join("\n")
    );
}

fn certificate(cases: &[Case]) -> Certificate {
    let mut names: Vec<String> = cases.iter().flat_map(Case::tls_names).collect();
    names.push("secure.test".to_owned());
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    Certificate::new(&names)
}
