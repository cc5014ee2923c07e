//! Annotations that concern what lasts: tunnels, and bodies that an upstream does not take.

use http::Method;
use tidegate_testing::{Client, Gateway, Listener, Wire, eventually, full, manifests};

const ASK: &str =
    "GET /ws HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const SWITCH: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

/// An Ingress for `a.test` with these annotations, to one endpoint.
fn ingress(endpoint: std::net::SocketAddr, annotations: &[(&str, &str)]) -> String {
    let lines: String = annotations
        .iter()
        .map(|(name, value)| format!("    nginx.ingress.kubernetes.io/{name}: {value:?}\n"))
        .collect();
    format!(
        "---
apiVersion: tidegate.dev/v1alpha1
kind: GatewayConfig
metadata: {{name: nginx}}
spec: {{ingressNginxAnnotations: true}}
---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {{name: nginx}}
spec:
  controller: tidegate.dev/controller
  parameters: {{apiGroup: tidegate.dev, kind: GatewayConfig, scope: Namespace, namespace: default, name: nginx}}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: web
  annotations:
{lines}spec:
  ingressClassName: nginx
  rules:
  - host: a.test
    http: {{paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: up, port: {{number: 80}}}}}}}}]}}
{}",
        manifests::service("up", &[endpoint])
    )
}

async fn tunnel(gateway: &Gateway, upstream: &Listener) -> (Wire, Wire) {
    let mut client = gateway.connect().await;
    client.send(ASK).await;
    let mut server = upstream.accept().await;
    assert_eq!(server.head().await.field("upgrade"), "websocket");
    server.send(SWITCH).await;
    assert_eq!(client.head().await.status(), 101);
    (client, server)
}

#[tokio::test]
async fn a_silent_tunnel_ends() {
    let upstream = Listener::bind().await;
    let annotations = [("proxy-read-timeout", "1")];
    let gateway = Gateway::start(&ingress(upstream.address(), &annotations)).await;
    let (mut client, mut server) = tunnel(&gateway, &upstream).await;
    for round in 0..3 {
        client.send(format!("ping {round}")).await;
        assert_eq!(server.exact(6).await, format!("ping {round}"));
    }
    let (rest, _) = client.rest().await;
    assert!(rest.is_empty(), "the gateway ends a silent tunnel");
}

#[tokio::test]
async fn a_tunnel_keeps_its_place_until_it_ends() {
    let upstream = Listener::bind().await;
    let annotations = [("limit-connections", "1")];
    let gateway = Gateway::start(&ingress(upstream.address(), &annotations)).await;
    let (client, server) = tunnel(&gateway, &upstream).await;
    assert_eq!(gateway.get("a.test", "/").await.status, 503);
    drop((client, server));
    // The tunnel's end is noticed a moment later.
    eventually!(
        {
            let mut client = gateway.connect().await;
            client.send(ASK).await;
            tokio::select! {
                refused = client.answer() => {
                    assert_eq!(refused.status, 503);
                    false
                }
                _server = upstream.accept() => true,
            }
        },
        "the place is given back"
    );
}

#[tokio::test]
async fn an_upstream_that_takes_nothing_of_a_body_is_given_up() {
    let upstream = Listener::bind().await;
    let annotations = [("proxy-send-timeout", "1"), ("proxy-body-size", "0")];
    let gateway = Gateway::start(&ingress(upstream.address(), &annotations)).await;
    // More than the buffers on the way hold.
    let length = 64 << 20;
    let mut client = Client::http1(gateway.http()).await;
    let request = client.request(Method::POST, "a.test", "/");
    let body = full(vec![b'a'; length]);
    let asking = client.send(request.body(body).expect("a request"));
    let taking = async {
        let mut server = upstream.accept().await;
        let head = server.head().await;
        assert_eq!(head.field("content-length"), length.to_string());
        server
    };
    // The upstream holds its connection open and reads no further.
    let (answer, _server) = tokio::join!(asking, taking);
    assert_eq!(answer.expect("an answer").status, 504);
}
