//! Paths: no spelling of a guarded path slips past its guard.

use tidegate_testing::{Gateway, Upstream, manifests};

/// Spellings that some upstream reads as `/admin` or something below it.
const ADMIN: [&str; 65] = [
    "/admin",
    "/admin/",
    "/admin//",
    "/admin/.",
    "/admin/./",
    "/admin/x",
    "/admin?x",
    "/admin/?x",
    "/admin#x",
    "//admin",
    "///admin",
    "/./admin",
    "/././admin",
    "/.//admin",
    "//./admin",
    "/x/../admin",
    "/x/./../admin",
    "/x/y/../../admin",
    "/../admin",
    "/../../admin",
    "/%61dmin",
    "/%61%64%6d%69%6e",
    "/admi%6e",
    "/admi%6E",
    "/%2e/admin",
    "/%2E/admin",
    "/x/%2e%2e/admin",
    "/x/.%2e/admin",
    "/x/%2e./admin",
    "/x/%2E%2e/admin",
    "/admin;x",
    "/admin;x=y",
    "/admin;x/y",
    "/;/admin",
    "/;x/admin",
    "/.;/admin",
    "/x/..;/admin",
    "/x/..;y=z/admin",
    "/..;/admin",
    "/%2e%2e;/admin",
    "/x/%2e%2e;/admin",
    "/%3b/admin",
    "/%3Bx/admin",
    "/..%3b/admin",
    "/admin%3bx",
    "/admin%3Bx=y/z",
    "/\\admin",
    "\\admin",
    "/.\\admin",
    "/x\\..\\admin",
    "/x/..\\admin",
    "/%5cadmin",
    "/%5Cadmin",
    "/x%5c..%5cadmin",
    "/%2fadmin",
    "/%2Fadmin",
    "//%2fadmin",
    "/x%2f..%2fadmin",
    "/x/..%2fadmin",
    "/x/%2e%2e%2fadmin",
    "/admin%2f",
    "/admin%2fx",
    "/admin%00",
    "/admin%00.html",
    "/%00/admin",
];

#[tokio::test]
async fn no_spelling_of_a_guarded_path_reaches_the_open_backend() {
    let (open, guarded) = (
        Upstream::named("open").await,
        Upstream::named("guarded").await,
    );
    let manifest = format!(
        "{}{}{}{}{}",
        manifests::GATEWAY,
        manifests::service("up", &[open.address()]),
        manifests::service("guarded", &[guarded.address()]),
        manifests::route("all", &[], &manifests::rule("")),
        manifests::route(
            "admin",
            &[],
            "[{matches: [{path: {value: /admin}}], backendRefs: [{name: guarded, port: 80}]}]"
        ),
    );
    let gateway = Gateway::start(&manifest).await;
    for path in ADMIN {
        for target in [path.to_owned(), format!("http://a{path}")] {
            let mut wire = gateway.connect().await;
            wire.send(format!(
                "GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
            ))
            .await;
            if let Some(head) = wire.head_or_end().await {
                assert!(
                    matches!(head.status(), 200 | 400),
                    "{target}: {}",
                    head.text
                );
            }
            assert_eq!(
                open.count(),
                0,
                "{target} reached the open backend as {:?}",
                open.seen()
            );
        }
    }
    // The table would prove nothing if all of it were refused, or if the open backend could not be reached at all.
    assert!(guarded.count() > 40, "{}", guarded.count());
    // What dot segments leave is what the upstream sees, so that it cannot see more in it.
    assert_eq!(gateway.get("a", "/x//../admin").await.text(), "open");
    assert_eq!(open.only().target(), "/x/admin");
    for path in [
        "/",
        "/administrator",
        "/xadmin",
        "/x/admin",
        "/admin2/x",
        "/a?/../admin",
        "/a?x=%2fadmin",
    ] {
        assert_eq!(gateway.get("a", path).await.text(), "open", "{path}");
    }
}
