//! The books agree: every request has one line in the access log and one place in the metrics, and both tell what the client saw.

use std::collections::BTreeMap;

use tidegate_testing::{Gateway, Listener, Reply, Upstream, eventually, guest, manifests};

#[tokio::test]
async fn every_request_has_its_line_and_its_count() {
    let upstream = Upstream::start(|seen| match seen.target() {
        "/broken" => Reply::status(200).piece("begun").broken(),
        "/500" => Reply::status(500),
        _ => Reply::text("up"),
    })
    .await;
    let slow = Listener::bind().await;
    let answers = r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (call $reply (i32.const 403) @"no") (i32.const 0))"#;
    let traps = r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (unreachable))"#;
    let path = |path: &str, name: &str, more: &str| {
        format!(
            "{{matches: [{{path: {{value: /{path}}}}}], backendRefs: [{{name: {name}, port: 80}}]{more}}}"
        )
    };
    let rules = [
        path("slow", "slow", ""),
        path("timeout", "slow", ", timeouts: {request: 100ms}"),
        path("none", "none", ""),
        path("absent", "absent", ""),
        path("answers", "up", &manifests::filters(&["answers"])),
        path("traps", "up", &manifests::filters(&["traps"])),
        path("", "up", ""),
    ]
    .join(", ");
    let manifest = [
        manifests::GATEWAY,
        &manifests::service("up", &[upstream.address()]),
        &manifests::service("slow", &[slow.address()]),
        &manifests::service("none", &[]),
        &manifests::filter("answers", "answers.wasm", ""),
        &manifests::filter("traps", "traps.wasm", ""),
        &manifests::route("all", &["a.test"], &format!("[{rules}]")),
    ]
    .concat();
    let gateway = Gateway::builder()
        .file("answers.wasm", guest(answers))
        .file("traps.wasm", guest(traps))
        .start(&manifest)
        .await;

    let expected = [
        ("/", 200, "via_upstream"),
        ("/500", 500, "via_upstream"),
        ("/broken", 200, "upstream_reset_after_response_started"),
        ("/none", 503, "no_healthy_upstream"),
        ("/absent", 500, "backend_unresolved"),
        ("/answers", 403, "filter_reply"),
        ("/traps", 503, "filter_trap"),
        ("/timeout", 504, "request_timeout"),
        ("/a%00", 400, "path_encoded_control"),
    ];
    for (path, status, _) in expected {
        assert_eq!(gateway.get("a.test", path).await.status, status, "{path}");
    }
    assert_eq!(gateway.get("b.test", "/elsewhere").await.status, 404);
    let mut gone = gateway.connect().await;
    gone.send("GET /slow HTTP/1.1\r\nHost: a.test\r\nX-Request-Id: the-one-that-left\r\nUser-Agent: test\r\n\r\n").await;
    // The connection of the one that ran out of time comes first.
    slow.accept().await;
    let mut asked = slow.accept().await;
    asked.head().await;
    gone.reset();

    let all = expected.len() + 2;
    eventually!(gateway.log().len() >= all, "all lines are written");
    let lines = gateway.log();
    assert_eq!(lines.len(), all, "{lines:#?}");
    let line = |path: &str| {
        lines
            .iter()
            .find(|line| line["path"] == path)
            .unwrap_or_else(|| panic!("no line for {path}"))
    };
    for (path, status, details) in expected {
        let line = line(path);
        assert_eq!(
            (&line["response_code"], &line["response_code_details"]),
            (&status.into(), &details.into()),
            "{path}: {line}"
        );
    }
    assert_eq!(
        line("/elsewhere")["response_code_details"],
        "route_not_found"
    );
    let left = line("/slow");
    assert_eq!(
        left["response_code_details"], "downstream_disconnect",
        "{left}"
    );
    assert_eq!(
        (&left["request_id"], &left["user_agent"]),
        (&"the-one-that-left".into(), &"test".into())
    );
    let up = line("/");
    assert_eq!(
        (&up["bytes_sent"], &up["upstream_attempts"]),
        (&2.into(), &1.into())
    );
    assert_eq!(up["upstream_host"], upstream.address().to_string());
    assert_eq!(up["route"], "HTTPRoute default/all rule 6");
    assert_eq!(line("/traps")["filter"], "default/traps");

    // The metrics are the sum of the lines.
    let mut classes: BTreeMap<u64, f64> = BTreeMap::new();
    for line in &lines {
        *classes
            .entry(line["response_code"].as_u64().expect("a status") / 100)
            .or_default() += 1.0;
    }
    for (class, count) in classes {
        assert_eq!(
            gateway.metric(&format!(
                "tidegate_requests_total{{code_class=\"{class}xx\"}}"
            )),
            count,
            "{class}xx"
        );
    }
    assert_eq!(gateway.metric("tidegate_requests_active"), 0.0);
    assert_eq!(
        gateway.metric("tidegate_request_duration_seconds_count"),
        all as f64
    );
}
