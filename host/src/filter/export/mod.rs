//! `tidegate filter export`: the configuration that loads the same filter in another host.
//!
//! | | module | configuration | places it may call |
//! |---|---|---|---|
//! | Envoy | a file | any text | `clusters` |
//! | Istio | an image, or a file in the proxy's container | a JSON object | an EnvoyFilter that adds them |
//! | Envoy Gateway | an image | JSON | an EnvoyPatchPolicy that adds them |

mod envoy;
mod envoy_gateway;
mod istio;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde_json::{Value, json};

use super::arguments::{Export, Host};
use crate::FINE;

/// Schemes by which images are named.
const IMAGE: &str = "oci://";
/// Group of the kinds of the Gateway API.
const GATEWAY_API: &str = "gateway.networking.k8s.io";

/// Prints it.
pub(crate) fn run(arguments: &Export) -> anyhow::Result<u8> {
    let filter = Filter::read(arguments)?;
    let documents = match arguments.to {
        Host::Envoy => vec![envoy::configuration(&filter)?],
        Host::Istio => istio::objects(&filter)?,
        Host::EnvoyGateway => envoy_gateway::objects(&filter)?,
    };
    println!("{}", head(arguments.to, &filter));
    for (at, document) in documents.iter().enumerate() {
        if at > 0 {
            println!("---");
        }
        print!("{}", yaml(document)?);
    }
    Ok(FINE)
}

fn head(to: Host, filter: &Filter) -> String {
    let namespace = match filter.target_kind() {
        "Gateway" if to == Host::Istio => "the namespace of the gateway",
        "GatewayClass" => "Istio's root namespace (istio-system unless it was changed)",
        _ => "the namespace of the target",
    };
    let apply = format!("# For kubectl apply, in {namespace}.");
    match (to, &filter.module) {
        (Host::Envoy, _) => {
            "# http_filters: before the router's in the HttpConnectionManager. clusters: in static_resources.".to_owned()
        }
        (Host::Istio, Source::File(_)) => format!(
            "{apply} The file has to be in the containers of its proxies under this path."
        ),
        (Host::EnvoyGateway, _) if !filter.clusters.is_empty() => format!(
            "{apply} An EnvoyPatchPolicy has to be enabled in Envoy Gateway's configuration."
        ),
        (Host::Istio | Host::EnvoyGateway, _) => apply,
    }
}

/// Block style, texts of several lines as they are.
fn yaml(value: &Value) -> anyhow::Result<String> {
    serde_saphyr::to_string(value).context("the configuration cannot be written as YAML")
}

/// What is exported.
pub(super) struct Filter {
    pub(super) name: String,
    pub(super) module: Source,
    pub(super) config: Option<String>,
    pub(super) clusters: Vec<Cluster>,
    target: Option<String>,
    namespace: Option<String>,
    pub(super) root_id: String,
    pub(super) fail_open: bool,
    pub(super) headers_wait_for_body: bool,
}

/// Where the module is.
pub(super) enum Source {
    /// A file, absolute.
    File(PathBuf),
    /// An image, without a scheme.
    Image(String),
}

/// A place that the filter calls.
pub(super) struct Cluster {
    pub(super) name: String,
    host: String,
    port: u16,
}

impl Filter {
    fn read(arguments: &Export) -> anyhow::Result<Self> {
        let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if arguments.name.is_empty() || !arguments.name.bytes().all(is_name) {
            bail!(
                "--name {:?}: use lower-case letters, digits and hyphens, as require-team",
                arguments.name
            );
        }
        let config = match &arguments.config {
            Some(path) => Some(
                std::fs::read_to_string(path)
                    .with_context(|| format!("--config {}: it cannot be read", path.display()))?,
            ),
            None => None,
        };
        Ok(Self {
            name: arguments.name.clone(),
            module: Source::find(&arguments.module)?,
            config: config.map(|config| config.trim_end().to_owned()),
            clusters: arguments
                .cluster
                .iter()
                .map(|text| Cluster::parse(text))
                .collect::<Result<_, _>>()?,
            target: arguments.target.clone(),
            namespace: arguments.namespace.clone(),
            root_id: arguments.root_id.clone(),
            fail_open: arguments.fail_open,
            headers_wait_for_body: arguments.headers_wait_for_body,
        })
    }

    /// The configuration as JSON; nothing where there is none.
    fn json(&self) -> Option<Result<Value, serde_json::Error>> {
        self.config.as_deref().map(serde_json::from_str)
    }

    fn metadata(&self, name: &str) -> Value {
        let mut metadata = json!({"name": name});
        if let Some(namespace) = &self.namespace {
            metadata["namespace"] = json!(namespace);
        }
        metadata
    }

    fn target_kind(&self) -> &str {
        let target = self.target.as_deref().and_then(|it| it.split_once('/'));
        target.map_or("Gateway", |(kind, _)| kind)
    }

    /// The object whose requests pass the filter: a Gateway unless its kind is said.
    ///
    /// # Errors
    /// One that is none of `kinds`: those that `policy` may name, with their groups.
    fn target(&self, policy: &str, kinds: &[(&str, &str)]) -> anyhow::Result<Option<Value>> {
        let Some(target) = self.target.as_deref() else {
            return Ok(None);
        };
        let name = target.split_once('/').map_or(target, |(_, name)| name);
        if name.is_empty() || name.contains('/') {
            bail!(
                "--target {target:?}: expected NAME of a Gateway or KIND/NAME, as Gateway/public"
            );
        }
        let kind = self.target_kind();
        let Some((_, group)) = kinds.iter().find(|(known, _)| *known == kind) else {
            let known: Vec<_> = kinds.iter().map(|(kind, _)| *kind).collect();
            bail!(
                "--target {target}: {policy} cannot name a {kind:?}; it takes {}",
                known.join(", ")
            );
        };
        Ok(Some(json!({"group": group, "kind": kind, "name": name})))
    }
}

impl Source {
    fn find(module: &str) -> anyhow::Result<Self> {
        if let Some(image) = module.strip_prefix(IMAGE) {
            return Ok(Self::Image(image.to_owned()));
        }
        if tidegate_filters::get(module).is_some() && !Path::new(module).exists() {
            bail!(
                "{module}: a bundled filter has no file here; its page, filters/{module}/README.md, shows the configuration for Envoy"
            );
        }
        match std::fs::read(module) {
            Ok(bytes) => {
                check(module, &bytes)?;
                let path = std::fs::canonicalize(module).with_context(|| module.to_owned())?;
                Ok(Self::File(path))
            }
            // registry.example/team/filter:1, registry.example/team/filter@sha256:…
            Err(_) if is_reference(module) => Ok(Self::Image(module.to_owned())),
            Err(error) => Err(error).with_context(|| {
                format!("{module}: neither a file that can be read nor a reference to an image; {IMAGE}… names an image in any case")
            }),
        }
    }
}

/// Envoy and whatever is made of it load proxy-wasm modules alone, of the versions that this host loads.
fn check(name: &str, bytes: &[u8]) -> anyhow::Result<()> {
    if !bytes.starts_with(b"\0asm") {
        bail!("{name}: this is no WebAssembly module");
    }
    if bytes.get(4..8) != Some(&[1, 0, 0, 0]) {
        bail!(
            "{name}: this is a WebAssembly component, which Envoy does not load, nor do Istio and Envoy Gateway; export the module that \
             `tidegate filter build` makes of the same source"
        );
    }
    if let Err(error) = tidegate_modules::check(bytes) {
        bail!("{name}: no host would load it: {error}");
    }
    Ok(())
}

/// Whether a text names an image: its first part is a server, and it has a tag or a digest.
fn is_reference(text: &str) -> bool {
    let Some((server, rest)) = text.split_once('/') else {
        return false;
    };
    let is_server = server == "localhost" || server.contains(['.', ':']);
    is_server && !server.starts_with('.') && rest.contains([':', '@'])
}

impl Cluster {
    fn parse(text: &str) -> anyhow::Result<Self> {
        let wrong =
            || format!("--cluster {text:?}: expected NAME=HOST:PORT, as authz=authz.example:9000");
        let (name, place) = text.split_once('=').with_context(wrong)?;
        let (host, port) = place.rsplit_once(':').with_context(wrong)?;
        let port = port
            .parse()
            .ok()
            .filter(|port| *port > 0)
            .with_context(wrong)?;
        if name.is_empty() || host.is_empty() {
            bail!(wrong());
        }
        Ok(Self {
            name: name.to_owned(),
            host: host.trim_matches(['[', ']']).to_owned(),
            port,
        })
    }

    /// `envoy.config.cluster.v3.Cluster`
    fn envoy(&self) -> Value {
        let address = json!({"socket_address": {"address": self.host, "port_value": self.port}});
        json!({
            "name": self.name,
            "type": if self.host.parse::<std::net::IpAddr>().is_ok() { "STATIC" } else { "STRICT_DNS" },
            "connect_timeout": "5s",
            "load_assignment": {
                "cluster_name": self.name,
                "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
            },
        })
    }
}

#[cfg(test)]
mod tests;
