//! The OpenID provider: a process of its own, which ends with the test.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use http::Method;
use serde_json::Value;
use tidegate_testing::{Answer, Client, full};

/// A provider with the clients of `provider.mjs`.
#[derive(Debug)]
pub(super) struct Provider {
    process: Child,
    issuer: String,
    address: SocketAddr,
}

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/openid");

impl Provider {
    pub(super) async fn start() -> Self {
        tokio::task::spawn_blocking(Self::spawn)
            .await
            .expect("it starts")
    }

    fn spawn() -> Self {
        static THERE: OnceLock<()> = OnceLock::new();
        THERE.get_or_init(|| {
            let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/openid/set-up");
            let done = Command::new(script).status();
            assert!(
                done.is_ok_and(|status| status.success()),
                "{script} failed; what it said is above"
            );
        });
        // It ends when its standard input does, and so with this process in any case.
        let mut process = Command::new("node")
            .arg("provider.mjs")
            .current_dir(FOLDER)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("node starts");
        let mut line = String::new();
        let output = process.stdout.take().expect("it is piped");
        BufReader::new(output)
            .read_line(&mut line)
            .expect("it says where it is");
        let said: Value = serde_json::from_str(&line).expect("one line of JSON");
        let issuer = said["issuer"].as_str().expect("its issuer").to_owned();
        let address = issuer
            .strip_prefix("http://")
            .and_then(|text| text.parse().ok());
        Self {
            process,
            address: address.expect("an address of the loopback"),
            issuer,
        }
    }

    pub(super) fn issuer(&self) -> &str {
        &self.issuer
    }

    pub(super) fn authority(&self) -> &str {
        &self.issuer["http://".len()..]
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// A new key, and the one before withdrawn.
    pub(super) async fn rotate(&self) {
        assert_eq!(self.post("/test/rotate", "", "").await.status, 204);
    }

    /// An access token of the client `machine`, a JWT for the API.
    pub(super) async fn access_token(&self) -> String {
        // "machine:of+the+machine"
        let basic = "Basic bWFjaGluZTpvZit0aGUrbWFjaGluZQ==";
        let form = "grant_type=client_credentials&scope=read";
        let answer = self.post("/token", basic, form).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let answer = answer.json();
        assert_eq!(answer["scope"], "read");
        answer["access_token"].as_str().expect("a token").to_owned()
    }

    async fn post(&self, path: &str, authorization: &str, form: &'static str) -> Answer {
        let mut client = Client::http1(self.address).await;
        let mut request = client
            .request(Method::POST, self.authority(), path)
            .header("content-type", "application/x-www-form-urlencoded");
        if !authorization.is_empty() {
            request = request.header("authorization", authorization);
        }
        let request = request.body(full(form)).expect("a request");
        client.send(request).await.expect("an answer")
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
