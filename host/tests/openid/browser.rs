//! A client that follows redirects, keeps cookies by host and path, and fills in forms.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use http::{HeaderMap, Method};
use tidegate_testing::{Client, empty, full};

/// A browser, as far as a log-in needs one.
#[derive(Debug)]
pub(super) struct Browser {
    /// Where hosts are.
    hosts: BTreeMap<String, SocketAddr>,
    /// Values by host, path and name.
    jar: BTreeMap<(String, String, String), String>,
    stop_at: Option<&'static str>,
}

/// What is shown at the end of all redirects.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) host: String,
    pub(super) status: u16,
    /// Where a redirect led that was not followed.
    pub(super) location: Option<String>,
    pub(super) body: String,
}

const REDIRECTS: usize = 12;

impl Browser {
    pub(super) fn new(hosts: &[(&str, SocketAddr)]) -> Self {
        let hosts = hosts
            .iter()
            .map(|(name, address)| ((*name).to_owned(), *address));
        Self {
            hosts: hosts.collect(),
            jar: BTreeMap::new(),
            stop_at: None,
        }
    }

    /// Follows no redirect to this path.
    pub(super) fn stop_at(&mut self, path: &'static str) {
        self.stop_at = Some(path);
    }

    /// Follows all of them again.
    pub(super) fn go_on(&mut self) {
        self.stop_at = None;
    }

    /// Opens an address.
    pub(super) async fn get(&mut self, url: &str) -> Page {
        self.open(Method::GET, url.to_owned(), None).await
    }

    /// Sends the page's form, with its hidden fields and these.
    pub(super) async fn submit(&mut self, page: &Page, fields: &[(&str, &str)]) -> Page {
        let action = attribute(&page.body, "<form", "action")
            .unwrap_or_else(|| panic!("no form: {page:?}"))
            .replace("&amp;", "&");
        let mut pairs: Vec<String> = page
            .body
            .split("<input")
            .skip(1)
            .filter(|input| input.contains("type=\"hidden\""))
            .filter_map(|input| {
                let (name, value) = (of(input, "name")?, of(input, "value")?);
                let given = fields.iter().any(|(given, _)| *given == name);
                (!given).then(|| format!("{name}={value}"))
            })
            .collect();
        pairs.extend(fields.iter().map(|(name, value)| format!("{name}={value}")));
        let url = resolve(&page.host, &action);
        self.open(Method::POST, url, Some(pairs.join("&"))).await
    }

    async fn open(&mut self, method: Method, url: String, form: Option<String>) -> Page {
        let (mut method, mut url, mut form) = (method, url, form);
        for _ in 0..REDIRECTS {
            let (host, target) = split(&url);
            let answer = self.once(&method, &host, &target, form.take()).await;
            self.keep(&host, &answer.headers);
            let location = match answer.status.as_u16() {
                301..=303 | 307 | 308 => Some(resolve(&host, answer.header("location"))),
                _ => None,
            };
            let stops = |to: &String| {
                self.stop_at
                    .is_some_and(|path| split(to).1.starts_with(path))
            };
            match location {
                Some(to) if !stops(&to) => (method, url) = (Method::GET, to),
                location => {
                    return Page {
                        host,
                        status: answer.status.as_u16(),
                        location,
                        body: answer.text().to_owned(),
                    };
                }
            }
        }
        panic!("more than {REDIRECTS} redirects, the last to {url}");
    }

    async fn once(
        &self,
        method: &Method,
        host: &str,
        target: &str,
        form: Option<String>,
    ) -> tidegate_testing::Answer {
        let address = self.hosts.get(host);
        let address = address.unwrap_or_else(|| panic!("{host} is no host of this test"));
        let mut client = Client::http1(*address).await;
        let mut request = client
            .request(method.clone(), host, target)
            .header("accept", "text/html,*/*;q=0.8");
        let cookies = self.matching(host, target.split('?').next().unwrap_or(target));
        if !cookies.is_empty() {
            request = request.header("cookie", cookies);
        }
        let request = match form {
            Some(form) => request
                .header("content-type", "application/x-www-form-urlencoded")
                .body(full(form)),
            None => request.body(empty()),
        };
        let request = request.expect("a request");
        client.send(request).await.expect("an answer")
    }

    fn keep(&mut self, host: &str, headers: &HeaderMap) {
        for line in headers.get_all("set-cookie") {
            self.set_cookie(host, line.to_str().expect("text"));
        }
    }

    /// Takes a line of `Set-Cookie`.
    pub(super) fn set_cookie(&mut self, host: &str, line: &str) {
        let (pair, attributes) = line.split_once(';').unwrap_or((line, ""));
        let (name, value) = pair.split_once('=').expect("a cookie");
        let mut path = String::from("/");
        let mut over = false;
        for attribute in attributes.split(';').map(str::trim) {
            let (key, value) = attribute.split_once('=').unwrap_or((attribute, ""));
            match key.to_ascii_lowercase().as_str() {
                "path" => path = value.to_owned(),
                "max-age" => over |= value == "0",
                // Only ever written to end one.
                "expires" => over |= value.contains("1970"),
                _ => {}
            }
        }
        let key = (host.to_owned(), path, name.to_owned());
        match over {
            true => self.jar.remove(&key),
            false => self.jar.insert(key, value.to_owned()),
        };
    }

    /// The value of `cookie` for a host's root.
    pub(super) fn cookie_header(&self, host: &str) -> String {
        self.matching(host, "/")
    }

    /// The names of a host's cookies.
    pub(super) fn cookies(&self, host: &str) -> Vec<&str> {
        let keys = self.jar.keys().filter(|(of, _, _)| of == host);
        keys.map(|(_, _, name)| name.as_str()).collect()
    }

    /// Deletes a host's cookies.
    pub(super) fn forget(&mut self, host: &str) {
        self.jar.retain(|(of, _, _), _| of != host);
    }

    /// RFC 6265 section 5.1.4.
    fn matching(&self, host: &str, path: &str) -> String {
        let fits = |of: &str| {
            path == of
                || path
                    .strip_prefix(of)
                    .is_some_and(|rest| of.ends_with('/') || rest.starts_with('/'))
        };
        let cookies = self.jar.iter();
        let cookies: Vec<String> = cookies
            .filter(|((of, under, _), _)| of == host && fits(under))
            .map(|((_, _, name), value)| format!("{name}={value}"))
            .collect();
        cookies.join("; ")
    }
}

/// Host with port, and path with query.
fn split(url: &str) -> (String, String) {
    let rest = url.strip_prefix("http://");
    let rest = rest.unwrap_or_else(|| panic!("{url} is no address of this test"));
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (host, target) = rest.split_at(end);
    let slash = if target.starts_with('/') { "" } else { "/" };
    (host.to_owned(), format!("{slash}{target}"))
}

fn resolve(host: &str, to: &str) -> String {
    match to.contains("://") {
        true => to.to_owned(),
        false => format!("http://{host}{to}"),
    }
}

fn attribute<'a>(body: &'a str, tag: &str, name: &str) -> Option<&'a str> {
    of(body.split(tag).nth(1)?, name)
}

fn of<'a>(tag: &'a str, name: &str) -> Option<&'a str> {
    let tag = tag.split('>').next()?;
    tag.split(&format!("{name}=\"")).nth(1)?.split('"').next()
}
