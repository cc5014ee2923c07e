//! One stored password, in any of the formats that htpasswd files hold.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bcrypt::HashParts;
use sha_crypt::{Sha256Params, Sha512Params};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::md5_crypt::md5_crypt;

/// Highest bcrypt cost: 14 already takes a second and more for each check.
const MAX_BCRYPT_COST: u32 = 14;

/// Most rounds of SHA-crypt, which take about a second.
const MAX_SHA_ROUNDS: usize = 1_000_000;

/// Above these a check may take longer than the half second that a call of this filter has by default.
const SLOW_BCRYPT_COST: u32 = 12;
const SLOW_SHA_ROUNDS: usize = 200_000;

/// A password's hash, checked for form when it is read.
pub(super) enum Hash {
    Bcrypt {
        hash: String,
        cost: u32,
    },
    ShaCrypt {
        algorithm: Sha,
        rounds: usize,
        salt: String,
        hash: String,
    },
    Md5Crypt {
        magic: &'static str,
        salt: String,
        hash: String,
    },
    /// `{SHA}`, and `{SSHA}` with a salt.
    Sha1 {
        digest: [u8; 20],
        salt: Vec<u8>,
    },
    /// `{PLAIN}`: the digest of the password, so that a comparison takes equal time whatever its length.
    Plain([u8; 32]),
}

/// The two variants of SHA-crypt.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Sha {
    Sha256,
    Sha512,
}

// === impl Hash ===

impl Hash {
    /// Reads a hash; white space around it, as files and Secrets have it, is ignored.
    ///
    /// # Errors
    ///
    /// What is wrong with it and what to do, without repeating it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim_ascii();
        if let Some(password) = text.strip_prefix("{PLAIN}") {
            return Ok(Self::Plain(Sha256::digest(password).into()));
        }
        if let Some(encoded) = text.strip_prefix("{SHA}") {
            return parse_sha1(encoded, false);
        }
        if let Some(encoded) = text.strip_prefix("{SSHA}") {
            return parse_sha1(encoded, true);
        }
        match text.strip_prefix('$').and_then(|rest| rest.split_once('$')) {
            Some(("2a" | "2b" | "2y", _)) => parse_bcrypt(text),
            Some(("apr1", rest)) => parse_md5("$apr1$", rest),
            Some(("1", rest)) => parse_md5("$1$", rest),
            Some(("5", rest)) => parse_sha_crypt(Sha::Sha256, rest),
            Some(("6", rest)) => parse_sha_crypt(Sha::Sha512, rest),
            // Named only where it can be a scheme: what looks like one may be part of a password.
            Some((scheme @ ("y" | "7" | "gy" | "md5" | "argon2i" | "argon2d" | "argon2id"), _)) => {
                Err(format!(
                    "the scheme ${scheme}$ is not supported; make the hash with `htpasswd -B` (bcrypt)"
                ))
            }
            Some(_) => Err(String::from(
                "has a scheme that is not supported; make the hash with `htpasswd -B` (bcrypt)",
            )),
            None => Err(String::from(
                "is no hash of a known form (traditional crypt and plain text are not accepted); make it with `htpasswd -B` (bcrypt)",
            )),
        }
    }

    /// Whether `password` is the one. Takes the same time for every wrong password of a length.
    pub(super) fn verify(&self, password: &[u8]) -> bool {
        match self {
            Self::Bcrypt { hash, .. } => bcrypt::verify(password, hash).unwrap_or(false),
            Self::ShaCrypt {
                algorithm,
                rounds,
                salt,
                hash,
            } => algorithm
                .crypt(password, salt.as_bytes(), *rounds)
                .is_some_and(|computed| equal(computed.as_bytes(), hash.as_bytes())),
            Self::Md5Crypt { magic, salt, hash } => {
                equal(md5_crypt(password, magic, salt).as_bytes(), hash.as_bytes())
            }
            Self::Sha1 { digest, salt } => {
                let computed = Sha1::new()
                    .chain_update(password)
                    .chain_update(salt)
                    .finalize();
                equal(&computed, digest)
            }
            Self::Plain(digest) => equal(&Sha256::digest(password), digest),
        }
    }

    /// Whether a check may take longer than a call of this filter may by default.
    pub(super) fn is_slow(&self) -> bool {
        match self {
            Self::Bcrypt { cost, .. } => *cost > SLOW_BCRYPT_COST,
            Self::ShaCrypt { rounds, .. } => *rounds > SLOW_SHA_ROUNDS,
            Self::Md5Crypt { .. } | Self::Sha1 { .. } | Self::Plain(_) => false,
        }
    }
}

/// Says the scheme, never the hash: configurations are logged.
impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bcrypt { .. } => "bcrypt",
            Self::ShaCrypt { .. } => "sha-crypt",
            Self::Md5Crypt { .. } => "md5-crypt",
            Self::Sha1 { .. } => "sha1",
            Self::Plain(_) => "plain",
        })
    }
}

// === impl Sha ===

impl Sha {
    fn crypt(self, password: &[u8], salt: &[u8], rounds: usize) -> Option<String> {
        match self {
            Self::Sha256 => {
                let params = Sha256Params::new(rounds).ok()?;
                sha_crypt::sha256_crypt_b64(password, salt, &params).ok()
            }
            Self::Sha512 => {
                let params = Sha512Params::new(rounds).ok()?;
                sha_crypt::sha512_crypt_b64(password, salt, &params).ok()
            }
        }
    }

    /// Characters of a hash.
    fn length(self) -> usize {
        match self {
            Self::Sha256 => 43,
            Self::Sha512 => 86,
        }
    }
}

fn equal(left: &[u8], right: &[u8]) -> bool {
    left.ct_eq(right).into()
}

fn parse_bcrypt(text: &str) -> Result<Hash, String> {
    let parts: HashParts = text.parse().map_err(|_| malformed("bcrypt"))?;
    match parts.get_cost() {
        cost @ 4..=MAX_BCRYPT_COST => Ok(Hash::Bcrypt {
            hash: text.to_owned(),
            cost,
        }),
        cost => Err(format!(
            "bcrypt cost {cost} is outside 4 to {MAX_BCRYPT_COST}; make the hash with `htpasswd -B -C 10`"
        )),
    }
}

fn parse_md5(magic: &'static str, rest: &str) -> Result<Hash, String> {
    let (salt, hash) = split_salt(rest, 8, 22).ok_or_else(|| malformed("MD5 crypt"))?;
    Ok(Hash::Md5Crypt { magic, salt, hash })
}

fn parse_sha_crypt(algorithm: Sha, rest: &str) -> Result<Hash, String> {
    let (rounds, rest) = split_rounds(rest)?;
    let (salt, hash) =
        split_salt(rest, 16, algorithm.length()).ok_or_else(|| malformed("SHA crypt"))?;
    Ok(Hash::ShaCrypt {
        algorithm,
        rounds,
        salt,
        hash,
    })
}

fn split_rounds(rest: &str) -> Result<(usize, &str), String> {
    let Some(numbered) = rest.strip_prefix("rounds=") else {
        return Ok((sha_crypt::ROUNDS_DEFAULT, rest));
    };
    let (rounds, rest) = numbered
        .split_once('$')
        .ok_or_else(|| malformed("SHA crypt"))?;
    let rounds = rounds.parse().map_err(|_| malformed("SHA crypt"))?;
    if !(sha_crypt::ROUNDS_MIN..=MAX_SHA_ROUNDS).contains(&rounds) {
        return Err(format!(
            "{rounds} rounds of SHA crypt are outside {} to {MAX_SHA_ROUNDS}",
            sha_crypt::ROUNDS_MIN
        ));
    }
    Ok((rounds, rest))
}

/// `salt$hash` with a hash of exactly `length` characters of crypt's alphabet.
fn split_salt(rest: &str, longest_salt: usize, length: usize) -> Option<(String, String)> {
    let (salt, hash) = rest.split_once('$')?;
    let of_alphabet = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"./".contains(&byte))
    };
    let valid = salt.len() <= longest_salt
        && !salt
            .bytes()
            .any(|byte| byte == b':' || !byte.is_ascii_graphic())
        && hash.len() == length
        && of_alphabet(hash);
    valid.then(|| (salt.to_owned(), hash.to_owned()))
}

fn parse_sha1(encoded: &str, salted: bool) -> Result<Hash, String> {
    let scheme = if salted { "{SSHA}" } else { "{SHA}" };
    let decoded = STANDARD.decode(encoded).map_err(|_| malformed(scheme))?;
    let (digest, salt) = decoded
        .split_first_chunk::<20>()
        .filter(|(_, salt)| salt.is_empty() != salted)
        .ok_or_else(|| malformed(scheme))?;
    Ok(Hash::Sha1 {
        digest: *digest,
        salt: salt.to_vec(),
    })
}

fn malformed(scheme: &str) -> String {
    format!(
        "is a malformed {scheme} hash; it may be cut off or wrapped, make it again with `htpasswd`"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with htpasswd, `openssl passwd` and glibc's crypt.
    const CORRECT_HORSE: [&str; 10] = [
        "$2y$04$D8DrhtSNCHdomCuz4BKD3eEy94sqxu/YE2EXne0.MYt3ckfUhX7fu",
        "$apr1$gm5ZzB5r$UDV92Dqfwtzu3OZJhee3y1",
        "$1$abcdefgh$y6iHhJNbuC0xpbk0w9pm80",
        "$5$saltstring$vc6YOOogU4kWVvwga8e9zTFgKcy4tb5LaPxIiPJzqEC",
        "$5$rounds=1000$roundssalt$LKZu27XoDXGcrbp3y4kxQo8HDGwS26V8GbkHP7DNkDC",
        "$6$saltstring$.r0X7ub5wGR2v4Xz7svCIozfnlorFh19V89t8KC9Umd81uGhFgsyTRNyzQDXDIm17fFcR9z3z7oBNdsyYBbtm/",
        "$6$rounds=1000$roundssalt$HqM4TwvgU1dq.E1lWTs2CJN9kOzlskq6DiJKO5oKUF63SGX2kPtQSt2ZPjLlu2aZuNunvG3ZksMTWh/ApAdbz0",
        "{SHA}L55TUjtiq8FBorTWAZ0jy6g129A=",
        "{SSHA}Ki+Q9Ri8Nn2QN1jUbcaqfsgK/pJOYUNs",
        "{PLAIN}correct horse",
    ];

    #[test]
    fn each_scheme_verifies_what_other_tools_made() {
        for text in CORRECT_HORSE {
            let hash = Hash::parse(text).unwrap();
            assert!(hash.verify(b"correct horse"), "{text}");
            for wrong in [
                &b""[..],
                b"correct hors",
                b"correct horse ",
                b"Correct horse",
                &[0xff; 80],
                &[b'x'; 1024],
            ] {
                assert!(!hash.verify(wrong), "{text}");
            }
        }
    }

    #[test]
    fn the_versions_of_bcrypt_are_one_algorithm() {
        for version in ["2a", "2b", "2y"] {
            let hash = Hash::parse(&CORRECT_HORSE[0].replace("2y", version)).unwrap();
            assert!(hash.verify(b"correct horse"), "{version}");
        }
    }

    #[test]
    fn empty_long_and_non_ascii_passwords() {
        let long = "x".repeat(100);
        for (text, password) in [
            (
                "$2y$04$sl7ug.vWdl8ElwceZY1LUeV6Mnbia0k6.Hm./btNLIWZ8O62Ty.BO",
                "",
            ),
            ("$apr1$abcdefgh$L.PT565ESX4Tp2bqNs7Ie.", ""),
            (
                "$5$saltstring$Oa4FAe3j12NEBjTMwR61FXUth0v2z1HlRVgHK3bteq/",
                long.as_str(),
            ),
            (
                "$6$saltstring$MTEOJx1zhJ5109YzqYzCaFk55JWZM1QJeKTBu63saMo0UwwWLpCB56lyhLVgvClgMHXn3tBaHXoSTCac4QqUv0",
                long.as_str(),
            ),
            (
                "$6$rounds=1000$a$ObzKAcu061WwV2uGIWo3/LjcUtdCxla0WS327Fo4SGJIj9VEQg0mHyObqadjfNsvcihKMH6bhq0CCB0dL8Cp51",
                "jörg \u{2603}",
            ),
        ] {
            assert!(
                Hash::parse(text).unwrap().verify(password.as_bytes()),
                "{text}"
            );
        }
    }

    #[test]
    fn white_space_around_a_hash_is_ignored() {
        let hash = Hash::parse(&format!(" {}\r\n", CORRECT_HORSE[1])).unwrap();
        assert!(hash.verify(b"correct horse"));
    }

    #[test]
    fn malformed_hashes_are_refused_without_being_repeated() {
        for text in [
            "",
            "secret",
            "$",
            "$$",
            "abJnggxhB/yWI",
            "$2y$",
            "$2x$04$D8DrhtSNCHdomCuz4BKD3eEy94sqxu/YE2EXne0.MYt3ckfUhX7fu",
            "$2y$04$D8DrhtSNCHdomCuz4BKD3eEy94sqxu/YE2EXne0.MYt3ckfUhX7f",
            "$2y$03$D8DrhtSNCHdomCuz4BKD3eEy94sqxu/YE2EXne0.MYt3ckfUhX7fu",
            "$2y$15$D8DrhtSNCHdomCuz4BKD3eEy94sqxu/YE2EXne0.MYt3ckfUhX7fu",
            "$2y$04$D8DrhtSNCHdomCuz4BKD3eEy94sqxu/YE2EXne0.MYt3ckfUh!7fu",
            "$apr1$abcdefghi$sIQmFnT1CuEXAsyjuXjUX/",
            "$apr1$abcdefgh$short",
            "$apr1$abcdefgh",
            "$5$salt$short",
            "$5$rounds=x$salt$hash",
            "$5$rounds=999$saltstring$vc6YOOogU4kWVvwga8e9zTFgKcy4tb5LaPxIiPJzqEC",
            "$5$rounds=999999999$saltstring$vc6YOOogU4kWVvwga8e9zTFgKcy4tb5LaPxIiPJzqEC",
            "$5$rounds=1000",
            "$6$saltstring$vc6YOOogU4kWVvwga8e9zTFgKcy4tb5LaPxIiPJzqEC",
            "$y$j9T$salt$hash",
            "$argon2id$v=19$m=1$x$y",
            "{SHA}",
            "{SHA}!",
            "{SHA}Ki+Q9Ri8Nn2QN1jUbcaqfsgK/pJOYUNs",
            "{SSHA}L55TUjtiq8FBorTWAZ0jy6g129A=",
            "{SSHA}YQ==",
            "{MD5}x",
            "$2y$04$\u{e9}8DrhtSNCHdomCuz4BKD3eEy94sqxu/YE2EXne0.MYt3ckfUhX7f",
        ] {
            let problem = Hash::parse(text).expect_err(text);
            assert!(text.len() < 10 || !problem.contains(text), "{problem}");
        }
    }

    #[test]
    fn slow_hashes_are_known() {
        let bcrypt = |cost: &str| CORRECT_HORSE[0].replace("$04$", cost);
        let sha = |rounds: &str| CORRECT_HORSE[4].replace("1000", rounds);
        for (text, slow) in [
            (bcrypt("$12$"), false),
            (bcrypt("$13$"), true),
            (sha("200000"), false),
            (sha("200001"), true),
            (CORRECT_HORSE[1].to_owned(), false),
        ] {
            assert_eq!(Hash::parse(&text).unwrap().is_slow(), slow, "{text}");
        }
    }

    #[test]
    fn debug_output_holds_no_secret() {
        assert_eq!(
            format!("{:?}", Hash::parse("{PLAIN}hunter2").unwrap()),
            "plain"
        );
    }
}
