//! The command line.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::bail;
use clap::error::ErrorKind;
use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use ipnet::IpNet;

use crate::filter::Filter;
use crate::kubernetes::Kubernetes;
use crate::oneline::Chain;

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
#[command(override_usage = "tidegate explain --manifests <PATH>... <URL> [OPTIONS]")]
pub(crate) struct Explain {
    #[command(flatten)]
    pub(crate) asked: Asked,
    #[command(flatten)]
    pub(crate) binding: Binding,
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

/// What is asked, and of which manifests. The URL stands alone, or behind the values of `--manifests`.
pub(crate) struct Asked {
    pub(crate) manifests: Manifests,
    pub(crate) url: http::Uri,
}

/// The same as clap reads it: `--manifests` takes every value behind it.
#[derive(Args)]
struct Given {
    #[command(flatten)]
    manifests: Manifests,
    /// The request's URL, of http or https; tls://name:port, tcp://any:port and udp://any:port ask about streams.
    #[arg(value_name = "URL")]
    url: Option<http::Uri>,
}

#[derive(Args)]
#[command(
    override_usage = "tidegate proxy --listen <ADDR:PORT> --to <URL> [--filter <FILE|BUILTIN> [--config <JSON>]]... [OPTIONS]"
)]
pub(crate) struct OneLine {
    /// Where to listen.
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) listen: SocketAddr,
    /// Where requests go, as http://127.0.0.1:3000.
    #[arg(long, value_name = "URL")]
    pub(crate) to: http::Uri,
    #[command(flatten)]
    pub(crate) chain: Chain,
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

// === impl Binding ===

impl Binding {
    /// The port map as a map, if the ports can be told apart.
    ///
    /// # Errors
    /// Ports of which nobody could say what is served there.
    pub(crate) fn ports(&self) -> anyhow::Result<BTreeMap<u16, u16>> {
        for (option, port) in [
            ("--http-port", self.http_port),
            ("--https-port", self.https_port),
        ] {
            if port == 0 {
                bail!(
                    "{option} 0: ports are 1 to 65535; name the one that is bound, as {option} 8080"
                );
            }
        }
        if self.http_port == self.https_port {
            bail!(
                "--http-port and --https-port are both {}; Ingress traffic in the clear and over TLS need a port each",
                self.http_port
            );
        }
        let mut ports = BTreeMap::new();
        for PortMap { listener, bound } in &self.port_map {
            if let Some(other) = ports.insert(*listener, *bound)
                && other != *bound
            {
                bail!(
                    "--port-map {listener}:{other},{listener}:{bound}: listener port {listener} is mapped twice; leave one of them out"
                );
            }
        }
        let mut taken = BTreeMap::new();
        for (listener, bound) in &ports {
            if let Some(other) = taken.insert(bound, listener) {
                bail!(
                    "--port-map {other}:{bound},{listener}:{bound}: two listener ports are mapped to port {bound}; give each a bound port of its own"
                );
            }
        }
        Ok(ports)
    }
}

// === impl Asked ===

impl Asked {
    fn wrong(message: &str) -> clap::Error {
        wrong_usage::<Explain>("tidegate explain", message)
    }

    /// The last value of `--manifests` with a scheme: no path has one.
    fn url_among(paths: &mut Vec<PathBuf>) -> Result<http::Uri, clap::Error> {
        let is_url = |path: &PathBuf| path.to_string_lossy().contains("://");
        let Some(at) = paths.iter().rposition(is_url) else {
            return Err(Self::wrong(
                "the URL of the request is missing: write it behind the manifests, as http://shop.example.com/cart",
            ));
        };
        let text = paths.remove(at).to_string_lossy().into_owned();
        if paths.is_empty() {
            return Err(Self::wrong(&format!(
                "--manifests {text}: this is the URL of the request; the files or folders of manifests are missing before it"
            )));
        }
        text.parse::<http::Uri>()
            .map_err(|error| Self::wrong(&format!("{text}: this is no URL: {error}")))
    }
}

impl FromArgMatches for Asked {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut given = Given::from_arg_matches(matches)?;
        let url = match given.url {
            Some(url) => url,
            None => Self::url_among(&mut given.manifests.manifests)?,
        };
        Ok(Self {
            manifests: given.manifests,
            url,
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for Asked {
    fn augment_args(command: clap::Command) -> clap::Command {
        Given::augment_args(command)
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Given::augment_args_for_update(command)
    }
}

/// What a command of this name and these arguments says of wrong usage that clap itself cannot tell.
pub(crate) fn wrong_usage<A: Args>(command: &'static str, message: &str) -> clap::Error {
    let mut command = A::augment_args(clap::Command::new(command));
    clap::Error::raw(ErrorKind::ArgumentConflict, message).format(&mut command)
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

    fn explained(arguments: &[&str]) -> Result<Explain, clap::Error> {
        let all = ["tidegate", "explain"].iter().chain(arguments);
        match Arguments::try_parse_from(all)?.command {
            Command::Explain(explain) => Ok(explain),
            _ => panic!("another command"),
        }
    }

    #[test]
    fn the_url_stands_anywhere() {
        const URL: &str = "http://shop.example.com:8080/admin?a=b";
        for arguments in [
            &["--manifests", "a", "b", URL][..],
            &[URL, "--manifests", "a", "b"],
            &["--manifests", "a", "b", "-X", "POST", URL],
            &["--manifests", "a", "b", URL, "-H", "a: b", "-o", "json"],
            &["--manifests", "a", "b", "--", URL],
            &["--manifests", "a", URL, "--manifests", "b"],
            &["--manifests", "a", "--manifests=b", URL],
        ] {
            let read =
                explained(arguments).unwrap_or_else(|error| panic!("{arguments:?}: {error}"));
            assert_eq!(read.asked.url, URL, "{arguments:?}");
            let paths = read.asked.manifests.manifests;
            assert_eq!(
                paths,
                [PathBuf::from("a"), PathBuf::from("b")],
                "{arguments:?}"
            );
        }
        // A host by itself is a URL where it stands alone; behind --manifests it may as well be a folder.
        let alone = ["shop.example.com", "--manifests", "a"];
        assert!(explained(&alone).is_ok());
        for (arguments, said) in [
            (
                &["--manifests", "a"][..],
                "the URL of the request is missing",
            ),
            (
                &["--manifests", "a", "b"],
                "the URL of the request is missing",
            ),
            (&["--manifests", URL], "manifests are missing before it"),
            (
                &["--manifests", "a", "http://a b/"],
                "http://a b/: this is no URL",
            ),
            (&[URL], "--manifests <PATH>..."),
        ] {
            let error = explained(arguments).err().expect("wrong usage");
            assert_eq!(error.exit_code(), 2, "{arguments:?}");
            let text = error.to_string();
            assert!(text.contains(said), "{said:?} is not in {text}");
            assert!(
                text.contains("Usage: tidegate explain --manifests"),
                "{text}"
            );
        }
    }

    #[test]
    fn ports_are_told_apart() {
        let ports = |arguments: &[&str]| {
            let all = [&["http://a/", "--manifests", "a"], arguments].concat();
            explained(&all).expect("it is read").binding.ports()
        };
        let good = ports(&[
            "--port-map",
            "80:8080,443:8443,80:8080",
            "--http-port",
            "80",
        ]);
        assert_eq!(
            good.expect("it is good"),
            BTreeMap::from([(80, 8080), (443, 8443)])
        );
        for (arguments, said) in [
            (
                &["--http-port", "8080", "--https-port", "8080"][..],
                "--http-port and --https-port are both 8080",
            ),
            (
                &["--http-port", "8443"],
                "--http-port and --https-port are both 8443",
            ),
            (&["--http-port", "0"], "--http-port 0"),
            (&["--https-port", "0"], "--https-port 0"),
            (
                &["--port-map", "80:80,80:81"],
                "--port-map 80:80,80:81: listener port 80",
            ),
            (
                &["--port-map", "80:8080", "--port-map", "81:8080"],
                "--port-map 80:8080,81:8080: two listener ports",
            ),
        ] {
            let error = ports(arguments).expect_err("wrong usage").to_string();
            assert!(error.contains(said), "{said:?} is not in {error}");
        }
    }
}
