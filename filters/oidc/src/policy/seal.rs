//! What browsers keep for us: encrypted and authenticated, with a key that can be changed while old cookies still open.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// Bytes of a nonce: so long that random ones never meet.
pub const NONCE: usize = 24;

/// Seals and opens cookies of one client at one provider.
pub struct Seal {
    /// The first seals, all of them open.
    ciphers: Vec<XChaCha20Poly1305>,
    /// Whose cookies these are: with one key for several filters, a session of one is none for another.
    owner: Vec<u8>,
}

/// What a cookie is for. One kind is never taken for the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A log-in under way.
    Login,
    /// A session.
    Session,
}

impl Seal {
    /// One with these secrets, the newest first.
    #[must_use]
    pub fn new(secrets: &[Vec<u8>], issuer: &str, client: &str) -> Self {
        let mut owner = Vec::new();
        for part in [issuer, client] {
            owner.extend_from_slice(part.as_bytes());
            owner.push(0);
        }
        Self {
            ciphers: secrets.iter().map(|secret| cipher(secret)).collect(),
            owner,
        }
    }

    /// Seals a text with random bytes that were never used before, in base64url.
    #[must_use]
    pub fn seal(&self, purpose: Purpose, nonce: [u8; NONCE], text: &[u8]) -> String {
        let aad = self.aad(purpose);
        let payload = Payload {
            msg: text,
            aad: &aad,
        };
        let sealed = self.ciphers[0]
            .encrypt(XNonce::from_slice(&nonce), payload)
            .expect("a cookie is not hundreds of gigabytes long");
        BASE64.encode([&nonce[..], &sealed].concat())
    }

    /// The text; `None` for what was not sealed here for this purpose.
    #[must_use]
    pub fn open(&self, purpose: Purpose, sealed: &str) -> Option<Vec<u8>> {
        let bytes = BASE64.decode(sealed).ok()?;
        let (nonce, sealed) = bytes.split_at_checked(NONCE)?;
        let aad = self.aad(purpose);
        self.ciphers.iter().find_map(|cipher| {
            let payload = Payload {
                msg: sealed,
                aad: &aad,
            };
            cipher.decrypt(XNonce::from_slice(nonce), payload).ok()
        })
    }

    fn aad(&self, purpose: Purpose) -> Vec<u8> {
        let purpose = match purpose {
            Purpose::Login => &b"tidegate oidc login 1\0"[..],
            Purpose::Session => b"tidegate oidc session 1\0",
        };
        [purpose, &self.owner].concat()
    }
}

/// A secret of any length becomes a key, and one that nothing else uses.
fn cipher(secret: &[u8]) -> XChaCha20Poly1305 {
    let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(secret).expect("any length is fine");
    mac.update(b"tidegate oidc cookie key 1");
    XChaCha20Poly1305::new(&mac.finalize().into_bytes())
}

/// Keys stay out of what is printed.
impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seal")
            .field("keys", &self.ciphers.len())
            .finish_non_exhaustive()
    }
}
