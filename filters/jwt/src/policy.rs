//! Which token a request carries, whose it is, and what becomes of the request.
//!
//! ```text
//!   request ── place ── token (three parts, JSON) ── provider by issuer ── tidegate_jose::Verifier ── headers
//! ```
//!
//! Pure: headers come in as bytes. What makes a token right is in `tidegate_jose`.

mod config;
#[cfg(test)]
mod tests;

use tidegate_jose::{Claims, Denied as Wrong, Token, Verifier};
use tidegate_sdk::Reply;
use tidegate_sdk::credential::{Edit, Place};

/// A compiled configuration.
#[derive(Debug)]
pub struct Policy {
    providers: Vec<Provider>,
    places: Vec<Place>,
    optional: bool,
    realm: String,
    strip: bool,
}

/// Somebody who issues tokens.
#[derive(Debug)]
pub struct Provider {
    verifier: Verifier,
    /// Headers and the claims that they carry upstream.
    claim_headers: Vec<(String, String)>,
    payload_header: Option<String>,
    claim_properties: Vec<String>,
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// It carries no token.
    Missing,
    /// It carries more than one.
    Several,
    /// Its token is not believed, or not enough.
    Token(Wrong),
}

// === impl Policy ===

impl Policy {
    /// Whether a request without any token passes.
    #[must_use]
    pub fn lets_anonymous_pass(&self) -> bool {
        self.optional
    }

    /// The token of a request and the index of its place.
    ///
    /// # Errors
    ///
    /// More than one, or one that cannot be read.
    pub fn find(
        &self,
        target: &[u8],
        values: &dyn Fn(&str) -> Vec<Vec<u8>>,
    ) -> Result<Option<(usize, Token)>, Denied> {
        let mut found = None;
        for (index, place) in self.places.iter().enumerate() {
            let Some(tokens) = place.find(target, values) else {
                continue;
            };
            match &found {
                None => found = Some((index, tokens)),
                Some((first, _)) if self.places[*first].is_in_header_of(place) => {}
                // What this filter reads need not be what the upstream reads.
                Some(_) => return Err(Denied::Several),
            }
        }
        match found {
            None => Ok(None),
            Some((_, tokens)) if tokens.len() > 1 => Err(Denied::Several),
            Some((place, tokens)) => {
                let text = tokens.into_iter().next().unwrap_or_default();
                // Hosts may join headers that arrive twice; no token has a comma in it.
                if text.contains(&b',') {
                    return Err(Denied::Several);
                }
                match Token::parse(&text) {
                    Ok(token) => Ok(Some((place, token))),
                    Err(problem) => Err(Denied::Token(Wrong::Invalid(problem))),
                }
            }
        }
    }

    /// The provider that a token names.
    ///
    /// # Errors
    ///
    /// None of them issues such tokens.
    pub fn provider_of(&self, token: &Token) -> Result<&Provider, Wrong> {
        let issuer = token.issuer();
        let named = |provider: &&Provider| {
            provider.verifier.issuer().is_some() && provider.verifier.issuer() == issuer
        };
        let any = |provider: &&Provider| provider.verifier.issuer().is_none();
        self.providers
            .iter()
            .find(named)
            .or_else(|| self.providers.iter().find(any))
            .ok_or(Wrong::Invalid("The issuer is not known"))
    }

    /// What changes in a request with this verified token, found in `place`.
    #[must_use]
    pub fn edits(
        &self,
        provider: &Provider,
        place: usize,
        token: &Token,
        claims: &Claims,
    ) -> Vec<Edit> {
        let mut edits = self.edits_without_token();
        for (header, claim) in &provider.claim_headers {
            if let Some(value) = claims.header_value(claim) {
                edits.push(Edit::Set(header.clone(), value.into_bytes()));
            }
        }
        if let Some(header) = &provider.payload_header {
            edits.push(Edit::Set(header.clone(), token.payload().to_vec()));
        }
        if self.strip
            && let Place::Header { name, .. } = &self.places[place]
        {
            edits.push(Edit::Remove(name.clone()));
        }
        edits
    }

    /// What changes in a request that passes without a token: nothing of what tokens give may come from the client.
    #[must_use]
    pub fn edits_without_token(&self) -> Vec<Edit> {
        let headers = self.providers.iter().flat_map(|provider| {
            let claims = provider.claim_headers.iter().map(|(header, _)| header);
            claims.chain(&provider.payload_header)
        });
        headers.cloned().map(Edit::Remove).collect()
    }

    /// The refusal (RFC 6750 section 3).
    #[must_use]
    pub fn reply(&self, denied: Denied) -> Reply {
        let realm = &self.realm;
        let (status, error, text) = match denied {
            Denied::Missing => (401, String::new(), "A token is missing"),
            Denied::Several => (
                400,
                invalid("invalid_request", "More than one token"),
                "More than one token",
            ),
            Denied::Token(Wrong::Invalid(text)) => (401, invalid("invalid_token", text), text),
            Denied::Token(Wrong::Scope(scopes)) => {
                let text = "The token lacks a scope";
                let error = invalid("insufficient_scope", text);
                (403, format!("{error}, scope=\"{scopes}\""), text)
            }
            Denied::Token(Wrong::Claim) => {
                let text = "The token lacks a claim";
                (403, invalid("insufficient_scope", text), text)
            }
            Denied::Token(Wrong::NoKeys) => {
                return Reply::new(503)
                    .body("The keys of the token's issuer cannot be had.\n")
                    .details("jwt_no_keys");
            }
        };
        Reply::new(status)
            .header(
                "www-authenticate",
                format!("Bearer realm=\"{realm}\"{error}"),
            )
            .body(format!("{text}.\n"))
            .details("jwt_refused")
    }
}

fn invalid(error: &str, description: &str) -> String {
    format!(", error=\"{error}\", error_description=\"{description}\"")
}

// === impl Provider ===

impl Provider {
    /// What believes its tokens.
    #[must_use]
    pub fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    /// The claims that others may see as properties.
    #[must_use]
    pub fn properties<'a>(&'a self, claims: &Claims) -> Vec<(&'a str, String)> {
        let names = self.claim_properties.iter().map(String::as_str);
        names
            .filter_map(|name| Some((name, claims.header_value(name)?)))
            .collect()
    }
}
