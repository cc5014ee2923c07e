//! `permanent-redirect`, `temporal-redirect` with their codes, `app-root`, `ssl-redirect`, `force-ssl-redirect`.

use serde_json::{Value, json};

use super::reader::Reader;
use super::variables;

/// Where certificate issuers ask over plain HTTP (RFC 8555 section 8.3).
pub(super) const ACME: &str = "/.well-known/acme-challenge/";

/// What answers with a redirect.
#[derive(Debug)]
pub(super) struct Redirects {
    /// To another place, whatever is asked for.
    to: Option<(String, u16)>,
    app_root: Option<String>,
    pub(super) tls: ToTls,
}

/// When requests in the clear are sent to TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ToTls {
    Never,
    /// Where the host has a certificate: ingress-nginx's default.
    WithCertificate,
    Always,
}

pub(super) fn read(reader: &mut Reader<'_>) -> Redirects {
    let to = to(reader);
    let tls = match (
        reader.flag("force-ssl-redirect"),
        reader.flag("ssl-redirect"),
    ) {
        (Some(true), _) => ToTls::Always,
        (_, Some(false)) => ToTls::Never,
        _ => ToTls::WithCertificate,
    };
    Redirects {
        to,
        app_root: reader.text("app-root").map(str::to_owned),
        tls,
    }
}

/// Where everything is sent. Of both annotations ingress-nginx takes the temporal one, and then asks nothing of the other.
fn to(reader: &mut Reader<'_>) -> Option<(String, u16)> {
    const TEMPORAL: &str = "temporal-redirect";
    if reader.raw(TEMPORAL).is_none() {
        let status = status(reader, "permanent-redirect-code", 301, 308);
        let to = place(reader, "permanent-redirect")?;
        return Some((to.to_owned(), status));
    }
    let status = status(reader, "temporal-redirect-code", 302, 307);
    let to = place(reader, TEMPORAL)?;
    if to.starts_with('/') {
        reader.ignore(
            TEMPORAL,
            &format!("{to:?} is no absolute URL; write https://host/path"),
        );
        return None;
    }
    Some((to.to_owned(), status))
}

fn place<'a>(reader: &mut Reader<'a>, name: &'static str) -> Option<&'a str> {
    let to = reader.text(name)?;
    if variables::has_variables(to) {
        reader.wrong(name, &format!("{to:?} has a variable, which ingress-nginx takes no longer; write the whole URL, or use a Filter of the bundled module redirect"));
        return None;
    }
    Some(to)
}

/// The status of a redirect; the default for what is above the last one of its kind, or no redirect's at all.
fn status(reader: &mut Reader<'_>, name: &'static str, default: u16, last: u16) -> u16 {
    let Some(code) = reader.integer(name) else {
        return default;
    };
    let known = [301, 302, 303, 307, 308];
    let mut known = known.into_iter().filter(|status| *status <= last);
    match known.find(|status| i64::from(*status) == code) {
        Some(status) => status,
        None => {
            reader.warn(name, &format!("{code} is none of the statuses of such a redirect, so it is {default}; write 301, 302, 303 or 307{}", if last == 308 { ", or 308" } else { "" }));
            default
        }
    }
}

impl Redirects {
    /// The filter redirect for what happens before anything else.
    pub(super) fn first(&self) -> Option<Value> {
        let mut rules = Vec::new();
        if let Some((to, status)) = &self.to {
            let to = match to.starts_with('/') {
                true => on_this_host(to),
                false => literal(to),
            };
            rules.push(json!({"to": to, "status": status}));
        } else if let Some(root) = &self.app_root {
            rules.push(json!({"match": {"path": "^/$"}, "to": on_this_host(root), "status": 302}));
        }
        (!rules.is_empty()).then(|| json!({"rules": rules, "except": [ACME]}))
    }
}

/// The filter redirect for requests in the clear. A proxy that is trusted may say that the client came over TLS.
pub(super) fn to_tls(https_port: u16) -> Value {
    let port = match https_port {
        443 => String::new(),
        port => format!(":{port}"),
    };
    // Like ingress-nginx's, without one slash at the end.
    let to = format!("https://${{request.host}}{port}${{request.target|noslash}}");
    json!({
        "rules": [{"match": {"scheme": "http"}, "to": to, "status": 308}],
        "except": [ACME], "forwardedProto": true,
    })
}

/// The filter redirect between `example.com` and `www.example.com`.
pub(super) fn to_host(host: &str) -> Value {
    let to = format!("${{request.scheme}}://{host}${{request.target|noslash}}");
    json!({"rules": [{"to": to, "status": 308}], "except": [ACME]})
}

/// nginx writes a path as a whole URL.
fn on_this_host(path: &str) -> String {
    format!(
        "${{request.scheme}}://${{request.authority}}{}",
        literal(path)
    )
}

/// Text that stands for itself in a template.
fn literal(text: &str) -> String {
    text.replace('$', "$$")
}
