//! Tokens: who reads whose, and what becomes of those that are changed, old, or of another place.

use tidegate_model::{
    Backend, BackendProtocol, CookieAttributes, LoadBalancer, RuleOrigin, SameSite, Timeouts,
    WeightedBackend,
};

use super::*;

const NOW: SystemTime = UNIX_EPOCH;

fn endpoint(port: u16) -> Endpoint {
    Endpoint::Address(([10, 0, 0, 1], port).into())
}

fn backend(key: &str, ports: &[u16], weight: u32) -> WeightedBackend {
    let backend = Backend {
        slot: 0,
        key: key.into(),
        protocol: BackendProtocol::Http1,
        tls: None,
        endpoints: ports.iter().copied().map(endpoint).collect(),
        load_balancer: LoadBalancer::RoundRobin,
        connect_timeout: None,
    };
    WeightedBackend {
        target: BackendTarget::Backend(Arc::new(backend)),
        weight,
        filters: Vec::new(),
    }
}

fn rule(name: &str, backends: Vec<WeightedBackend>) -> Rule {
    Rule {
        origin: RuleOrigin::new("HTTPRoute", "shop", name, 0, None),
        filters: Vec::new(),
        backends,
        timeouts: Timeouts::default(),
        retry: None,
        session: None,
        access_log: true,
    }
}

const CLEAR: Client<'static> = Client {
    is_secure: false,
    agent: None,
};

fn cookie(limit: Option<Duration>, permanent: bool) -> Session {
    Session {
        of_backend: false,
        only_followed: false,
        carrier: SessionCarrier::Cookie {
            name: "sid".into(),
            path: "/".into(),
            permanent,
            attributes: CookieAttributes::default(),
        },
        absolute_timeout: limit,
    }
}

fn header() -> Session {
    Session {
        of_backend: false,
        only_followed: false,
        carrier: SessionCarrier::Header(HeaderName::from_static("x-session")),
        absolute_timeout: None,
    }
}

/// The token for an endpoint, in a header.
fn token(rule: &Rule, backend: &str, port: u16) -> String {
    let begun = begin(rule, &header(), backend, &endpoint(port), NOW, CLEAR);
    let (_, value) = begun.expect("a token");
    value.to_str().expect("text").to_owned()
}

fn bring(name: &'static str, value: &str) -> HeaderMap {
    let value = HeaderValue::from_str(value).expect("a value");
    HeaderMap::from_iter([(HeaderName::from_static(name), value)])
}

fn lookup(rule: &Rule, token: &str) -> Option<Bound> {
    let table = SessionTable::new(rule);
    table
        .find(&header(), &bring("x-session", token), NOW)
        .cloned()
}

#[test]
fn every_replica_reads_a_token_and_none_without_its_endpoint_does() {
    let one = rule(
        "web",
        vec![
            backend("shop/a:80", &[1, 2], 1),
            backend("shop/b:80", &[3], 0),
        ],
    );
    let token = token(&one, "shop/b:80", 3);
    assert!(!token.contains("0a000001") && !token.contains("10.0.0.1"));
    let bound = Some(Bound {
        backend: 1,
        endpoint: endpoint(3),
    });
    assert_eq!(lookup(&one, &token), bound, "a weight of 0 does not matter");
    // Another replica, whose endpoints came in another order.
    let other = rule(
        "web",
        vec![
            backend("shop/b:80", &[4, 3], 1),
            backend("shop/a:80", &[2], 1),
        ],
    );
    assert_eq!(lookup(&other, &token).map(|bound| bound.backend), Some(0));
    let without = rule(
        "web",
        vec![backend("shop/a:80", &[3], 1), backend("shop/b:80", &[4], 1)],
    );
    assert_eq!(
        lookup(&without, &token),
        None,
        "the endpoint of another backend"
    );
    let another = rule("admin", vec![backend("shop/b:80", &[3], 1)]);
    assert_eq!(lookup(&another, &token), None, "of another rule");
}

#[test]
fn a_changed_token_is_none() {
    let rule = rule("web", vec![backend("shop/a:80", &[1, 2], 1)]);
    let token = token(&rule, "shop/a:80", 1);
    assert!(lookup(&rule, &token).is_some());
    for at in 0..token.len() {
        let mut changed = token.clone().into_bytes();
        changed[at] = if changed[at] == b'0' { b'1' } else { b'0' };
        let changed = String::from_utf8(changed).expect("text");
        assert_eq!(lookup(&rule, &changed), None, "{at}");
    }
    for odd in [
        "",
        "x",
        &token[1..],
        &format!("{token}0"),
        &token.replace(char::is_numeric, "ä"),
    ] {
        let headers = HeaderMap::from_iter([(
            HeaderName::from_static("x-session"),
            HeaderValue::from_bytes(odd.as_bytes()).expect("a value"),
        )]);
        let table = SessionTable::new(&rule);
        assert_eq!(table.find(&header(), &headers, NOW), None, "{odd}");
    }
}

#[test]
fn a_session_ends_when_its_time_is_over() {
    let rule = rule("web", vec![backend("shop/a:80", &[1], 1)]);
    let session = cookie(Some(Duration::from_secs(60)), false);
    let token = token(&rule, "shop/a:80", 1);
    let headers = bring("cookie", &format!("a=b; sid={token}"));
    let table = SessionTable::new(&rule);
    let at = |seconds| table.find(&session, &headers, NOW + Duration::from_secs(seconds));
    assert!(at(59).is_some());
    assert!(at(60).is_none());
    let endless = cookie(None, false);
    let much_later = NOW + Duration::from_secs(1 << 31);
    assert!(table.find(&endless, &headers, much_later).is_some());
}

#[test]
fn cookies_are_found_by_their_name_and_set_with_what_protects_them() {
    let rule = rule("web", vec![backend("shop/a:80", &[1], 1)]);
    let token = token(&rule, "shop/a:80", 1);
    let table = SessionTable::new(&rule);
    let session = cookie(Some(Duration::from_millis(90_500)), true);
    for (cookies, found) in [
        (format!("sid={token}"), true),
        (format!("a=1;sid={token};b=2"), true),
        (format!("sid=old; sid={token}"), true),
        (format!("xsid={token}"), false),
        (format!("sid2={token}"), false),
        (token.clone(), false),
    ] {
        let seen = table.find(&session, &bring("cookie", &cookies), NOW);
        assert_eq!(seen.is_some(), found, "{cookies}");
    }
    let set = |session: &Session, secure| {
        let client = Client {
            is_secure: secure,
            ..CLEAR
        };
        let begun = begin(&rule, session, "shop/a:80", &endpoint(1), NOW, client);
        let (name, value) = begun.expect("a cookie");
        assert_eq!(name, header::SET_COOKIE);
        value.to_str().expect("text").to_owned()
    };
    assert_eq!(
        set(&session, true),
        format!("sid={token}; Path=/; HttpOnly; SameSite=Lax; Secure; Max-Age=91")
    );
    assert_eq!(
        set(&cookie(Some(Duration::from_secs(9)), false), false),
        format!("sid={token}; Path=/; HttpOnly; SameSite=Lax")
    );
}

#[test]
fn attributes_of_a_cookie_are_said_as_asked() {
    let rule = rule("web", vec![backend("shop/a:80", &[1], 1)]);
    let set = |attributes: CookieAttributes, agent| {
        let mut session = cookie(None, false);
        if let SessionCarrier::Cookie {
            attributes: own, ..
        } = &mut session.carrier
        {
            *own = attributes;
        }
        let client = Client { agent, ..CLEAR };
        let (_, value) =
            begin(&rule, &session, "shop/a:80", &endpoint(1), NOW, client).expect("a cookie");
        let text = value.to_str().expect("text");
        text.split_once("; ").expect("attributes").1.to_owned()
    };
    let all = CookieAttributes {
        domain: Some("a.test".into()),
        same_site: SameSite::None,
        same_site_where_known: true,
        secure: true,
        expires: Some(Duration::from_secs(60)),
    };
    let expires = jiff::Timestamp::try_from(NOW + Duration::from_secs(60)).expect("a time");
    let expires = expires.strftime("%a, %d %b %Y %H:%M:%S GMT");
    assert_eq!(
        set(
            all.clone(),
            Some("Mozilla/5.0 Chrome/120.0.0.0 Safari/537.36")
        ),
        format!("Path=/; HttpOnly; SameSite=None; Secure; Domain=a.test; Expires={expires}")
    );
    for old in [
        "Mozilla/5.0 (X11) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/60.0.1 Safari/537.36",
        "Mozilla/5.0 (iPhone; CPU iPhone OS 12_1 like Mac OS X) AppleWebKit/605.1.15",
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_14_4) AppleWebKit/605.1.15 Version/12.1 Safari/605.1.15",
    ] {
        assert!(!set(all.clone(), Some(old)).contains("SameSite"), "{old}");
    }
    let unsaid = CookieAttributes {
        same_site: SameSite::Unsaid,
        ..CookieAttributes::default()
    };
    assert_eq!(set(unsaid, None), "Path=/; HttpOnly");
}
