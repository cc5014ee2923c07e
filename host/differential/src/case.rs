//! A case: filters, the requests to send, and what upstreams answer.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use crate::bytes::Content;
use crate::journal::Journal;
use crate::upstream::Upstream;

/// One comparison. Its name is the hostname of its requests too.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// Unique, in lower case with hyphens.
    pub case: String,
    /// What it is about, where the name does not say it.
    #[serde(default)]
    pub about: String,
    /// Script of a single probe; see guests/probe.
    #[serde(default)]
    pub script: Option<Value>,
    /// The filters in their order, where there is more to say than `script`.
    #[serde(default)]
    pub plugins: Vec<Plugin>,
    /// Sent one after the other, each on a connection of its own; one GET if absent.
    #[serde(default)]
    pub requests: Vec<Request>,
    /// Answers of the upstream, in turn; the last one again and again. `200` with `hello` if absent.
    #[serde(default)]
    pub upstream: Vec<Reply>,
    /// Answers of the cluster `callout-<case>`.
    #[serde(default)]
    pub callout: Vec<Reply>,
    /// What a gRPC server as the cluster `callout-<case>` does with calls, in turn; the last one again and again.
    #[serde(default)]
    pub grpc: Vec<GrpcReply>,
    /// Counters and gauges of guests whose values are compared at the end.
    #[serde(default)]
    pub metrics: Vec<String>,
    /// What Envoy does changes from run to run: what this host does is held against the table whole.
    #[serde(default)]
    pub luck: bool,
    /// Has an Envoy of its own, because one of its filters keeps Envoy from starting.
    #[serde(default)]
    pub alone: bool,
    /// Waits until some guest has logged this, before the record is taken.
    #[serde(default)]
    pub until: Option<String>,
}

/// A filter of a case.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plugin {
    /// Which guest; see `modules.rs`.
    #[serde(default = "probe")]
    pub module: String,
    /// Configuration of a probe.
    #[serde(default)]
    pub script: Option<Value>,
    /// Configuration of any other filter: text, or JSON.
    #[serde(default)]
    pub config: Option<Value>,
    /// Plugins of a case with the same module and VM id share a VM. One of its own if absent.
    #[serde(default)]
    pub vm_id: Option<String>,
    /// Configuration of the VM: text, or JSON (for a probe, its `vm_start`).
    #[serde(default)]
    pub vm_config: Option<Value>,
    /// Root id.
    #[serde(default)]
    pub root_id: String,
    /// Failure policy: let the request pass.
    #[serde(default)]
    pub open: bool,
    /// `allow_on_headers_stop_iteration`
    #[serde(default)]
    pub wait_for_body: bool,
    /// Environment variables of the VM.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
}

/// A request.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Request {
    /// Method.
    pub method: String,
    /// Target as it is on the wire.
    pub path: String,
    /// `name: value`
    pub headers: Vec<String>,
    /// Content of known length.
    pub body: Option<Content>,
    /// Chunks; each is sent when guests have digested the one before.
    pub chunks: Vec<Content>,
    /// Trailers after the chunks.
    pub trailers: Vec<String>,
    /// Chunked, even if there are no chunks but the last one.
    pub chunked: bool,
    /// Whether `chunks` go out with a Content-Length, as pieces of a body of known length.
    pub known_length: bool,
    /// HTTP/1.0
    pub http10: bool,
    /// HTTP/2, with prior knowledge.
    pub http2: bool,
    /// No answer is expected: the client waits for a short while only.
    pub hangs: bool,
    /// The client goes away when guests have logged this.
    pub leaves_at: Option<String>,
    /// Sent once guests have logged this.
    pub after: Option<String>,
}

/// What an upstream does with a request.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Reply {
    /// Status code.
    pub status: u16,
    /// `name: value`
    pub headers: Vec<String>,
    /// Content of known length.
    pub body: Option<Content>,
    /// Chunks; each is sent when guests have digested the one before.
    pub chunks: Vec<Content>,
    /// Trailers after the chunks.
    pub trailers: Vec<String>,
    /// Heads that go before, with their empty lines.
    pub before: String,
    /// Everything, instead of all above; the connection ends after it.
    pub raw: Option<String>,
    /// Ends the connection without a word.
    pub drops: bool,
    /// Never says anything.
    pub silent: bool,
}

/// What a gRPC server does with a call. Messages are plain content here.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GrpcReply {
    /// HTTP status.
    pub status: u16,
    /// Initial metadata, `name: value`.
    pub headers: Vec<String>,
    /// Sent once the request has ended, each when guests have digested what came before.
    pub messages: Vec<Content>,
    /// Trailing metadata, `grpc-status` included.
    pub trailers: Vec<String>,
    /// Answers each message with itself as soon as it comes.
    pub echo: bool,
    /// Does not wait for the end of the request.
    pub at_once: bool,
    /// Head and trailers are one block.
    pub trailers_only: bool,
    /// Resets the call after its messages, instead of trailers.
    pub resets: bool,
    /// Never says anything.
    pub silent: bool,
}

impl Default for GrpcReply {
    fn default() -> Self {
        Self {
            status: 200,
            headers: Vec::new(),
            messages: Vec::new(),
            trailers: vec!["grpc-status: 0".into()],
            echo: false,
            at_once: false,
            trailers_only: false,
            resets: false,
            silent: false,
        }
    }
}

fn probe() -> String {
    "probe".into()
}

impl Default for Request {
    fn default() -> Self {
        Self {
            method: "GET".into(),
            path: "/".into(),
            headers: Vec::new(),
            body: None,
            chunks: Vec::new(),
            trailers: Vec::new(),
            chunked: false,
            known_length: false,
            http10: false,
            http2: false,
            hangs: false,
            leaves_at: None,
            after: None,
        }
    }
}

impl Default for Reply {
    fn default() -> Self {
        Self {
            status: 200,
            headers: Vec::new(),
            body: Some(Content::Text("hello".into())),
            chunks: Vec::new(),
            trailers: Vec::new(),
            before: String::new(),
            raw: None,
            drops: false,
            silent: false,
        }
    }
}

impl Request {
    /// Whether its body is framed as chunks.
    pub fn is_chunked(&self) -> bool {
        !self.known_length && (self.chunked || !self.chunks.is_empty())
    }
}

impl Case {
    /// The hostname of its requests.
    pub fn host(&self) -> String {
        format!("{}.test", self.case)
    }

    /// Name of the filter at this place.
    pub fn plugin_name(&self, at: usize) -> String {
        format!("{}-{at}", self.case)
    }

    /// The VM id of the filter at this place.
    pub fn vm_id(&self, at: usize) -> String {
        match &self.plugins[at].vm_id {
            Some(id) => format!("{}-{id}", self.case),
            None => self.plugin_name(at),
        }
    }

    /// The root id of the filter at this place. Filters that share a VM have one, since Envoy names root contexts by it in the log.
    pub fn root_id(&self, at: usize) -> String {
        let plugin = &self.plugins[at];
        match (plugin.root_id.as_str(), &plugin.vm_id) {
            ("", None) => String::new(),
            ("", Some(_)) => self.plugin_name(at),
            (id, _) => format!("{}-{id}", self.plugin_name(at)),
        }
    }

    /// A text of the case with `$case` replaced by its name.
    pub fn placed(&self, text: &str) -> String {
        text.replace("$case", &self.case)
    }

    /// A configuration as the guest gets it.
    pub fn config(&self, value: &Value) -> String {
        match value {
            Value::String(text) => self.placed(text),
            other => self.placed(&other.to_string()),
        }
    }

    /// The configuration of the filter at this place, if it has one.
    pub fn plugin_config(&self, at: usize) -> Option<String> {
        let plugin = &self.plugins[at];
        let value = plugin.script.as_ref().or(plugin.config.as_ref())?;
        Some(self.config(value))
    }

    /// The upstream of the cluster `callout-<case>`, if the case has one.
    pub async fn start_callout(&self, journal: &Arc<Journal>) -> Option<Upstream> {
        let plugins: Vec<String> = (0..self.plugins.len())
            .map(|at| self.plugin_name(at))
            .collect();
        if !self.grpc.is_empty() {
            Some(Upstream::grpc(self.grpc.clone(), journal.clone(), plugins).await)
        } else if !self.callout.is_empty() {
            Some(Upstream::start(self.callout.clone(), journal.clone(), plugins).await)
        } else {
            None
        }
    }

    /// Brings the short form into the long one.
    fn completed(mut self) -> Self {
        if let Some(script) = self.script.take() {
            self.plugins.insert(0, Plugin::probe(script));
        }
        if self.requests.is_empty() {
            self.requests.push(Request::default());
        }
        if self.upstream.is_empty() {
            self.upstream.push(Reply::default());
        }
        self
    }
}

impl Plugin {
    fn probe(script: Value) -> Self {
        Self {
            module: probe(),
            script: Some(script),
            config: None,
            vm_id: None,
            vm_config: None,
            root_id: String::new(),
            open: false,
            wait_for_body: false,
            env: BTreeMap::new(),
        }
    }
}

/// All cases of a folder, by file and in their order there.
///
/// # Panics
/// When a file cannot be read or understood; the message names it.
pub fn read(folder: &Path) -> Vec<Case> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("an entry of the folder").path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "yaml")
        })
        .collect();
    files.sort();
    let cases = files.iter().flat_map(|path| {
        let text = std::fs::read_to_string(path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let cases: Vec<Case> = serde_saphyr::from_str(&text)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        cases
    });
    cases.map(Case::completed).collect()
}
