//! `backend-protocol`, `proxy-connect-timeout`, `proxy-read-timeout`, `proxy-send-timeout`, `upstream-vhost`.

use std::time::Duration;

use http::HeaderValue;
use tidegate_model::Timeouts;

use super::reader::Reader;

/// ingress-nginx's own defaults.
const CONNECT: u32 = 5;
const READ: u32 = 60;
const SEND: u32 = 60;

/// How upstreams are spoken to.
#[derive(Debug)]
pub(super) struct Upstream {
    pub(super) protocol: Protocol,
    pub(super) timeouts: Timeouts,
    /// `Host` that they see.
    pub(super) vhost: Option<HeaderValue>,
}

/// What is spoken to backends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::translate) enum Protocol {
    /// HTTP, as the Service says.
    #[default]
    Http,
    /// HTTP over TLS, whoever answers.
    Https,
    /// gRPC.
    Grpc,
    /// gRPC over TLS, whoever answers.
    Grpcs,
}

pub(super) fn read(reader: &mut Reader<'_>, namespace: &str) -> Upstream {
    // ingress-nginx reads it in any case of letters.
    let written = reader.raw("backend-protocol").map(str::to_ascii_uppercase);
    let protocol = match written.as_deref() {
        None | Some("HTTP") => Protocol::Http,
        Some("AUTO_HTTP") => {
            reader.warn(
                "backend-protocol",
                "AUTO_HTTP speaks HTTP here, whatever the client came over; write HTTP or HTTPS",
            );
            Protocol::Http
        }
        Some("HTTPS") => Protocol::Https,
        Some("GRPC") => Protocol::Grpc,
        Some("GRPCS") => Protocol::Grpcs,
        Some("FCGI") => {
            reader.deny("backend-protocol", "FCGI is not spoken here; put a server that speaks HTTP in front of the application");
            Protocol::Http
        }
        Some(_) => {
            // Says what is wrong with it.
            reader.text("backend-protocol");
            Protocol::Http
        }
    };
    let mut seconds = |name, default: u32| {
        let seconds = reader.number(name).unwrap_or(default);
        Some(Duration::from_secs(seconds.into()))
    };
    let timeouts = Timeouts {
        connect: seconds("proxy-connect-timeout", CONNECT),
        read: seconds("proxy-read-timeout", READ),
        send: seconds("proxy-send-timeout", SEND),
        ..Timeouts::default()
    };
    Upstream {
        protocol,
        timeouts,
        vhost: vhost(reader, namespace),
    }
}

fn vhost(reader: &mut Reader<'_>, namespace: &str) -> Option<HeaderValue> {
    const NAME: &str = "upstream-vhost";
    let written = reader.text(NAME)?;
    let text = written.replace("$namespace", namespace);
    if matches!(text.as_str(), "$host" | "$http_host") {
        // As it is anyway.
        return None;
    }
    if super::variables::has_variables(&text) {
        reader.wrong(
            NAME,
            &format!("{written:?} has a variable that is not known here; write the host"),
        );
        return None;
    }
    text.parse().ok()
}
