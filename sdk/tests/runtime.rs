//! Streams, calls, timers and bodies through the mock host.

use std::time::Duration;

use tidegate_sdk::flight::Flight;
use tidegate_sdk::mock::{CallAnswer, Message, Mock};
use tidegate_sdk::{ConfigError, Filter, Reply, Request, Response, config, http, shared, time};

/// Does what the request's path says.
struct Example {
    flight: Flight<u16>,
    cluster: String,
}

#[derive(serde::Deserialize)]
struct Config {
    #[serde(default)]
    cluster: String,
}

async fn call(cluster: &str, path: &str) -> Result<http::Answer, Reply> {
    http::Call::new(cluster, "GET", "http", "auth.example", path)
        .header("x-from", "filter")
        .timeout(Duration::from_millis(200))
        .send()
        .await
        .map_err(|error| Reply::new(500).body(error.to_string()))
}

impl Filter for Example {
    type Memo = String;

    fn configure(configuration: &[u8]) -> Result<Self, ConfigError> {
        let config: Config = config::parse(configuration)?;
        Ok(Self {
            flight: Flight::new(),
            cluster: config.cluster,
        })
    }

    async fn request(&self, request: &Request) -> Result<String, Reply> {
        let path = String::from_utf8(request.path()).expect("the tests send text");
        match path.as_str() {
            "/call" => {
                let answer = call(&self.cluster, "/check").await?;
                if answer.status != 200 {
                    return Err(Reply::new(403).details("refused_by_call"));
                }
                let second = call(&self.cluster, "/second").await?;
                request
                    .headers()
                    .set("x-user", second.header("x-user").unwrap_or(b"nobody"));
            }
            "/flight" => {
                let status = self
                    .flight
                    .run(async || match call(&self.cluster, "/once").await {
                        Ok(answer) => answer.status,
                        Err(_) => 0,
                    });
                request.headers().set("x-status", status.await.to_string());
            }
            "/body" => {
                let body = request.body(10).await?;
                if body == b"refuse" {
                    return Err(Reply::new(422));
                }
                return Ok(format!("{} bytes", body.len()));
            }
            "/watch" => {
                let mut sum = 0;
                request.watch_body(move |chunk| {
                    sum += chunk.bytes().len();
                    match sum {
                        0..=10 => Ok(()),
                        _ => Err(Reply::new(413)),
                    }
                });
            }
            "/sleep" => {
                let slept = time::sleep(Duration::from_millis(250)).await;
                slept.map_err(|error| Reply::new(503).body(error.to_string()))?;
            }
            "/long" => {
                let reply = Reply::new(403).header("x-why", "because");
                return Err(reply.body("it takes some words to say"));
            }
            "/count" => {
                shared::update("count", |value| vec![value.map_or(1, |value| value[0] + 1)])
                    .map_err(|error| Reply::new(503).body(error.to_string()))?;
            }
            _ => {}
        }
        Ok(path)
    }

    async fn response(&self, response: &Response, memo: String) -> Result<(), Reply> {
        response.headers().set("x-memo", memo);
        if response.status() == 502 {
            return Err(Reply::new(200).body("instead"));
        }
        Ok(())
    }
}

fn ok() -> Message {
    Message::response(200)
}

#[test]
fn a_call_holds_the_request_and_its_answer_decides() {
    let mock = Mock::new();
    let filter = mock.load::<Example>(r#"{"cluster": "auth"}"#).unwrap();
    let mut asked = Vec::new();
    let outcome = filter.run_with(
        Message::request("GET", "/call"),
        |_| ok(),
        |call| {
            asked.push((
                call.cluster.clone(),
                call.request.get(":path").unwrap().to_owned(),
                call.timeout,
            ));
            CallAnswer::Http(ok().header("x-user", "ann"))
        },
    );
    assert_eq!(
        asked,
        [
            ("auth".into(), "/check".into(), 200),
            ("auth".into(), "/second".into(), 200)
        ]
    );
    assert_eq!(outcome.upstream.unwrap().get("x-user"), Some("ann"));
    assert_eq!(outcome.response.get("x-memo"), Some("/call"));

    let refused = filter.run_with(
        Message::request("GET", "/call"),
        |_| panic!("it must not get there"),
        |_| CallAnswer::Http(Message::response(401)),
    );
    assert_eq!((refused.response.status(), refused.upstream), (403, None));
    assert_eq!(
        refused.response.get("x-memo"),
        None,
        "a filter's own reply passes as it is"
    );
}

#[test]
fn a_cluster_that_is_not_granted_is_an_error_with_its_name() {
    let mock = Mock::new();
    mock.allow_clusters(&["other"]);
    let filter = mock.load::<Example>(r#"{"cluster": "auth"}"#).unwrap();
    let outcome = filter.run(Message::request("GET", "/call"), ok());
    assert_eq!(outcome.response.status(), 500);
    assert!(
        outcome.response.text().contains("\"auth\" (BadArgument)"),
        "{}",
        outcome.response.text()
    );
}

#[test]
fn many_wait_for_one_call() {
    let mock = Mock::new();
    let filter = mock.load::<Example>("{}").unwrap();
    let mut exchanges: Vec<_> = (0..3)
        .map(|_| filter.begin(Message::request("GET", "/flight")))
        .collect();
    for exchange in &mut exchanges {
        assert!(!exchange.proceed(|_| ok()));
    }
    let calls = mock.calls();
    assert_eq!(calls.len(), 1);
    mock.answer(calls[0].token, CallAnswer::Http(Message::response(204)));
    for mut exchange in exchanges {
        assert!(exchange.proceed(|_| ok()));
        assert_eq!(
            exchange.finish().upstream.unwrap().get("x-status"),
            Some("204")
        );
    }
}

#[test]
fn when_the_one_who_calls_goes_away_the_next_takes_over() {
    let mock = Mock::new();
    let filter = mock.load::<Example>("{}").unwrap();
    let mut first = filter.begin(Message::request("GET", "/flight"));
    let mut second = filter.begin(Message::request("GET", "/flight"));
    assert!(!first.proceed(|_| ok()) && !second.proceed(|_| ok()));
    let lost = mock.calls()[0].token;
    drop(first);
    mock.answer(lost, CallAnswer::Http(ok()));
    assert!(!second.proceed(|_| ok()), "the answer was another's");
    let calls = mock.calls();
    assert_eq!(calls.len(), 1);
    mock.answer(calls[0].token, CallAnswer::Http(Message::response(201)));
    assert!(second.proceed(|_| ok()));
    assert_eq!(
        second.finish().upstream.unwrap().get("x-status"),
        Some("201")
    );
}

#[test]
fn a_body_is_read_whole_however_it_is_cut() {
    let mock = Mock::new();
    let filter = mock.load::<Example>("{}").unwrap();
    for cut in 0..=5 {
        let request = Message::request("POST", "/body")
            .body(&b"hello"[..cut])
            .body(&b"hello"[cut..]);
        let outcome = filter.run(request, ok());
        assert_eq!(outcome.response.get("x-memo"), Some("5 bytes"));
        assert_eq!(outcome.upstream.unwrap().text(), "hello");
    }
    let trailers = Message::request("POST", "/body")
        .body("he")
        .body("llo")
        .with_trailers();
    let outcome = filter.run(trailers, ok());
    assert_eq!(outcome.response.get("x-memo"), Some("5 bytes"));
    assert_eq!(outcome.upstream.unwrap().text(), "hello");
    assert_eq!(
        filter
            .run(Message::request("POST", "/body"), ok())
            .response
            .get("x-memo"),
        Some("0 bytes")
    );
}

#[test]
fn a_body_that_is_refused_or_too_long_ends_the_exchange() {
    let mock = Mock::new();
    let filter = mock.load::<Example>("{}").unwrap();
    let refused = filter.run(
        Message::request("POST", "/body").body("ref").body("use"),
        ok(),
    );
    assert_eq!(refused.response.status(), 422);
    assert_eq!(
        refused.upstream.unwrap().text(),
        "",
        "its head had gone, nothing of the body"
    );
    let long = filter.run(
        Message::request("POST", "/body")
            .body("123456")
            .body("123456"),
        ok(),
    );
    assert_eq!(long.response.status(), 413);
}

#[test]
fn a_watcher_sees_pieces_and_can_stop_them() {
    let mock = Mock::new();
    let filter = mock.load::<Example>("{}").unwrap();
    let fine = filter.run(
        Message::request("POST", "/watch")
            .body("12345")
            .body("12345"),
        ok(),
    );
    assert_eq!(
        (fine.response.status(), fine.upstream.unwrap().text()),
        (200, "1234512345".into())
    );
    let long = filter.run(
        Message::request("POST", "/watch")
            .body("123456")
            .body("123456"),
        ok(),
    );
    assert_eq!(
        (long.response.status(), long.upstream.unwrap().text()),
        (413, "123456".into())
    );
}

/// A filter with the callbacks of heads alone, at a path where it does that.
fn with_heads_alone(path: &str) -> u16 {
    let mock = Mock::new();
    let filter = mock.load_heads::<Example>("{}").expect("a configuration");
    filter
        .run(Message::request("POST", path).body("x"), ok())
        .response
        .status()
}

#[test]
fn who_decides_at_once_needs_heads_alone() {
    assert_eq!(with_heads_alone("/replies"), 200);
}

#[test]
#[should_panic(expected = "take `heads` out of its filter!")]
fn with_heads_alone_nobody_waits_for_a_timer() {
    with_heads_alone("/sleep");
}

#[test]
#[should_panic(expected = "take `heads` out of its filter!")]
fn with_heads_alone_nobody_waits_for_a_body() {
    with_heads_alone("/body");
}

#[test]
#[should_panic(expected = "take `heads` out of its filter!")]
fn with_heads_alone_nobody_watches_a_body() {
    with_heads_alone("/watch");
}

#[test]
fn a_timer_holds_the_request_until_it_is_due() {
    let mock = Mock::new();
    let filter = mock.load::<Example>("{}").unwrap();
    let mut exchange = filter.begin(Message::request("GET", "/sleep"));
    assert!(!exchange.proceed(|_| ok()));
    mock.advance(Duration::from_millis(249));
    assert!(!exchange.proceed(|_| ok()));
    mock.advance(Duration::from_millis(1));
    assert!(exchange.proceed(|_| ok()));
    assert_eq!(exchange.finish().response.status(), 200);
}

#[test]
fn a_timer_that_is_refused_holds_nobody() {
    let mock = Mock::new();
    let filter = mock.load::<Example>("{}").unwrap();
    mock.refuse_timers(true);
    let outcome = filter.run(Message::request("GET", "/sleep"), ok());
    assert_eq!(outcome.response.status(), 503);
    assert_eq!(
        outcome.response.text(),
        "the host refused a timer: InternalFailure"
    );
}

#[test]
fn timers_that_are_refused_later_hold_nobody() {
    let mock = Mock::new();
    let filter = mock.load::<Example>("{}").unwrap();
    let mut first = filter.begin(Message::request("GET", "/sleep"));
    assert!(!first.proceed(|_| ok()));
    mock.advance(Duration::from_millis(100));
    let mut second = filter.begin(Message::request("GET", "/sleep"));
    assert!(!second.proceed(|_| ok()));
    mock.refuse_timers(true);
    mock.advance(Duration::from_millis(150));
    assert!(first.proceed(|_| ok()) && second.proceed(|_| ok()));
    assert_eq!(first.finish().response.status(), 200);
    assert_eq!(second.finish().response.status(), 503);
}

#[test]
fn a_reply_that_is_refused_is_sent_with_less() {
    let mock = Mock::new();
    let filter = mock.load::<Example>("{}").unwrap();
    for (bytes, status, header, body) in [
        (100, 403, Some("because"), "it takes some words to say"),
        (20, 403, Some("because"), ""),
        (5, 500, None, ""),
    ] {
        mock.limit_replies(bytes);
        let response = filter.run(Message::request("GET", "/long"), ok()).response;
        assert_eq!(response.status(), status, "{bytes}");
        assert_eq!(response.get("x-why"), header, "{bytes}");
        assert_eq!(response.text(), body, "{bytes}");
    }
    let refused = |(_, line): &&(_, String)| line.contains("refused a local reply");
    assert_eq!(mock.take_logs().iter().filter(refused).count(), 3);
}

#[test]
fn a_response_can_be_replaced() {
    let mock = Mock::new();
    let filter = mock.load::<Example>("{}").unwrap();
    let outcome = filter.run(
        Message::request("GET", "/"),
        Message::response(502).body("bad"),
    );
    assert_eq!(
        (outcome.response.status(), outcome.response.text()),
        (200, "instead".into())
    );
    assert_eq!(outcome.response.get("content-type"), Some("text/plain"));
}

#[test]
fn shared_data_counts_and_its_refusal_is_a_value() {
    let mock = Mock::new();
    let filter = mock.load::<Example>("{}").unwrap();
    for _ in 0..3 {
        assert_eq!(
            filter
                .run(Message::request("GET", "/count"), ok())
                .response
                .status(),
            200
        );
    }
    assert_eq!(shared::get("count").unwrap().unwrap().0, [3]);
    mock.refuse_shared_data(true);
    let outcome = filter.run(Message::request("GET", "/count"), ok());
    assert_eq!(outcome.response.status(), 503);
    assert!(outcome.response.text().contains("InternalFailure"));
}

#[test]
fn a_configuration_that_is_refused_is_logged_with_its_field() {
    let mock = Mock::new();
    let error = mock.load::<Example>(r#"{"cluster": 1}"#).unwrap_err();
    assert!(
        error.starts_with("configuration refused: cluster: invalid type"),
        "{error}"
    );
}
