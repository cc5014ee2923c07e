//! The table of names: every annotation of ingress-nginx, what its value is, what it concerns, what it becomes here, and what a
//! wrong value does. Whoever makes another one readable changes its row, adds the code that uses it, and puts cases into
//! `tests/golden/annotations/<name>` and `host/tests/annotations/<name>`; tests hold all of these together.

use std::fmt;

use super::values::Value;

/// An annotation of ingress-nginx.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    /// Behind the prefix.
    pub(crate) name: &'static str,
    /// What its value is.
    pub(crate) value: Value,
    /// What it concerns.
    pub(crate) scope: Scope,
    /// What it becomes.
    pub(crate) policy: &'static str,
    /// Whether it is read.
    pub(crate) state: State,
}

/// What an annotation concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// The paths of its own Ingress.
    Location,
    /// The host, and so the paths of other Ingresses, too.
    Server,
    /// The Service.
    Backend,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Location => "its paths",
            Self::Server => "the host",
            Self::Backend => "the backend",
        })
    }
}

/// Whether an annotation is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It is.
    Read {
        /// The first version that reads it.
        since: &'static str,
        /// What a wrong value does.
        wrong: Wrong,
    },
    /// Not yet.
    Unread {
        /// Whether it keeps somebody out, so that serving without it would let them in.
        guards: bool,
    },
}

/// What a wrong value does: what ingress-nginx does with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// It counts as absent.
    Ignored,
    /// Requests are answered 503.
    Denied,
    /// ingress-nginx drops the Ingress: requests are answered 404.
    Dropped,
}

/// The row of a name.
pub(crate) fn row(name: &str) -> Option<&'static Row> {
    TABLE.iter().find(|row| row.name == name)
}

/// Names that older versions of ingress-nginx had, with what to do instead.
pub(crate) const REMOVED: [(&str, &str); 10] = [
    ("global-rate-limit", "use limit-rps"),
    ("global-rate-limit-window", "use limit-rps or limit-rpm"),
    (
        "global-rate-limit-key",
        "use the filter rate-limit, whose keys are free",
    ),
    ("global-rate-limit-ignored-cidrs", "use limit-allowlist"),
    ("enable-opentracing", "use enable-opentelemetry"),
    ("secure-backends", "use backend-protocol: HTTPS"),
    ("secure-verify-ca-secret", "use a BackendTLSPolicy"),
    ("grpc-backend", "use backend-protocol: GRPC"),
    ("add-base-url", "let the application write relative links"),
    ("influxdb-enabled", "read /metrics"),
];

const SINCE: &str = "0.1";

const fn read(name: &'static str, value: Value, wrong: Wrong, policy: &'static str) -> Row {
    Row {
        name,
        value,
        scope: Scope::Location,
        policy,
        state: State::Read {
            since: SINCE,
            wrong,
        },
    }
}

const fn unread(name: &'static str, policy: &'static str) -> Row {
    Row {
        name,
        value: Value::Text,
        scope: Scope::Location,
        policy,
        state: State::Unread { guards: false },
    }
}

const fn guard(name: &'static str, policy: &'static str) -> Row {
    Row {
        state: State::Unread { guards: true },
        ..unread(name, policy)
    }
}

const fn on(scope: Scope, row: Row) -> Row {
    Row { scope, ..row }
}

use Scope::{Backend, Server};
use Wrong::{Denied, Dropped, Ignored};

/// All names, by name.
#[rustfmt::skip]
pub(crate) static TABLE: &[Row] = &[
    on(Backend, read("affinity", Value::Choice(&["cookie"]), Ignored, "session of the Service")),
    on(Backend, unread("affinity-canary-behavior", "session of the Service")),
    on(Backend, unread("affinity-mode", "session of the Service")),
    read("allowlist-source-range", Value::Addresses, Denied, "filter ip-acl: allow"),
    read("app-root", Value::Path, Ignored, "filter redirect: / to it with 302"),
    unread("auth-always-set-cookie", "filter ext-auth: alwaysSetCookie"),
    unread("auth-cache-duration", "filter ext-auth: cache.spans"),
    unread("auth-cache-key", "filter ext-auth: cache.key"),
    unread("auth-keepalive", "connections of clusters are always kept"),
    unread("auth-keepalive-requests", "connections of clusters are always kept"),
    unread("auth-keepalive-share-vars", "nothing: internals of nginx"),
    unread("auth-keepalive-timeout", "connections of clusters are always kept"),
    read("auth-method", Value::Method, Denied, "filter ext-auth: method"),
    unread("auth-proxy-set-headers", "filter ext-auth: setHeaders"),
    read("auth-realm", Value::Realm, Denied, "filter basic-auth: realm"),
    unread("auth-request-redirect", "filter ext-auth: requestRedirect"),
    read("auth-response-headers", Value::HeaderNames, Denied, "filter ext-auth: responseHeaders"),
    read("auth-secret", Value::Reference, Denied, "filter basic-auth: users"),
    read("auth-secret-type", Value::Choice(&["auth-file", "auth-map"]), Denied, "filter basic-auth: layout of users"),
    read("auth-signin", Value::Url, Denied, "filter ext-auth: signIn"),
    unread("auth-signin-redirect-param", "filter ext-auth: redirectParameter"),
    unread("auth-snippet", "nothing: configuration of nginx is never run"),
    on(Server, guard("auth-tls-error-page", "filter client-cert")),
    on(Server, guard("auth-tls-match-cn", "filter client-cert")),
    on(Server, unread("auth-tls-pass-certificate-to-upstream", "filter client-cert")),
    on(Server, guard("auth-tls-secret", "filter client-cert and the listener's authorities")),
    on(Server, guard("auth-tls-verify-client", "filter client-cert and the listener's authorities")),
    on(Server, unread("auth-tls-verify-depth", "the listener's authorities")),
    read("auth-type", Value::Choice(&["basic"]), Denied, "filter basic-auth"),
    read("auth-url", Value::Url, Denied, "filter ext-auth: url"),
    read("backend-protocol", Value::Choice(&["HTTP", "HTTPS", "AUTO_HTTP", "GRPC", "GRPCS"]), Ignored, "protocol of the backend"),
    read("canary", Value::Flag, Ignored, "route and weights beside the main Ingress's"),
    read("canary-by-cookie", Value::CookieName, Ignored, "route matches of the main Ingress's Service"),
    read("canary-by-header", Value::HeaderName, Ignored, "route matches of the main Ingress's Service"),
    read("canary-by-header-pattern", Value::Expression, Ignored, "route matches of the main Ingress's Service"),
    read("canary-by-header-value", Value::Text, Ignored, "route matches of the main Ingress's Service"),
    read("canary-weight", Value::Number, Ignored, "weights of the main Ingress's Service"),
    read("canary-weight-total", Value::Number, Ignored, "weights of the main Ingress's Service"),
    unread("client-body-buffer-size", "bodies are streamed"),
    read("configuration-snippet", Value::Snippet, Ignored, "filter headers: its header lines; nothing else of it is run"),
    unread("connection-proxy-header", "request headers"),
    read("cors-allow-credentials", Value::Flag, Ignored, "filter cors: allowCredentials"),
    read("cors-allow-headers", Value::HeaderNames, Ignored, "filter cors: allowHeaders"),
    read("cors-allow-methods", Value::Methods, Ignored, "filter cors: allowMethods"),
    read("cors-allow-origin", Value::Origins, Ignored, "filter cors: allowOrigins"),
    read("cors-expose-headers", Value::HeaderNames, Ignored, "filter cors: exposeHeaders"),
    read("cors-max-age", Value::Integer, Ignored, "filter cors: maxAge"),
    read("custom-headers", Value::Reference, Denied, "filter headers: response.set"),
    unread("custom-http-errors", "filter error-pages"),
    unread("default-backend", "fallback backend"),
    read("denylist-source-range", Value::Addresses, Denied, "filter ip-acl: deny"),
    unread("disable-proxy-intercept-errors", "filter error-pages"),
    unread("enable-access-log", "access log of the rule"),
    read("enable-cors", Value::Flag, Ignored, "filter cors"),
    unread("enable-global-auth", "filters of the class"),
    unread("enable-modsecurity", "a firewall filter"),
    unread("enable-opentelemetry", "tracing"),
    unread("enable-owasp-core-rules", "a firewall filter"),
    unread("enable-rewrite-log", "tidegate explain"),
    unread("fastcgi-index", "nothing: no FastCGI"),
    unread("fastcgi-params-configmap", "nothing: no FastCGI"),
    read("force-ssl-redirect", Value::Flag, Ignored, "filter redirect: to https with 308"),
    on(Server, read("from-to-www-redirect", Value::Flag, Ignored, "route of the other host, with filter redirect")),
    on(Server, unread("http2-push-preload", "nothing: browsers have dropped it")),
    unread("limit-allowlist", "filter rate-limit: exempt"),
    read("limit-burst-multiplier", Value::Positive, Ignored, "filter rate-limit: burst"),
    read("limit-connections", Value::Number, Dropped, "requests of a client at a time, by the host"),
    unread("limit-rate", "bandwidth of responses"),
    unread("limit-rate-after", "bandwidth of responses"),
    read("limit-rpm", Value::Number, Dropped, "filter rate-limit"),
    read("limit-rps", Value::Number, Dropped, "filter rate-limit"),
    unread("limit-whitelist", "filter rate-limit: exempt"),
    on(Backend, unread("load-balance", "annotation tidegate.dev/load-balancing of the Service")),
    unread("mirror-host", "mirror"),
    unread("mirror-request-body", "mirror"),
    unread("mirror-target", "mirror"),
    unread("modsecurity-snippet", "a firewall filter"),
    unread("modsecurity-transaction-id", "a firewall filter"),
    unread("opentelemetry-operation-name", "tracing"),
    unread("opentelemetry-trust-incoming-span", "tracing"),
    read("permanent-redirect", Value::Target, Dropped, "filter redirect"),
    read("permanent-redirect-code", Value::Integer, Dropped, "filter redirect: status"),
    unread("preserve-trailing-slash", "filter redirect"),
    read("proxy-body-size", Value::Size, Ignored, "filter body-limit"),
    unread("proxy-buffer-size", "heads of responses up to 256 KiB"),
    unread("proxy-buffering", "responses are streamed"),
    unread("proxy-buffers-number", "responses are streamed"),
    unread("proxy-busy-buffers-size", "responses are streamed"),
    read("proxy-connect-timeout", Value::Positive, Ignored, "timeouts of the rule: connect"),
    unread("proxy-cookie-domain", "filter cookie-rewrite"),
    unread("proxy-cookie-path", "filter cookie-rewrite"),
    unread("proxy-http-version", "appProtocol of the Service"),
    unread("proxy-max-temp-file-size", "nothing: no temporary files"),
    unread("proxy-next-upstream", "retries of the rule"),
    unread("proxy-next-upstream-timeout", "retries of the rule"),
    unread("proxy-next-upstream-tries", "retries of the rule"),
    read("proxy-read-timeout", Value::Positive, Ignored, "timeouts of the rule: read, a silence"),
    unread("proxy-redirect-from", "filter redirect: location"),
    unread("proxy-redirect-to", "filter redirect: location"),
    unread("proxy-request-buffering", "requests are streamed"),
    read("proxy-send-timeout", Value::Positive, Ignored, "timeouts of the rule: send, a silence"),
    on(Backend, unread("proxy-ssl-ciphers", "BackendTLSPolicy")),
    on(Backend, unread("proxy-ssl-name", "BackendTLSPolicy")),
    on(Backend, unread("proxy-ssl-protocols", "BackendTLSPolicy")),
    on(Backend, unread("proxy-ssl-secret", "BackendTLSPolicy")),
    on(Backend, unread("proxy-ssl-server-name", "BackendTLSPolicy")),
    on(Backend, guard("proxy-ssl-verify", "BackendTLSPolicy")),
    on(Backend, unread("proxy-ssl-verify-depth", "BackendTLSPolicy")),
    unread("relative-redirects", "filter redirect"),
    read("rewrite-target", Value::RewriteTarget, Denied, "filter rewrite"),
    unread("satisfy", "access lists and authentication must all pass"),
    on(Server, read("server-alias", Value::Hosts, Ignored, "hosts of the host's routes")),
    on(Server, guard("server-snippet", "nothing: configuration of nginx is never run")),
    on(Backend, unread("service-upstream", "endpoints are asked directly")),
    on(Backend, read("session-cookie-change-on-failure", Value::Flag, Ignored, "sessions always move when their endpoint fails")),
    on(Backend, read("session-cookie-conditional-samesite-none", Value::Flag, Ignored, "session: SameSite by browser")),
    on(Backend, read("session-cookie-domain", Value::CookieText, Ignored, "session: Domain")),
    on(Backend, read("session-cookie-expires", Value::Number, Ignored, "session: Expires")),
    on(Backend, read("session-cookie-max-age", Value::Number, Ignored, "session: Max-Age")),
    on(Backend, read("session-cookie-name", Value::CookieName, Ignored, "session: name")),
    on(Backend, read("session-cookie-path", Value::CookieText, Ignored, "session: Path")),
    on(Backend, read("session-cookie-samesite", Value::Choice(&["None", "Lax", "Strict"]), Ignored, "session: SameSite")),
    on(Backend, read("session-cookie-secure", Value::Flag, Ignored, "session: Secure")),
    on(Server, unread("ssl-ciphers", "TLS of the listener")),
    on(Server, unread("ssl-passthrough", "TLSRoute")),
    on(Server, unread("ssl-prefer-server-ciphers", "TLS of the listener")),
    read("ssl-redirect", Value::Flag, Ignored, "filter redirect: to https with 308 where the host has a certificate"),
    on(Server, unread("stream-snippet", "nothing: configuration of nginx is never run")),
    read("temporal-redirect", Value::Target, Dropped, "filter redirect"),
    read("temporal-redirect-code", Value::Integer, Dropped, "filter redirect: status"),
    on(Backend, unread("upstream-hash-by", "load balancing of the Service")),
    on(Backend, unread("upstream-hash-by-subset", "load balancing of the Service")),
    on(Backend, unread("upstream-hash-by-subset-size", "load balancing of the Service")),
    read("upstream-vhost", Value::Host, Ignored, "URL rewrite: hostname"),
    unread("use-port-in-redirects", "filter redirect"),
    on(Server, read("use-regex", Value::Flag, Ignored, "all paths of the host as expressions")),
    read("whitelist-source-range", Value::Addresses, Denied, "filter ip-acl: allow; the older name of allowlist-source-range"),
    unread("x-forwarded-prefix", "request headers"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_order_and_once() {
        assert!(TABLE.is_sorted_by(|a, b| a.name < b.name), "order");
        // 136 names of the documentation and the two aliases.
        assert_eq!(TABLE.len(), 138);
        assert!(REMOVED.iter().all(|(name, _)| row(name).is_none()));
    }
}
