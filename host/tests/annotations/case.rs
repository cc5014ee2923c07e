//! What a case is made of.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

/// A file.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Case {
    /// `annotation/case`
    #[serde(skip)]
    pub(super) name: String,
    /// What it shows.
    #[serde(rename = "about")]
    _about: String,
    /// What `a` of every `a.test` in the file becomes, so that no two cases share a host; `NAMESPACE` becomes the namespace.
    #[serde(skip)]
    pub(super) domain: String,
    pub(super) ingresses: Vec<Ingress>,
    /// Further objects; their namespace is put in.
    #[serde(default)]
    pub(super) objects: Vec<Value>,
    pub(super) requests: Vec<Request>,
    /// Lines of a server of nginx that does the same. `http://up`, `http://other` and `http://auth` are the Services.
    pub(super) nginx: Option<String>,
    /// Lines around the servers.
    pub(super) nginx_http: Option<String>,
    /// What the status of an Ingress must say.
    #[serde(default)]
    pub(super) status: Vec<Status>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Ingress {
    #[serde(default = "web")]
    pub(super) name: String,
    #[serde(default = "host")]
    pub(super) host: String,
    /// Whether the host has a certificate.
    #[serde(default)]
    pub(super) tls: bool,
    /// Without the prefix.
    #[serde(default)]
    pub(super) annotations: BTreeMap<String, String>,
    #[serde(default = "everything")]
    pub(super) paths: Vec<IngressPath>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct IngressPath {
    pub(super) path: String,
    #[serde(default = "prefix")]
    pub(super) r#type: String,
    #[serde(default = "up")]
    pub(super) to: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Request {
    /// `GET /path`
    pub(super) send: String,
    #[serde(default = "host")]
    pub(super) host: String,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    /// Bytes of a body.
    pub(super) body: Option<usize>,
    /// Over TLS.
    #[serde(default)]
    pub(super) tls: bool,
    /// So many times, one after the other.
    #[serde(default = "once")]
    pub(super) times: usize,
    /// All of them at the same time.
    #[serde(default)]
    pub(super) together: bool,
    /// With the cookie that the request before was given.
    #[serde(default)]
    pub(super) with_cookie: bool,
    /// Answered by the upstream that the cookie came with, each time.
    #[serde(default)]
    pub(super) same_upstream: bool,
    /// What nginx does otherwise, which the documentation says.
    pub(super) not_nginx: Option<String>,
    #[serde(default)]
    pub(super) answer: Expected,
    /// The upstream that must have seen it; `none` for nobody.
    pub(super) upstream: Option<String>,
    /// What it must have seen.
    #[serde(default)]
    pub(super) seen: Seen,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Expected {
    pub(super) status: Option<u16>,
    /// Of several requests: how many have which status.
    pub(super) statuses: Option<BTreeMap<u16, usize>>,
    /// The same where time decides about the rest: so many at least.
    pub(super) at_least: BTreeMap<u16, usize>,
    /// The whole value; behind `~` an expression that must match somewhere.
    pub(super) headers: BTreeMap<String, String>,
    pub(super) absent: Vec<String>,
    /// Whether the end of the answer was not reached.
    pub(super) broken: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Seen {
    pub(super) target: Option<String>,
    pub(super) host: Option<String>,
    /// `HTTP/2.0`
    pub(super) version: Option<String>,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) absent: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Status {
    #[serde(default = "web")]
    pub(super) ingress: String,
    /// Of condition `Accepted`.
    pub(super) accepted: bool,
    /// Somewhere in its conditions or warnings.
    pub(super) says: String,
}

fn web() -> String {
    "web".to_owned()
}

fn host() -> String {
    "a.test".to_owned()
}

fn everything() -> Vec<IngressPath> {
    vec![IngressPath {
        path: "/".to_owned(),
        r#type: prefix(),
        to: up(),
    }]
}

fn prefix() -> String {
    "Prefix".to_owned()
}

fn up() -> String {
    "up".to_owned()
}

fn once() -> usize {
    1
}

impl Case {
    /// The namespace of its objects.
    pub(super) fn namespace(&self) -> String {
        self.domain.replace('.', "-")
    }

    /// Names that its certificate must bear.
    pub(super) fn tls_names(&self) -> Vec<String> {
        let hosts = self
            .ingresses
            .iter()
            .filter(|ingress| ingress.tls)
            .map(|ingress| &ingress.host);
        hosts
            .flat_map(|host| [host.clone(), format!("www.{host}"), format!("alias.{host}")])
            .collect()
    }
}

/// All cases, by name.
pub(super) fn all() -> Vec<Case> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/annotations");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .flat_map(|folder| std::fs::read_dir(folder).unwrap())
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files.iter().map(|file| read(&root, file)).collect()
}

fn read(root: &Path, file: &Path) -> Case {
    let name = file
        .strip_prefix(root)
        .unwrap()
        .with_extension("")
        .to_string_lossy()
        .into_owned();
    let (annotation, case) = name.split_once('/').unwrap();
    let domain = format!("{case}.{annotation}");
    let text = std::fs::read_to_string(file).unwrap();
    let text = text
        .replace("a.test", &format!("{domain}.test"))
        .replace("NAMESPACE", &domain.replace('.', "-"));
    let mut case: Case =
        serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
    let hosts = case.ingresses.iter_mut().map(|ingress| &mut ingress.host);
    for host in hosts.chain(case.requests.iter_mut().map(|request| &mut request.host)) {
        if *host == self::host() {
            *host = format!("{domain}.test");
        }
    }
    Case {
        name,
        domain,
        ..case
    }
}
