//! The built binary as a process of its own.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;

use serde_json::Value;

use crate::{Answer, PATIENCE, Wire, eventually};

/// A `tidegate` process. It is killed when it is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    admin: Option<SocketAddr>,
    said: Arc<Mutex<Vec<String>>>,
}

impl Process {
    /// Starts `tidegate serve` with these arguments, admin pages on a free port and no access log, and waits until it is ready.
    ///
    /// # Panics
    /// When it does not become ready.
    pub async fn serve(binary: &str, arguments: &[&str]) -> Self {
        let process = Self::start(binary, arguments);
        eventually!(
            process.admin("/readyz").await.status == 200,
            "{binary} is ready"
        );
        process
    }

    /// The same without waiting until it is ready.
    ///
    /// # Panics
    /// When it does not say where its admin pages are.
    pub fn start(binary: &str, arguments: &[&str]) -> Self {
        Self::start_with(binary, arguments, &[])
    }

    /// The same with variables in its environment.
    ///
    /// # Panics
    /// When it does not say where its admin pages are.
    pub fn start_with(binary: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut child = Command::new(binary)
            .envs(environment.iter().copied())
            .args([
                "serve",
                "--admin",
                "127.0.0.1:0",
                "--bind",
                "127.0.0.1",
                "--access-log",
                "off",
            ])
            .args(arguments)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{binary}: {error}"));
        let stderr = child.stderr.take().expect("it is piped");
        let (found, admin) = mpsc::channel();
        let said: Arc<Mutex<Vec<String>>> = Arc::default();
        let lines = said.clone();
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if let Some(address) = admin_address(&line) {
                    // Whoever waits may have given up.
                    let _ = found.send(address);
                }
                eprintln!("{line}");
                let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
                lines.push(line);
            }
        });
        let admin = admin
            .recv_timeout(PATIENCE)
            .expect("the process says where its admin pages are");
        Self {
            child,
            admin: Some(admin),
            said,
        }
    }

    /// Starts `tidegate echo`, and waits until it serves.
    ///
    /// # Panics
    /// When it does not.
    pub async fn echo(binary: &str, listen: SocketAddr, name: &str) -> Self {
        let child = Command::new(binary)
            .args(["echo", "--listen", &listen.to_string(), "--name", name])
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{binary}: {error}"));
        eventually!(
            Wire::try_connect(listen).await.is_ok(),
            "echo serves on {listen}"
        );
        Self {
            child,
            admin: None,
            said: Arc::default(),
        }
    }

    /// The lines of its log so far.
    pub fn log(&self) -> Vec<Value> {
        let lines = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = lines.iter();
        lines
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// Where its admin pages are.
    ///
    /// # Panics
    /// For a process without.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin.expect("it has admin pages")
    }

    /// An admin page.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn admin(&self, page: &str) -> Answer {
        self.try_admin(page)
            .await
            .expect("the admin pages are served")
    }

    /// An admin page, if they are still served.
    ///
    /// # Errors
    /// Those of the connection.
    ///
    /// # Panics
    /// For a process without admin pages.
    pub async fn try_admin(&self, page: &str) -> std::io::Result<Answer> {
        let mut wire = Wire::try_connect(self.admin_address()).await?;
        wire.try_send(format!(
            "GET {page} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n"
        ))
        .await?;
        Ok(wire.answer().await)
    }

    /// Asks it to end, with SIGTERM.
    ///
    /// # Panics
    /// When it is gone.
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    /// Sends it a signal, `HUP` for example.
    ///
    /// # Panics
    /// When it is gone.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &self.child.id().to_string()])
            .status();
        assert!(sent.expect("kill").success());
    }

    /// Whether it has ended, and how.
    ///
    /// # Panics
    /// When the system does not know.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("our own child")
    }

    /// Waits until it has ended.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn wait(&mut self) -> ExitStatus {
        eventually!(self.ended().is_some(), "the process ends");
        self.ended().expect("it has ended")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that has ended needs no signal.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where a line of the log says that the admin pages are.
fn admin_address(line: &str) -> Option<SocketAddr> {
    let record: Value = serde_json::from_str(line).ok()?;
    let fields = record.get("fields").unwrap_or(&record);
    if fields.get("message")? != "admin pages" {
        return None;
    }
    fields.get("address")?.as_str()?.parse().ok()
}
