//! A service decides about requests: Envoy's ext_authz over gRPC, and the Gateway API's externalAuth, which ends in the same module.

use http::Method;
use serde_json::{Value, json};
use tidegate_filter_cases::proto;
use tidegate_testing::{
    Client, Gateway, GrpcCall, GrpcUpstream, Port, Reply, Seen, Upstream, eventually, full,
    grpc_frame, manifests,
};

const CHECK: &str = "envoy.service.auth.v3.Authorization/Check";

/// A Filter `auth` of the bundled module, which may call the Service `authz`.
fn filter(config: &str) -> String {
    format!(
        "---\napiVersion: tidegate.dev/v1alpha1\nkind: Filter\nmetadata: {{name: auth}}\nspec:\n  module: {{builtin: ext-auth}}\n  config: {config}\n  clusters: [{{name: authz, backendRef: {{name: authz, port: 80}}}}]\n"
    )
}

/// Everything goes to `up`, past this filter of a rule.
fn manifest(up: &Upstream, authz: std::net::SocketAddr, more: &str, filters: &str) -> String {
    format!(
        "{}{}{}{more}{}",
        manifests::GATEWAY,
        manifests::service("up", &[up.address()]),
        manifests::service("authz", &[authz]),
        manifests::route("all", &[], &manifests::rule(filters))
    )
}

async fn past_filter(up: &Upstream, authz: std::net::SocketAddr, config: &str) -> Gateway {
    let manifest = manifest(up, authz, &filter(config), &manifests::filters(&["auth"]));
    Gateway::start(&manifest).await
}

/// `, filters: […]` with an externalAuth.
fn external_auth(text: &str) -> String {
    format!(
        ", filters: [{{type: ExternalAuth, externalAuth: {{backendRef: {{name: authz, port: 80}}, {text}}}}}]"
    )
}

/// Answers the next call. Gives back what was asked, and the call, which is reset when it is dropped.
async fn check(rpc: &mut GrpcUpstream, answer: Value) -> (Value, GrpcCall) {
    let method = proto::method(CHECK).expect("it is known");
    let mut call = rpc.accept().await;
    assert_eq!(call.head.uri.path(), format!("/{CHECK}"));
    let message = call.message().await.expect("a message");
    let response = method.response.encode(&answer).expect("a CheckResponse");
    call.begin(&[]);
    call.data(grpc_frame(&response));
    call.trailers(&[("grpc-status", "0")]);
    let asked = method.request.decode(&message).expect("a CheckRequest");
    (asked, call)
}

fn ok(headers: &Value) -> Value {
    json!({"status": {"code": 0}, "ok_response": {"headers": headers}})
}

#[tokio::test]
async fn a_grpc_service_says_who_it_is() {
    let up = Upstream::named("up").await;
    let mut rpc = GrpcUpstream::start().await;
    let config = "{grpc: {contextExtensions: {route: all}}, cluster: authz}";
    let gateway = past_filter(&up, rpc.address(), config).await;
    let request =
        "GET /a?b=c HTTP/1.1\r\nHost: shop.example\r\nX-User: root\r\nCookie: s=1\r\n\r\n";
    let header = json!([{"header": {"key": "X-User", "value": "ann"}}]);
    let (answer, (asked, _call)) =
        tokio::join!(gateway.send(request), check(&mut rpc, ok(&header)));
    assert_eq!((answer.status.as_u16(), answer.text()), (200, "up"));
    assert_eq!(up.only().header("x-user"), "ann");
    let attributes = &asked["attributes"];
    let http = &attributes["request"]["http"];
    for (field, value) in [
        ("method", "GET"),
        ("path", "/a?b=c"),
        ("host", "shop.example"),
        ("scheme", "http"),
        ("protocol", "HTTP/1.1"),
    ] {
        assert_eq!(http[field], value, "{field}: {asked}");
    }
    assert_eq!(http["headers"]["cookie"], "s=1");
    assert_eq!(http["headers"]["x-user"], "root");
    assert!(http["id"].as_str().is_some_and(|id| !id.is_empty()));
    for end in ["source", "destination"] {
        let address = &attributes[end]["address"]["socket_address"];
        assert_eq!(address["address"], "127.0.0.1", "{asked}");
    }
    let port = &attributes["destination"]["address"]["socket_address"]["port_value"];
    assert_eq!(*port, gateway.http().port());
    assert_eq!(attributes["context_extensions"], json!({"route": "all"}));
}

#[tokio::test]
async fn a_grpc_service_refuses_in_its_own_words() {
    let up = Upstream::named("up").await;
    let mut rpc = GrpcUpstream::start().await;
    let gateway = past_filter(&up, rpc.address(), "{grpc: {}, cluster: authz}").await;
    let denied = json!({"status": {"code": 16}, "denied_response": {
        "status": {"code": 401},
        "headers": [{"header": {"key": "WWW-Authenticate", "value": "Bearer"}}],
        "body": "who are you?",
    }});
    let (answer, _asked) = tokio::join!(gateway.get("a.test", "/"), check(&mut rpc, denied));
    assert_eq!(
        (answer.status.as_u16(), answer.text()),
        (401, "who are you?")
    );
    assert_eq!(answer.header("www-authenticate"), "Bearer");
    let plain = json!({"status": {"code": 7}});
    let (answer, _asked) = tokio::join!(gateway.get("a.test", "/"), check(&mut rpc, plain));
    assert_eq!(answer.status, 403);
    assert_eq!(up.count(), 0);
}

#[tokio::test]
async fn a_grpc_service_that_fails_is_no_permission_unless_it_is_said() {
    let up = Upstream::named("up").await;
    let rpc = GrpcUpstream::start().await;
    let config = "{grpc: {}, cluster: authz, timeout: 50ms, failureStatus: 503}";
    let gateway = past_filter(&up, rpc.address(), config).await;
    assert_eq!(gateway.get("a.test", "/").await.status, 503, "too slow");
    drop(rpc);
    let nobody = Port::reserve();
    for (policy, status) in [("", 403), (", onFailure: allow", 200)] {
        let config = format!("{{grpc: {{}}, cluster: authz{policy}}}");
        let gateway = past_filter(&up, nobody.address(), &config).await;
        assert_eq!(gateway.get("a.test", "/").await.status, status, "{policy}");
    }
    assert_eq!(up.count(), 1);
}

/// The Filter does not say `headersWaitForBody`: a bundled filter that needs it gets it.
#[tokio::test]
async fn the_body_goes_to_the_service_and_then_to_the_upstream() {
    let up = Upstream::start(|seen| Reply::text(seen.body.clone())).await;
    let mut rpc = GrpcUpstream::start().await;
    let config = "{grpc: {}, cluster: authz, forwardBody: 8}";
    let gateway = past_filter(&up, rpc.address(), config).await;
    let mut wire = gateway.connect().await;
    let (answer, (asked, _call)) = tokio::join!(
        async {
            wire.send(
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n",
            )
            .await;
            wire.send("3\r\ncde\r\n0\r\n\r\n").await;
            wire.answer().await
        },
        check(
            &mut rpc,
            ok(&json!([{"header": {"key": "x-user", "value": "ann"}}]))
        )
    );
    assert_eq!((answer.status.as_u16(), answer.text()), (200, "abcde"));
    let http = &asked["attributes"]["request"]["http"];
    assert_eq!((&http["body"], &http["size"]), (&json!("abcde"), &json!(5)));
    assert_eq!(up.only().header("x-user"), "ann");
    let mut client = Client::http2(gateway.http()).await;
    let request = client.request(Method::POST, "a.test", "/");
    let request = request.body(full("123456789")).expect("a request");
    let answer = client.send(request).await.expect("an answer");
    assert_eq!(answer.status, 413);
    assert!(rpc.is_idle() && up.count() == 1);
}

/// A service that answers with the status at the end of the path, 200 where there is none.
async fn http_service() -> Upstream {
    Upstream::start(|seen| {
        let wanted = seen.target().rsplit('/').next();
        Reply::status(wanted.and_then(|status| status.parse().ok()).unwrap_or(200))
            .header("x-user", "ann")
            .header("x-groups", "a")
            .header("location", "https://login.example/")
            .header("content-type", "text/html")
            .piece("<p>")
    })
    .await
}

#[tokio::test]
async fn external_auth_over_http_is_asked_as_the_gateway_api_says() {
    let up = Upstream::start(|seen| Reply::text(seen.body.clone())).await;
    let service = http_service().await;
    let filters = external_auth(
        "protocol: HTTP, http: {path: /check, allowedHeaders: [X-Tenant]}, forwardBody: {maxSize: 16}",
    );
    let gateway = Gateway::start(&manifest(&up, service.address(), "", &filters)).await;
    let request = "PUT /a/b?c HTTP/1.1\r\nHost: shop.example\r\nAuthorization: Bearer x\r\nCookie: s=1\r\nX-Tenant: gold\r\nX-User: root\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\nbody";
    let answer = gateway.send(request).await;
    assert_eq!((answer.status.as_u16(), answer.text()), (200, "body"));
    let call = service.only();
    assert_eq!(
        (call.method.as_str(), call.target(), &call.body[..]),
        ("PUT", "/check/a/b?c", &b"body"[..])
    );
    for (name, value) in [
        ("host", "shop.example"),
        ("authorization", "Bearer x"),
        ("x-tenant", "gold"),
        ("content-length", "4"),
        ("cookie", ""),
        ("x-user", ""),
        ("x-original-url", ""),
        ("x-forwarded-for", ""),
    ] {
        assert_eq!(call.header(name), value, "{name}");
    }
    let seen: Seen = up.only();
    for (name, value) in [
        ("x-user", "ann"),
        ("x-groups", "a"),
        ("content-type", "text/plain"),
        ("content-length", "4"),
        ("host", "shop.example"),
    ] {
        assert_eq!(seen.header(name), value, "{name}");
    }
    let long = "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 17\r\n\r\n12345678901234567";
    assert_eq!(gateway.send(long).await.status, 413);
    assert_eq!((service.count(), up.count()), (1, 1));
}

#[tokio::test]
async fn without_a_body_the_content_length_of_the_call_is_zero() {
    let up = Upstream::named("up").await;
    let service = http_service().await;
    let filters = external_auth("protocol: HTTP, http: {allowedResponseHeaders: [X-User]}");
    let gateway = Gateway::start(&manifest(&up, service.address(), "", &filters)).await;
    let request = "POST /x HTTP/1.1\r\nHost: a.test\r\nX-User: root\r\nX-Groups: own\r\nContent-Length: 2\r\n\r\nhi";
    assert_eq!(gateway.send(request).await.status, 200);
    let call = service.only();
    assert_eq!(
        (
            call.header("content-length"),
            call.target(),
            call.body.len()
        ),
        ("0", "/x", 0)
    );
    let seen = up.only();
    assert_eq!(
        (seen.header("x-user"), seen.header("x-groups")),
        ("ann", "own")
    );
    assert_eq!(&seen.body[..], b"hi");
}

#[tokio::test]
async fn anything_but_200_refuses() {
    let up = Upstream::named("up").await;
    let service = http_service().await;
    let filters = external_auth("protocol: HTTP, http: {}");
    let gateway = Gateway::start(&manifest(&up, service.address(), "", &filters)).await;
    for (status, expected) in [(204, 403), (302, 302), (401, 401), (404, 404), (500, 403)] {
        let answer = gateway.get("a.test", &format!("/{status}")).await;
        assert_eq!(answer.status, expected, "{status}");
        if expected == status {
            assert_eq!(answer.header("location"), "https://login.example/");
            assert_eq!(
                (answer.header("content-type"), answer.text()),
                ("text/html", "<p>")
            );
        }
    }
    assert_eq!((service.count(), up.count()), (5, 0));
    let nobody = Port::reserve();
    let filters = external_auth("protocol: HTTP, http: {}");
    let gateway = Gateway::start(&manifest(&up, nobody.address(), "", &filters)).await;
    assert_eq!(gateway.get("a.test", "/").await.status, 403);
    assert_eq!(up.count(), 0);
}

#[tokio::test]
async fn external_auth_over_grpc_may_send_some_headers_only() {
    let up = Upstream::named("up").await;
    let mut rpc = GrpcUpstream::start().await;
    let filters = external_auth("protocol: GRPC, grpc: {allowedHeaders: [Authorization]}");
    let gateway = Gateway::start(&manifest(&up, rpc.address(), "", &filters)).await;
    let request = "GET / HTTP/1.1\r\nHost: a.test\r\nAuthorization: x\r\nCookie: s=1\r\n\r\n";
    let (answer, (asked, _call)) =
        tokio::join!(gateway.send(request), check(&mut rpc, ok(&json!([]))));
    assert_eq!(answer.status, 200);
    let http = &asked["attributes"]["request"]["http"];
    assert_eq!(http["headers"], json!({"authorization": "x"}));
    assert_eq!(http["host"], "a.test");
}

#[tokio::test]
async fn a_listener_asks_before_the_route_is_chosen() {
    let up = Upstream::named("up").await;
    let mut rpc = GrpcUpstream::start().await;
    let asking = "  - {name: http, port: 80, protocol: HTTP, filters: {requests: [{type: ExternalAuth, externalAuth: {protocol: GRPC, grpc: {}, backendRef: {name: authz, port: 80}}}]}}\n";
    let manifest = manifest(&up, rpc.address(), "", "").replacen(
        "  - {name: http, port: 80, protocol: HTTP}\n",
        asking,
        1,
    );
    let gateway = Gateway::start(&manifest).await;
    let denied = json!({"status": {"code": 7}});
    let (answer, (asked, _call)) =
        tokio::join!(gateway.get("nobody.test", "/x"), check(&mut rpc, denied));
    assert_eq!(answer.status, 403);
    assert_eq!(
        asked["attributes"]["request"]["http"]["host"],
        "nobody.test"
    );
    let (answer, _asked) =
        tokio::join!(gateway.get("a.test", "/"), check(&mut rpc, ok(&json!([]))));
    assert_eq!((answer.status.as_u16(), answer.text()), (200, "up"));
}

#[tokio::test]
async fn a_service_that_does_not_exist_is_500_until_it_does() {
    let up = Upstream::named("up").await;
    let service = http_service().await;
    let filters = external_auth("protocol: HTTP, http: {}").replace("name: authz", "name: later");
    let gateway = Gateway::start(&manifest(&up, service.address(), "", &filters)).await;
    assert_eq!(gateway.get("a.test", "/").await.status, 500);
    gateway
        .write(
            "later.yaml",
            &manifests::service("later", &[service.address()]),
        )
        .await;
    eventually!(
        gateway.get("a.test", "/").await.status == 200,
        "the service is there now"
    );
}
