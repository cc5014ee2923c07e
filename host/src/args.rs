//! The command line.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use ipnet::IpNet;

use crate::filter::Filter;
use crate::kubernetes::Kubernetes;

/// Kubernetes ingress and Gateway API host whose per-route policy is portable WebAssembly.
#[derive(Parser)]
#[command(name = "tidegate", version, about, max_term_width = 110)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Serve what a folder of manifests or a cluster says.
    Serve(Box<Serve>),
    /// Translate and load everything, and say what is wrong. No sockets, and no network unless --fetch.
    Check(Check),
    /// Say which route, filters and backend a request would get, and why.
    Explain(Explain),
    /// One line, no manifests: forward everything to one place, past filters.
    Proxy(OneLine),
    /// Test and look into filter modules.
    Filter(Filter),
    /// A demo backend: answers with what it received.
    Echo(Echo),
    /// Print the custom resource definitions of tidegate.dev.
    Crds,
    /// Print completions for a shell.
    Completions {
        /// Which shell.
        shell: Shell,
    },
}

/// Where manifests are.
#[derive(Args, Clone)]
pub(crate) struct Manifests {
    /// Files and folders of manifests.
    #[arg(long, num_args = 1.., required = true, value_name = "PATH")]
    pub(crate) manifests: Vec<PathBuf>,
}

/// What decides where listeners are bound.
#[derive(Args, Clone)]
pub(crate) struct Binding {
    /// Default address of listeners. Repeatable.
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0")]
    pub(crate) bind: Vec<IpAddr>,
    /// Listener port to bound port, as 80:8080,443:8443.
    #[arg(long, value_name = "PORT:PORT", value_delimiter = ',')]
    pub(crate) port_map: Vec<PortMap>,
    /// Port of Ingress traffic in the clear.
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    pub(crate) http_port: u16,
    /// Port of Ingress traffic over TLS.
    #[arg(long, value_name = "PORT", default_value_t = 8443)]
    pub(crate) https_port: u16,
    /// The name by which classes choose this controller.
    #[arg(long, value_name = "NAME", default_value = "tidegate.dev/controller")]
    pub(crate) controller_name: String,
    /// Read annotations of ingress-nginx (nginx.ingress.kubernetes.io/*) on Ingresses of all our classes, and not only of those whose
    /// GatewayConfig says ingressNginxAnnotations.
    #[arg(long)]
    pub(crate) ingress_nginx_annotations: bool,
}

#[derive(Args)]
pub(crate) struct Serve {
    /// Files and folders of manifests.
    #[arg(
        long,
        num_args = 1..,
        required_unless_present = "kubernetes",
        value_name = "PATH"
    )]
    pub(crate) manifests: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) kubernetes: Kubernetes,
    #[command(flatten)]
    pub(crate) binding: Binding,
    #[command(flatten)]
    pub(crate) process: Process,
}

/// Options of every command that serves.
#[derive(Args, Clone)]
pub(crate) struct Process {
    /// Address of the admin pages, or "off". They tell the whole configuration: keep them private.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:9901")]
    pub(crate) admin: AddressOrOff,
    /// Address of /healthz, /readyz and /metrics alone, or "off" [default: off, and 0.0.0.0:8081 in a cluster].
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) health: Option<AddressOrOff>,
    /// Where the access log goes: stdout, a file, or "off".
    #[arg(long, value_name = "stdout|FILE|off", default_value = "stdout")]
    pub(crate) access_log: String,
    /// Data-plane threads; one per core unless given.
    #[arg(long, value_name = "N")]
    pub(crate) workers: Option<usize>,
    /// Proxies in front of us whose X-Forwarded-* headers count.
    #[arg(long, value_name = "N", conflicts_with = "trusted_proxies")]
    pub(crate) trusted_hops: Option<usize>,
    /// Networks whose X-Forwarded-* headers count.
    #[arg(long, value_name = "CIDR", num_args = 1.., value_delimiter = ',')]
    pub(crate) trusted_proxies: Vec<IpNet>,
    /// Seconds that connections have to end after SIGTERM.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub(crate) drain: u64,
}

#[derive(Args)]
pub(crate) struct Check {
    #[command(flatten)]
    pub(crate) manifests: Manifests,
    #[command(flatten)]
    pub(crate) binding: Binding,
    /// Fetch modules that are elsewhere, and load them too.
    #[arg(long)]
    pub(crate) fetch: bool,
    /// What to print.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

#[derive(Args)]
pub(crate) struct Explain {
    #[command(flatten)]
    pub(crate) manifests: Manifests,
    #[command(flatten)]
    pub(crate) binding: Binding,
    /// The request's URL.
    pub(crate) url: http::Uri,
    /// Method.
    #[arg(
        short = 'X',
        long = "method",
        value_name = "METHOD",
        default_value = "GET"
    )]
    pub(crate) method: http::Method,
    /// Header, as 'name: value'. Repeatable.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    pub(crate) headers: Vec<Header>,
    /// What to print.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

#[derive(Args)]
pub(crate) struct OneLine {
    /// Where to listen.
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) listen: SocketAddr,
    /// Where requests go, as http://127.0.0.1:3000.
    #[arg(long, value_name = "URL")]
    pub(crate) to: http::Uri,
    /// A filter: a bundled one by name, or a module file. Repeatable, in order.
    #[arg(long, value_name = "FILE|BUILTIN")]
    pub(crate) filter: Vec<String>,
    /// Configuration of the filter at the same place. Repeatable.
    #[arg(long, value_name = "JSON")]
    pub(crate) config: Vec<String>,
    #[command(flatten)]
    pub(crate) process: Process,
}

#[derive(Args)]
pub(crate) struct Echo {
    /// Where to listen.
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) listen: SocketAddr,
    /// What the answer calls this backend.
    #[arg(long, default_value = "echo")]
    pub(crate) name: String,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Text,
    /// The JSON of the admin page of that name.
    Json,
}

/// `80:8080`
#[derive(Clone, Copy, Debug)]
pub(crate) struct PortMap {
    pub(crate) listener: u16,
    pub(crate) bound: u16,
}

/// An address, or nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AddressOrOff(pub(crate) Option<SocketAddr>);

/// `name: value`
#[derive(Clone, Debug)]
pub(crate) struct Header(pub(crate) http::HeaderName, pub(crate) http::HeaderValue);

impl FromStr for PortMap {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (listener, bound) = text
            .split_once(':')
            .ok_or("expected LISTENER-PORT:BOUND-PORT, as 80:8080")?;
        let port = |text: &str| text.parse().map_err(|error| format!("{text:?}: {error}"));
        Ok(Self {
            listener: port(listener)?,
            bound: port(bound)?,
        })
    }
}

impl FromStr for AddressOrOff {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self(None));
        }
        text.parse()
            .map(|address| Self(Some(address)))
            .map_err(|error| format!("{error}; expected ADDR:PORT or off"))
    }
}

impl FromStr for Header {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once(':').ok_or("expected 'name: value'")?;
        let name = name
            .trim()
            .parse()
            .map_err(|error| format!("{name:?}: {error}"))?;
        let value = value
            .trim()
            .parse()
            .map_err(|error| format!("{value:?}: {error}"))?;
        Ok(Self(name, value))
    }
}

/// Prints completions on standard output.
pub(crate) fn print_completions(shell: Shell) {
    clap_complete::generate(
        shell,
        &mut Arguments::command(),
        "tidegate",
        &mut std::io::stdout(),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn options_are_read() {
        let read = Arguments::try_parse_from([
            "tidegate",
            "serve",
            "--manifests",
            "a",
            "b",
            "--port-map",
            "80:8080,443:8443",
            "--admin",
            "off",
        ]);
        let Ok(Arguments {
            command: Command::Serve(serve),
        }) = read
        else {
            panic!("not read")
        };
        assert_eq!(serve.manifests.len(), 2);
        assert_eq!(serve.binding.port_map[1].bound, 8443);
        assert!(serve.process.admin.0.is_none());
        assert!("80".parse::<PortMap>().is_err());
    }
}
