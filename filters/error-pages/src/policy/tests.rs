use super::*;

#[test]
fn what_clients_like() {
    for (accept, content_type, expected) in [
        ("", "text/html", 1000),
        ("text/html", "text/html; charset=utf-8", 1000),
        ("TEXT/HTML;q=0.5, */*;q=0.1", "text/html", 500),
        ("text/*;q=0.7", "text/plain", 700),
        ("application/json", "text/html", 0),
        ("text/html;q=0, */*", "text/html", 0),
        ("*/*;q=0.25", "application/json", 250),
        ("text/html;q=nonsense", "text/html", 0),
        ("text/html;q=7", "text/html", 0),
    ] {
        assert_eq!(
            quality(accept.as_bytes(), content_type),
            expected,
            "{accept} {content_type}"
        );
    }
}

#[test]
fn errors_name_the_field() {
    for (text, field) in [
        (r#"{"statuses": []}"#, "/statuses"),
        (r#"{"statuses": [404]}"#, ""),
        (
            r#"{"statuses": [200], "pages": [{"body": ""}]}"#,
            "/statuses/0",
        ),
        (
            r#"{"statuses": ["3xx"], "pages": [{"body": ""}]}"#,
            "/statuses/0",
        ),
        (
            r#"{"statuses": [404], "pages": [{"body": "", "statuses": [1]}]}"#,
            "/pages/0/statuses/0",
        ),
        (
            r#"{"statuses": [404], "pages": [{"body": "", "contentType": "a\r\nb"}]}"#,
            "/pages/0/contentType",
        ),
        (
            r#"{"statuses": [404], "backend": {"cluster": "a", "url": "/x"}}"#,
            "/backend/url",
        ),
        (
            r#"{"statuses": [404], "backend": {"cluster": "a", "url": "http://a/", "setHeaders": {"a b": ""}}}"#,
            "/backend/setHeaders/a b",
        ),
        (
            r#"{"statuses": [404], "pages": [{"body": ""}], "keepHeaders": ["Content-Length"]}"#,
            "/keepHeaders/0",
        ),
    ] {
        assert_eq!(
            Policy::parse(text.as_bytes()).unwrap_err().pointer(),
            field,
            "{text}"
        );
    }
}
