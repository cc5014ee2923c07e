//! Properties: vocabulary, phases, serialisation, filter state.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{StatusCode, Version};
use tidegate_model::{
    Backend, BackendProtocol, BackendTarget, Endpoint, LoadBalancer, Rule, RuleOrigin, Timeouts,
    WeightedBackend,
};

use super::guest::{Arg, Call, Guest, Running, headers, unpairs};
use crate::{Callback, ConnectionAttributes, StreamIo, TlsAttributes, UpstreamAttributes};
use Arg::{Bytes, Out};

const ON_REQUEST: &str = "proxy_on_request_headers";

fn get(guest: &mut Guest, callback: &'static str, path: &str) -> Call {
    guest.call(
        callback,
        "proxy_get_property",
        &[Bytes(path.replace('.', "\0").as_bytes()), Out, Out],
    )
}

/// A rule with one backend of three endpoints.
pub(super) fn rule() -> Rule {
    let endpoint = |last| Endpoint::Address(([10, 0, 0, last], 80).into());
    let backend = Backend {
        slot: 0,
        key: "shop/backend".into(),
        protocol: BackendProtocol::Http1,
        tls: None,
        endpoints: (1..=3).map(endpoint).collect(),
        load_balancer: LoadBalancer::default(),
        connect_timeout: None,
    };
    Rule {
        origin: RuleOrigin::new("HTTPRoute", "shop", "route", 0, None),
        filters: Vec::new(),
        backends: vec![WeightedBackend {
            target: BackendTarget::Backend(Arc::new(backend)),
            weight: 1,
            filters: Vec::new(),
        }],
        timeouts: Timeouts::default(),
        retry: None,
        session: None,
        access_log: true,
    }
}

fn attributes(io: &mut StreamIo) {
    let tls = TlsAttributes {
        version: "TLSv1.3".to_owned(),
        subject_peer: "CN=client".to_owned(),
        uri_san_peer: Some("spiffe://a/b".to_owned()),
        sha256_peer_digest: Some("00ff".to_owned()),
        ..TlsAttributes::default()
    };
    io.attributes.connection = Some(Arc::new(ConnectionAttributes {
        id: Some(7),
        source: Some("10.0.0.1:5000".parse().unwrap()),
        destination: Some("[::1]:8443".parse().unwrap()),
        server_name: Some("shop.test".to_owned()),
        listener_name: Some("https".into()),
        tls: Some(tls),
        ..ConnectionAttributes::default()
    }));
    io.attributes.protocol = Some(Version::HTTP_2);
    io.attributes.start = Some(SystemTime::UNIX_EPOCH + Duration::from_nanos(42));
    io.attributes.request_bytes = 5;
    io.attributes.rule = Some(Arc::new(rule()));
}

fn upstream(io: &mut StreamIo) {
    io.attributes.upstream = Some(Arc::new(UpstreamAttributes {
        address: Some("10.0.0.2:80".parse().unwrap()),
        ..UpstreamAttributes::default()
    }));
    io.attributes.upstream_local = Some("10.0.0.3:4000".parse().unwrap());
    io.attributes.pool_ready = Some(Duration::from_micros(1));
    io.attributes.attempts = 1;
    io.attributes.response_code = Some(StatusCode::OK);
    io.attributes.response_code_details = Some("via_upstream".into());
    io.attributes.response_bytes = 8;
}

fn int(value: i64) -> Result<Vec<u8>, u32> {
    Ok(value.to_le_bytes().to_vec())
}

fn text(value: &str) -> Result<Vec<u8>, u32> {
    Ok(value.as_bytes().to_vec())
}

const ABSENT: Result<Vec<u8>, u32> = Err(1);

fn found(run: &Running, call: &Call) -> Result<Vec<u8>, u32> {
    match run.status(call) {
        0 => Ok(run.bytes(call)),
        status => Err(status),
    }
}

fn check(
    callback_name: &'static str,
    callback: Callback,
    prepare: fn(&mut StreamIo),
    cases: &[(&str, Result<Vec<u8>, u32>)],
) {
    let mut guest = Guest::new();
    let calls: Vec<Call> = cases
        .iter()
        .map(|(path, _)| get(&mut guest, callback_name, path))
        .collect();
    let mut run = guest.start();
    prepare(run.io());
    run.callback(callback).unwrap();
    for ((path, expected), call) in cases.iter().zip(&calls) {
        assert_eq!(found(&run, call), *expected, "{path}");
    }
}

#[test]
fn the_request_phase() {
    let bytes = "shop.test:authority/p?q=1:pathPOST:methodhttps:schemex-one1content-length11user-agentcurlcookiea=1cookieb=2".len();
    let bytes = i64::try_from(bytes).unwrap();
    check(
        ON_REQUEST,
        Callback::RequestHeaders {
            end_of_stream: false,
        },
        attributes,
        &[
            ("request.path", text("/p?q=1")),
            ("request.url_path", text("/p")),
            ("request.query", text("q=1")),
            ("request.host", text("shop.test")),
            ("request.scheme", text("https")),
            ("request.method", text("POST")),
            ("request.useragent", text("curl")),
            ("request.referer", ABSENT),
            ("request.id", ABSENT),
            ("request.protocol", text("HTTP/2")),
            ("request.time", int(42)),
            ("request.size", int(11)),
            ("request.total_size", int(5 + bytes)),
            ("request.headers_bytes", int(bytes)),
            ("request.headers.x-one", text("1")),
            ("request.headers.cookie", text("a=1,b=2")),
            ("request.headers.:path", text("/p?q=1")),
            ("request.headers.absent", ABSENT),
            ("request.duration", ABSENT),
            ("request.unknown", ABSENT),
            ("request.path.more", ABSENT),
            ("response.code", ABSENT),
            ("response.code_details", ABSENT),
            ("response.grpc_status", ABSENT),
            ("response.headers", Ok(vec![0; 4])),
            ("response.size", int(0)),
            ("response.flags", int(0)),
            ("upstream.address", ABSENT),
            ("upstream.request_attempt_count", int(0)),
            ("upstream.num_endpoints", int(3)),
            ("upstream.local_address", ABSENT),
            ("source.address", text("10.0.0.1:5000")),
            ("source.port", int(5000)),
            ("destination.address", text("[::1]:8443")),
            ("destination.port", int(8443)),
            ("connection.id", int(7)),
            ("connection_id", int(7)),
            ("connection.mtls", Ok(vec![1])),
            ("connection.tls_version", text("TLSv1.3")),
            ("connection.subject_peer_certificate", text("CN=client")),
            ("connection.subject_local_certificate", text("")),
            ("connection.uri_san_peer_certificate", text("spiffe://a/b")),
            ("connection.dns_san_peer_certificate", ABSENT),
            ("connection.requested_server_name", text("shop.test")),
            ("connection.termination_details", ABSENT),
            ("xds.cluster_name", text("shop/backend")),
            ("xds.route_name", text("HTTPRoute shop/route rule 0")),
            ("xds.filter_chain_name", text("https")),
            ("xds.virtual_host_name", text("HTTPRoute shop/route rule 0")),
            ("xds.listener_metadata", text("")),
            ("xds.listener_direction", int(0)),
            ("xds.route_metadata", text("")),
            ("xds.route_metadata.filter_metadata", Ok(vec![0; 4])),
            ("xds.route_metadata.filter_metadata.istio", ABSENT),
            ("xds.upstream_host_metadata", ABSENT),
            ("xds.node.id", text("tidegate")),
            ("xds.node", text("\n\u{8}tidegate")),
            ("cluster_name", text("shop/backend")),
            ("route_name", text("HTTPRoute shop/route rule 0")),
            ("node.id", text("tidegate")),
            ("plugin_name", text("hello")),
            ("plugin_root_id", text("root")),
            ("plugin_vm_id", text("")),
            ("metadata", text("")),
            ("filter_state", Err(3)),
            ("upstream_filter_state", ABSENT),
            ("request", Err(3)),
            ("xds", Err(3)),
            ("", Err(3)),
            ("nothing", ABSENT),
            ("nothing.at.all", ABSENT),
        ],
    );
}

#[test]
fn the_response_phase() {
    check(
        "proxy_on_response_headers",
        Callback::ResponseHeaders {
            end_of_stream: false,
        },
        |io| {
            attributes(io);
            upstream(io);
        },
        &[
            ("request.path", ABSENT),
            ("request.headers_bytes", int(0)),
            ("request.headers", Ok(vec![0; 4])),
            ("request.size", int(5)),
            ("request.protocol", text("HTTP/2")),
            ("response.code", int(200)),
            ("response.code_details", text("via_upstream")),
            ("response.grpc_status", int(2)),
            ("response.headers.server", text("up")),
            ("response.headers_bytes", int(18)),
            ("response.total_size", int(26)),
            ("upstream.address", text("10.0.0.2:80")),
            ("upstream.port", int(80)),
            ("upstream.local_address", text("10.0.0.3:4000")),
            ("upstream.local_port", ABSENT),
            ("upstream.num_endpoints", int(3)),
            ("upstream.cx_pool_ready_duration", int(1000)),
            ("upstream.locality", text("")),
            ("upstream.request_attempt_count", int(1)),
            ("upstream.transport_failure_reason", text("")),
            ("upstream.tls_version", ABSENT),
        ],
    );
}

#[test]
fn the_log_phase_has_everything_and_done_has_not() {
    let ended = |io: &mut StreamIo| {
        upstream(io);
        io.attributes.duration = Some(Duration::from_nanos(99));
        io.response_trailers = Some(headers(&[("grpc-status", "5")]));
    };
    let cases = [
        ("request.path", text("/p?q=1")),
        ("request.duration", int(99)),
        ("response.headers.server", text("up")),
        ("response.trailers.grpc-status", text("5")),
        ("response.grpc_status", int(5)),
    ];
    check("proxy_on_log", Callback::Log, ended, &cases);
    let cases = [
        ("request.path", ABSENT),
        ("request.duration", int(99)),
        ("response.headers.server", ABSENT),
    ];
    check("proxy_on_done", Callback::Done, ended, &cases);
}

#[test]
fn a_plain_exchange_lacks_what_nobody_told() {
    check(
        ON_REQUEST,
        Callback::RequestHeaders {
            end_of_stream: false,
        },
        |_| {},
        &[
            ("source.address", ABSENT),
            ("connection.mtls", ABSENT),
            ("connection_id", ABSENT),
            ("request.time", ABSENT),
            ("request.protocol", ABSENT),
            ("xds.cluster_name", ABSENT),
            ("xds.node.id", text("tidegate")),
            ("upstream.num_endpoints", ABSENT),
            ("request.path", text("/p?q=1")),
        ],
    );
}

#[test]
fn a_header_map_is_one_pair_per_name() {
    let mut guest = Guest::new();
    let map = get(&mut guest, ON_REQUEST, "request.headers");
    let mut run = guest.start();
    run.request_headers();
    let found = unpairs(&run.bytes(&map));
    assert_eq!(found.len(), 8);
    assert_eq!(found[7], ("cookie".to_owned(), "a=1,b=2".to_owned()));
}

#[test]
fn roots_have_no_stream() {
    let mut guest = Guest::new();
    let calls = [
        (
            get(&mut guest, "proxy_on_configure", "request.path"),
            ABSENT,
        ),
        (
            get(&mut guest, "proxy_on_configure", "filter_state"),
            ABSENT,
        ),
        (get(&mut guest, "proxy_on_configure", "mine"), ABSENT),
        (
            get(&mut guest, "proxy_on_configure", "plugin_name"),
            text("hello"),
        ),
    ];
    let set = guest.call(
        "proxy_on_configure",
        "proxy_set_property",
        &[Bytes(b"mine"), Bytes(b"1")],
    );
    let run = guest.start();
    for (call, expected) in &calls {
        assert_eq!(found(&run, call), *expected);
    }
    assert_eq!(run.status(&set), 1);
}

#[test]
fn values_set_are_read_by_name_and_in_filter_state() {
    let mut guest = Guest::new();
    let set = guest.call(
        ON_REQUEST,
        "proxy_set_property",
        &[Bytes(b"user"), Bytes(b"ada")],
    );
    let plain = get(&mut guest, ON_REQUEST, "user");
    let state = guest.call(
        ON_REQUEST,
        "proxy_get_property",
        &[Bytes(b"filter_state\0wasm.user"), Out, Out],
    );
    let later = get(&mut guest, "proxy_on_log", "user");
    let update = guest.call(
        "proxy_on_log",
        "proxy_set_property",
        &[Bytes(b"user"), Bytes(b"bob")],
    );
    let huge = vec![b'x'; 20_000];
    let big: Vec<Call> = (0..14_u8)
        .map(|n| {
            guest.call(
                "proxy_on_done",
                "proxy_set_property",
                &[Bytes(&[n]), Bytes(if n < 1 { &huge } else { b"" })],
            )
        })
        .collect();
    let mut run = guest.start();
    run.request_headers();
    run.callback(Callback::Log).unwrap();
    run.callback(Callback::Done).unwrap();
    assert_eq!(
        (run.status(&set), run.text(&plain), run.text(&state)),
        (0, Ok("ada".into()), Ok("ada".into()))
    );
    assert_eq!(
        (run.text(&later), run.status(&update)),
        (Ok("ada".into()), 0)
    );
    assert_eq!(&run.io().state[&b"wasm.user"[..]][..], b"bob");
    assert!(big.iter().all(|call| run.status(call) == 0));
}

#[test]
fn filter_state_is_capped() {
    let mut guest = Guest::new();
    guest.extra = "(global $n (mut i32) (i32.const 0))".to_owned();
    // Keys of four bytes that count up, values of 64 KiB.
    guest.raw(
        ON_REQUEST,
        "(loop $again
            (i32.store (i32.const 16) (global.get $n))
            (i32.store (i32.const 20) (call $proxy_set_property
                (i32.const 16) (i32.const 4) (i32.const 0) (i32.const 65536)))
            (global.set $n (i32.add (global.get $n) (i32.const 1)))
            (br_if $again (i32.lt_u (global.get $n) (i32.const 6))))",
    );
    let mut run = guest.start();
    run.request_headers();
    assert_eq!(run.memory(20, 4), 10_u32.to_le_bytes());
    assert_eq!(run.io().state.len(), 3);
}

#[test]
fn declared_properties_can_be_read_only() {
    let mut guest = Guest::new();
    let foreign = "proxy_call_foreign_function";
    // name: "once", readonly: true
    let once = Bytes(b"\x0a\x04once\x10\x01");
    let declare = guest.call(
        "proxy_on_configure",
        foreign,
        &[Bytes(b"declare_property"), once, Out, Out],
    );
    let again = guest.call(
        "proxy_on_configure",
        foreign,
        &[Bytes(b"declare_property"), once, Out, Out],
    );
    let malformed = guest.call(
        "proxy_on_configure",
        foreign,
        &[Bytes(b"declare_property"), Bytes(b"\x0a\x40"), Out, Out],
    );
    let first = guest.call(
        ON_REQUEST,
        "proxy_set_property",
        &[Bytes(b"once"), Bytes(b"1")],
    );
    let second = guest.call(
        ON_REQUEST,
        "proxy_set_property",
        &[Bytes(b"once"), Bytes(b"2")],
    );
    // path: "raw", value: "v"
    let raw = Bytes(b"\x0a\x03raw\x12\x01v");
    let state = guest.call(
        ON_REQUEST,
        foreign,
        &[Bytes(b"set_envoy_filter_state"), raw, Out, Out],
    );
    let read = get(&mut guest, ON_REQUEST, "filter_state.raw");
    let not_ours = get(&mut guest, ON_REQUEST, "raw");
    let mut run = guest.start();
    run.request_headers();
    assert_eq!(
        [&declare, &again, &malformed, &first, &second, &state].map(|call| run.status(call)),
        [0, 2, 2, 0, 2, 0]
    );
    assert_eq!(
        (run.text(&read), run.text(&not_ours)),
        (Ok("v".into()), Err(1))
    );
    assert_eq!(&run.io().state[&b"wasm.once"[..]][..], b"1");
}

#[test]
fn old_names_are_known_where_the_switch_says_so() {
    for (known, expected) in [(true, text("shop/backend")), (false, ABSENT)] {
        let mut guest = Guest::new();
        let old = get(&mut guest, ON_REQUEST, "cluster_name");
        let new = get(&mut guest, ON_REQUEST, "xds.cluster_name");
        let mut plugin = super::guest::plugin();
        plugin.old_property_names = known;
        let mut run = guest.start_with(super::guest::vm_config(), plugin);
        attributes(run.io());
        run.request_headers();
        assert_eq!(found(&run, &old), expected);
        assert_eq!(found(&run, &new), text("shop/backend"));
    }
}
