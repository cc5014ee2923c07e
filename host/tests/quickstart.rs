//! The quickstart as its README shows it: the built binary, its manifests, two demo backends.

use std::path::{Path, PathBuf};

use tidegate_testing::{Answer, Client, Port, Process, Tls, Wire, eventually};

const TIDEGATE: &str = env!("CARGO_BIN_EXE_tidegate");
/// What the README calls it.
const BUILT: &str = "target/release/tidegate";

/// A running quickstart on free ports, its manifests in a folder of their own.
struct Quickstart {
    folder: tempfile::TempDir,
    http: Port,
    https: Port,
    gateway: Process,
    _backends: [Process; 2],
}

impl Quickstart {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (http, https, shop, blog) = (
            Port::reserve(),
            Port::reserve(),
            Port::reserve(),
            Port::reserve(),
        );
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/quickstart/manifests");
        for entry in std::fs::read_dir(source).expect("the manifests") {
            let path = entry.expect("an entry").path();
            let text = std::fs::read_to_string(&path).expect("text");
            let text = text
                .replace("port: 3001", &format!("port: {}", shop.number()))
                .replace("port: 3002", &format!("port: {}", blog.number()));
            std::fs::write(folder.path().join(path.file_name().expect("a name")), text)
                .expect("written");
        }
        let backends = [
            Process::echo(TIDEGATE, shop.address(), "shop").await,
            Process::echo(TIDEGATE, blog.address(), "blog").await,
        ];
        let map = format!("8080:{},8443:{}", http.number(), https.number());
        let (http_port, https_port) = (http.number().to_string(), https.number().to_string());
        let manifests = folder.path().to_str().expect("text").to_owned();
        let arguments = [
            "--manifests",
            &manifests,
            "--port-map",
            &map,
            "--http-port",
            &http_port,
            "--https-port",
            &https_port,
        ];
        let gateway = Process::serve(TIDEGATE, &arguments).await;
        Self {
            folder,
            http,
            https,
            gateway,
            _backends: backends,
        }
    }

    async fn get(&self, host: &str, path: &str, fields: &str) -> Answer {
        self.send("GET", host, path, fields).await
    }

    async fn send(&self, method: &str, host: &str, path: &str, fields: &str) -> Answer {
        let mut wire = Wire::connect(self.http.address()).await;
        wire.send(format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\n{fields}Connection: close\r\n\r\n"
        ))
        .await;
        wire.answer().await
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn edit(&self, name: &str, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.file(name)).expect("the manifest");
        assert!(text.contains(from), "{from:?} is not in {text}");
        std::fs::write(self.file(name), text.replace(from, to)).expect("written");
    }
}

const SHOP: &str = "shop.example.com";
const BLOG: &str = "blog.example.com";
const ALICE: &str = "Authorization: Basic YWxpY2U6d29uZGVybGFuZA==\r\n";

/// Each row of the README's table, command and expectation: what stands in the third cell as code is in what the second prints. The
/// row of `explain` asks the manifests as they are, so its port is theirs.
#[tokio::test]
async fn the_lines_of_the_readme_do_what_it_says() {
    let quickstart = Quickstart::start().await;
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = std::fs::read_to_string(readme).expect("the README");
    let code = |cell: &str| {
        cell.split('`')
            .skip(1)
            .step_by(2)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let rows: Vec<_> = readme
        .lines()
        .filter_map(
            |line| match line.split('|').map(code).collect::<Vec<_>>().as_slice() {
                [_, _, command, expected, ..]
                    if command.first().is_some_and(|command| {
                        command.contains("curl") || command.contains(BUILT)
                    }) =>
                {
                    Some((command[0].clone(), expected.clone()))
                }
                _ => None,
            },
        )
        .collect();
    assert!(rows.len() >= 9, "{rows:?}");
    assert_eq!(
        rows.iter()
            .filter(|(command, _)| command.contains(BUILT))
            .count(),
        1
    );
    for (command, expected) in rows {
        let (command, more): (_, &[&str]) = if command.contains(BUILT) {
            (
                command.replace(BUILT, TIDEGATE),
                &["route", "filter", "staff-only", "backend", "not"],
            )
        } else {
            let command = command
                .replace(
                    "127.0.0.1:9901",
                    &quickstart.gateway.admin_address().to_string(),
                )
                .replace(":8080", &format!(":{}", quickstart.http.number()))
                .replace(":8443", &format!(":{}", quickstart.https.number()));
            (command, &[])
        };
        let output = std::process::Command::new("sh")
            .args(["-c", &command])
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
            .output()
            .expect("a shell with curl");
        let squeeze = |text: &str| text.split_whitespace().collect::<String>();
        let printed = squeeze(&String::from_utf8_lossy(&output.stdout));
        assert!(
            output.status.success() && !printed.is_empty(),
            "{command}: {output:?}"
        );
        let more = more.iter().map(ToString::to_string);
        for expected in expected.into_iter().chain(more) {
            assert!(
                printed.contains(&squeeze(expected.trim_end_matches('…'))),
                "{command}: no {expected} in {output:?}"
            );
        }
    }
}

#[tokio::test]
async fn everything_that_the_manifests_promise() {
    let quickstart = Quickstart::start().await;
    let answer = quickstart.get(SHOP, "/", "").await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("x-backend")),
        (200, "shop")
    );
    assert_eq!(answer.json()["host"], SHOP);

    let answer = quickstart.get(SHOP, "/admin", "").await;
    assert_eq!(answer.status, 401);
    assert!(
        answer.header("www-authenticate").contains("staff"),
        "{answer:?}"
    );
    assert_eq!(
        quickstart
            .get(SHOP, "/admin", "Authorization: Basic YWxpY2U6bm8=\r\n")
            .await
            .status,
        401
    );
    let answer = quickstart.get(SHOP, "/admin", ALICE).await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.json()["headers"]["x-user"],
        serde_json::json!(["alice"])
    );
    assert_eq!(
        quickstart
            .get(SHOP, "//admin/", "X-User: root\r\n")
            .await
            .status,
        401,
        "another spelling is the same path"
    );

    for _ in 0..3 {
        assert_eq!(quickstart.get(SHOP, "/api", "").await.status, 200);
    }
    let answer = quickstart.get(SHOP, "/api", "").await;
    assert_eq!(answer.status, 429);
    let seconds: u32 = answer.header("retry-after").parse().expect("seconds");
    assert!((1..=60).contains(&seconds), "{seconds}");

    let answer = quickstart.get(SHOP, "/old/a?b=c", "").await;
    assert_eq!(answer.json()["path"], "/new/a?b=c");

    assert_eq!(
        quickstart.get("other.example.com", "/", "").await.status,
        404
    );
}

#[tokio::test]
async fn the_ingress_answers_a_preflight() {
    let quickstart = Quickstart::start().await;
    let preflight = "Origin: https://shop.example.com\r\nAccess-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: content-type\r\n";
    let answer = quickstart.send("OPTIONS", BLOG, "/", preflight).await;
    assert!(answer.status.is_success(), "{answer:?}");
    assert_eq!(
        answer.header("access-control-allow-origin"),
        "https://shop.example.com"
    );
    assert!(
        answer
            .header("access-control-allow-methods")
            .contains("POST"),
        "{answer:?}"
    );
    let answer = quickstart
        .send(
            "OPTIONS",
            BLOG,
            "/",
            &preflight.replace("shop.example", "evil.example"),
        )
        .await;
    assert_eq!(
        answer.header("access-control-allow-origin"),
        "",
        "{answer:?}"
    );
    let answer = quickstart
        .get(BLOG, "/old/post", "Origin: https://shop.example.com\r\n")
        .await;
    assert_eq!(answer.header("x-backend"), "blog");
    assert_eq!(
        answer.header("access-control-allow-origin"),
        "https://shop.example.com"
    );
    assert_eq!(answer.json()["path"], "/new/post");
}

#[tokio::test]
async fn both_hosts_are_served_over_tls() {
    let quickstart = Quickstart::start().await;
    // As `curl --cacert` has it: the chain and the names are checked.
    let trusted = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/quickstart/tls.crt");
    let trusted = std::fs::read_to_string(trusted).expect("the certificate");
    let tls = Tls::trusting_pem(&trusted, &["h2", "http/1.1"]);
    for (host, backend) in [(SHOP, "shop"), (BLOG, "blog")] {
        let mut client = Client::tls(quickstart.https.address(), &tls, host)
            .await
            .expect("a handshake");
        let answer = client.get(host, "/").await;
        assert_eq!(
            (answer.version, answer.header("x-backend")),
            (http::Version::HTTP_2, backend)
        );
        assert_eq!(
            answer.json()["headers"]["x-forwarded-proto"],
            serde_json::json!(["https"])
        );
    }
}

#[tokio::test]
async fn an_edit_is_live_without_a_restart() {
    let quickstart = Quickstart::start().await;
    quickstart.edit("filters.yaml", "path: /new/$1", "path: /newer/$1");
    eventually!(
        quickstart.get(SHOP, "/old/a", "").await.json()["path"] == "/newer/a",
        "the filter's configuration is live"
    );
    quickstart.edit(
        "gateway.yaml",
        "path: {value: /admin}",
        "path: {value: /staff}",
    );
    eventually!(
        quickstart.get(SHOP, "/staff", "").await.status == 401,
        "the route is live"
    );
    assert_eq!(quickstart.get(SHOP, "/admin", "").await.status, 200);
    // A password file is read through its Secret; bob / builder, SHA-1 as htpasswd -s writes it.
    quickstart.edit(
        "filters.yaml",
        "  auth: |\n",
        "  auth: |\n    bob:{SHA}9SMYoF5RilWWASry7TjeaKwmpGg=\n",
    );
    let bob = "Authorization: Basic Ym9iOmJ1aWxkZXI=\r\n";
    eventually!(
        quickstart.get(SHOP, "/staff", bob).await.status == 200,
        "the Secret is live"
    );
    // A file that cannot be read leaves what it held before, and says so.
    quickstart.edit("gateway.yaml", "kind: HTTPRoute", "kind: [");
    eventually!(
        quickstart.gateway.admin("/status").await.json()["errors"]
            .as_array()
            .is_some_and(|errors| !errors.is_empty()),
        "the error is reported"
    );
    assert_eq!(quickstart.get(SHOP, "/staff", ALICE).await.status, 200);
}

/// Every series of `/metrics` has a row in the table of docs/operations.md: its name, its type, its labels.
#[tokio::test]
async fn every_metric_is_in_the_documentation() {
    let quickstart = Quickstart::start().await;
    // Own answers have a series only once there was one.
    quickstart.get("other.example.com", "/", "").await;
    quickstart.get(SHOP, "/admin", ALICE).await;
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operations.md");
    let page = std::fs::read_to_string(page).expect("the page");
    let metrics = quickstart.gateway.admin("/metrics").await;
    let metrics = metrics.text();
    let mut families = 0;
    for line in metrics.lines() {
        let Some((name, kind)) = line
            .strip_prefix("# TYPE ")
            .and_then(|rest| rest.split_once(' '))
        else {
            continue;
        };
        // What filters define is theirs to document.
        if name.starts_with("tidegate_guest_") {
            continue;
        }
        let row = page
            .lines()
            .find(|row| row.starts_with(&format!("| `{name}` | {kind} |")))
            .unwrap_or_else(|| panic!("{name}, a {kind}, has no row in docs/operations.md"));
        let samples = metrics.lines().filter_map(|sample| {
            sample
                .strip_prefix(name)?
                .strip_prefix('{')?
                .split_once('}')
        });
        for (labels, _) in samples {
            for label in labels
                .split("\",")
                .filter_map(|label| label.split('=').next())
            {
                assert!(
                    row.contains(&format!("`{label}`")),
                    "{name}: {label} is not in {row}"
                );
            }
        }
        families += 1;
    }
    assert!(families >= 15, "{metrics}");
}

#[tokio::test]
async fn the_admin_pages_tell_what_is_served() {
    let quickstart = Quickstart::start().await;
    quickstart.get(SHOP, "/admin", ALICE).await;
    let page = async |page: &str| quickstart.gateway.admin(page).await;
    let status = page("/status").await.json();
    let kinds: Vec<_> = status["objects"]
        .as_array()
        .expect("objects")
        .iter()
        .filter_map(|object| object["kind"].as_str())
        .collect();
    for kind in ["Gateway", "HTTPRoute", "Ingress", "Filter"] {
        assert!(kinds.contains(&kind), "{kinds:?}");
    }
    assert_eq!(status["errors"], serde_json::json!([]));
    let config = page("/config").await;
    assert!(
        !config.text().contains("PRIVATE KEY") && !config.text().contains("$2y$"),
        "secrets are not shown"
    );
    let staff = async || {
        let filters = page("/filters").await.json();
        let rows = filters.as_array().expect("filters");
        let staff = rows.iter().find(|filter| filter["name"] == "staff-only");
        staff.expect("it is there").clone()
    };
    // Its calls are long, so the last of them may end a moment after the answer.
    eventually!(
        staff().await["contexts"] == 0,
        "the exchange is over for the filter as well"
    );
    let staff = staff().await;
    assert_eq!(staff["state"], "Ready");
    assert!(
        staff["calls"].as_u64().is_some_and(|calls| calls > 0),
        "{staff}"
    );
    assert!(
        page("/metrics")
            .await
            .text()
            .contains("tidegate_requests_total{code_class=\"2xx\"} 1")
    );
    let explained = page("/explain?method=GET&url=http://shop.example.com/admin").await;
    assert!(
        explained.text().contains("staff-only"),
        "{}",
        explained.text()
    );
    assert_eq!(page("/healthz").await.status, 200);
    assert_eq!(page("/nothing").await.status, 404);
}
