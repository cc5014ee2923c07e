//! The command line of `tidegate filter`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use tidegate_controller::api::duration;

use crate::args::Output;

/// `tidegate filter`
#[derive(Args)]
pub(crate) struct Filter {
    #[command(subcommand)]
    pub(crate) command: FilterCommand,
}

#[derive(Subcommand)]
pub(crate) enum FilterCommand {
    /// Write a filter of your own: a crate with policy, schema, cases and tests, and the SDK that it needs.
    New(New),
    /// Compile a filter: a proxy-wasm module for Tidegate and Envoy, or a component for Tidegate.
    Build(Build),
    /// Measure what a filter costs: time for each request, memory of a VM, time to compile.
    Bench(Bench),
    /// Print the configuration that loads the same filter elsewhere.
    Export(Export),
    /// Run the cases of a filter on the production engine, with its limits on, and in a real Envoy if asked to.
    Test(Test),
    /// Say what a module or component is, what it needs, and whether this host would load it.
    Inspect(Inspect),
    /// Put a filter into an OCI registry, where Filters and other hosts find it.
    Push(Push),
    /// Get a filter out of an OCI registry, verified as a Filter gets it.
    Pull(Pull),
}

/// `tidegate filter new`
#[derive(Args)]
pub(crate) struct New {
    /// Its name: words of lower-case letters and digits with hyphens between them.
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// Where it is written: a folder that is empty or not there yet [default: the name, in the current folder].
    #[arg(long, value_name = "DIR")]
    pub(crate) path: Option<PathBuf>,
    /// Use the SDK of this folder, relative to the new one, rather than a copy: for several filters in one repository.
    #[arg(long, value_name = "DIR")]
    pub(crate) sdk: Option<PathBuf>,
}

/// `tidegate filter build`
#[derive(Args)]
pub(crate) struct Build {
    /// Make a component (wasm32-wasip2) rather than a proxy-wasm module (wasm32-wasip1).
    #[arg(long)]
    pub(crate) component: bool,
    /// The filter's folder, where Cargo.toml is [default: the current folder].
    #[arg(long, value_name = "DIR")]
    pub(crate) path: Option<PathBuf>,
    /// What to print.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

/// `tidegate filter bench`
#[derive(Args)]
pub(crate) struct Bench {
    /// A module or component, or a bundled filter by name.
    #[arg(value_name = "FILE|BUILTIN")]
    pub(crate) module: String,
    /// A file with its configuration.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// A case of its cases.yaml: its configuration, its request, and answers to the calls that it makes, without a network.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["method", "target", "headers"])]
    pub(crate) case: Option<String>,
    /// Where the case is, if it is not beside the module.
    #[arg(long, value_name = "FILE", requires = "case")]
    pub(crate) cases: Option<PathBuf>,
    /// Requests that are measured, in each way.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) requests: u32,
    /// Method of the requests.
    #[arg(short = 'X', long, value_name = "METHOD", default_value = "GET")]
    pub(crate) method: http::Method,
    /// Path and query of the requests.
    #[arg(long, value_name = "PATH", default_value = "/products/17?page=2")]
    pub(crate) target: http::uri::PathAndQuery,
    /// A header of the requests, as 'name: value'. Repeatable.
    #[arg(short = 'H', long = "header", value_name = "HEADER")]
    pub(crate) headers: Vec<String>,
    /// What to print.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

/// `tidegate filter export`
#[derive(Args)]
pub(crate) struct Export {
    /// The module: a file, or a reference to an image, as oci://registry.example/team/filter:1.
    #[arg(value_name = "FILE|REFERENCE")]
    pub(crate) module: String,
    /// Whose configuration is printed.
    #[arg(long, value_enum)]
    pub(crate) to: Host,
    /// Its name there.
    #[arg(long, value_name = "NAME")]
    pub(crate) name: String,
    /// A file with its configuration.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// A place that it may call, by the name by which it knows it. Repeatable.
    #[arg(long, value_name = "NAME=HOST:PORT")]
    pub(crate) cluster: Vec<String>,
    /// The Gateway whose requests pass it, in Istio and Envoy Gateway; or another object that they know, as HTTPRoute/shop in Envoy
    /// Gateway and Service/shop in Istio.
    #[arg(long, value_name = "[KIND/]NAME")]
    pub(crate) target: Option<String>,
    /// The root context that the module registers under this name, if it is one of several (rootId of a Filter).
    #[arg(long, value_name = "ID", default_value = "")]
    pub(crate) root_id: String,
    /// Namespace of the objects, in Istio and Envoy Gateway.
    #[arg(long, value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,
    /// Pass requests on where the filter cannot run, rather than refuse them.
    #[arg(long)]
    pub(crate) fail_open: bool,
    /// It holds heads back until bodies are there (headersWaitForBody of a Filter). For Envoy.
    #[arg(long)]
    pub(crate) headers_wait_for_body: bool,
}

/// Hosts that load proxy-wasm modules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Host {
    /// An entry of http_filters, and clusters, for a configuration file.
    Envoy,
    /// A WasmPlugin.
    Istio,
    /// An EnvoyExtensionPolicy.
    EnvoyGateway,
}

/// `tidegate filter test`
#[derive(Args)]
pub(crate) struct Test {
    /// What is tested: a folder with a module and its cases.yaml, a module with cases.yaml beside it, or a bundled filter by name
    /// [default: the current folder].
    #[arg(value_name = "PATH|BUILTIN", conflicts_with = "bundled")]
    pub(crate) filters: Vec<String>,
    /// Every bundled filter.
    #[arg(long)]
    pub(crate) bundled: bool,
    /// The cases, if they are elsewhere. For one filter.
    #[arg(long, value_name = "FILE")]
    pub(crate) cases: Option<PathBuf>,
    /// Run the same cases in this Envoy too, and show what differs side by side.
    #[arg(long, value_name = "PATH")]
    pub(crate) envoy: Option<PathBuf>,
    /// Run only cases whose name holds this text.
    #[arg(long, value_name = "TEXT")]
    pub(crate) only: Option<String>,
    /// `limits.callTimeout` of the Filter, such as 50ms [default: the bundled filter's own, or 10ms].
    #[arg(long, value_name = "DURATION", value_parser = call_timeout)]
    pub(crate) call_timeout: Option<String>,
    /// Run nothing: count the cases, and where each can be run.
    #[arg(long, conflicts_with = "envoy")]
    pub(crate) list: bool,
    /// What to print.
    #[arg(short, long, value_enum, default_value_t = Report::Text)]
    pub(crate) output: Report,
}

/// Forms of a test's report.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Report {
    /// For people.
    Text,
    /// For programs.
    Json,
    /// A table of the counts.
    Markdown,
}

/// `tidegate filter inspect`
#[derive(Args)]
pub(crate) struct Inspect {
    /// A module or component, or a bundled filter by name.
    #[arg(value_name = "FILE|BUILTIN")]
    pub(crate) module: String,
    /// What to print.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

/// How a registry is reached, and who asks.
#[derive(Args)]
pub(crate) struct Registry {
    /// Who asks [default: whom docker login has left in $DOCKER_CONFIG/config.json or ~/.docker/config.json, else nobody].
    #[arg(long, value_name = "NAME", requires = "password_stdin")]
    pub(crate) username: Option<String>,
    /// Read the password, or an access token, from standard input.
    #[arg(long, requires = "username")]
    pub(crate) password_stdin: bool,
    /// Authorities that vouch for the registry, PEM, and no others [default: those that browsers trust].
    #[arg(long, value_name = "FILE", conflicts_with = "plain_http")]
    pub(crate) ca: Option<PathBuf>,
    /// Speak HTTP without TLS.
    #[arg(long)]
    pub(crate) plain_http: bool,
}

/// `tidegate filter push`
#[derive(Args)]
pub(crate) struct Push {
    /// A module or component.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Where it goes, as oci://registry.example/team/filter:1.
    #[arg(value_name = "REFERENCE")]
    pub(crate) image: String,
    /// How it lies there [default: compat for modules, cncf for components].
    #[arg(long, value_enum)]
    pub(crate) layout: Option<PushLayout>,
    #[command(flatten)]
    pub(crate) registry: Registry,
    /// What to print.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

/// Layouts of images.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PushLayout {
    /// An image with plugin.wasm in it, which Istio and Envoy Gateway load.
    Compat,
    /// The artifact of the CNCF, which tools for components load.
    Cncf,
}

/// `tidegate filter pull`
#[derive(Args)]
pub(crate) struct Pull {
    /// Where it is, as oci://registry.example/team/filter:1 or …/filter@sha256:….
    #[arg(value_name = "REFERENCE")]
    pub(crate) image: String,
    /// The file that is written [default: the last part of the name and .wasm, in the current folder].
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) registry: Registry,
}

/// `limits.callTimeout` of a Filter, by the rules of the field.
fn call_timeout(text: &str) -> Result<String, String> {
    if duration::parse(text)?.is_zero() {
        return Err("it has to be greater than zero, such as 50ms".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn call_timeouts_are_those_of_a_filter() {
        for text in ["1ms", "50ms", "1s500ms"] {
            assert_eq!(call_timeout(text).as_deref(), Ok(text));
        }
        for text in ["", "x", "10", "0s", "0ms", "-1s"] {
            assert!(call_timeout(text).is_err(), "{text}");
        }
    }
}
