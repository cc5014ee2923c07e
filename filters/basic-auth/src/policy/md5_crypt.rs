//! The MD5-based crypt of FreeBSD (`$1$`) and of Apache (`$apr1$`), which differ in the magic string only.
//!
//! Weak by today's measure, and what `htpasswd` writes unless it is told otherwise.

use md5::{Digest, Md5};

const ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Which bytes of the digest make each group of four characters; the last byte stands alone.
const GROUPS: [[usize; 3]; 5] = [[0, 6, 12], [1, 7, 13], [2, 8, 14], [3, 9, 15], [4, 10, 5]];

/// The 22 characters that follow the salt. `magic` is `$1$` or `$apr1$`.
pub(super) fn md5_crypt(password: &[u8], magic: &str, salt: &str) -> String {
    let mut digest = first_round(password, magic, salt.as_bytes());
    for round in 0..1000 {
        let mut md5 = Md5::new();
        let odd = round % 2 == 1;
        md5.update(if odd { password } else { &digest });
        if round % 3 != 0 {
            md5.update(salt);
        }
        if round % 7 != 0 {
            md5.update(password);
        }
        md5.update(if odd { &digest } else { password });
        digest = md5.finalize().into();
    }
    encode(&digest)
}

fn first_round(password: &[u8], magic: &str, salt: &[u8]) -> [u8; 16] {
    let alternate = Md5::new()
        .chain_update(password)
        .chain_update(salt)
        .chain_update(password)
        .finalize();
    let mut md5 = Md5::new()
        .chain_update(password)
        .chain_update(magic)
        .chain_update(salt);
    for chunk in password.chunks(16) {
        md5.update(&alternate[..chunk.len()]);
    }
    let mut bits = password.len();
    while bits > 0 {
        // The original's slip, kept by everybody: a zero byte where the bit is set.
        md5.update(if bits & 1 == 1 { &[0] } else { &password[..1] });
        bits >>= 1;
    }
    md5.finalize().into()
}

fn encode(digest: &[u8; 16]) -> String {
    let mut text = String::with_capacity(22);
    let mut push = |mut value: u32, count: usize| {
        for _ in 0..count {
            text.push(char::from(ALPHABET[(value & 0x3f) as usize]));
            value >>= 6;
        }
    };
    for [high, middle, low] in GROUPS {
        let [high, middle, low] = [high, middle, low].map(|index| u32::from(digest[index]));
        push(high << 16 | middle << 8 | low, 4);
    }
    push(u32::from(digest[11]), 2);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with `openssl passwd -apr1` and `-1`.
    #[test]
    fn known_values() {
        let long = "x".repeat(100);
        for (password, magic, salt, expected) in [
            (
                "correct horse",
                "$apr1$",
                "abcdefgh",
                "sIQmFnT1CuEXAsyjuXjUX/",
            ),
            ("", "$apr1$", "abcdefgh", "L.PT565ESX4Tp2bqNs7Ie."),
            (&long, "$apr1$", "abcdefgh", "9/cwT0JwksL/fA2yBHBE6/"),
            ("pw", "$apr1$", "a", "ij/Aka61dStEs8vTEvpfK1"),
            ("correct horse", "$1$", "abcdefgh", "y6iHhJNbuC0xpbk0w9pm80"),
            ("", "$1$", "abcdefgh", "M55TzYaaccxVGbptZWaxX/"),
            (&long, "$1$", "abcdefgh", "ax3Kvr/hbxTbyc0QiTLcg/"),
        ] {
            assert_eq!(
                md5_crypt(password.as_bytes(), magic, salt),
                expected,
                "{magic}{salt}"
            );
        }
    }
}
