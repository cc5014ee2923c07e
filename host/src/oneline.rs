//! `tidegate proxy`: one line, no manifests. It writes the manifests that say the same, and serves those: one way through everything.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener};

use anyhow::{Context, bail};
use clap::{ArgMatches, Args, FromArgMatches};
use serde_json::{Value, json};
use tidegate_controller::translate::Options;

use crate::args::{OneLine, wrong_usage};
use crate::serve;
use crate::source::Origin;

/// `[--filter FILE|BUILTIN [--config JSON]]…`: what requests pass, in order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Chain(Vec<Link>);

/// A filter, and the configuration that is written behind it.
#[derive(Debug, PartialEq, Eq)]
struct Link {
    filter: String,
    config: Option<String>,
}

/// The same as clap reads it: the order among several options is in their indices alone.
#[derive(Args)]
struct Given {
    /// A filter: a bundled one by name, or a module file. Repeatable, in order.
    #[arg(long, value_name = "FILE|BUILTIN")]
    filter: Vec<String>,
    /// Configuration of the --filter that it follows: JSON, or any text that the filter reads.
    #[arg(long, value_name = "JSON")]
    config: Vec<String>,
}

/// Runs until SIGTERM or SIGINT.
pub(crate) fn run(arguments: &OneLine) -> anyhow::Result<u8> {
    let objects = manifests(arguments)?;
    require_free(arguments.listen)?;
    let folder = tempfile::tempdir().context("no folder for the manifests")?;
    let path = folder.path().join("proxy.json");
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    std::fs::write(&path, serde_json::to_vec_pretty(&list)?)?;
    let options = Options {
        bind: vec![arguments.listen.ip()],
        ..Options::default()
    };
    let origin = Origin::Files(vec![folder.path().to_owned()]);
    serve::serve(origin, options, &arguments.process, None)
}

/// One line has nothing else to serve while it waits for a port, as a folder of manifests has.
fn require_free(listen: SocketAddr) -> anyhow::Result<()> {
    // Here `[::]` would take the addresses of IPv4 too, and the data plane's does not.
    if listen.ip() != IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        TcpListener::bind(listen).with_context(|| {
            format!("--listen {listen}: cannot listen there; free the port, or choose another")
        })?;
    }
    Ok(())
}

fn manifests(arguments: &OneLine) -> anyhow::Result<Vec<Value>> {
    let to = &arguments.to;
    let (Some(scheme), Some(host)) = (to.scheme_str(), to.host()) else {
        bail!("--to {to}: expected a URL, as http://127.0.0.1:3000");
    };
    if !matches!(scheme, "http" | "https") || !matches!(to.path(), "" | "/") {
        bail!("--to {to}: expected http:// or https://, a host and a port, without a path");
    }
    let port = to
        .port_u16()
        .unwrap_or(if scheme == "https" { 443 } else { 80 });
    let address: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
    let mut objects = vec![
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "proxy"},
            "spec": {"gatewayClassName": "tidegate",
                "listeners": [{"name": "http", "port": arguments.listen.port(), "protocol": "HTTP"}]}}),
    ];
    let service = json!({"name": "to", "port": port});
    match address {
        Some(address) => {
            let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
            objects.push(
                json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "to"},
                "spec": {"ports": [{"port": port}]}}),
            );
            objects.push(json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                "metadata": {"name": "to", "labels": {"kubernetes.io/service-name": "to"}},
                "addressType": family, "ports": [{"port": port}], "endpoints": [{"addresses": [address]}]}));
        }
        None => objects.push(
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "to"},
            "spec": {"type": "ExternalName", "externalName": host, "ports": [{"port": port}]}}),
        ),
    }
    if scheme == "https" {
        objects.push(
            json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "BackendTLSPolicy",
            "metadata": {"name": "to"},
            "spec": {"targetRefs": [{"group": "", "kind": "Service", "name": "to"}],
                "validation": {"hostname": host, "wellKnownCACertificates": "System"}}}),
        );
    }
    let mut references = Vec::new();
    for (at, link) in arguments.chain.0.iter().enumerate() {
        let name = format!("filter-{at}");
        objects.push(filter_object(&name, link)?);
        references.push(json!({"type": "ExtensionRef",
            "extensionRef": {"group": "tidegate.dev", "kind": "Filter", "name": name}}));
    }
    objects.push(json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "proxy"},
        "spec": {"parentRefs": [{"name": "proxy"}], "rules": [{"filters": references, "backendRefs": [service]}]}}));
    Ok(objects)
}

fn filter_object(name: &str, link: &Link) -> anyhow::Result<Value> {
    let filter = link.filter.as_str();
    let module = if tidegate_filters::get(filter).is_some() {
        json!({"builtin": filter})
    } else {
        let path = std::fs::canonicalize(filter).with_context(|| {
            format!("--filter {filter}: neither a bundled filter nor a file that can be read")
        })?;
        json!({"file": path})
    };
    let mut spec = json!({"module": module});
    if let Some(config) = &link.config {
        // What is JSON is passed as JSON; anything else as the text it is.
        spec["config"] =
            serde_json::from_str(config).unwrap_or_else(|_| Value::String(config.clone()));
    }
    Ok(
        json!({"apiVersion": "tidegate.dev/v1alpha1", "kind": "Filter", "metadata": {"name": name}, "spec": spec}),
    )
}

// === impl Chain ===

impl FromArgMatches for Chain {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let Given { filter, config } = Given::from_arg_matches(matches)?;
        let places = |id: &str| matches.indices_of(id).into_iter().flatten();
        let filters = places("filter").zip(filter);
        let configs = places("config").zip(config);
        let mut given: Vec<_> = filters
            .map(|(place, value)| (place, true, value))
            .chain(configs.map(|(place, value)| (place, false, value)))
            .collect();
        given.sort_unstable();
        let wrong = |message: &str| wrong_usage::<OneLine>("tidegate proxy", message);
        let mut links: Vec<Link> = Vec::new();
        for (_, is_filter, value) in given {
            if is_filter {
                links.push(Link {
                    filter: value,
                    config: None,
                });
                continue;
            }
            let Some(link) = links.last_mut() else {
                return Err(wrong(&format!(
                    "--config {value}: no --filter is before it; write it behind the filter that it is for"
                )));
            };
            if link.config.is_some() {
                return Err(wrong(&format!(
                    "--config {value}: --filter {} has a configuration already; leave one of them out",
                    link.filter
                )));
            }
            link.config = Some(value);
        }
        Ok(Self(links))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for Chain {
    fn augment_args(command: clap::Command) -> clap::Command {
        Given::augment_args(command)
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Given::augment_args_for_update(command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Arguments, Command};
    use clap::Parser;

    fn read(arguments: &[&str]) -> Result<OneLine, clap::Error> {
        let fixed = [
            "tidegate",
            "proxy",
            "--listen",
            "127.0.0.1:8080",
            "--to",
            "http://127.0.0.1:3000",
        ];
        match Arguments::try_parse_from(fixed.iter().chain(arguments))?.command {
            Command::Proxy(proxy) => Ok(proxy),
            _ => panic!("another command"),
        }
    }

    #[test]
    fn a_configuration_is_that_of_the_filter_before_it() {
        let link = |filter: &str, config: Option<&str>| Link {
            filter: filter.to_owned(),
            config: config.map(str::to_owned),
        };
        let good: [(&[&str], Vec<Link>); 4] = [
            (&[], vec![]),
            (
                &["--filter", "cors", "--filter", "rewrite", "--config", "{}"],
                vec![link("cors", None), link("rewrite", Some("{}"))],
            ),
            (
                &["--filter=cors", "--config={}", "--filter", "rewrite"],
                vec![link("cors", Some("{}")), link("rewrite", None)],
            ),
            (
                &[
                    "--filter", "cors", "--admin", "off", "--config", "1", "--filter", "cors",
                    "--config", "2",
                ],
                vec![link("cors", Some("1")), link("cors", Some("2"))],
            ),
        ];
        for (arguments, chain) in good {
            let read = read(arguments).unwrap_or_else(|error| panic!("{arguments:?}: {error}"));
            assert_eq!(read.chain, Chain(chain), "{arguments:?}");
        }
        for (arguments, said) in [
            (
                &["--config", "{}", "--filter", "cors"][..],
                "--config {}: no --filter is before it",
            ),
            (&["--config", "{}"], "--config {}: no --filter is before it"),
            (
                &["--filter", "cors", "--config", "1", "--config", "2"],
                "--config 2: --filter cors has a configuration already",
            ),
        ] {
            let error = read(arguments).err().expect("wrong usage");
            assert_eq!(error.exit_code(), 2, "{arguments:?}");
            let text = error.to_string();
            assert!(text.contains(said), "{said:?} is not in {text}");
            assert!(text.contains("Usage: tidegate proxy --listen"), "{text}");
        }
    }

    #[test]
    fn the_manifests_have_each_configuration_at_its_filter() {
        let arguments = read(&["--filter", "cors", "--filter", "headers", "--config", "{}"]);
        let objects = manifests(&arguments.expect("it is read")).expect("they are good");
        let filters: Vec<_> = objects
            .iter()
            .filter(|object| object["kind"] == "Filter")
            .map(|object| object["spec"].clone())
            .collect();
        let expected = [
            json!({"module": {"builtin": "cors"}}),
            json!({"module": {"builtin": "headers"}, "config": {}}),
        ];
        assert_eq!(filters, expected);
    }

    #[test]
    fn a_taken_port_is_told_at_once() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
        let mut arguments = read(&[]).expect("it is read");
        arguments.listen = taken.local_addr().expect("an address");
        let error = run(&arguments).expect_err("it is taken").to_string();
        assert!(
            error.contains("free the port, or choose another"),
            "{error}"
        );
    }
}
