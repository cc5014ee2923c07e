//! One key of a JWK set, and the check of a signature with it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use hmac::{Hmac, Mac};
use p256::ecdsa::signature::hazmat::PrehashVerifier;
use serde::Deserialize;
use sha2::{Digest, Sha256, Sha384, Sha512};

use crate::algorithm::Algorithm;
use crate::rsa::{self, Hash};

/// A key whose type decides which algorithms it can be used with: a public key is never a secret.
pub(crate) struct Key {
    id: Option<String>,
    /// `alg`, if the set says it.
    algorithm: Option<String>,
    material: Material,
}

enum Material {
    Secret(Vec<u8>),
    Rsa(Box<rsa::PublicKey>),
    P256(p256::ecdsa::VerifyingKey),
    P384(p384::ecdsa::VerifyingKey),
    P521(p521::ecdsa::VerifyingKey),
    Ed25519(ed25519_dalek::VerifyingKey),
}

/// A JSON Web Key (RFC 7517) as far as signatures need it.
#[derive(Deserialize)]
pub(crate) struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    r#use: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    k: Option<String>,
}

// === impl Jwk ===

impl Jwk {
    /// Whether it is for checking signatures.
    fn is_for_signatures(&self) -> bool {
        let usage = self.r#use.as_deref().is_none_or(|usage| usage == "sig");
        let operations = self.key_ops.as_ref();
        usage
            && operations
                .is_none_or(|operations| operations.iter().any(|operation| operation == "verify"))
    }

    /// The key; `Ok(None)` for one of another purpose or kind, which a set may hold.
    pub(crate) fn compile(&self) -> Result<Option<Key>, &'static str> {
        if !self.is_for_signatures() {
            return Ok(None);
        }
        let material = match (self.kty.as_str(), self.crv.as_deref()) {
            ("oct", _) => Material::Secret(bytes(self.k.as_ref())?),
            ("RSA", _) => {
                let key = rsa::PublicKey::new(&bytes(self.n.as_ref())?, &bytes(self.e.as_ref())?)?;
                Material::Rsa(Box::new(key))
            }
            ("EC", Some("P-256")) => {
                point(&self.sec1(32)?, p256::ecdsa::VerifyingKey::from_sec1_bytes)
                    .map(Material::P256)?
            }
            ("EC", Some("P-384")) => {
                point(&self.sec1(48)?, p384::ecdsa::VerifyingKey::from_sec1_bytes)
                    .map(Material::P384)?
            }
            ("EC", Some("P-521")) => {
                point(&self.sec1(66)?, p521::ecdsa::VerifyingKey::from_sec1_bytes)
                    .map(Material::P521)?
            }
            ("OKP", Some("Ed25519")) => {
                let bytes = bytes(self.x.as_ref())?
                    .try_into()
                    .map_err(|_| "x has not 32 bytes")?;
                let key =
                    ed25519_dalek::VerifyingKey::from_bytes(&bytes).map_err(|_| "x is no point")?;
                Material::Ed25519(key)
            }
            _ => return Ok(None),
        };
        Ok(Some(Key {
            id: self.kid.clone(),
            algorithm: self.alg.clone(),
            material,
        }))
    }

    /// The point, uncompressed. Coordinates have their full length (RFC 7518 section 6.2.1.2).
    fn sec1(&self, size: usize) -> Result<Vec<u8>, &'static str> {
        let (x, y) = (bytes(self.x.as_ref())?, bytes(self.y.as_ref())?);
        if x.len() != size || y.len() != size {
            return Err("a coordinate has not the curve's length");
        }
        Ok([&[4], &x[..], &y].concat())
    }
}

fn bytes(text: Option<&String>) -> Result<Vec<u8>, &'static str> {
    let text = text.ok_or("a part of the key is missing")?;
    BASE64
        .decode(text)
        .map_err(|_| "a part of the key is no base64url")
}

fn point<K, E>(sec1: &[u8], read: impl Fn(&[u8]) -> Result<K, E>) -> Result<K, &'static str> {
    read(sec1).map_err(|_| "x and y are no point of the curve")
}

// === impl Key ===

impl Key {
    /// A secret of the configuration.
    pub(crate) fn secret(id: Option<String>, secret: Vec<u8>) -> Self {
        Self {
            id,
            algorithm: None,
            material: Material::Secret(secret),
        }
    }

    pub(crate) fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    pub(crate) fn is_secret(&self) -> bool {
        matches!(self.material, Material::Secret(_))
    }

    /// Whether it may be the one that has signed: by its name, if the token gives one, and by what it is for.
    pub(crate) fn fits(&self, algorithm: Algorithm, id: Option<&str>) -> bool {
        let named = id.is_none() || self.id.is_none() || self.id.as_deref() == id;
        let meant = self.algorithm.as_deref();
        named && meant.is_none_or(|meant| meant == algorithm.name()) && self.is_for(algorithm)
    }

    fn is_for(&self, algorithm: Algorithm) -> bool {
        use Algorithm as A;
        match self.material {
            Material::Secret(_) => A::SYMMETRIC.contains(&algorithm),
            Material::Rsa(_) => matches!(
                algorithm,
                A::RS256 | A::RS384 | A::RS512 | A::PS256 | A::PS384 | A::PS512
            ),
            Material::P256(_) => algorithm == A::ES256,
            Material::P384(_) => algorithm == A::ES384,
            Material::P521(_) => algorithm == A::ES512,
            Material::Ed25519(_) => algorithm == A::EdDSA,
        }
    }

    /// Whether `signature` is that of `message`.
    pub(crate) fn verify(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        use Algorithm as A;
        if !self.is_for(algorithm) {
            return false;
        }
        match &self.material {
            Material::Secret(secret) => match algorithm {
                A::HS256 => mac::<Hmac<Sha256>>(secret, message, signature),
                A::HS384 => mac::<Hmac<Sha384>>(secret, message, signature),
                _ => mac::<Hmac<Sha512>>(secret, message, signature),
            },
            Material::Rsa(key) => match algorithm {
                A::RS256 => key.verify_pkcs1(Hash::Sha256, message, signature),
                A::RS384 => key.verify_pkcs1(Hash::Sha384, message, signature),
                A::RS512 => key.verify_pkcs1(Hash::Sha512, message, signature),
                A::PS256 => key.verify_pss(Hash::Sha256, message, signature),
                A::PS384 => key.verify_pss(Hash::Sha384, message, signature),
                _ => key.verify_pss(Hash::Sha512, message, signature),
            },
            Material::P256(key) => {
                p256::ecdsa::Signature::from_slice(signature).is_ok_and(|signature| {
                    key.verify_prehash(&Sha256::digest(message), &signature)
                        .is_ok()
                })
            }
            Material::P384(key) => {
                p384::ecdsa::Signature::from_slice(signature).is_ok_and(|signature| {
                    key.verify_prehash(&Sha384::digest(message), &signature)
                        .is_ok()
                })
            }
            Material::P521(key) => {
                p521::ecdsa::Signature::from_slice(signature).is_ok_and(|signature| {
                    key.verify_prehash(&Sha512::digest(message), &signature)
                        .is_ok()
                })
            }
            Material::Ed25519(key) => ed25519_dalek::Signature::from_slice(signature)
                .is_ok_and(|signature| key.verify_strict(message, &signature).is_ok()),
        }
    }
}

/// In constant time.
fn mac<M: Mac + hmac::digest::KeyInit>(secret: &[u8], message: &[u8], code: &[u8]) -> bool {
    let Ok(mut mac) = <M as Mac>::new_from_slice(secret) else {
        return false;
    };
    mac.update(message);
    mac.verify_slice(code).is_ok()
}

/// Secrets stay out of what is printed.
impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
