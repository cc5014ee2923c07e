//! `affinity: cookie` and `session-cookie-*`: sessions of a Service.
//!
//! As with ingress-nginx they belong to the Service: a client that got its cookie at one path keeps its endpoint wherever the Service
//! stands, also where an Ingress says nothing of affinity and so gives no cookies.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tidegate_model::{CookieAttributes, Rule, SameSite, Session, SessionCarrier};

use super::canary::service;
use super::reader::Reader;
use crate::translate::ingress::Entry;

/// ingress-nginx's own default.
const NAME: &str = "INGRESSCOOKIE";

/// A session cookie; its path may follow from the rule's.
#[derive(Debug)]
pub(super) struct Affinity {
    name: Arc<str>,
    path: Option<Arc<str>>,
    max_age: Option<Duration>,
    attributes: CookieAttributes,
}

pub(super) fn read(reader: &mut Reader<'_>) -> Option<Affinity> {
    let wanted = reader.text("affinity").is_some();
    if reader.flag("session-cookie-change-on-failure") == Some(false) {
        reader.warn(
            "session-cookie-change-on-failure",
            "false is not done here: a session always moves when its endpoint cannot be reached",
        );
    }
    let mut seconds = |name| {
        let seconds = reader.number(name).filter(|seconds| *seconds > 0);
        seconds.map(|seconds| Duration::from_secs(seconds.into()))
    };
    let (max_age, expires) = (
        seconds("session-cookie-max-age"),
        seconds("session-cookie-expires"),
    );
    let same_site = match reader.text("session-cookie-samesite") {
        Some("None") => SameSite::None,
        Some("Lax") => SameSite::Lax,
        Some("Strict") => SameSite::Strict,
        _ => SameSite::Unsaid,
    };
    let affinity = Affinity {
        name: reader.text("session-cookie-name").unwrap_or(NAME).into(),
        path: reader.text("session-cookie-path").map(Into::into),
        max_age,
        attributes: CookieAttributes {
            domain: reader.text("session-cookie-domain").map(Into::into),
            same_site,
            same_site_where_known: reader.flag("session-cookie-conditional-samesite-none")
                == Some(true),
            secure: reader.flag("session-cookie-secure") == Some(true),
            expires,
        },
    };
    wanted.then_some(affinity)
}

impl Affinity {
    /// The session of a rule for this path.
    pub(super) fn session(&self, path: &str) -> Session {
        // What would end the cookie early cannot stand in it.
        let is_sound = path
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b';');
        let own = if is_sound { path } else { "/" };
        Session {
            carrier: SessionCarrier::Cookie {
                name: self.name.clone(),
                path: self.path.clone().unwrap_or_else(|| own.into()),
                permanent: self.max_age.is_some(),
                attributes: self.attributes.clone(),
            },
            absolute_timeout: self.max_age,
            of_backend: true,
            only_followed: false,
        }
    }
}

/// What Ingresses give the clients of their Services.
pub(super) struct Sessions(HashMap<Arc<str>, Session>);

impl Sessions {
    /// Of all Ingresses; of several for one Service the last counts.
    pub(super) fn of(entries: &[Entry<'_>]) -> Self {
        let mut sessions = HashMap::new();
        for entry in entries {
            let affinity = entry
                .annotated
                .as_ref()
                .and_then(|annotated| annotated.location.affinity.as_ref());
            let Some(affinity) = affinity else {
                continue;
            };
            // Where it is only followed, its cookie's path says nothing.
            let session = Session {
                only_followed: true,
                ..affinity.session("/")
            };
            for plan in &entry.plans {
                if let Some(service) = service(&plan.entry.rule) {
                    sessions.insert(service.clone(), session.clone());
                }
            }
        }
        Self(sessions)
    }

    /// For rules of Ingresses that give no sessions themselves.
    pub(super) fn followed(&self, rule: &Rule) -> Option<Session> {
        self.0.get(service(rule)?).cloned()
    }
}
