//! `custom-headers` and the header lines of `configuration-snippet`: the filter headers.

use http::{HeaderName, HeaderValue};
use serde_json::{Map, Value, json};

use super::reader::{PREFIX, Reader};
use super::snippet::{self, Line, Statement};
use super::{permit, values, variables};
use crate::api::Kind;
use crate::api::core::Ingress;
use crate::translate::absent::absent;
use crate::translate::context::Context;

/// Statuses to whose responses nginx adds headers that are not for `always` (ngx_http_headers_module).
const USUAL: [u16; 10] = [200, 201, 204, 206, 301, 302, 303, 304, 307, 308];

/// Fields that belong to a connection or say where a message ends; filters cannot change them.
const FRAMING: [&str; 10] = [
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "expect",
];

/// Changes of headers.
#[derive(Debug, Default)]
pub(super) struct Headers {
    /// Configurations of the filter headers for responses, one for each set of statuses.
    pub(super) responses: Vec<Value>,
    /// The one for requests.
    pub(super) request: Option<Value>,
    /// `proxy_set_header Host`
    pub(super) host: Option<HeaderValue>,
}

/// Changes of one direction: names, and what becomes of them.
#[derive(Debug, Default)]
struct Changes {
    set: Map<String, Value>,
    add: Map<String, Value>,
    remove: Vec<Value>,
}

pub(super) fn read(context: &Context<'_>, reader: &mut Reader<'_>, object: &Ingress) -> Headers {
    let mut headers = Headers::default();
    if let Some(custom) = custom(context, reader, &object.meta.namespace) {
        headers.responses.push(custom);
    }
    server_snippet(reader);
    let Some(text) = reader.raw("configuration-snippet") else {
        return headers;
    };
    match snippet::parse(text) {
        Ok(statements) => lines(reader, &statements, &mut headers),
        Err(why) => reader.deny(
            "configuration-snippet",
            &format!("cannot be read: {why}; correct it or remove it"),
        ),
    }
    headers
}

/// `server-snippet`: whether it would have kept somebody out.
fn server_snippet(reader: &mut Reader<'_>) {
    const NAME: &str = "server-snippet";
    let Some(text) = reader.raw(NAME) else {
        return;
    };
    match snippet::parse(text).map(|statements| snippet::restriction(&statements)) {
        Ok(None) => reader.warn(
            NAME,
            "is not read and has no effect: lines of nginx are never run",
        ),
        Ok(Some(line)) => reader.deny(NAME, &format!("{line:?} keeps clients out, and lines of nginx are never run; say the same with annotations or a Filter, and remove it")),
        // Nobody knows what it keeps out.
        Err(why) => reader.deny(NAME, &format!("cannot be read: {why}; correct it or remove it")),
    }
}

/// `custom-headers`: a ConfigMap of names and values.
fn custom(context: &Context<'_>, reader: &mut Reader<'_>, own: &str) -> Option<Value> {
    const NAME: &str = "custom-headers";
    let (namespace, name) = values::reference(reader.text(NAME)?, own)?;
    match config_map(context, own, namespace, name) {
        Ok(set) => Some(json!({"response": {"set": set}})),
        Err(why) => {
            reader.deny(NAME, &why);
            None
        }
    }
}

fn config_map(
    context: &Context<'_>,
    own: &str,
    namespace: &str,
    name: &str,
) -> Result<Map<String, Value>, String> {
    permit(context, own, Kind::ConfigMap, namespace, name)?;
    let map = context
        .config_map(namespace, name)
        .ok_or_else(|| absent(context.resources, Kind::ConfigMap, namespace, name))?;
    let mut set = Map::new();
    for (field, value) in &map.spec.data {
        let (field, value) =
            change(field, value).map_err(|why| format!("ConfigMap {namespace}/{name}: {why}"))?;
        set.insert(field, value.into());
    }
    Ok(set)
}

/// The header lines become filters; the rest is said, and closes the paths where it would have kept somebody out.
fn lines(reader: &mut Reader<'_>, statements: &[Statement], headers: &mut Headers) {
    const NAME: &str = "configuration-snippet";
    if let Some(line) = snippet::restriction(statements) {
        reader.deny(NAME, &format!("{line:?} keeps clients out, and only lines that change headers are read; say the same with annotations or a Filter, and remove it"));
        return;
    }
    let mut responses: Vec<(Vec<u16>, Changes)> = Vec::new();
    let mut request = Changes::default();
    for statement in statements {
        let read = match snippet::line(statement) {
            Ok(lines) => lines
                .into_iter()
                .try_for_each(|line| put(line, &mut responses, &mut request, &mut headers.host)),
            Err(why) => Err(why),
        };
        if let Err(why) = read {
            reader.warn(
                NAME,
                &format!(
                    "line {:?} is not read and has no effect: {why}",
                    statement.to_string()
                ),
            );
        }
    }
    for (statuses, changes) in responses {
        let mut config = changes.config();
        if !statuses.is_empty() {
            config.insert("statuses".to_owned(), statuses.into());
        }
        headers.responses.push(json!({"response": config}));
    }
    let request = request.config();
    headers.request = (!request.is_empty()).then(|| json!({"request": request}));
}

fn put(
    line: Line,
    responses: &mut Vec<(Vec<u16>, Changes)>,
    request: &mut Changes,
    host: &mut Option<HeaderValue>,
) -> Result<(), String> {
    let mut response = |statuses: Vec<u16>| {
        let known = responses.iter().position(|(known, _)| *known == statuses);
        known.unwrap_or_else(|| {
            responses.push((statuses, Changes::default()));
            responses.len() - 1
        })
    };
    match line {
        Line::SetResponse {
            statuses,
            name,
            value,
        } => {
            let at = response(statuses);
            responses[at].1.set(&name, &value)
        }
        Line::AddResponse {
            always,
            name,
            value,
        } => {
            let at = response(if always { Vec::new() } else { USUAL.to_vec() });
            let (name, value) = change(&name, &value)?;
            if value.is_empty() {
                // nginx adds no empty header.
                return Ok(());
            }
            let values = responses[at]
                .1
                .add
                .entry(name)
                .or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(values) = values {
                values.push(value.into());
            }
            Ok(())
        }
        Line::ClearResponse { name } => {
            let at = response(Vec::new());
            responses[at].1.remove(&name)
        }
        Line::SetRequest { name, value } if name.eq_ignore_ascii_case("host") => {
            if !matches!(value.as_str(), "$host" | "$http_host" | "$best_http_host") {
                if variables::has_variables(&value) {
                    return Err(format!(
                        "use {PREFIX}upstream-vhost with a host that is known beforehand"
                    ));
                }
                *host = Some(
                    value
                        .parse()
                        .map_err(|_| "the value is no host".to_owned())?,
                );
            }
            Ok(())
        }
        Line::SetRequest { name, value } => request.set(&name, &value),
        Line::ClearRequest { name } => request.remove(&name),
    }
}

impl Changes {
    /// An empty value removes, as with nginx.
    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let (name, value) = change(name, value)?;
        if value.is_empty() {
            self.remove.push(name.into());
        } else {
            self.set.insert(name, value.into());
        }
        Ok(())
    }

    fn remove(&mut self, name: &str) -> Result<(), String> {
        let plain = name
            .strip_suffix('*')
            .filter(|rest| !rest.is_empty())
            .unwrap_or(name);
        change(plain, "")?;
        self.remove.push(name.into());
        Ok(())
    }

    fn config(self) -> Map<String, Value> {
        let mut config = Map::new();
        if !self.remove.is_empty() {
            config.insert("remove".to_owned(), self.remove.into());
        }
        for (key, map) in [("set", self.set), ("add", self.add)] {
            if !map.is_empty() {
                config.insert(key.to_owned(), Value::Object(map));
            }
        }
        config
    }
}

/// A header's name and its value as a template, if the filter headers takes them.
fn change(name: &str, value: &str) -> Result<(String, String), String> {
    if HeaderName::from_bytes(name.as_bytes()).is_err() {
        return Err(format!("{name:?} is no header's name"));
    }
    if FRAMING.contains(&name.to_ascii_lowercase().as_str()) {
        return Err(format!(
            "{name} belongs to the connection, which the gateway sees to itself (upgrades pass anyway)"
        ));
    }
    let value = value.trim();
    if !value
        .bytes()
        .all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte))
    {
        return Err(format!("the value of {name} holds more than visible ASCII"));
    }
    Ok((name.to_owned(), variables::template(value, &[])?))
}
