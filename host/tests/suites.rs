//! Protocol suites of other projects through the gateway: h2spec, and gRPC's interoperability tests.
//!
//! Real parts: `host/tests/suites/build` makes the programs (Go). Where it cannot, the tests fail.

use std::net::SocketAddr;
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;

use tidegate_testing::{Certificate, Gateway, Reply, Upstream, eventually, guest, manifests};

/// Cases of gRPC's suite that a proxy can spoil (those left out need an authorisation server or a cloud).
const INTEROP: [&str; 14] = [
    "empty_unary",
    "large_unary",
    "client_streaming",
    "server_streaming",
    "ping_pong",
    "empty_stream",
    "timeout_on_sleeping_server",
    "cancel_after_begin",
    "cancel_after_first_response",
    "status_code_and_message",
    "special_status_message",
    "custom_metadata",
    "unimplemented_method",
    "unimplemented_service",
];

/// A filter that takes part in everything and changes nothing.
const PASS: &str = r#"
(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (i32.const 0))
(func (export "proxy_on_request_body") (param i32 i32 i32) (result i32) (i32.const 0))
(func (export "proxy_on_request_trailers") (param i32 i32) (result i32) (i32.const 0))
(func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32) (i32.const 0))
(func (export "proxy_on_response_body") (param i32 i32 i32) (result i32) (i32.const 0))
(func (export "proxy_on_response_trailers") (param i32 i32) (result i32) (i32.const 0))
"#;

/// The path of a program of the suites, all of which are built by the first who asks.
fn program(name: &str) -> String {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/suites/build");
        let built = Command::new(script).stdout(Stdio::null()).status();
        assert!(
            built.is_ok_and(|status| status.success()),
            "{script} failed; what it said is above"
        );
    });
    format!("{}/../target/tools/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// Runs a program to its end, on a thread where it stops nobody.
async fn run(name: &'static str, arguments: Vec<String>) -> Output {
    let running =
        tokio::task::spawn_blocking(move || Command::new(program(name)).args(arguments).output());
    let ended = running.await.expect("it does not panic");
    ended.expect("the program starts")
}

fn https(certificate: &Certificate) -> String {
    format!(
        "---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: test}}
spec:
  gatewayClassName: tidegate
  listeners:
  - {{name: http, port: 80, protocol: HTTP}}
  - {{name: https, port: 443, protocol: HTTPS, tls: {{certificateRefs: [{{name: own}}]}}}}
{}",
        certificate.secret("own")
    )
}

/// All cases.
async fn h2spec(tls: bool) {
    let upstream = Upstream::start(|_| Reply::text("hello, world\n".to_owned())).await;
    let certificate = Certificate::new(&["localhost"]);
    let manifest = format!(
        "{}{}{}",
        https(&certificate),
        manifests::service("up", &[upstream.address()]),
        manifests::route("all", &[], &manifests::rule(""))
    );
    let gateway = Gateway::start(&manifest).await;
    let address = if tls { gateway.https() } else { gateway.http() };
    let mut arguments = vec![
        format!("--host={}", address.ip()),
        format!("--port={}", address.port()),
        "--timeout=3".to_owned(),
    ];
    if tls {
        arguments.extend(["--tls".to_owned(), "--insecure".to_owned()]);
    }
    let output = run("h2spec", arguments).await;
    let said = String::from_utf8_lossy(&output.stdout);
    // The cases that failed are listed once more at the end.
    let failures = said.split("Failures:").nth(1).unwrap_or_default();
    let failed: Vec<&str> = failures
        .lines()
        .filter_map(|line| line.trim().strip_prefix("× "))
        .collect();
    assert!(failed.is_empty(), "{said}");
    let summary = said.lines().last().unwrap_or_default();
    assert_eq!(summary, "145 tests, 145 passed, 0 skipped, 0 failed");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "real parts"]
async fn h2spec_passes_in_cleartext() {
    h2spec(false).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "real parts"]
async fn h2spec_passes_over_tls() {
    h2spec(true).await;
}

/// gRPC's own server. It is killed when it is dropped.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // One that has ended needs no signal.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server on a port of its own.
async fn interop_server() -> (Server, SocketAddr) {
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a free port")
        .port();
    let server = Command::new(program("grpc-interop-server"))
        .args(["-port", &port.to_string(), "-use_tls=false"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the server starts");
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    eventually!(
        tokio::net::TcpStream::connect(address).await.is_ok(),
        "the interoperability server listens"
    );
    (Server(server), address)
}

/// All cases, with more of the rule as `, name: value`.
async fn interop(rule: &str, tls: bool) {
    let (_server, address) = interop_server().await;
    let certificate = Certificate::new(&["grpc.test"]);
    let manifest = format!(
        "{}{}{}{}",
        https(&certificate),
        manifests::service_speaking("up", &[address], "kubernetes.io/h2c"),
        manifests::filter("pass", "pass.wasm", ""),
        manifests::route("all", &[], &manifests::rule(rule))
    );
    let gateway = Gateway::builder()
        .file("pass.wasm", guest(PASS))
        .start(&manifest)
        .await;
    let folder = tempfile::tempdir().expect("a folder");
    let authority = folder.path().join("ca.pem");
    std::fs::write(&authority, &certificate.chain).expect("the certificate is written");
    let address = if tls { gateway.https() } else { gateway.http() };
    let mut failed = Vec::new();
    for case in INTEROP {
        let mut arguments = vec![
            format!("-server_host={}", address.ip()),
            format!("-server_port={}", address.port()),
            format!("-test_case={case}"),
            format!("-use_tls={tls}"),
        ];
        if tls {
            arguments.push("-use_test_ca=true".to_owned());
            arguments.push(format!("-ca_file={}", authority.display()));
            arguments.push("-server_host_override=grpc.test".to_owned());
        }
        let output = run("grpc-interop-client", arguments).await;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            failed.push(format!("{case}: {said}"));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "real parts"]
async fn grpc_interoperates() {
    interop("", false).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "real parts"]
async fn grpc_interoperates_past_a_filter() {
    interop(&manifests::filters(&["pass"]), false).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "real parts"]
async fn grpc_interoperates_over_tls() {
    interop("", true).await;
}
