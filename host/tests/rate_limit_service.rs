//! Rate limits over replicas: Envoy's rate limit service, played here and, with real parts, the real one on a Redis.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;
use tidegate_filter_cases::proto;
use tidegate_testing::{
    Answer, Gateway, GrpcCall, GrpcUpstream, Port, Process, Upstream, Wire, eventually, grpc_frame,
    manifests,
};

const TIDEGATE: &str = env!("CARGO_BIN_EXE_tidegate");
const SHOULD_RATE_LIMIT: &str = "envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";

/// A Filter of that name, which asks the Service `limits` about tenants.
fn filter(name: &str, more: &str) -> String {
    format!(
        "---\napiVersion: tidegate.dev/v1alpha1\nkind: Filter\nmetadata: {{name: {name}}}\nspec:\n  module: {{builtin: rate-limit}}\n  config:\n    service: {{cluster: limits, domain: shop, descriptors: [[{{header: X-Tenant, key: tenant}}]], timeout: 5s{more}}}\n  clusters: [{{name: limits, backendRef: {{name: limits, port: 80}}}}]\n"
    )
}

/// Two hosts that lead to `up`: one lets pass when the service fails, one refuses.
fn manifest(up: SocketAddr, limits: SocketAddr) -> String {
    let route = |name: &str, host: &str| {
        let rule = manifests::rule(&manifests::filters(&[name]));
        manifests::route(name, &[host], &rule)
    };
    [
        manifests::GATEWAY.to_owned(),
        manifests::service("up", &[up]),
        manifests::service("limits", &[limits]),
        filter("open", ""),
        filter("closed", ", onFailure: deny"),
        route("open", "open.test"),
        route("closed", "closed.test"),
    ]
    .concat()
}

async fn asked(rpc: &mut GrpcUpstream, answer: Value) -> (Value, GrpcCall) {
    let method = proto::method(SHOULD_RATE_LIMIT).expect("it is known");
    let mut call = rpc.accept().await;
    assert_eq!(call.head.uri.path(), format!("/{SHOULD_RATE_LIMIT}"));
    let message = call.message().await.expect("a message");
    let response = method.response.encode(&answer);
    call.begin(&[]);
    call.data(grpc_frame(&response.expect("a RateLimitResponse")));
    call.trailers(&[("grpc-status", "0")]);
    let asked = method.request.decode(&message);
    (asked.expect("a RateLimitRequest"), call)
}

#[tokio::test]
async fn the_service_is_asked_and_obeyed() {
    let up = Upstream::named("up").await;
    let mut rpc = GrpcUpstream::start().await;
    let gateway = Gateway::start(&manifest(up.address(), rpc.address())).await;
    let request = "GET / HTTP/1.1\r\nHost: open.test\r\nX-Tenant: gold\r\n\r\n";
    let limit = json!({"requests_per_unit": 10, "unit": "MINUTE"});
    let passes = json!({"overall_code": "OK", "statuses": [{"code": "OK", "current_limit": limit, "limit_remaining": 4, "duration_until_reset": {"seconds": 20}}]});
    let (answer, (message, _call)) = tokio::join!(gateway.send(request), asked(&mut rpc, passes));
    assert_eq!((answer.status.as_u16(), answer.text()), (200, "up"));
    assert_eq!(answer.header("ratelimit"), "\"10-per-minute\";r=4;t=20");
    let descriptors = json!([{"entries": [{"key": "tenant", "value": "gold"}]}]);
    assert_eq!(
        message,
        json!({"domain": "shop", "descriptors": descriptors, "hits_addend": 1})
    );
    let over = json!({"overall_code": "OVER_LIMIT", "statuses": [{"code": "OVER_LIMIT", "current_limit": limit, "duration_until_reset": {"seconds": 20}}]});
    let (answer, _message) = tokio::join!(gateway.send(request), asked(&mut rpc, over));
    assert_eq!(answer.status, 429);
    assert_eq!(answer.header("retry-after"), "20");
    assert_eq!(up.count(), 1);
}

#[tokio::test]
async fn when_it_does_not_answer_the_policy_does() {
    let up = Upstream::named("up").await;
    let nobody = Port::reserve();
    let gateway = Gateway::start(&manifest(up.address(), nobody.address())).await;
    assert_eq!(gateway.get("open.test", "/").await.status, 200);
    assert_eq!(gateway.get("closed.test", "/").await.status, 503);
    assert_eq!(up.count(), 1);
}

/// The real service and its Redis, as processes of a script, which ends them when its standard input does.
struct Service {
    script: Child,
    /// Closed by `stop`.
    input: Option<ChildStdin>,
}

impl Service {
    async fn start(folder: &Path, address: SocketAddr) -> Self {
        let scripts = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/rate-limit-service");
        let built = Command::new(format!("{scripts}/build")).status();
        assert!(
            built.is_ok_and(|status| status.success()),
            "{scripts}/build failed; what it said is above"
        );
        let config = folder.join("config");
        fs::create_dir(&config).expect("a folder");
        // A year, so that no test runs over the edge of its window.
        let limits = "domain: shop\ndescriptors:\n- key: tenant\n  rate_limit: {unit: year, requests_per_unit: 5}\n";
        fs::write(config.join("shop.yaml"), limits).expect("written");
        let mut script = Command::new(format!("{scripts}/run"))
            .arg(folder)
            .arg(address.port().to_string())
            .stdin(Stdio::piped())
            .spawn()
            .expect("the script starts");
        let input = script.stdin.take();
        eventually!(
            Wire::try_connect(address).await.is_ok(),
            "the rate limit service listens on {address}"
        );
        Self { script, input }
    }

    /// Ends both, and waits until they have.
    fn stop(&mut self) {
        drop(self.input.take());
        // Whether it ends well says nothing about the gateway.
        let _ = self.script.wait();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A gateway process of its own.
struct Replica {
    port: Port,
    _process: Process,
    _folder: TempDir,
}

impl Replica {
    async fn start(manifest: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("all.yaml"), manifest).expect("written");
        let port = Port::reserve();
        let map = format!("80:{}", port.number());
        let path = folder.path().to_str().expect("text");
        let arguments = ["--manifests", path, "--port-map", &map, "--workers", "1"];
        Self {
            _process: Process::serve(TIDEGATE, &arguments).await,
            port,
            _folder: folder,
        }
    }

    async fn get(&self, host: &str, tenant: &str) -> Answer {
        let mut wire = Wire::try_connect(self.port.address())
            .await
            .expect("it listens");
        wire.send(format!(
            "GET / HTTP/1.1\r\nHost: {host}\r\nX-Tenant: {tenant}\r\nConnection: close\r\n\r\n"
        ))
        .await;
        wire.answer().await
    }
}

#[tokio::test]
#[ignore = "real parts"]
async fn two_replicas_share_one_limit() {
    let up = Upstream::named("up").await;
    let (folder, port) = (tempfile::tempdir().expect("a folder"), Port::reserve());
    let mut service = Service::start(folder.path(), port.address()).await;
    let manifest = manifest(up.address(), port.address());
    let replicas = [
        Replica::start(&manifest).await,
        Replica::start(&manifest).await,
    ];
    // By turns: the first five of eight pass, whichever replica they come to.
    for turn in 0_u32..8 {
        let replica = &replicas[turn as usize % 2];
        let answer = replica.get("closed.test", "gold").await;
        let (status, left) = match 4_u32.checked_sub(turn) {
            Some(left) => (200, left),
            None => (429, 0),
        };
        assert_eq!(answer.status, status, "turn {turn}: {answer:?}");
        let limit = answer.header("ratelimit");
        assert!(
            limit.starts_with(&format!("\"5-per-year\";r={left};t=")),
            "turn {turn}: {limit}"
        );
        let waits = answer.header("retry-after");
        assert_eq!(waits.parse::<u64>().is_ok(), status == 429, "turn {turn}");
    }
    assert_eq!(up.count(), 5);
    for replica in &replicas {
        assert_eq!(replica.get("open.test", "gold").await.status, 429);
        assert_eq!(replica.get("open.test", "silver").await.status, 200);
    }
    service.stop();
    for replica in &replicas {
        assert_eq!(replica.get("open.test", "gold").await.status, 200);
        assert_eq!(replica.get("closed.test", "gold").await.status, 503);
    }
}
