//! `enable-cors` and `cors-*`: the filter cors with nginx's semantics.

use serde_json::{Map, Value};

use super::reader::Reader;
use super::values;

pub(super) fn read(reader: &mut Reader<'_>) -> Option<Value> {
    let enabled = reader.flag("enable-cors") == Some(true);
    let mut config = Map::new();
    config.insert("preflight".to_owned(), "nginx".into());
    let lists = [
        ("cors-allow-methods", "allowMethods"),
        ("cors-allow-headers", "allowHeaders"),
        ("cors-expose-headers", "exposeHeaders"),
    ];
    for (name, key) in lists {
        if let Some(list) = reader.list(name) {
            config.insert(key.to_owned(), list.into());
        }
    }
    if let Some(origins) = origins(reader) {
        config.insert("allowOrigins".to_owned(), origins.into());
    }
    if let Some(credentials) = reader.flag("cors-allow-credentials") {
        config.insert("allowCredentials".to_owned(), credentials.into());
    }
    if let Some(age) = reader.integer("cors-max-age") {
        // Below 0 an answer is never kept (Fetch, "CORS-preflight cache"), as with 0.
        config.insert("maxAge".to_owned(), age.max(0).into());
    }
    enabled.then_some(Value::Object(config))
}

/// The origins that are some. Where all are wrong none is left, and not the default, which is every origin: whoever names origins
/// wants others kept out.
fn origins(reader: &mut Reader<'_>) -> Option<Vec<String>> {
    const NAME: &str = "cors-allow-origin";
    let written = reader.raw(NAME)?;
    let (good, bad): (Vec<&str>, Vec<&str>) =
        values::list(written).partition(|origin| is_origin(origin));
    for origin in bad {
        let why = match origin {
            "null" => "would allow every sandboxed page and is left out; name the origins",
            _ => {
                "is no origin and is left out; write https://host or https://*.host, with the port if it is not the usual one"
            }
        };
        reader.warn(NAME, &format!("{origin:?} {why}"));
    }
    Some(good.into_iter().map(str::to_owned).collect())
}

/// `*`, or `scheme://host[:port]`, an asterisk as the first label.
fn is_origin(text: &str) -> bool {
    if text == "*" {
        return true;
    }
    let Some((scheme, authority)) = text.split_once("://") else {
        return false;
    };
    let is_scheme = !scheme.is_empty()
        && scheme
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    let (host, port) = authority.rsplit_once(':').unwrap_or((authority, "80"));
    let label = |(at, label): (usize, &str)| {
        let name = |label: &str| {
            !label.is_empty()
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        };
        name(label) || (at == 0 && label == "*")
    };
    is_scheme
        && port.parse::<u16>().is_ok()
        && host != "*"
        && host.split('.').enumerate().all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_origin_is() {
        for good in [
            "*",
            "https://a.test",
            "http://*.a.test:8080",
            "https://a-b.test",
        ] {
            assert!(is_origin(good), "{good}");
        }
        for bad in [
            "",
            "https://",
            "https://a.test/x",
            "https://a.*.test",
            "https://*",
            "a b",
            "a.test",
            "null",
            "https://a.test:port",
            "https://a.test;",
        ] {
            assert!(!is_origin(bad), "{bad}");
        }
    }
}
