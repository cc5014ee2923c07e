//! What Envoy's rate limit service is asked, and what its answers mean.

use super::*;

/// Messages as go-control-plane v1.39 marshals them: the numbers of the fields are those of Envoy's definitions.
#[test]
fn messages_are_those_of_envoys_api() {
    let limiter = limiter(
        r#"{"service": {"cluster": "rls", "domain": "shop", "hitsAddend": 3, "descriptors": [["ip", "path"], [{"key": "generic_key", "value": "all"}]]}, "status": 503}"#,
    );
    let service = limiter.service().unwrap();
    let request = Example {
        headers: vec![(":path", b"/a?b".to_vec())],
        ..from("192.0.2.1")
    };
    let message = service.request(&request).unwrap();
    let hex: String = message.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        hex,
        include_str!("../../../tests/rate-limit-request.hex").trim()
    );
    let response = include_str!("../../../tests/rate-limit-response.hex").trim();
    let bytes: Vec<u8> = (0..response.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&response[at..at + 2], 16).unwrap())
        .collect();
    let verdict = limiter.after(service, Some(&bytes), Verdict::default());
    let reply = verdict.refusal.unwrap();
    assert_eq!((reply.status, &reply.body[..]), (503, &b"later"[..]));
    let headers: Vec<_> = reply
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!(
        headers,
        [
            ("retry-after", "30"),
            (
                "ratelimit-policy",
                "\"per-client\";q=10;w=60, \"1000-per-week\";q=1000;w=604800"
            ),
            (
                "ratelimit",
                "\"per-client\";r=0;t=30, \"1000-per-week\";r=7;t=3600"
            ),
            ("x-a", "1"),
        ]
    );
}

#[test]
fn bytes_that_are_no_answer_follow_the_option() {
    let limiter = limiter(
        r#"{"service": {"cluster": "rls", "domain": "a", "descriptors": [["ip"]], "onFailure": "deny"}}"#,
    );
    let service = limiter.service().unwrap();
    for answer in [None, Some(&b""[..]), Some(&[0xff]), Some(&[0x08, 0x63])] {
        let verdict = limiter.after(service, answer, Verdict::default());
        assert!(verdict.service_failed, "{answer:?}");
        assert_eq!(verdict.refusal.unwrap().status, 503, "{answer:?}");
    }
    let passes = limiter.after(service, Some(&[0x08, 0x01]), Verdict::default());
    assert_eq!(passes, Verdict::default());
}

#[test]
fn values_that_are_no_text_are_told_apart() {
    let limiter = limiter(
        r#"{"service": {"cluster": "rls", "domain": "a", "descriptors": [[{"header": "x"}]]}}"#,
    );
    let service = limiter.service().unwrap();
    let values: [&[u8]; 6] = [b"", b"\xff", b"\xfe", b"a\0", &[b'a'; 257], &[b'a'; 258]];
    let mut messages: Vec<_> = values
        .iter()
        .map(|value| Example {
            headers: vec![("x", value.to_vec())],
            ..Example::default()
        })
        .map(|request| service.request(&request).unwrap())
        .collect();
    // An empty value is one that is not there.
    assert_eq!(messages[0], service.request(&Example::default()).unwrap());
    assert!(messages.iter().all(|message| message.len() < 128));
    messages.sort();
    messages.dedup();
    assert_eq!(messages.len(), values.len());
}
