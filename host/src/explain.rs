//! Which route, filters and backend a request would get, and what nearly matched: for a folder, and for the running gateway.

use std::fmt::Write as _;

use anyhow::bail;
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use serde_json::{Value, json};
use tidegate_model::{
    Filter, Listener, ListenerHost, Protocol, RequestHead, RouteQuery, Snapshot, Streams, path,
};

use crate::args::{Explain, Output};
use crate::{FINE, REFUSED, check};

/// Schemes of URLs that can be asked about.
const SCHEMES: [&str; 5] = ["http", "https", "tls", "tcp", "udp"];
/// Routes that are listed although they do not match.
const MOST_NEAR: usize = 20;

/// Nothing is run here, so the answer holds for requests that these filters leave as they are.
const LISTENER_FILTERS: &str = "the listener's own filters, which come first, run before the route is chosen and may change what it is chosen by";

/// A request as far as routing looks at it.
pub(crate) struct Question {
    pub(crate) url: Uri,
    pub(crate) method: Method,
    pub(crate) headers: HeaderMap,
}

/// `tidegate explain`
pub(crate) fn run(arguments: &Explain) -> anyhow::Result<u8> {
    let asked = &arguments.asked;
    let checked = check::translate(&asked.manifests, &arguments.binding, check::Load::Used)?;
    let mut headers = HeaderMap::new();
    for header in &arguments.headers {
        headers.append(header.0.clone(), header.1.clone());
    }
    let question = Question {
        url: asked.url.clone(),
        method: arguments.method.clone(),
        headers,
    };
    let answer = explain(&checked.translation.snapshot, &question)?;
    match arguments.output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&answer)?),
        Output::Text => print!("{}", text(&answer)),
    }
    Ok(if answer["route"].is_null() {
        REFUSED
    } else {
        FINE
    })
}

/// The answer as JSON, as the admin page gives it.
pub(crate) fn explain(snapshot: &Snapshot, question: &Question) -> anyhow::Result<Value> {
    if let Some(scheme) = question.url.scheme_str()
        && !SCHEMES.contains(&scheme)
    {
        bail!(
            "{}: nothing here speaks {scheme}; a URL begins with one of {}",
            question.url,
            SCHEMES.map(|scheme| format!("{scheme}://")).join(", ")
        );
    }
    if let Some(protocol) = stream_protocol(&question.url) {
        return explain_stream(snapshot, &question.url, protocol);
    }
    let head = head(question)?;
    let Some(listener) = listener(snapshot, &question.url) else {
        let known: Vec<_> = snapshot
            .listeners
            .iter()
            .map(|l| format!("{:?} {}", l.protocol, l.port))
            .collect();
        return Ok(json!({"listener": null, "route": null, "why": format!(
            "no listener has this port and protocol; there are: {}", known.join(", "))}));
    };
    let bind = json!({"bind": listener.bind, "port": listener.port, "protocol": listener.protocol});
    let name = head.host().to_ascii_lowercase();
    let host = listener.hosts.find(&name);
    if let Some(host) = host
        && let Some(streams) = &host.streams
    {
        return Ok(stream_answer(&bind, host, streams, &name));
    }
    if matches!(question.method, Method::CONNECT | Method::TRACE) {
        let why = format!(
            "{} is refused with 405 (method_not_allowed), whatever the route",
            question.method
        );
        return Ok(json!({"listener": bind, "route": null, "why": why}));
    }
    let Some(host) = host else {
        return Ok(
            json!({"listener": bind, "route": null, "why": format!("no listener here has the hostname {name}")}),
        );
    };
    let query = RouteQuery {
        head: &head,
        path: path::canonical(head.path.path()),
    };
    let near = near(host, &name, &query);
    let note = (!host.filters.is_empty()).then_some(LISTENER_FILTERS);
    let Some(entry) = host.find(&name, &query) else {
        let filters: Vec<Value> = host.filters.iter().map(filter).collect();
        return Ok(
            json!({"listener": bind, "listeners": host.names, "route": null, "why": "no route matches", "note": note,
                "filters": filters, "near": near}),
        );
    };
    let rule = &entry.rule;
    let filters = host.filters.iter().chain(&rule.filters);
    let filters: Vec<Value> = filters.map(filter).collect();
    let backends: Vec<Value> = rule.backends.iter().map(|backend| json!(backend)).collect();
    Ok(json!({
        "listener": bind,
        "listeners": host.names,
        "route": rule.origin.to_string(),
        "match": entry.matches,
        "note": note,
        "filters": filters,
        "backends": backends,
        "near": near,
    }))
}

/// What `tls://name:port`, `tcp://…` and `udp://…` ask about: connections and datagrams that nobody reads.
fn stream_protocol(url: &Uri) -> Option<Protocol> {
    match url.scheme_str()? {
        "tls" => Some(Protocol::Tls),
        "tcp" => Some(Protocol::Tcp),
        "udp" => Some(Protocol::Udp),
        _ => None,
    }
}

fn explain_stream(snapshot: &Snapshot, url: &Uri, protocol: Protocol) -> anyhow::Result<Value> {
    let (Some(name), Some(port)) = (url.host(), url.port_u16()) else {
        bail!("{url}: the URL needs a name and a port, as tls://db.example.com:443");
    };
    let fits = |listener: &Listener| match protocol {
        Protocol::Tls => listener.protocol.is_tls(),
        other => listener.protocol == other,
    };
    let all = || snapshot.listeners.iter().filter(|listener| fits(listener));
    let found = all()
        .find(|listener| listener.port == port)
        .or_else(|| all().find(|listener| listener.bind.port() == port));
    let Some(listener) = found else {
        let known: Vec<_> = all().map(|listener| listener.port.to_string()).collect();
        return Ok(json!({"listener": null, "route": null, "why": format!(
            "no listener has this port and protocol; there are: {}", known.join(", "))}));
    };
    let bind = json!({"bind": listener.bind, "port": listener.port, "protocol": listener.protocol});
    // TCP and UDP have no names.
    let name = match protocol {
        Protocol::Tls => name.to_ascii_lowercase(),
        _ => String::new(),
    };
    let Some(host) = listener.hosts.find(&name) else {
        return Ok(
            json!({"listener": bind, "route": null, "why": format!("no listener here has the hostname {name}")}),
        );
    };
    Ok(match &host.streams {
        Some(streams) => stream_answer(&bind, host, streams, &name),
        None => json!({"listener": bind, "listeners": host.names, "route": null,
            "why": "requests are read here: ask with https://"}),
    })
}

fn stream_answer(bind: &Value, host: &ListenerHost, streams: &Streams, name: &str) -> Value {
    let Some(rule) = streams.find(name) else {
        return json!({"listener": bind, "listeners": host.names, "tls": streams.tls, "route": null,
            "why": "no route takes connections here"});
    };
    json!({
        "listener": bind,
        "listeners": host.names,
        "tls": streams.tls,
        "route": rule.origin.to_string(),
        "backends": rule.backends,
    })
}

fn head(question: &Question) -> anyhow::Result<RequestHead> {
    let url = &question.url;
    let Some(authority) = url.authority() else {
        bail!("{url}: the URL needs a host, as http://shop.example.com/cart");
    };
    let mut headers = question.headers.clone();
    let host = headers.remove(http::header::HOST);
    let given = url.path_and_query().map_or("/", PathAndQuery::as_str);
    let (path, search) = given
        .split_once('?')
        .map_or((given, None), |(path, query)| (path, Some(query)));
    let resolved = match path::resolve(path) {
        Ok(resolved) => resolved,
        Err(error) => bail!(
            "{url}: the path would be refused with 400 ({})",
            error.as_str()
        ),
    };
    let target = search.map_or_else(
        || resolved.to_string(),
        |query| format!("{resolved}?{query}"),
    );
    Ok(RequestHead {
        method: question.method.clone(),
        scheme: url.scheme().cloned().unwrap_or(Scheme::HTTP),
        authority: host.map_or_else(|| HeaderValue::from_str(authority.as_str()), Ok)?,
        path: target.parse()?,
        headers,
    })
}

/// The listener of a URL: its port as Gateways name it, or as it is bound; else the only one of the protocol.
fn listener<'a>(snapshot: &'a Snapshot, url: &Uri) -> Option<&'a Listener> {
    let https = url.scheme() == Some(&Scheme::HTTPS);
    let protocol = if https {
        Protocol::Https
    } else {
        Protocol::Http
    };
    let port = url.port_u16().unwrap_or(if https { 443 } else { 80 });
    let all = || {
        snapshot
            .listeners
            .iter()
            .map(|listener| &**listener)
            .filter(|l| l.protocol == protocol || (https && l.protocol.is_tls()))
    };
    let by_port = all()
        .find(|l| l.port == port)
        .or_else(|| all().find(|l| l.bind.port() == port));
    by_port.or_else(|| {
        all()
            .next()
            .filter(|_| url.port_u16().is_none() && all().count() == 1)
    })
}

fn near(host: &ListenerHost, name: &str, query: &RouteQuery<'_>) -> Vec<Value> {
    host.routes
        .matching(name)
        .flat_map(|table| table.iter())
        .filter_map(|entry| {
            let why = entry.matches.first_mismatch(query)?;
            Some(json!({"route": entry.rule.origin.to_string(), "why": why}))
        })
        .take(MOST_NEAR)
        .collect()
}

fn filter(filter: &Filter) -> Value {
    match filter {
        Filter::Wasm(spec) => {
            json!({"wasm": spec.id, "module": spec.module, "failurePolicy": spec.failure_policy})
        }
        other => json!(other),
    }
}

fn text(answer: &Value) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let plain = |value: &Value| {
        value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned)
    };
    for key in [
        "listener",
        "listeners",
        "tls",
        "route",
        "match",
        "why",
        "note",
    ] {
        if let Some(value) = answer.get(key).filter(|value| !value.is_null()) {
            let _ = writeln!(out, "{key:<10}{}", plain(value));
        }
    }
    for (key, one) in [
        ("filters", "filter"),
        ("backends", "backend"),
        ("near", "not"),
    ] {
        for value in answer[key].as_array().into_iter().flatten() {
            let line = match (key, value.get("route"), value.get("why")) {
                ("near", Some(route), Some(why)) => format!("{}: {}", plain(route), plain(why)),
                _ => plain(value),
            };
            let _ = writeln!(out, "{one:<10}{line}");
        }
    }
    out
}

/// The question that the admin page's query asks: `method`, `url`, `header=name:value`.
pub(crate) fn question(query: &str) -> anyhow::Result<Question> {
    let mut url = None;
    let mut method = Method::GET;
    let mut headers = HeaderMap::new();
    for (key, value) in form(query) {
        match key.as_str() {
            "url" => url = Some(value.parse()?),
            "method" => method = value.parse()?,
            "header" => {
                let Some((name, value)) = value.split_once(':') else {
                    bail!("header={value}: expected name:value")
                };
                headers.append(name.trim().parse::<HeaderName>()?, value.trim().parse()?);
            }
            other => bail!("unknown parameter {other}; there are url, method and header"),
        }
    }
    let Some(url) = url else {
        bail!("the parameter url is missing")
    };
    Ok(Question {
        url,
        method,
        headers,
    })
}

/// `application/x-www-form-urlencoded` pairs.
fn form(query: &str) -> impl Iterator<Item = (String, String)> {
    let decode = |text: &str| {
        let text = text.replace('+', " ");
        let mut out = Vec::with_capacity(text.len());
        let mut rest = text.as_bytes();
        while let Some((byte, tail)) = rest.split_first() {
            let hex = (*byte == b'%')
                .then(|| tail.get(..2))
                .flatten()
                .and_then(|hex| std::str::from_utf8(hex).ok());
            if let Some(decoded) = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
                out.push(decoded);
                rest = &tail[2..];
            } else {
                out.push(*byte);
                rest = tail;
            }
        }
        String::from_utf8_lossy(&out).into_owned()
    };
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(move |(key, value)| (decode(key), decode(value)))
        .collect::<Vec<_>>()
        .into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(url: &str) -> Value {
        answered(&format!("url={url}")).expect("an answer")
    }

    /// What the admin page of this query says.
    fn answered(query: &str) -> anyhow::Result<Value> {
        let folder = tempfile::tempdir().expect("a folder");
        let manifest = "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gw}
spec:
  gatewayClassName: tidegate
  listeners:
  - {name: tls, port: 443, protocol: TLS, hostname: '*.test', tls: {mode: Passthrough}}
  - {name: tcp, port: 5432, protocol: TCP}
  - {name: http, port: 80, protocol: HTTP}
  - name: changed
    port: 81
    protocol: HTTP
    filters: {requests: [{type: ExtensionRef, extensionRef: {group: tidegate.dev, kind: Filter, name: f}}]}
---
apiVersion: tidegate.dev/v1alpha1
kind: Filter
metadata: {name: f}
spec: {module: {builtin: headers}, config: {request: {set: {X-Env: b}}}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: h}
spec:
  parentRefs: [{name: gw}]
  rules: [{backendRefs: [{name: absent, port: 80}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: TLSRoute
metadata: {name: s}
spec:
  parentRefs: [{name: gw}]
  hostnames: [a.test]
  rules: [{backendRefs: [{name: absent, port: 80}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {name: t}
spec:
  parentRefs: [{name: gw}]
  rules: [{backendRefs: [{name: absent, port: 80}]}]
";
        std::fs::write(folder.path().join("all.yaml"), manifest).expect("written");
        let resources = tidegate_controller::manifests::Manifests::new([folder.path()])
            .reload()
            .resources;
        let translation = tidegate_controller::translate::translate(
            &resources,
            &tidegate_model::FilterVerdicts::new(),
            &tidegate_controller::translate::Options::default(),
        );
        let question = question(query).expect("a question");
        explain(&translation.snapshot, &question)
    }

    #[test]
    fn methods_that_are_refused_have_no_route() {
        for (method, route) in [
            ("GET", json!("HTTPRoute default/h rule 0")),
            ("CONNECT", Value::Null),
            ("TRACE", Value::Null),
        ] {
            let answer =
                answered(&format!("method={method}&url=http://a.test/")).expect("an answer");
            assert_eq!(answer["route"], route, "{answer}");
            let why = answer["why"].as_str().unwrap_or_default();
            let refused = format!("{method} is refused with 405 (method_not_allowed)");
            assert_eq!(why.contains(&refused), route.is_null(), "{answer}");
        }
        // Nobody reads the method of a connection that is passed on.
        let passed = answered("method=TRACE&url=https://a.test/").expect("an answer");
        assert_eq!(passed["route"], "TLSRoute default/s rule 0");
    }

    #[test]
    fn filters_of_the_listener_come_first_and_are_told() {
        assert_eq!(asked("http://a.test/")["note"], Value::Null);
        let changed = asked("http://a.test:81/");
        assert_eq!(changed["note"], LISTENER_FILTERS);
        assert_eq!(changed["filters"][0]["wasm"], "default/f", "{changed}");
    }

    #[test]
    fn schemes_are_known() {
        assert_eq!(
            answered("url=a.test").expect("an answer")["route"],
            "HTTPRoute default/h rule 0",
            "without a scheme it is http"
        );
        let error = answered("url=ftp://a.test/")
            .expect_err("not known")
            .to_string();
        for word in ["ftp", "http://", "https://", "tls://", "tcp://", "udp://"] {
            assert!(error.contains(word), "{word} is not in {error}");
        }
    }

    #[test]
    fn streams_are_explained_too() {
        for url in ["tls://a.test:443", "https://A.test/"] {
            let answer = asked(url);
            assert_eq!(answer["route"], "TLSRoute default/s rule 0", "{url}");
            assert_eq!(answer["tls"], "Passthrough");
        }
        assert_eq!(
            asked("tcp://any:5432")["route"],
            "TCPRoute default/t rule 0"
        );
        for (url, why) in [
            ("tls://b.test:443", "no route takes connections here"),
            (
                "tls://b.example:443",
                "no listener here has the hostname b.example",
            ),
            (
                "udp://any:5432",
                "no listener has this port and protocol; there are: ",
            ),
        ] {
            assert_eq!(asked(url)["why"], why, "{url}");
        }
    }
}
