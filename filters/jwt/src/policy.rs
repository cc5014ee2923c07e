//! Which token a request carries, whose it is, and whether it is right.
//!
//! ```text
//!   request ── place ── token (three parts, JSON) ── provider by issuer ── key by kid and type ── signature ── claims ── headers
//! ```
//!
//! Pure: headers come in as bytes, keys and time as values. RFC 7515 (JWS), 7517 (JWK), 7518 (algorithms), 7519 (JWT), 8725 (best
//! current practices).

mod algorithm;
mod claims;
mod config;
pub mod jwks;
mod key;
mod places;
mod rsa;
#[cfg(test)]
mod tests;
mod token;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use tidegate_sdk::Reply;

pub use claims::Claims;
pub use token::Token;

use algorithm::Algorithm;
use claims::Rules;
use jwks::{KeySet, Keys};
use places::Place;

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
    issuer: Option<String>,
    algorithms: Vec<Algorithm>,
    keys: Keys,
    rules: Rules,
    /// Headers and the claims that they carry upstream.
    claim_headers: Vec<(String, String)>,
    payload_header: Option<String>,
    claim_properties: Vec<String>,
    /// Claims by the digests of tokens whose signatures were right.
    verified: RefCell<BTreeMap<token::Digest, Rc<Claims>>>,
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// It carries no token.
    Missing,
    /// It carries more than one.
    Several,
    /// It is no token, or one that nobody here vouches for; holds what is wrong with it.
    Invalid(&'static str),
    /// The token is right, and not enough; holds the scopes that are wanted.
    Scope(String),
    /// A claim does not have the value that is wanted.
    Claim,
    /// Keys cannot be had.
    NoKeys,
}

/// A change of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// A header, or `:path`, gets this value.
    Set(String, Vec<u8>),
    /// A header goes.
    Remove(String),
}

/// Tokens that are remembered for each provider and VM.
const MAX_VERIFIED: usize = 1024;

// === impl Policy ===

impl Policy {
    /// The providers.
    #[must_use]
    pub fn providers(&self) -> &[Provider] {
        &self.providers
    }

    /// Whether a request without any token passes.
    #[must_use]
    pub fn lets_anonymous_pass(&self) -> bool {
        self.optional
    }

    /// The token of a request.
    ///
    /// # Errors
    ///
    /// More than one, or one that cannot be read.
    pub fn find(
        &self,
        target: &[u8],
        values: &dyn Fn(&str) -> Vec<Vec<u8>>,
    ) -> Result<Option<Token>, Denied> {
        let found = self
            .places
            .iter()
            .enumerate()
            .find_map(|(index, place)| Some((index, place.find(target, values)?)));
        match found {
            None => Ok(None),
            // What this filter reads need not be what the upstream reads.
            Some((_, tokens)) if tokens.len() > 1 => Err(Denied::Several),
            Some((place, tokens)) => {
                let text = tokens.into_iter().next().unwrap_or_default();
                // Hosts may join headers that arrive twice; no token has a comma in it.
                if text.contains(&b',') {
                    return Err(Denied::Several);
                }
                Token::parse(&text, place)
                    .map(Some)
                    .map_err(Denied::Invalid)
            }
        }
    }

    /// The provider that a token names.
    ///
    /// # Errors
    ///
    /// None of them issues such tokens.
    pub fn provider_of(&self, token: &Token) -> Result<usize, Denied> {
        let issuer = token.issuer();
        let named =
            |provider: &Provider| provider.issuer.is_some() && provider.issuer.as_deref() == issuer;
        let any = |provider: &Provider| provider.issuer.is_none();
        self.providers
            .iter()
            .position(named)
            .or_else(|| self.providers.iter().position(any))
            .ok_or(Denied::Invalid("The issuer is not known"))
    }

    /// What changes in a request with this verified token.
    #[must_use]
    pub fn edits(&self, provider: &Provider, token: &Token, claims: &Claims) -> Vec<Edit> {
        let mut edits = self.cleared();
        for (header, claim) in &provider.claim_headers {
            if let Some(value) = claims.header_value(claim) {
                edits.push(Edit::Set(header.clone(), value.into_bytes()));
            }
        }
        if let Some(header) = &provider.payload_header {
            edits.push(Edit::Set(header.clone(), token.payload().to_vec()));
        }
        if self.strip {
            edits.extend(self.places[token.place()].strip());
        }
        edits
    }

    /// What changes in a request that passes without a token: nothing of what tokens give may come from the client.
    #[must_use]
    pub fn edits_without_token(&self) -> Vec<Edit> {
        self.cleared()
    }

    fn cleared(&self) -> Vec<Edit> {
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
            Denied::Invalid(text) => (401, invalid("invalid_token", text), text),
            Denied::Scope(scopes) => {
                let text = "The token lacks a scope";
                let error = invalid("insufficient_scope", text);
                (403, format!("{error}, scope=\"{scopes}\""), text)
            }
            Denied::Claim => {
                let text = "The token lacks a claim";
                (403, invalid("insufficient_scope", text), text)
            }
            Denied::NoKeys => {
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
    /// Its keys.
    #[must_use]
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Whether one of `keys` has signed the token.
    ///
    /// # Errors
    ///
    /// An algorithm that this provider does not use, no key, a wrong signature.
    pub fn check_signature(&self, keys: &KeySet, token: &Token) -> Result<(), Denied> {
        let algorithm = self
            .algorithms
            .iter()
            .find(|algorithm| algorithm.name() == token.algorithm())
            .ok_or(Denied::Invalid("The algorithm is not allowed"))?;
        match keys.verify(*algorithm, token) {
            true => Ok(()),
            false => Err(Denied::Invalid(
                "The signature is wrong or its key not known",
            )),
        }
    }

    /// Whether the claims are such as are wanted at `now`, time since the epoch.
    ///
    /// # Errors
    ///
    /// What is wrong with them.
    pub fn check_claims(&self, claims: &Claims, now: Duration) -> Result<(), Denied> {
        self.rules.check(claims, self.issuer.as_deref(), now)
    }

    /// The claims that others may see as properties.
    #[must_use]
    pub fn properties<'a>(&'a self, claims: &Claims) -> Vec<(&'a str, String)> {
        let names = self.claim_properties.iter().map(String::as_str);
        names
            .filter_map(|name| Some((name, claims.header_value(name)?)))
            .collect()
    }

    /// The claims of a token whose signature was found right before.
    #[must_use]
    pub fn remembered(&self, token: &Token) -> Option<Rc<Claims>> {
        self.verified.borrow().get(&token.digest()).cloned()
    }

    /// Remembers that the signature is right.
    pub fn remember(&self, token: &Token) -> Rc<Claims> {
        let claims = Rc::new(token.claims().clone());
        let mut verified = self.verified.borrow_mut();
        if verified.len() >= MAX_VERIFIED {
            verified.clear();
        }
        verified.insert(token.digest(), Rc::clone(&claims));
        claims
    }

    /// Forgets all of it: the keys have changed.
    pub fn forget(&self) {
        self.verified.borrow_mut().clear();
    }
}
