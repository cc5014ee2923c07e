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
    let permanent = place(reader, "permanent-redirect", "permanent-redirect-code", 301);
    let temporal = place(reader, "temporal-redirect", "temporal-redirect-code", 302);
    let tls = match (
        reader.flag("force-ssl-redirect"),
        reader.flag("ssl-redirect"),
    ) {
        (Some(true), _) => ToTls::Always,
        (_, Some(false)) => ToTls::Never,
        _ => ToTls::WithCertificate,
    };
    Redirects {
        // Of both, ingress-nginx takes the temporal one.
        to: temporal.or(permanent),
        app_root: reader.text("app-root").map(str::to_owned),
        tls,
    }
}

fn place(
    reader: &mut Reader<'_>,
    name: &'static str,
    code: &'static str,
    default: u16,
) -> Option<(String, u16)> {
    let status = reader.text(code).and_then(|code| code.parse().ok());
    let to = reader.text(name)?;
    if variables::has_variables(to) {
        reader.wrong(name, &format!("{to:?} has a variable, which ingress-nginx takes no longer; write the whole URL, or use a Filter of the bundled module redirect"));
        return None;
    }
    Some((to.to_owned(), status.unwrap_or(default)))
}

impl Redirects {
    /// The filter redirect for what happens before anything else.
    pub(super) fn first(&self) -> Option<Value> {
        let mut rules = Vec::new();
        if let Some((to, status)) = &self.to {
            rules.push(json!({"to": literal(to), "status": status}));
        } else if let Some(root) = &self.app_root {
            let to = format!(
                "${{request.scheme}}://${{request.authority}}{}",
                literal(root)
            );
            rules.push(json!({"match": {"path": "^/$"}, "to": to, "status": 302}));
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

/// Text that stands for itself in a template.
fn literal(text: &str) -> String {
    text.replace('$', "$$")
}
