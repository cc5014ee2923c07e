//! Standard output and standard error that nobody reads, and disks that are full: traffic does not wait for them, nor does the
//! end of the process, and what is lost is counted and said.

use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use tidegate_testing::{Client, Listener, Port, Upstream, Wire, eventually, manifests, within};
use tokio::time::Instant;

const TIDEGATE: &str = env!("CARGO_BIN_EXE_tidegate");

/// The built binary with everything sent to one endpoint, and outputs of the test's choice. It is killed when it is dropped.
struct Served {
    child: Child,
    port: Port,
    admin: Port,
    _folder: tempfile::TempDir,
}

impl Served {
    async fn start(
        upstream: SocketAddr,
        access_log: &str,
        log: &str,
        stdout: Stdio,
        stderr: Stdio,
    ) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let manifest = manifests::everything_to(upstream);
        std::fs::write(folder.path().join("all.yaml"), manifest).expect("written");
        let (port, admin) = (Port::reserve(), Port::reserve());
        let child = Command::new(TIDEGATE)
            .env("RUST_LOG", log)
            .args(["serve", "--bind", "127.0.0.1", "--workers", "2"])
            .args(["--drain", "1", "--access-log", access_log])
            .args(["--port-map", &format!("80:{}", port.number())])
            .args(["--admin", &admin.address().to_string(), "--manifests"])
            .arg(folder.path())
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .expect("it starts");
        let served = Self {
            child,
            port,
            admin,
            _folder: folder,
        };
        eventually!(served.is_ready().await, "it is ready");
        served
    }

    async fn is_ready(&self) -> bool {
        self.admin("/readyz")
            .await
            .is_some_and(|page| page.starts_with("ready"))
    }

    async fn admin(&self, page: &str) -> Option<String> {
        let mut wire = Wire::try_connect(self.admin.address()).await.ok()?;
        let ask = format!("GET {page} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n");
        wire.try_send(ask).await.ok()?;
        Some(wire.answer().await.text().to_owned())
    }

    async fn metric(&self, name: &str) -> u64 {
        let page = self.admin("/metrics").await.expect("it is served");
        let value = page
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value
            .and_then(|value| value.parse().ok())
            .unwrap_or_else(|| panic!("no {name} in {page}"))
    }

    /// Asks it to end, and tells how it did and how long it took.
    async fn end(&mut self) -> (ExitStatus, Duration) {
        let asked = Instant::now();
        let kill = Command::new("kill")
            .args(["-TERM", &self.child.id().to_string()])
            .status();
        assert!(kill.expect("kill").success());
        eventually!(
            self.child.try_wait().expect("our own child").is_some(),
            "the process ends"
        );
        let status = self.child.wait().expect("it has ended");
        (status, asked.elapsed())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // One that has ended needs no signal.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Drain, and the last lines of either log; the rest is for slow machines.
const SOON: Duration = Duration::from_secs(12);

fn said(path: &Path, words: &str) -> usize {
    let text = std::fs::read_to_string(path).expect("it can be read");
    text.matches(words).count()
}

#[tokio::test]
async fn a_log_that_nobody_reads_stops_nothing() {
    let upstream = Upstream::named("up").await;
    // HTTP/2 says a lot for each request at this level.
    let log = "info,h2=trace";
    let (stdout, stderr) = (Stdio::null(), Stdio::piped());
    let mut served = Served::start(upstream.address(), "off", log, stdout, stderr).await;
    let mut client = Client::http2(served.port.address()).await;
    for _ in 0..2000 {
        assert_eq!(client.get("a.test", "/").await.text(), "up");
    }
    // The pipe and the queue are full by now, or will be soon.
    within("lines are lost", async {
        while served.metric("tidegate_log_lost_lines_total").await == 0 {
            assert_eq!(client.get("a.test", "/").await.text(), "up");
        }
    })
    .await;
    for _ in 0..100 {
        assert_eq!(client.get("a.test", "/").await.text(), "up");
    }
    drop(client);
    let (status, took) = served.end().await;
    assert!(status.success() && took < SOON, "{status} after {took:?}");
}

#[tokio::test]
async fn an_access_log_that_nobody_reads_stops_nothing() {
    let upstream = Upstream::named("up").await;
    let folder = tempfile::tempdir().expect("a folder");
    let said_there = folder.path().join("stderr");
    let stderr = File::create(&said_there).expect("a file").into();
    let stdout = Stdio::piped();
    let mut served = Served::start(upstream.address(), "stdout", "info", stdout, stderr).await;
    // Much more than a pipe holds.
    let path = format!("/{}", "x".repeat(4 << 10));
    let mut client = Client::http1(served.port.address()).await;
    for _ in 0..500 {
        assert_eq!(client.get("a.test", &path).await.text(), "up");
    }
    drop(client);
    let (status, took) = served.end().await;
    assert!(status.success() && took < SOON, "{status} after {took:?}");
    assert_eq!(said(&said_there, "its last lines are lost"), 1);
}

#[tokio::test]
async fn a_full_disk_is_told_once() {
    let upstream = Upstream::named("up").await;
    let folder = tempfile::tempdir().expect("a folder");
    let said_there = folder.path().join("stderr");
    let stderr = File::create(&said_there).expect("a file").into();
    let stdout = Stdio::null();
    let mut served = Served::start(upstream.address(), "/dev/full", "info", stdout, stderr).await;
    for at in 1..4 {
        let mut client = Client::http1(served.port.address()).await;
        assert_eq!(client.get("a.test", "/").await.text(), "up");
        eventually!(
            served.metric("tidegate_access_log_lost_lines_total").await == at,
            "line {at} is lost"
        );
    }
    let words = "the access log cannot be written";
    eventually!(said(&said_there, words) > 0, "it is told");
    let (status, _) = served.end().await;
    assert!(status.success(), "{status}");
    assert_eq!(said(&said_there, words), 1);
}

#[test]
fn a_short_command_loses_no_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let thing = "---\napiVersion: example.com/v1\nkind: Thing\nmetadata: {name: a}\n";
    let manifest = format!("{}{thing}", manifests::GATEWAY);
    std::fs::write(folder.path().join("all.yaml"), manifest).expect("written");
    for _ in 0..10 {
        let output = Command::new(TIDEGATE)
            .args(["check", "--manifests"])
            .arg(folder.path())
            .env_remove("RUST_LOG")
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("this kind is not read"), "{said}");
    }
}

#[tokio::test]
async fn what_the_end_cuts_off_has_its_line() {
    let listener = Listener::bind().await;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("access.log");
    let access_log = path.to_str().expect("text");
    let address = listener.address();
    let mut served = Served::start(address, access_log, "info", Stdio::null(), Stdio::null()).await;
    let mut client = Wire::connect(served.port.address()).await;
    client
        .send("GET /never-answered HTTP/1.1\r\nHost: a\r\n\r\n")
        .await;
    let mut upstream = listener.accept().await;
    upstream.head().await;
    let (status, took) = served.end().await;
    assert!(status.success() && took < SOON, "{status} {took:?}");
    assert_eq!(said(&path, "/never-answered"), 1);
}
