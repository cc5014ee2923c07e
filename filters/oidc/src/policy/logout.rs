//! The end of a session.

use tidegate_sdk::Reply;

use super::login::with_query;
use super::metadata::Metadata;
use super::reply::{not_stored, redirect, with_cookies};
use super::{Head, Policy, ReturnTo};

impl Policy {
    /// The end of a session: here, and with the provider where it has an address for that.
    #[must_use]
    pub fn log_out(&self, head: &Head, metadata: Option<&Metadata>) -> Reply {
        if ![&b"GET"[..], b"HEAD", b"POST"].contains(&&head.method[..]) {
            return not_stored(405, "GET or POST logs out.\n", "oidc_logout")
                .header("allow", "GET, HEAD, POST");
        }
        let end_session = metadata.and_then(|metadata| metadata.end_session.as_ref());
        let reply = match (end_session, &self.logout.return_to) {
            (Some(end_session), return_to) => {
                let session = self
                    .cookies
                    .session(&head.cookies)
                    .and_then(|sealed| self.open_session(&sealed));
                let id_token = session.and_then(|session| session.id_token);
                let return_to = return_to.as_ref().map(|to| to.address(head));
                let mut pairs = vec![("client_id", self.client.as_str())];
                pairs.extend(id_token.as_deref().map(|token| ("id_token_hint", token)));
                pairs.extend(
                    return_to
                        .as_deref()
                        .map(|to| ("post_logout_redirect_uri", to)),
                );
                redirect(303, with_query(end_session, &pairs), "oidc_logout")
            }
            (None, Some(ReturnTo::Path(to) | ReturnTo::Address(to))) => {
                redirect(303, to.clone(), "oidc_logout")
            }
            (None, None) => not_stored(200, "You are logged out.\n", "oidc_logout"),
        };
        with_cookies(reply, self.cookies.clear(&head.cookies))
    }

    /// Whether a log-out goes on to the provider.
    #[must_use]
    pub fn ends_session(&self) -> bool {
        self.logout.end_session
    }
}
