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
