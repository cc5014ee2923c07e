//! Sending the requests of a case, and comparing what client and upstreams see.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use http::{HeaderMap, Method};
use tidegate_testing::{Answer, Certificate, Client, Reply, Seen, Tls, Upstream, empty, full};

use super::case::{Case, Request};

/// Who is asked.
pub(super) struct Target {
    pub(super) http: SocketAddr,
    pub(super) https: SocketAddr,
    pub(super) tls: Tls,
    pub(super) is_nginx: bool,
}

/// The upstreams of all cases.
pub(super) struct Upstreams {
    by_name: BTreeMap<&'static str, Upstream>,
}

impl Upstreams {
    pub(super) async fn start() -> Self {
        let mut by_name = BTreeMap::new();
        for name in ["up", "other"] {
            by_name.insert(name, Upstream::start(move |seen| answer(name, seen)).await);
        }
        by_name.insert("auth", Upstream::start(judge).await);
        let certificate = Certificate::new(&["secure.test"]);
        by_name.insert(
            "secure",
            Upstream::tls(&certificate, |seen| answer("secure", seen)).await,
        );
        Self { by_name }
    }

    pub(super) fn address(&self, name: &str) -> SocketAddr {
        self.by_name[name].address()
    }

    /// Services by name, with their endpoints.
    pub(super) fn services(&self) -> BTreeMap<&'static str, Vec<SocketAddr>> {
        let mut services: BTreeMap<&'static str, Vec<SocketAddr>> = self
            .by_name
            .iter()
            .map(|(name, upstream)| (*name, vec![upstream.address()]))
            .collect();
        services.insert("two", vec![self.address("up"), self.address("other")]);
        services.insert("empty", Vec::new());
        services
    }

    fn counts(&self) -> BTreeMap<&'static str, usize> {
        self.by_name
            .iter()
            .map(|(name, upstream)| (*name, upstream.count()))
            .collect()
    }
}

/// Answers with its name, and as headers of the request ask.
fn answer(name: &'static str, seen: &Seen) -> Reply {
    let wait = Duration::from_millis(seen.header("x-answer-wait").parse().unwrap_or(0));
    let mut reply = match seen.header("x-answer-status") {
        "" => Reply::text(name),
        status => Reply::status(status.parse().unwrap()),
    };
    reply = reply.header("x-upstream", name).after(wait);
    if !seen.header("x-answer-cors").is_empty() {
        reply = reply.header("access-control-allow-origin", seen.header("x-answer-cors"));
    }
    if !seen.header("x-answer-hangs").is_empty() {
        reply = reply.piece("some").hanging();
    }
    reply
}

/// The service that is asked whether requests may pass: as `x-auth-status` says.
fn judge(seen: &Seen) -> Reply {
    let status = seen.header("x-auth-status").parse().unwrap_or(200);
    Reply::status(status)
        .header("x-user", "alice")
        .header("x-asked", seen.method.as_str())
        .header("x-asked-for", seen.target())
        .header("set-cookie", "session=1")
        .header("www-authenticate", "Bearer")
}

/// What goes otherwise than the case says.
pub(super) async fn run(case: &Case, target: &Target, upstreams: &Upstreams) -> Vec<String> {
    let mut failures = Vec::new();
    let (mut cookie, mut giver) = (None, String::new());
    for request in &case.requests {
        if target.is_nginx && request.not_nginx.is_some() {
            continue;
        }
        let before = upstreams.counts();
        let answers = send_all(request, target, cookie.as_deref()).await;
        if let Some(set) = answers
            .last()
            .and_then(|answer| answer.headers.get("set-cookie"))
        {
            let pair = set.to_str().unwrap().split(';').next().unwrap();
            cookie = Some(pair.to_owned());
            giver = answers[0].header("x-upstream").to_owned();
        }
        let mut differences = compare(request, &answers);
        let elsewhere = |answer: &Answer| answer.header("x-upstream") != giver;
        if request.same_upstream && answers.iter().any(elsewhere) {
            differences.push(format!("not every answer is of {giver:?}"));
        }
        differences.extend(compare_upstream(request, upstreams, &before));
        let who = if target.is_nginx { "nginx: " } else { "" };
        failures.extend(differences.into_iter().map(|difference| {
            format!(
                "{who}{}: {} {}: {difference}",
                case.name, request.send, request.host
            )
        }));
    }
    failures
}

async fn send_all(request: &Request, target: &Target, cookie: Option<&str>) -> Vec<Answer> {
    if request.together {
        let sending = (0..request.times).map(|_| send(request, target, cookie));
        return futures_all(sending).await;
    }
    let mut answers = Vec::new();
    for _ in 0..request.times {
        answers.push(send(request, target, cookie).await);
    }
    answers
}

async fn futures_all<F: Future<Output = Answer>>(sending: impl Iterator<Item = F>) -> Vec<Answer> {
    let mut pending: Vec<_> = sending.map(Box::pin).collect();
    let mut answers: Vec<Option<Answer>> = pending.iter().map(|_| None).collect();
    std::future::poll_fn(|cx| {
        for (one, answer) in pending.iter_mut().zip(&mut answers) {
            if answer.is_none()
                && let std::task::Poll::Ready(ready) = one.as_mut().poll(cx)
            {
                *answer = Some(ready);
            }
        }
        match answers.iter().all(Option::is_some) {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
    answers.into_iter().flatten().collect()
}

async fn send(request: &Request, target: &Target, cookie: Option<&str>) -> Answer {
    let (method, path) = request.send.split_once(' ').unwrap();
    let mut client = if request.tls {
        let name = request.host.split(':').next().unwrap();
        Client::tls(target.https, &target.tls, name).await.unwrap()
    } else {
        Client::http1(target.http).await
    };
    let method: Method = method.parse().unwrap();
    let mut builder = client.request(method, &request.host, path);
    for (name, value) in &request.headers {
        builder = builder.header(name, value);
    }
    if let Some(cookie) = cookie.filter(|_| request.with_cookie) {
        builder = builder.header("cookie", cookie);
    }
    let body = request
        .body
        .map_or_else(empty, |length| full(vec![b'a'; length]));
    client.send(builder.body(body).unwrap()).await.unwrap()
}

fn compare(request: &Request, answers: &[Answer]) -> Vec<String> {
    let expected = &request.answer;
    let mut differences = Vec::new();
    let mut actual: BTreeMap<u16, usize> = BTreeMap::new();
    for answer in answers {
        *actual.entry(answer.status.as_u16()).or_default() += 1;
    }
    if expected
        .statuses
        .as_ref()
        .is_some_and(|statuses| *statuses != actual)
    {
        differences.push(format!("statuses {actual:?}, not {:?}", expected.statuses));
    }
    for (status, least) in &expected.at_least {
        if actual.get(status).is_none_or(|count| count < least) {
            differences.push(format!(
                "statuses {actual:?}, not {:?} at least",
                expected.at_least
            ));
        }
    }
    for answer in answers {
        let status = answer.status.as_u16();
        if expected.status.is_some_and(|expected| expected != status) {
            differences.push(format!("status {status}: {answer:?}"));
        }
        differences.extend(compare_headers(
            &answer.headers,
            &expected.headers,
            &expected.absent,
        ));
        if answer.complete == expected.broken {
            differences.push(format!("its end was reached: {}", answer.complete));
        }
    }
    differences
}

fn compare_headers(
    headers: &HeaderMap,
    expected: &BTreeMap<String, String>,
    absent: &[String],
) -> Vec<String> {
    let text = |name: &str| {
        let values: Vec<_> = headers
            .get_all(name)
            .iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            .collect();
        (!values.is_empty()).then(|| values.join(", "))
    };
    let mut differences = Vec::new();
    for (name, expected) in expected {
        let actual = text(name).unwrap_or_else(|| "(absent)".to_owned());
        let matches = match expected.strip_prefix('~') {
            Some(part) => actual.contains(part),
            None => actual == *expected,
        };
        if !matches {
            differences.push(format!("{name} is {actual:?}, not {expected:?}"));
        }
    }
    for name in absent {
        if let Some(actual) = text(name) {
            differences.push(format!("{name} is {actual:?} and should be absent"));
        }
    }
    differences
}

fn compare_upstream(
    request: &Request,
    upstreams: &Upstreams,
    before: &BTreeMap<&'static str, usize>,
) -> Vec<String> {
    let Some(expected) = &request.upstream else {
        return Vec::new();
    };
    let mut differences = Vec::new();
    for (name, upstream) in &upstreams.by_name {
        let seen = upstream.seen().split_off(before[name]);
        // Whoever is asked whether requests may pass is one of two that see them.
        if name == expected {
            match seen.last() {
                None => differences.push(format!("{name} saw nothing")),
                Some(seen) => differences.extend(compare_seen(request, seen)),
            }
        } else if !seen.is_empty() && *name != "auth" && expected != "auth" {
            differences.push(format!("{name} saw {:?}", seen.last()));
        }
    }
    differences
}

fn compare_seen(request: &Request, seen: &Seen) -> Vec<String> {
    let expected = &request.seen;
    let mut differences = compare_headers(&seen.headers, &expected.headers, &expected.absent);
    let version = format!("{:?}", seen.version);
    let parts = [
        ("version", &expected.version, version.as_str()),
        ("target", &expected.target, seen.target()),
        ("host", &expected.host, seen.header("host")),
    ];
    for (what, expected, actual) in parts {
        if expected
            .as_ref()
            .is_some_and(|expected| *expected != actual)
        {
            differences.push(format!(
                "the upstream saw {what} {actual:?}, not {expected:?}"
            ));
        }
    }
    differences
}
