//! For tests: a web server that does as it is told, wrong things too, and a registry on top of it.

use std::collections::HashMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::digest::digest;

/// What a client asked for.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) authorization: Option<String>,
    pub(crate) content_type: Option<String>,
    pub(crate) body: Bytes,
}

/// What it gets.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Bytes,
    /// `content-length`, where it is not that of the body.
    pub(crate) announced: Option<u64>,
    pub(crate) then: Then,
}

/// What happens after the body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Then {
    #[default]
    Close,
    /// Nothing is sent any more, and the connection stays.
    Hang,
    /// The body again, for ever.
    Again,
}

type Handler = dyn Fn(&Asked) -> Reply + Send + Sync;

/// A server on a free port of 127.0.0.1.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    task: JoinHandle<()>,
    /// PEM, if it speaks TLS.
    pub(crate) authority: Option<String>,
}

impl Reply {
    pub(crate) fn ok(body: impl Into<Bytes>) -> Self {
        Self {
            status: 200,
            body: body.into(),
            ..Self::default()
        }
    }

    pub(crate) fn status(status: u16) -> Self {
        Self {
            status,
            ..Self::default()
        }
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

impl Server {
    /// Over plain HTTP.
    pub(crate) async fn plain(handler: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        Self::start(Arc::new(handler), None).await
    }

    /// Over TLS, with a certificate for `localhost` that nobody vouches for but itself.
    pub(crate) async fn tls(handler: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let key =
            rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let private =
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.signing_key.serialize_der()));
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![key.cert.der().clone()], private)
            .expect("a key");
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let mut server = Self::start(Arc::new(handler), Some(acceptor)).await;
        server.authority = Some(key.cert.pem());
        server
    }

    async fn start(handler: Arc<Handler>, tls: Option<tokio_rustls::TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let task = tokio::spawn({
            let asked = asked.clone();
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let (handler, asked, tls) = (handler.clone(), asked.clone(), tls.clone());
                    tokio::spawn(async move {
                        match tls {
                            None => serve(stream, &*handler, &asked).await,
                            Some(tls) => {
                                if let Ok(stream) = tls.accept(stream).await {
                                    serve(stream, &*handler, &asked).await;
                                }
                            }
                        }
                    });
                }
            }
        });
        Self {
            address,
            asked,
            task,
            authority: None,
        }
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("no panic").clone()
    }

    /// Paths that were asked for.
    pub(crate) fn paths(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.path).collect()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Nobody answers at the address any more.
    pub(crate) fn stop(&self) {
        self.task.abort();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    handler: &Handler,
    asked: &Mutex<Vec<Asked>>,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
        // A TLS handshake where plain HTTP is spoken.
        if head.first() == Some(&0x16) {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
            return;
        }
    }
    let head = String::from_utf8(head).expect("text");
    let field = |name: &str| {
        let of = |line: &str| Some(line.strip_prefix(name)?.strip_prefix(": ")?.to_owned());
        head.lines().find_map(of)
    };
    let length = field("content-length").map_or(0, |length| length.parse().expect("a length"));
    let mut body = vec![0; length];
    if stream.read_exact(&mut body).await.is_err() {
        return;
    }
    let mut words = head.split(' ').map(str::to_owned);
    let one = Asked {
        method: words.next().unwrap_or_default(),
        path: words.next().unwrap_or_default(),
        authorization: field("authorization"),
        content_type: field("content-type"),
        body: body.into(),
    };
    asked.lock().expect("no panic").push(one.clone());
    let mut reply = handler(&one);
    if one.method == "HEAD" {
        reply.announced = Some(reply.body.len() as u64);
        reply.body = Bytes::new();
    }
    // Clients leave when they have read enough.
    let _ = answer(&mut stream, reply).await;
}

async fn answer(stream: &mut (impl AsyncWrite + Unpin), reply: Reply) -> std::io::Result<()> {
    if reply.status == 0 {
        return std::future::pending().await;
    }
    let mut head = format!(
        "HTTP/1.1 {} Whatever\r\nconnection: close\r\n",
        reply.status
    );
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if reply.then != Then::Again {
        let length = reply.announced.unwrap_or(reply.body.len() as u64);
        head.push_str(&format!("content-length: {length}\r\n"));
    }
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(b"\r\n").await?;
    loop {
        stream.write_all(&reply.body).await?;
        match reply.then {
            Then::Close => return stream.shutdown().await,
            Then::Hang => return std::future::pending().await,
            Then::Again => {}
        }
    }
}

/// Content of a registry: blobs and manifests by digest, and tags.
#[derive(Clone, Debug, Default)]
pub(crate) struct Content(Arc<Mutex<Repository>>);

#[derive(Debug, Default)]
struct Repository {
    blobs: HashMap<String, Bytes>,
    manifests: HashMap<String, (String, Bytes)>,
    tags: HashMap<String, String>,
}

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

impl Content {
    /// Puts a blob in; its descriptor.
    pub(crate) fn blob(&self, kind: &str, bytes: impl Into<Bytes>) -> Value {
        let bytes = bytes.into();
        let name = digest(&bytes);
        let descriptor = json!({"mediaType": kind, "digest": &*name, "size": bytes.len()});
        self.0
            .lock()
            .expect("no panic")
            .blobs
            .insert(name.to_string(), bytes);
        descriptor
    }

    /// Puts a manifest in and tags it; its digest.
    pub(crate) fn manifest(&self, tag: &str, kind: &str, manifest: &Value) -> String {
        let bytes = Bytes::from(manifest.to_string());
        let name = digest(&bytes).to_string();
        let mut repository = self.0.lock().expect("no panic");
        repository
            .manifests
            .insert(name.clone(), (kind.to_owned(), bytes));
        repository.tags.insert(tag.to_owned(), name.clone());
        name
    }

    /// A module in the layout of the CNCF, tagged; the digest of its manifest.
    pub(crate) fn module(&self, tag: &str, module: &[u8]) -> String {
        let config = self.blob("application/vnd.wasm.config.v0+json", "{}");
        let layer = self.blob("application/wasm", module.to_vec());
        let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [layer]});
        self.manifest(tag, OCI_MANIFEST, &manifest)
    }

    /// What a registry answers.
    pub(crate) fn answer(&self, asked: &Asked) -> Reply {
        match asked.method.as_str() {
            "POST" | "PUT" => self.take(asked),
            _ => self.give(asked),
        }
    }

    /// Uploads and manifests, as the distribution specification has them.
    fn take(&self, asked: &Asked) -> Reply {
        let mut repository = self.0.lock().expect("no panic");
        if asked.method == "POST" && asked.path.ends_with("/blobs/uploads/") {
            return Reply::status(202).header("location", format!("{}7?state=x", asked.path));
        }
        let bytes = asked.body.clone();
        let name = digest(&bytes).to_string();
        if let Some((_, said)) = asked.path.split_once("/blobs/uploads/7?state=x&digest=") {
            if said != name {
                return Reply::status(400);
            }
            repository.blobs.insert(name, bytes);
            return Reply::status(201);
        }
        let Some((_, tag)) = asked.path.split_once("/manifests/") else {
            return Reply::status(404);
        };
        let manifest: Value = serde_json::from_slice(&bytes).expect("JSON");
        let named = [&manifest["config"], &manifest["layers"][0]];
        let known = |one: &&Value| {
            let name = one["digest"].as_str().expect("a digest");
            let blob = repository.blobs.get(name);
            blob.is_some_and(|blob| one["size"] == blob.len())
        };
        if !named.iter().all(known) {
            return Reply {
                body: json!({"errors": [{"code": "MANIFEST_BLOB_UNKNOWN"}]})
                    .to_string()
                    .into(),
                ..Reply::status(404)
            };
        }
        let kind = asked.content_type.clone().unwrap_or_default();
        repository.tags.insert(tag.to_owned(), name.clone());
        repository.manifests.insert(name.clone(), (kind, bytes));
        Reply::status(201).header("docker-content-digest", name)
    }

    fn give(&self, asked: &Asked) -> Reply {
        let repository = self.0.lock().expect("no panic");
        let missing = |code: &str| Reply {
            status: 404,
            body: json!({"errors": [{"code": code, "message": "secret"}]})
                .to_string()
                .into(),
            ..Reply::default()
        };
        if let Some((_, reference)) = asked.path.split_once("/manifests/") {
            let name = repository
                .tags
                .get(reference)
                .map_or(reference, String::as_str);
            return match repository.manifests.get(name) {
                Some((kind, bytes)) => {
                    Reply::ok(bytes.clone()).header("content-type", kind.clone())
                }
                None => missing("MANIFEST_UNKNOWN"),
            };
        }
        let blob = asked
            .path
            .split_once("/blobs/")
            .and_then(|(_, name)| repository.blobs.get(name));
        blob.map_or_else(|| missing("BLOB_UNKNOWN"), |bytes| Reply::ok(bytes.clone()))
    }
}

/// An archive with these files, gzipped.
pub(crate) fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive
            .append_data(&mut header, name, *content)
            .expect("memory");
    }
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder
        .write_all(&archive.into_inner().expect("memory"))
        .expect("memory");
    encoder.finish().expect("memory")
}
