use super::*;

#[test]
fn images_are_told_from_files() {
    for text in [
        "registry.example/team/filter:1",
        "localhost:5000/filter:1",
        "localhost/filter@sha256:00",
        "registry.example/filter@sha256:00",
    ] {
        assert!(is_reference(text), "{text}");
    }
    for text in [
        "filter.wasm",
        "./filter:1",
        "../a/b:1",
        "folder/filter.wasm",
        "team/filter:1",
        "/a/b.c:1",
    ] {
        assert!(!is_reference(text), "{text}");
    }
}

#[test]
fn clusters_have_a_name_a_host_and_a_port() {
    let cluster = Cluster::parse("authz=authz.example:9000").expect("it is good");
    assert_eq!(
        (&*cluster.name, &*cluster.host, cluster.port),
        ("authz", "authz.example", 9000)
    );
    assert_eq!(cluster.envoy()["type"], "STRICT_DNS");
    assert_eq!(
        Cluster::parse("a=127.0.0.1:1").expect("it is good").envoy()["type"],
        "STATIC"
    );
    assert_eq!(Cluster::parse("a=[::1]:1").expect("it is good").host, "::1");
    for text in [
        "",
        "a",
        "a=b",
        "=b:1",
        "a=:1",
        "a=b:0",
        "a=b:65536",
        "a=b:c",
    ] {
        let error = Cluster::parse(text)
            .err()
            .unwrap_or_else(|| panic!("{text}"));
        assert!(error.to_string().contains("NAME=HOST:PORT"), "{error}");
    }
}

fn exported(target: &str, clusters: &[&str]) -> Filter {
    let clusters = clusters.iter().map(|text| Cluster::parse(text));
    Filter {
        name: "bouncer".to_owned(),
        module: Source::Image("registry.example/team/bouncer:1".to_owned()),
        config: None,
        clusters: clusters.collect::<Result<_, _>>().expect("they are good"),
        target: Some(target.to_owned()),
        namespace: None,
        root_id: String::new(),
        fail_open: false,
        headers_wait_for_body: false,
    }
}

#[test]
fn targets_have_the_group_of_their_kind() {
    for (target, group, kind) in [
        ("public", "gateway.networking.k8s.io", "Gateway"),
        ("Gateway/public", "gateway.networking.k8s.io", "Gateway"),
        (
            "GatewayClass/public",
            "gateway.networking.k8s.io",
            "GatewayClass",
        ),
        ("Service/public", "", "Service"),
        ("ServiceEntry/public", "networking.istio.io", "ServiceEntry"),
    ] {
        let objects = istio::objects(&exported(target, &[])).expect("it is good");
        assert_eq!(
            objects[0]["spec"]["targetRefs"],
            json!([{"group": group, "kind": kind, "name": "public"}])
        );
    }
    for kind in ["Gateway", "HTTPRoute", "GRPCRoute"] {
        let filter = exported(&format!("{kind}/public"), &[]);
        let objects = envoy_gateway::objects(&filter).expect("it is good");
        assert_eq!(
            objects[0]["spec"]["targetRefs"],
            json!([{"group": "gateway.networking.k8s.io", "kind": kind, "name": "public"}])
        );
    }
}

#[test]
fn the_head_says_what_its_objects_need() {
    for (to, target, clusters, patched, place) in [
        (
            Host::EnvoyGateway,
            "public",
            &[] as &[&str],
            false,
            "in the namespace of the target.",
        ),
        (
            Host::EnvoyGateway,
            "public",
            &["a=b:1"],
            true,
            "in the namespace of the target.",
        ),
        (
            Host::Istio,
            "public",
            &["a=b:1"],
            false,
            "in the namespace of the gateway.",
        ),
        (
            Host::Istio,
            "Service/shop",
            &[],
            false,
            "in the namespace of the target.",
        ),
        (
            Host::Istio,
            "GatewayClass/istio",
            &[],
            false,
            "in Istio's root namespace",
        ),
    ] {
        let head = head(to, &exported(target, clusters));
        assert_eq!(head.contains("EnvoyPatchPolicy"), patched, "{head}");
        assert!(head.contains(place), "{head}");
    }
}
