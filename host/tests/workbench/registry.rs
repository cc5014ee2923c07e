//! A real registry (distribution): `registry` or `docker-registry` on the path; Debian's package is `docker-registry`.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use tidegate_testing::{Port, Wire, eventually};

const PROGRAMS: [&str; 2] = ["registry", "docker-registry"];

/// A registry on a free port that lets everybody in. It ends when it is dropped.
pub(crate) struct Registry {
    port: Port,
    process: Child,
    _folder: tempfile::TempDir,
}

impl Registry {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let is_there = |program: &&&str| Command::new(program).arg("--version").output().is_ok();
        let program = PROGRAMS
            .iter()
            .find(is_there)
            .expect("a registry on the path: apt-get install docker-registry");
        let port = Port::reserve();
        let (place, address) = (folder.path().display(), port.address());
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {place}/content}}}}\nhttp: {{addr: \"{address}\"}}\n"
        );
        let path = folder.path().join("config.yml");
        std::fs::write(&path, config).expect("written");
        let process = Command::new(program)
            .arg("serve")
            .arg(&path)
            .stdout(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{program}: {error}"));
        eventually!(
            Wire::try_connect(address).await.is_ok(),
            "{program} serves on {address}"
        );
        Self {
            port,
            process,
            _folder: folder,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.port.address()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
