//! `sign` and `verify_signature`: RSA (PKCS #1 1.5) and ECDSA (ASN.1) with keys as DER or PEM.
//!
//! As in Envoy a malformed message, no key or two keys are bad arguments; everything else answers Ok with a result that says what is
//! wrong. What aws-lc-rs does not offer says "is not supported.", which is less than BoringSSL has: SHA-224 with RSA, SHA-1
//! for signing, and hashes that do not go with the curve on P-256 and P-384.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    self, EcdsaKeyPair, RsaKeyPair, UnparsedPublicKey, VerificationAlgorithm,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::super::Guest;
use super::charge;
use crate::guest::{bytes, split};
use crate::protobuf::{self, SignatureArguments};
use crate::status::{Outcome, Status};

/// Longest key, DER or PEM.
const MAX_KEY: usize = 16 << 10;
/// Largest RSA modulus to sign with, in bytes: the time grows with its cube.
const MAX_MODULUS: usize = 512;

/// What kind of key it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Rsa,
    P256,
    P384,
    P521,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Hash {
    Sha1,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

/// `VerifySignatureArguments` to `VerifySignatureResult` (1 `result`, 2 `error`).
pub(super) fn verify(caller: &mut Guest<'_>, (ptr, size): (u32, u32)) -> Outcome<Vec<u8>> {
    let (memory, host) = split(caller)?;
    charge(host)?;
    let arguments =
        protobuf::verify_signature(bytes(memory, ptr, size)?).ok_or(Status::BadArgument)?;
    check_keys(&arguments)?;
    let verdict = verified(&arguments);
    charge(host)?;
    let mut out = Vec::new();
    protobuf::put_flag(1, verdict.is_ok(), &mut out);
    if let Err(error) = verdict {
        protobuf::put_string(2, &error, &mut out);
    }
    Ok(out)
}

/// `SignArguments` to `SignResult` (1 `result`, 2 `signature`, 3 `error`).
pub(super) fn sign(caller: &mut Guest<'_>, (ptr, size): (u32, u32)) -> Outcome<Vec<u8>> {
    let (memory, host) = split(caller)?;
    charge(host)?;
    let arguments = protobuf::sign(bytes(memory, ptr, size)?).ok_or(Status::BadArgument)?;
    check_keys(&arguments)?;
    let signed = signed(&arguments);
    charge(host)?;
    let mut out = Vec::new();
    protobuf::put_flag(1, signed.is_ok(), &mut out);
    match signed {
        Ok(signature) => protobuf::put_bytes(2, &signature, &mut out),
        Err(error) => protobuf::put_string(3, &error, &mut out),
    }
    Ok(out)
}

/// Exactly one of DER and PEM.
fn check_keys(arguments: &SignatureArguments<'_>) -> Result<(), Status> {
    if arguments.der.is_empty() == arguments.pem.is_empty() {
        return Err(Status::BadArgument);
    }
    if arguments.der.len() + arguments.pem.len() > MAX_KEY {
        return Err(Status::BadArgument);
    }
    Ok(())
}

fn verified(arguments: &SignatureArguments<'_>) -> Result<(), String> {
    let hash = Hash::of(arguments.hash)?;
    let no_key = || "Failed to initialize digest verify.".to_owned();
    let der = der(arguments, &["PUBLIC KEY"]).ok_or_else(no_key)?.1;
    let kind = Kind::of_public(&der).ok_or_else(no_key)?;
    let algorithm = verification(kind, hash).ok_or_else(|| unsupported(arguments.hash))?;
    let key = UnparsedPublicKey::new(algorithm, &der)
        .parse()
        .map_err(|_| no_key())?;
    key.verify_sig(arguments.text, arguments.signature)
        .map_err(|_| "Failed to verify digest. Error code: 0".to_owned())
}

fn signed(arguments: &SignatureArguments<'_>) -> Result<Vec<u8>, String> {
    let hash = Hash::of(arguments.hash)?;
    let no_key = || "Invalid key type: private key required for signing operation.".to_owned();
    let failed = || "Failed to create signature.".to_owned();
    let (label, der) = der(
        arguments,
        &["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"],
    )
    .ok_or_else(no_key)?;
    let random = SystemRandom::new();
    let kind = match label {
        "RSA PRIVATE KEY" => Some(Kind::Rsa),
        "EC PRIVATE KEY" => Kind::of_sec1(&der),
        _ => Kind::of_private(&der),
    };
    let kind = kind.ok_or_else(no_key)?;
    if kind == Kind::Rsa {
        let padding = match hash {
            Hash::Sha256 => &signature::RSA_PKCS1_SHA256,
            Hash::Sha384 => &signature::RSA_PKCS1_SHA384,
            Hash::Sha512 => &signature::RSA_PKCS1_SHA512,
            Hash::Sha1 | Hash::Sha224 => return Err(unsupported(arguments.hash)),
        };
        let key = match label {
            "RSA PRIVATE KEY" => RsaKeyPair::from_der(&der),
            _ => RsaKeyPair::from_pkcs8(&der),
        };
        let key = key.map_err(|_| no_key())?;
        if key.public_modulus_len() > MAX_MODULUS {
            return Err("RSA keys of more than 4096 bits are not supported.".to_owned());
        }
        let mut signature = vec![0; key.public_modulus_len()];
        key.sign(padding, &random, arguments.text, &mut signature)
            .map_err(|_| failed())?;
        return Ok(signature);
    }
    let algorithm = match (kind, hash) {
        (Kind::P256, Hash::Sha256) => &signature::ECDSA_P256_SHA256_ASN1_SIGNING,
        (Kind::P384, Hash::Sha384) => &signature::ECDSA_P384_SHA384_ASN1_SIGNING,
        (Kind::P521, Hash::Sha224) => &signature::ECDSA_P521_SHA224_ASN1_SIGNING,
        (Kind::P521, Hash::Sha256) => &signature::ECDSA_P521_SHA256_ASN1_SIGNING,
        (Kind::P521, Hash::Sha384) => &signature::ECDSA_P521_SHA384_ASN1_SIGNING,
        (Kind::P521, Hash::Sha512) => &signature::ECDSA_P521_SHA512_ASN1_SIGNING,
        _ => return Err(unsupported(arguments.hash)),
    };
    let key = match label {
        "EC PRIVATE KEY" => EcdsaKeyPair::from_private_key_der(algorithm, &der),
        _ => EcdsaKeyPair::from_pkcs8(algorithm, &der),
    };
    let key = key.map_err(|_| no_key())?;
    let signature = key.sign(&random, arguments.text).map_err(|_| failed())?;
    Ok(signature.as_ref().to_vec())
}

fn verification(kind: Kind, hash: Hash) -> Option<&'static dyn VerificationAlgorithm> {
    Some(match (kind, hash) {
        (Kind::Rsa, Hash::Sha1) => &signature::RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY,
        (Kind::Rsa, Hash::Sha256) => &signature::RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY,
        (Kind::Rsa, Hash::Sha384) => &signature::RSA_PKCS1_2048_8192_SHA384,
        (Kind::Rsa, Hash::Sha512) => &signature::RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY,
        (Kind::P256, Hash::Sha256) => &signature::ECDSA_P256_SHA256_ASN1,
        (Kind::P256, Hash::Sha384) => &signature::ECDSA_P256_SHA384_ASN1,
        (Kind::P384, Hash::Sha256) => &signature::ECDSA_P384_SHA256_ASN1,
        (Kind::P384, Hash::Sha384) => &signature::ECDSA_P384_SHA384_ASN1,
        (Kind::P521, Hash::Sha1) => &signature::ECDSA_P521_SHA1_ASN1,
        (Kind::P521, Hash::Sha224) => &signature::ECDSA_P521_SHA224_ASN1,
        (Kind::P521, Hash::Sha256) => &signature::ECDSA_P521_SHA256_ASN1,
        (Kind::P521, Hash::Sha384) => &signature::ECDSA_P521_SHA384_ASN1,
        (Kind::P521, Hash::Sha512) => &signature::ECDSA_P521_SHA512_ASN1,
        _ => return None,
    })
}

fn unsupported(hash: &[u8]) -> String {
    let shown = &hash[..hash.len().min(64)];
    format!("{} is not supported.", String::from_utf8_lossy(shown))
}

/// The key as DER, with the label of its PEM block; DER has the first of `labels`.
fn der<'a>(arguments: &SignatureArguments<'_>, labels: &[&'a str]) -> Option<(&'a str, Vec<u8>)> {
    if !arguments.der.is_empty() {
        return Some((*labels.first()?, arguments.der.to_vec()));
    }
    let text = std::str::from_utf8(arguments.pem).ok()?;
    labels.iter().find_map(|label| {
        let (_, rest) = text.split_once(&format!("-----BEGIN {label}-----"))?;
        let (body, _) = rest.split_once(&format!("-----END {label}-----"))?;
        let body: String = body.chars().filter(|c| !c.is_ascii_whitespace()).collect();
        Some((*label, STANDARD.decode(body).ok()?))
    })
}

// === impl Hash ===

impl Hash {
    fn of(name: &[u8]) -> Result<Self, String> {
        Ok(match name.to_ascii_lowercase().as_slice() {
            b"sha1" => Self::Sha1,
            b"sha224" => Self::Sha224,
            b"sha256" => Self::Sha256,
            b"sha384" => Self::Sha384,
            b"sha512" => Self::Sha512,
            _ => return Err(unsupported(name)),
        })
    }
}

// === impl Kind ===

impl Kind {
    /// Of a `SubjectPublicKeyInfo`: a sequence that begins with an `AlgorithmIdentifier`.
    fn of_public(der: &[u8]) -> Option<Self> {
        let (0x30, content, _) = element(der)? else {
            return None;
        };
        Self::of_algorithm(content)
    }

    /// Of a `PrivateKeyInfo` (PKCS #8): a sequence of version and `AlgorithmIdentifier`.
    fn of_private(der: &[u8]) -> Option<Self> {
        let (0x30, content, _) = element(der)? else {
            return None;
        };
        let (0x02, _, rest) = element(content)? else {
            return None;
        };
        Self::of_algorithm(rest)
    }

    /// Of an `ECPrivateKey` (SEC 1): version, key, and the curve under tag 0.
    fn of_sec1(der: &[u8]) -> Option<Self> {
        let (0x30, content, _) = element(der)? else {
            return None;
        };
        let (_, _, rest) = element(content)?;
        let (_, _, rest) = element(rest)?;
        let (0xa0, parameters, _) = element(rest)? else {
            return None;
        };
        let (0x06, curve, _) = element(parameters)? else {
            return None;
        };
        Self::of_curve(curve)
    }

    fn of_algorithm(der: &[u8]) -> Option<Self> {
        let (0x30, algorithm, _) = element(der)? else {
            return None;
        };
        let (0x06, oid, parameters) = element(algorithm)? else {
            return None;
        };
        match oid {
            // 1.2.840.113549.1.1.1 rsaEncryption
            [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01] => Some(Self::Rsa),
            // 1.2.840.10045.2.1 id-ecPublicKey, with the curve as its parameter
            [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01] => match element(parameters)? {
                (0x06, curve, _) => Self::of_curve(curve),
                _ => None,
            },
            _ => None,
        }
    }

    fn of_curve(oid: &[u8]) -> Option<Self> {
        match oid {
            // 1.2.840.10045.3.1.7, 1.3.132.0.34, 1.3.132.0.35
            [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07] => Some(Self::P256),
            [0x2b, 0x81, 0x04, 0x00, 0x22] => Some(Self::P384),
            [0x2b, 0x81, 0x04, 0x00, 0x23] => Some(Self::P521),
            _ => None,
        }
    }
}

/// Tag, content and rest of the first DER element.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (len, rest) = match first {
        0..=0x7f => (usize::from(*first), rest),
        0x81..=0x83 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            let len = bytes
                .iter()
                .fold(0, |len, byte| len << 8 | usize::from(*byte));
            (len, rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(len)?;
    Some((*tag, content, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn der_elements() {
        assert_eq!(element(&[2, 1, 7, 9]), Some((2, &[7][..], &[9][..])));
        assert_eq!(element(&[2, 0x81, 1, 7]), Some((2, &[7][..], &[][..])));
        for bad in [
            &[][..],
            &[2],
            &[2, 1],
            &[2, 0x80, 0],
            &[2, 0x84, 0, 0, 0, 0],
        ] {
            assert_eq!(element(bad), None);
        }
    }

    proptest! {
        #[test]
        fn arbitrary_keys_never_panic(bytes: Vec<u8>, private: bool) {
            let arguments = SignatureArguments { hash: b"sha256", der: &bytes, text: b"t", ..Default::default() };
            if private {
                prop_assert!(signed(&arguments).is_err());
            } else {
                prop_assert!(verified(&arguments).is_err());
            }
        }
    }
}
