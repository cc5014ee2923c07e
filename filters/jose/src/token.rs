//! A token in compact form, read and not yet believed.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::Claims;

pub(crate) type Digest = [u8; 32];

/// A token.
#[derive(Debug)]
pub struct Token {
    header: Header,
    claims: Claims,
    /// All of it.
    text: Vec<u8>,
    /// Where the payload begins, and where the signature does.
    payload: usize,
    signed: usize,
    signature: Vec<u8>,
}

#[derive(Debug, Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// Extensions that must be understood: none is.
    crit: Option<serde::de::IgnoredAny>,
}

/// Longest token that is read, in bytes.
const MAX_TOKEN: usize = 16 * 1024;

impl Token {
    /// Reads a token without believing anything.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn parse(text: &[u8]) -> Result<Self, &'static str> {
        if text.len() > MAX_TOKEN {
            return Err("The token is too long");
        }
        let mut dots = text.iter().enumerate().filter(|(_, byte)| **byte == b'.');
        let positions = (dots.next(), dots.next(), dots.next());
        let (Some((first, _)), Some((second, _)), None) = positions else {
            return Err("The token is malformed");
        };
        let decode = |part: &[u8]| BASE64.decode(part).map_err(|_| "The token is malformed");
        let header = decode(&text[..first])?;
        let header: Header =
            serde_json::from_slice(&header).map_err(|_| "The token's header is malformed")?;
        if header.crit.is_some() {
            return Err("The token has extensions that are not known here");
        }
        let payload = decode(&text[first + 1..second])?;
        let claims = Claims::parse(&payload).ok_or("The token's claims are malformed")?;
        Ok(Self {
            signature: decode(&text[second + 1..])?,
            header,
            claims,
            text: text.to_vec(),
            payload: first + 1,
            signed: second,
        })
    }

    /// `alg`.
    #[must_use]
    pub fn algorithm(&self) -> &str {
        &self.header.alg
    }

    /// `kid`.
    #[must_use]
    pub fn key_id(&self) -> Option<&str> {
        self.header.kid.as_deref()
    }

    /// `iss`.
    #[must_use]
    pub fn issuer(&self) -> Option<&str> {
        self.claims.text("iss")
    }

    pub(crate) fn claims(&self) -> &Claims {
        &self.claims
    }

    /// What is signed.
    pub(crate) fn signed(&self) -> &[u8] {
        &self.text[..self.signed]
    }

    pub(crate) fn signature(&self) -> &[u8] {
        &self.signature
    }

    /// The claims as they stand in the token, in base64url.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.text[self.payload..self.signed]
    }

    /// Of all of it, the signature too: two signatures of the same claims are two tokens.
    pub(crate) fn digest(&self) -> Digest {
        Sha256::digest(&self.text).into()
    }
}
