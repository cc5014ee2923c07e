//! Many routes as manifests: one Gateway, a hundred Services, and for each hostname a file of HTTPRoutes, one for each path.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::{Value, json};
use tidegate_controller::api::{Age, Source};
use tidegate_controller::resources::{Resources, decode};

/// Routes share so many Services.
const SERVICES: usize = 100;
/// The header by which an edited route says which edit it has seen.
pub(crate) const EDITION: &str = "x-edition";

/// How many routes there are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fleet {
    /// Hostnames.
    pub(crate) hosts: usize,
    /// Routes under each hostname.
    pub(crate) routes: usize,
}

impl Fleet {
    /// How many routes there are in all.
    pub(crate) fn len(&self) -> usize {
        self.hosts * self.routes
    }

    /// A hostname by number.
    pub(crate) fn host(host: usize) -> String {
        format!("app-{host}.team-{}.example.com", host % 50)
    }

    /// The path of a route by number.
    pub(crate) fn path(route: usize) -> String {
        format!("/api/v1/service-{route}")
    }

    /// Writes the whole fleet; every endpoint is `backend` on 127.0.0.1, and the Gateway listens on `port`.
    pub(crate) fn write(&self, folder: &Path, port: u16, backend: u16) -> anyhow::Result<()> {
        write(&folder.join("base.yaml"), &documents(&base(port, backend)))?;
        for host in 0..self.hosts {
            self.write_host(folder, host, None)?;
        }
        Ok(())
    }

    /// Writes the file of one hostname, all at once as editors and mounts do. With an edition, the route of that number answers
    /// with it.
    pub(crate) fn write_host(
        &self,
        folder: &Path,
        host: usize,
        edition: Option<(usize, usize)>,
    ) -> anyhow::Result<()> {
        write(
            &Self::file(folder, host),
            &documents(&self.host_objects(host, edition)),
        )
    }

    /// Everything as typed objects, without files.
    pub(crate) fn resources(&self) -> anyhow::Result<Resources> {
        let mut resources = Resources::default();
        let mut objects = base(80, 3000);
        objects.extend((0..self.hosts).flat_map(|host| self.host_objects(host, None)));
        for object in &objects {
            let decoded = decode(object, Source::default(), Age::default())
                .context("a kind that is not read")?;
            resources.apply(decoded?);
        }
        Ok(resources)
    }

    fn file(folder: &Path, host: usize) -> PathBuf {
        folder.join(format!("app-{host}.yaml"))
    }

    fn host_objects(&self, host: usize, edition: Option<(usize, usize)>) -> Vec<Value> {
        (0..self.routes)
            .map(|route| {
                let edition = edition
                    .filter(|(edited, _)| *edited == route)
                    .map(|(_, edition)| edition);
                http_route(host, route, edition)
            })
            .collect()
    }
}

/// What all routes need.
fn base(port: u16, backend: u16) -> Vec<Value> {
    let gateway = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "fleet", "namespace": "default"},
        "spec": {"gatewayClassName": "tidegate", "listeners": [{"name": "http", "protocol": "HTTP", "port": port}]},
    });
    let services = (0..SERVICES).flat_map(|number| {
        let name = format!("service-{number}");
        [
            json!({
                "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"},
                "spec": {"ports": [{"port": 80}]},
            }),
            json!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                "metadata": {"name": name, "namespace": "default", "labels": {"kubernetes.io/service-name": name}},
                "ports": [{"port": backend}], "endpoints": [{"addresses": ["127.0.0.1"]}],
            }),
        ]
    });
    std::iter::once(gateway).chain(services).collect()
}

fn http_route(host: usize, route: usize, edition: Option<usize>) -> Value {
    let filters = edition.map_or(json!([]), |edition| {
        json!([{
            "type": "ResponseHeaderModifier",
            "responseHeaderModifier": {"set": [{"name": EDITION, "value": edition.to_string()}]},
        }])
    });
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": {"name": format!("app-{host}-{route}"), "namespace": "default"},
        "spec": {
            "parentRefs": [{"name": "fleet"}],
            "hostnames": [Fleet::host(host)],
            "rules": [{
                "matches": [{"path": {"type": "PathPrefix", "value": Fleet::path(route)}}],
                "filters": filters,
                "backendRefs": [{"name": format!("service-{}", (host + route) % SERVICES), "port": 80}],
            }],
        },
    })
}

/// A YAML stream in block style, as people write it, because that is what is parsed.
fn documents(objects: &[Value]) -> String {
    let mut text = String::new();
    for object in objects {
        text.push_str("---\n");
        yaml(object, 0, &mut text);
    }
    text
}

fn yaml(value: &Value, depth: usize, text: &mut String) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                text.push_str(&format!("{indent}{name}:"));
                nested(value, depth + 1, text);
            }
        }
        Value::Array(items) => {
            for item in items {
                text.push_str(&format!("{indent}-"));
                nested(item, depth + 1, text);
            }
        }
        scalar => text.push_str(&format!("{indent}{scalar}\n")),
    }
}

fn nested(value: &Value, depth: usize, text: &mut String) {
    let is_empty = value.as_array().is_some_and(Vec::is_empty)
        || value.as_object().is_some_and(serde_json::Map::is_empty);
    if is_empty || !(value.is_array() || value.is_object()) {
        // JSON's scalars and empty collections are YAML's.
        text.push_str(&format!(" {value}\n"));
    } else {
        text.push('\n');
        yaml(value, depth, text);
    }
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let put = || -> io::Result<()> {
        // A name that starts with a dot is not read.
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let new = path.with_file_name(format!(".{name}.new"));
        fs::write(&new, text)?;
        fs::rename(&new, path)
    };
    put().with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tidegate_controller::manifests::Manifests;
    use tidegate_controller::translate::{Options, translate};

    use super::*;

    #[test]
    fn files_and_objects_mean_the_same() {
        let fleet = Fleet {
            hosts: 3,
            routes: 2,
        };
        let folder = tempfile::tempdir().unwrap();
        fleet.write(folder.path(), 80, 3000).unwrap();
        let read = Manifests::new([folder.path()]).reload().resources;
        assert!(
            read.errors.is_empty() && read.rejected.is_empty(),
            "{:?} {:?}",
            read.errors,
            read.rejected
        );
        let options = Options {
            port_map: BTreeMap::from([(80, 0)]),
            ..Options::default()
        };
        let files = translate(&read, &BTreeMap::default(), &options).snapshot;
        let objects =
            translate(&fleet.resources().unwrap(), &BTreeMap::default(), &options).snapshot;
        let routes = |snapshot: &tidegate_model::Snapshot| serde_json::to_value(snapshot).unwrap();
        assert_eq!(routes(&files), routes(&objects));
    }
}
