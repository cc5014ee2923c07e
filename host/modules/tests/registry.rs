//! A real registry (distribution), open and with passwords: pulling every layout, and pushing what is then pulled. Needs the program: `registry` or
//! `docker-registry` on the path (Debian's package is `docker-registry`), and runs with `--ignored`.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tidegate_model::{
    Capability, Compatibility, Config, Credentials, FailurePolicies, FilterId, FilterLimits,
    FilterMode, FilterSpec, FilterVerdict, ModuleSource, Pull, VmSpec,
};
use tidegate_modules::{Access, Layout, Loader, Settings};
use tidegate_wasm::Shared;

const PROGRAMS: [&str; 2] = ["registry", "docker-registry"];
const PATIENCE: Duration = Duration::from_secs(60);
/// `user` with password `secret`, as `htpasswd -Bbn` writes it.
const HTPASSWD: &str = "user:$2y$05$CyIS.nKa080cmV7SM2.lluF0gagNNxzfGH6213Yby6geAzTxRidjq\n";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const FILTER: &str = r#"(module (memory (export "memory") 1)
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "malloc") (param i32) (result i32) (i32.const 8)))"#;

/// A registry on a free port, with a folder of its own.
struct Registry {
    address: SocketAddr,
    process: Child,
    authorization: Option<String>,
    _folder: tempfile::TempDir,
}

impl Registry {
    fn start(password: bool) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let program = PROGRAMS
            .iter()
            .find(|program| Command::new(program).arg("--version").output().is_ok())
            .expect("a registry on the path: apt-get install docker-registry, or go install github.com/distribution/distribution/v3/cmd/registry@v3.1.2");
        let address = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a free port");
        let auth = if password {
            let path = folder.path().join("htpasswd");
            std::fs::write(&path, HTPASSWD).expect("written");
            format!(
                "auth:\n  htpasswd:\n    realm: test\n    path: {}\n",
                path.display()
            )
        } else {
            String::new()
        };
        let config = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {address}\n{auth}",
            folder.path().join("data").display()
        );
        let path = folder.path().join("config.yml");
        std::fs::write(&path, config).expect("written");
        let process = Command::new(program)
            .arg("serve")
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        let mut registry = Self {
            address,
            process,
            authorization: None,
            _folder: folder,
        };
        registry.wait();
        if password {
            assert_eq!(
                registry.send("GET", "/v2/", "", b"").0,
                401,
                "it asks for a password"
            );
            registry.authorization =
                Some(format!("Basic {}", BASE64_STANDARD.encode("user:secret")));
        }
        assert_eq!(registry.send("GET", "/v2/", "", b"").0, 200);
        registry
    }

    fn wait(&mut self) {
        let end = Instant::now() + PATIENCE;
        while TcpStream::connect(self.address).is_err() {
            let ended = self.process.try_wait().expect("its state");
            assert!(
                ended.is_none() && Instant::now() < end,
                "the registry does not answer: {ended:?}"
            );
            std::thread::yield_now();
        }
    }

    /// Status and `location` of an answer.
    fn send(&self, method: &str, target: &str, kind: &str, body: &[u8]) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).expect("connected");
        let authorization = self.authorization.as_ref();
        let authorization =
            authorization.map_or(String::new(), |value| format!("authorization: {value}\r\n"));
        let head = format!(
            "{method} {target} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n{authorization}content-type: {kind}\r\ncontent-length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        stream.write_all(head.as_bytes()).expect("sent");
        stream.write_all(body).expect("sent");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("an answer");
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
        let location = answer
            .lines()
            .find_map(|line| line.strip_prefix("Location: "))
            .unwrap_or_default();
        (status.expect("a status"), location.trim().to_owned())
    }

    fn push_blob(&self, kind: &str, bytes: &[u8]) -> Value {
        let name = digest(bytes);
        let (status, location) = self.send("POST", "/v2/team/hello/blobs/uploads/", "", b"");
        assert_eq!(status, 202);
        let target = location.split_once("/v2/").expect("an address").1;
        let and = if target.contains('?') { '&' } else { '?' };
        let target = format!("/v2/{target}{and}digest={name}");
        assert_eq!(
            self.send("PUT", &target, "application/octet-stream", bytes)
                .0,
            201
        );
        json!({"mediaType": kind, "digest": name, "size": bytes.len()})
    }

    /// Pushes an image of one layer; the digest of its manifest.
    fn push(&self, tag: &str, manifest: &str, config: &str, layer: &str, bytes: &[u8]) -> String {
        let config = self.push_blob(config, b"{}");
        let layer = self.push_blob(layer, bytes);
        let json =
            json!({"schemaVersion": 2, "mediaType": manifest, "config": config, "layers": [layer]});
        let json = json.to_string();
        let target = format!("/v2/team/hello/manifests/{tag}");
        assert_eq!(
            self.send("PUT", &target, manifest, json.as_bytes()).0,
            201,
            "{tag}"
        );
        digest(json.as_bytes())
    }

    fn push_all(&self) -> Vec<(&'static str, String)> {
        let packed = archive(&module());
        let (docker, oci) = (DOCKER_MANIFEST, OCI_MANIFEST);
        let layouts = [
            (
                "docker",
                docker,
                "application/vnd.docker.container.image.v1+json",
                "application/vnd.docker.image.rootfs.diff.tar.gzip",
                &packed,
            ),
            (
                "compat",
                oci,
                "application/vnd.oci.image.config.v1+json",
                "application/vnd.oci.image.layer.v1.tar+gzip",
                &packed,
            ),
            (
                "istio",
                oci,
                "application/vnd.module.wasm.config.v1+json",
                "application/vnd.module.wasm.content.layer.v1+wasm",
                &module(),
            ),
            (
                "cncf",
                oci,
                "application/vnd.wasm.config.v0+json",
                "application/wasm",
                &module(),
            ),
        ];
        layouts
            .map(|(tag, manifest, config, layer, bytes)| {
                (tag, self.push(tag, manifest, config, layer, bytes))
            })
            .into()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn module() -> Vec<u8> {
    wat::parse_str(FILTER).expect("a module")
}

fn digest(bytes: &[u8]) -> String {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    let digits: String = hash
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("sha256:{digits}")
}

fn archive(module: &[u8]) -> Vec<u8> {
    let mut archive = tar::Builder::new(flate2::write::GzEncoder::new(
        Vec::new(),
        flate2::Compression::fast(),
    ));
    let mut header = tar::Header::new_gnu();
    header.set_size(module.len() as u64);
    header.set_mode(0o644);
    archive
        .append_data(&mut header, "plugin.wasm", module)
        .expect("memory");
    archive
        .into_inner()
        .and_then(flate2::write::GzEncoder::finish)
        .expect("memory")
}

fn spec(
    name: &str,
    registry: &Registry,
    reference: &str,
    credentials: Option<(&str, &str)>,
) -> Arc<FilterSpec> {
    let credentials = credentials.map(|(user, password)| Credentials {
        secret: "shop/registry".into(),
        user: user.into(),
        password: password.into(),
    });
    let image = format!("{}/team/hello{reference}", registry.address);
    Arc::new(FilterSpec {
        slot: 0,
        id: FilterId {
            namespace: "shop".into(),
            name: name.into(),
        },
        module: ModuleSource::Image {
            image: image.parse().expect("an image"),
            pull: Pull {
                credentials,
                authorities: None,
                insecure: true,
            },
        },
        pinned: None,
        sha256: None,
        config: Config::default(),
        root_id: "".into(),
        vm: VmSpec::default(),
        failure_policy: FailurePolicies::default(),
        limits: FilterLimits::default(),
        clusters: BTreeMap::new(),
        capabilities: Capability::ALL.into(),
        headers_wait_for_body: false,
        compatibility: Compatibility::default(),
        mode: FilterMode::Enforce,
    })
}

async fn verdict(loader: &Arc<Loader>, spec: &Arc<FilterSpec>) -> FilterVerdict {
    let mut changes = loader.changes();
    loader.want(std::slice::from_ref(spec));
    let known = async {
        while loader.is_loading(std::slice::from_ref(spec)) {
            changes.changed().await.expect("the loader lives");
        }
    };
    tokio::time::timeout(PATIENCE, known)
        .await
        .expect("a verdict");
    loader.verdicts().remove(&spec.id).expect("a verdict")
}

/// `name` is what the reference says beside the repository: `:tag`, or nothing where it is a digest.
fn assert_ready(verdict: FilterVerdict, registry: &Registry, name: &str, manifest: &str) {
    let FilterVerdict::Ready {
        digest: found,
        image,
        ..
    } = verdict
    else {
        panic!("{verdict:?}")
    };
    assert_eq!(*found, digest(&module()));
    assert_eq!(
        image.as_deref(),
        Some(&*format!(
            "{}/team/hello{name}@{manifest}",
            registry.address
        ))
    );
}

#[tokio::test]
#[ignore = "real parts"]
async fn every_layout_is_pulled_by_tag_and_by_digest() {
    let registry = Registry::start(false);
    for (tag, manifest) in registry.push_all() {
        let loader = Loader::new(Shared::new());
        let by_tag = spec(tag, &registry, &format!(":{tag}"), None);
        assert_ready(
            verdict(&loader, &by_tag).await,
            &registry,
            &format!(":{tag}"),
            &manifest,
        );
        let by_digest = spec(tag, &registry, &format!("@{manifest}"), None);
        assert_ready(
            verdict(&Loader::new(Shared::new()), &by_digest).await,
            &registry,
            "",
            &manifest,
        );
    }
}

#[tokio::test]
#[ignore = "real parts"]
async fn a_password_is_asked_for_and_given() {
    let registry = Registry::start(true);
    for (tag, manifest) in registry.push_all() {
        let of = |credentials| spec(tag, &registry, &format!(":{tag}"), credentials);
        for wrong in [None, Some(("user", "wrong"))] {
            let FilterVerdict::Failed { message, .. } =
                verdict(&Loader::new(Shared::new()), &of(wrong)).await
            else {
                panic!("pulled without the password")
            };
            assert!(
                message.contains("answered 401") && message.contains("spec.pull.secretRef"),
                "{message}"
            );
        }
        let right = of(Some(("user", "secret")));
        assert_ready(
            verdict(&Loader::new(Shared::new()), &right).await,
            &registry,
            &format!(":{tag}"),
            &manifest,
        );
    }
}

#[tokio::test]
#[ignore = "real parts"]
async fn what_is_pushed_is_loaded_by_a_filter() {
    let registry = Registry::start(true);
    let nobody = Access {
        plain_http: true,
        ..Access::default()
    };
    let mut access = nobody.clone();
    access.pull.credentials = Some(Credentials {
        secret: "--password-stdin".into(),
        user: "user".into(),
        password: "secret".into(),
    });
    let component = tidegate_wasm_guests::COMPONENT.to_vec();
    let images = [
        ("module", module(), Layout::Compat),
        ("module-cncf", module(), Layout::Cncf),
        ("component", component, Layout::Cncf),
    ];
    for (tag, wasm, layout) in images {
        let image = format!("oci://{}/team/hello:{tag}", registry.address);
        let image = image.parse().expect("an image");
        let push = async |access| {
            tidegate_modules::push(&image, wasm.clone().into(), layout, access).await
        };
        let error = push(&nobody).await.expect_err("nobody in particular");
        assert!(
            error
                .to_string()
                .contains("answered 401 Unauthorized: it wants to know who asks"),
            "{error}"
        );
        let pushed = push(&access).await.expect("pushed");
        let again = push(&access).await.expect("pushed");
        assert_eq!(
            (again.sent, &again.manifest),
            (0, &pushed.manifest),
            "{tag}"
        );
        let pulled = tidegate_modules::pull(&image, &access)
            .await
            .expect("pulled");
        assert_eq!(pulled.bytes, wasm, "{tag}");

        let wanted = spec(tag, &registry, &format!(":{tag}"), Some(("user", "secret")));
        let verdict = verdict(&Loader::new(Shared::new()), &wanted).await;
        let FilterVerdict::Ready { digest, image, .. } = verdict else {
            panic!("{tag}: {verdict:?}")
        };
        assert_eq!(
            (&*digest, pushed.module),
            (&*pulled.module, pulled.module.clone())
        );
        let place = format!("{}/team/hello:{tag}@{}", registry.address, pushed.manifest);
        assert_eq!(image.as_deref(), Some(&*place));
    }
}

#[tokio::test]
#[ignore = "real parts"]
async fn without_the_registry_a_restart_goes_on_from_the_cache() {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = Settings {
        cache: Some(folder.path().join("cache")),
        ..Settings::default()
    };
    let mut registry = Registry::start(false);
    let (tag, manifest) = registry.push_all().remove(0);
    let wanted = spec("filter", &registry, &format!(":{tag}"), None);
    assert_ready(
        verdict(&Loader::with(Shared::new(), &settings), &wanted).await,
        &registry,
        &format!(":{tag}"),
        &manifest,
    );
    registry.process.kill().expect("killed");
    registry.process.wait().expect("gone");
    assert_ready(
        verdict(&Loader::with(Shared::new(), &settings), &wanted).await,
        &registry,
        &format!(":{tag}"),
        &manifest,
    );
    let FilterVerdict::Failed { message, .. } = verdict(&Loader::new(Shared::new()), &wanted).await
    else {
        panic!("pulled from nobody")
    };
    assert!(message.contains("cannot be reached"), "{message}");
}
