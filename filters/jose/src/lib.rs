//! Verification of signed JSON Web Tokens, for the filters `jwt` and `oidc`.
//!
//! ```text
//!   text ── Token (three parts, JSON, not believed) ── Verifier: keys due? ── key by kid and type ── signature ── Rules ── Claims
//!                                                          │
//!                                              Store: fetched, kept, fetched again; one fetch for all who wait
//! ```
//!
//! RFC 7515 (JWS), 7517 (JWK), 7518 (algorithms), 7519 (JWT), 8725 (best current practices). Encrypted tokens (JWE) are none.

mod algorithm;
mod claims;
mod jwks;
mod key;
mod rsa;
#[cfg(test)]
mod tests;
mod token;
mod verifier;

pub use algorithm::Algorithm;
pub use claims::{Claims, Rules};
pub use jwks::{KeySet, Keys, Remote, Store};
pub use token::Token;
pub use verifier::Verifier;

/// Why a token is not believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// It is no token, or one that nobody here vouches for; holds what is wrong with it.
    Invalid(&'static str),
    /// The token is right, and not enough; holds the scopes that are wanted.
    Scope(String),
    /// A claim does not have the value that is wanted.
    Claim,
    /// Keys cannot be had.
    NoKeys,
}
