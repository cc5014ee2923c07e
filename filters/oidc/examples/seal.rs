//! Seals the cookies of `cases.yaml`: `seal login|session KEY ISSUER CLIENT < text.json`.
//!
//! The nonce comes from the text, so that the same text gives the same cookie. For cases only.

use std::io::{Read, stdin};

use sha2::{Digest, Sha256};
use tidegate_filter_oidc::policy::seal::{NONCE, Purpose, Seal};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [purpose, key, issuer, client] = &arguments[..] else {
        panic!("seal login|session KEY ISSUER CLIENT < text.json");
    };
    let purpose = match purpose.as_str() {
        "login" => Purpose::Login,
        "session" => Purpose::Session,
        other => panic!("{other} is neither login nor session"),
    };
    let mut text = Vec::new();
    stdin().read_to_end(&mut text).expect("a text");
    let mut nonce = [0; NONCE];
    nonce.copy_from_slice(&Sha256::digest(&text)[..NONCE]);
    let seal = Seal::new(&[key.clone().into_bytes()], issuer, client);
    println!("{}", seal.seal(purpose, nonce, text.trim_ascii()));
}
