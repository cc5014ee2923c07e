//! Checking RSA signatures (RFC 8017). Only ever with public keys, so nothing here needs constant time.
//!
//! The arithmetic is crypto-bigint's; the encodings are compared whole, never parsed: an encoded message that is only mostly right
//! (Bleichenbacher 2006) is not equal.

use crypto_bigint::modular::runtime_mod::{DynResidue, DynResidueParams};
use crypto_bigint::{Encoding, U64, U2048, U3072, U4096, Uint};
use sha2::{Digest, Sha256, Sha384, Sha512};

/// A modulus and an exponent.
pub(crate) struct PublicKey {
    modulus: Vec<u8>,
    exponent: u64,
    parameters: Parameters,
}

/// What is worked out of a modulus once: it costs more than checking a signature.
enum Parameters {
    Bits2048(Box<DynResidueParams<{ U2048::LIMBS }>>),
    Bits3072(Box<DynResidueParams<{ U3072::LIMBS }>>),
    Bits4096(Box<DynResidueParams<{ U4096::LIMBS }>>),
}

/// The hash of a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

const MIN_BITS: usize = 2048;
const MAX_BITS: usize = 4096;

// === impl PublicKey ===

impl PublicKey {
    pub(crate) fn new(modulus: &[u8], exponent: &[u8]) -> Result<Self, &'static str> {
        let modulus = strip(modulus);
        let bits = bits(modulus);
        if !(MIN_BITS..=MAX_BITS).contains(&bits) {
            return Err("an RSA key must have 2048 to 4096 bits");
        }
        let exponent = strip(exponent);
        let number = exponent
            .iter()
            .fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        let odd = |bytes: &[u8]| bytes.last().is_some_and(|byte| byte & 1 == 1);
        if exponent.len() > 4 || number < 3 || !odd(exponent) || !odd(modulus) {
            return Err(
                "is no RSA key: modulus and exponent must be odd, the exponent between 3 and 2^32",
            );
        }
        Ok(Self {
            parameters: Parameters::new(modulus),
            modulus: modulus.to_vec(),
            exponent: number,
        })
    }

    /// RSASSA-PKCS1-v1_5.
    pub(crate) fn verify_pkcs1(&self, hash: Hash, message: &[u8], signature: &[u8]) -> bool {
        let Some(encoded) = self.open(signature) else {
            return false;
        };
        let tail = [hash.prefix(), &hash.digest(&[message])].concat();
        let Some(padding) = encoded
            .len()
            .checked_sub(tail.len() + 3)
            .filter(|size| *size >= 8)
        else {
            return false;
        };
        let expected = [&[0, 1], &vec![0xff; padding][..], &[0], &tail].concat();
        encoded == expected
    }

    /// RSASSA-PSS with MGF1 of the same hash and a salt as long as the hash (RFC 7518 section 3.5).
    pub(crate) fn verify_pss(&self, hash: Hash, message: &[u8], signature: &[u8]) -> bool {
        let Some(encoded) = self.open(signature) else {
            return false;
        };
        // The encoding has one bit less than the modulus.
        let bits = bits(&self.modulus) - 1;
        let size = bits.div_ceil(8);
        let (rest, encoded) = encoded.split_at(encoded.len() - size);
        let hashed = hash.digest(&[message]);
        let length = hashed.len();
        if rest.iter().any(|byte| *byte != 0) || size < 2 * length + 2 || encoded[size - 1] != 0xbc
        {
            return false;
        }
        let (masked, digest) = encoded[..size - 1].split_at(size - length - 1);
        let spare = 0xff_u8 >> (8 * size - bits);
        if masked[0] & !spare != 0 {
            return false;
        }
        let mut block: Vec<u8> = masked
            .iter()
            .zip(hash.mask(digest, masked.len()))
            .map(|(a, b)| a ^ b)
            .collect();
        block[0] &= spare;
        let (padding, salt) = block.split_at(block.len() - length);
        let Some((one, zeros)) = padding.split_last() else {
            return false;
        };
        *one == 1
            && zeros.iter().all(|byte| *byte == 0)
            && hash.digest(&[&[0; 8], &hashed, salt]) == digest
    }

    /// The signature raised to the exponent, as long as the modulus. `None` for one that is no number below the modulus.
    fn open(&self, signature: &[u8]) -> Option<Vec<u8>> {
        if signature.len() != self.modulus.len() || signature >= &self.modulus[..] {
            return None;
        }
        let opened = match &self.parameters {
            Parameters::Bits2048(parameters) => power(**parameters, signature, self.exponent),
            Parameters::Bits3072(parameters) => power(**parameters, signature, self.exponent),
            Parameters::Bits4096(parameters) => power(**parameters, signature, self.exponent),
        };
        Some(opened[opened.len() - self.modulus.len()..].to_vec())
    }
}

// === impl Parameters ===

impl Parameters {
    fn new(modulus: &[u8]) -> Self {
        match modulus.len() {
            ..=256 => Self::Bits2048(Box::new(DynResidueParams::new(&number(modulus)))),
            257..=384 => Self::Bits3072(Box::new(DynResidueParams::new(&number(modulus)))),
            _ => Self::Bits4096(Box::new(DynResidueParams::new(&number(modulus)))),
        }
    }
}

fn number<const LIMBS: usize>(bytes: &[u8]) -> Uint<LIMBS> {
    let mut padded = vec![0; Uint::<LIMBS>::BYTES - bytes.len()];
    padded.extend_from_slice(bytes);
    Uint::from_be_slice(&padded)
}

fn power<const LIMBS: usize>(
    parameters: DynResidueParams<LIMBS>,
    base: &[u8],
    exponent: u64,
) -> Vec<u8>
where
    Uint<LIMBS>: Encoding,
{
    let bits = 64 - exponent.leading_zeros() as usize;
    DynResidue::new(&number(base), parameters)
        .pow_bounded_exp(&U64::from_u64(exponent), bits)
        .retrieve()
        .to_be_bytes()
        .as_ref()
        .to_vec()
}

fn strip(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    &bytes[zeros..]
}

fn bits(bytes: &[u8]) -> usize {
    bytes
        .first()
        .map_or(0, |first| 8 * bytes.len() - first.leading_zeros() as usize)
}

// === impl Hash ===

impl Hash {
    fn digest(self, parts: &[&[u8]]) -> Vec<u8> {
        fn run<D: Digest>(parts: &[&[u8]]) -> Vec<u8> {
            let mut digest = D::new();
            parts.iter().for_each(|part| digest.update(part));
            digest.finalize().to_vec()
        }
        match self {
            Self::Sha256 => run::<Sha256>(parts),
            Self::Sha384 => run::<Sha384>(parts),
            Self::Sha512 => run::<Sha512>(parts),
        }
    }

    /// The DER encoding of `DigestInfo` up to the digest (RFC 8017 section 9.2).
    fn prefix(self) -> &'static [u8] {
        match self {
            Self::Sha256 => {
                b"\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20"
            }
            Self::Sha384 => {
                b"\x30\x41\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x02\x05\x00\x04\x30"
            }
            Self::Sha512 => {
                b"\x30\x51\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x03\x05\x00\x04\x40"
            }
        }
    }

    /// MGF1.
    fn mask(self, seed: &[u8], size: usize) -> Vec<u8> {
        let mut mask = Vec::with_capacity(size + 64);
        for counter in 0_u32.. {
            if mask.len() >= size {
                break;
            }
            mask.extend(self.digest(&[seed, &counter.to_be_bytes()]));
        }
        mask.truncate(size);
        mask
    }
}
