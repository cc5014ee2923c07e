//! Plays a case in one host.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::case::{Case, Request};
use crate::http2;
use crate::journal::Journal;
use crate::message::{Message, Reader};
use crate::record::Record;
use crate::upstream::{Upstream, chunked, last_chunk};

/// How long a client waits for an answer.
const ANSWER: Duration = Duration::from_secs(3);
/// The same where none is expected.
const NO_ANSWER: Duration = Duration::from_millis(400);
/// How long guests may take to say what a case waits for.
const LINE: Duration = Duration::from_secs(4);
/// How long contexts may take to be deleted; those of a VM that has trapped never are.
const DELETED: Duration = Duration::from_millis(150);

/// One of the two that are compared.
pub trait Host {
    /// Where a case is served.
    fn address(&self, case: &Case) -> SocketAddr;
    /// What its guests log.
    fn journal(&self) -> &Journal;
    /// The upstream of a case.
    fn upstream(&self, case: &Case) -> &Upstream;
    /// The upstream of a case's callouts.
    fn callout(&self, case: &Case) -> Option<&Upstream>;
    /// The value of a counter or gauge that a guest has defined, in decimal; empty if there is none.
    fn metric(&self, name: &str) -> impl Future<Output = String>;
}

/// Sends the requests of a case; what came of them. `sentinel` is a case whose only guest says when its streams end.
pub async fn play(host: &impl Host, case: &Case, sentinel: &Case) -> Record {
    let plugins: Vec<String> = (0..case.plugins.len())
        .map(|at| case.plugin_name(at))
        .collect();
    let mut answers = Vec::new();
    for request in &case.requests {
        if let Some(line) = &request.after {
            host.journal()
                .until(LINE, || host.journal().says(&plugins, line))
                .await;
        }
        answers.push(ask(host, case, request, &plugins).await);
    }
    if let Some(line) = &case.until {
        host.journal()
            .until(LINE, || host.journal().says(&plugins, line))
            .await;
    }
    let alive = settle(host, &plugins, sentinel).await;
    let mut metrics = Vec::new();
    for name in case.metrics.iter().map(|name| case.placed(name)) {
        let value = host.metric(&name).await;
        metrics.push((name, value));
    }
    Record {
        answers,
        upstream: host.upstream(case).seen(),
        callout: host.callout(case).map(Upstream::seen).unwrap_or_default(),
        log: host.journal().of(&plugins),
        metrics,
        alive,
    }
}

/// Waits until the streams of a case have ended: the worker has then served a whole later exchange, and contexts are deleted.
/// `false`: it serves no more.
async fn settle(host: &impl Host, plugins: &[String], sentinel: &Case) -> bool {
    let watched = [sentinel.plugin_name(0)];
    let ends = |names: &[String]| {
        let lines = host.journal().of(names);
        let count = |mark: &str| {
            lines
                .iter()
                .filter(|line| line.text.starts_with(mark))
                .count()
        };
        // A root is created, too, and not deleted.
        let streams = lines
            .iter()
            .filter(|line| line.text.starts_with("create ") && !line.text.ends_with("of #0"));
        (streams.count(), count("delete "))
    };
    let (_, before) = ends(&watched);
    if ask(host, sentinel, &Request::default(), &watched)
        .await
        .is_none()
    {
        return false;
    }
    host.journal()
        .until(LINE, || ends(&watched).1 > before)
        .await;
    let over = || {
        let (created, deleted) = ends(plugins);
        created == deleted
    };
    host.journal().until(DELETED, over).await;
    true
}

async fn ask(
    host: &impl Host,
    case: &Case,
    request: &Request,
    plugins: &[String],
) -> Option<Message> {
    // A host that has died does not listen any more.
    let mut stream = TcpStream::connect(host.address(case)).await.ok()?;
    stream.set_nodelay(true).expect("TCP_NODELAY");
    let limit = if request.hangs { NO_ANSWER } else { ANSWER };
    if request.http2 {
        let asked = http2::ask(stream, host.journal(), case, request, plugins, limit);
        return asked.await;
    }
    let (read, mut write) = stream.split();
    let mut reader = Reader::new(read).within(limit);
    let sending = async {
        // A host may answer and close before it has read everything.
        let _ = send(host.journal(), case, request, plugins, &mut write).await;
    };
    let reading = async {
        if let Some(line) = &request.leaves_at {
            host.journal()
                .until(LINE, || host.journal().says(plugins, line))
                .await;
            return None;
        }
        loop {
            let mut head = reader.head().await?;
            if (100..200).contains(&head.status()) && head.status() != 101 {
                continue;
            }
            reader.response_body(&mut head, &request.method).await;
            return Some(head);
        }
    };
    tokio::join!(sending, reading).1
}

async fn send(
    journal: &Journal,
    case: &Case,
    request: &Request,
    plugins: &[String],
    stream: &mut (impl AsyncWriteExt + Unpin),
) -> std::io::Result<()> {
    let version = if request.http10 { "1.0" } else { "1.1" };
    let mut head = format!(
        "{} {} HTTP/{version}\r\nhost: {}\r\n",
        request.method,
        request.path,
        case.host()
    );
    for field in &request.headers {
        head.push_str(&format!("{}\r\n", case.placed(field)));
    }
    let body = request
        .body
        .as_ref()
        .map(crate::bytes::Content::bytes)
        .unwrap_or_default();
    if request.known_length {
        let length: usize = request.chunks.iter().map(|chunk| chunk.bytes().len()).sum();
        head.push_str(&format!("content-length: {length}\r\n"));
    } else if request.is_chunked() {
        head.push_str("transfer-encoding: chunked\r\n");
    } else if request.body.is_some() {
        head.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    let before = journal.count(plugins);
    let mut first = head.into_bytes();
    first.extend(body);
    stream.write_all(&first).await?;
    if !request.is_chunked() && !request.known_length {
        return Ok(());
    }
    journal.digested(plugins, before).await;
    for chunk in &request.chunks {
        let before = journal.count(plugins);
        let data = chunk.bytes();
        let framed = if request.known_length {
            data
        } else {
            chunked(&data)
        };
        stream.write_all(&framed).await?;
        journal.digested(plugins, before).await;
    }
    if !request.known_length {
        stream.write_all(&last_chunk(&request.trailers)).await?;
    }
    Ok(())
}
