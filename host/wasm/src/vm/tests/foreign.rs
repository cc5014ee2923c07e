//! Foreign functions that compute: zlib, signatures, expressions.

use std::io::{Read as _, Write as _};
use std::time::Duration;

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{self, EcdsaKeyPair, KeyPair as _, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::guest::{Arg, Call, Guest, Running, plugin, vm_config};
use crate::protobuf::put_bytes;
use crate::{Callback, Cause};
use Arg::{Bytes, Int, Out};

const ON_REQUEST: &str = "proxy_on_request_headers";
const FOREIGN: &str = "proxy_call_foreign_function";

fn call(guest: &mut Guest, name: &str, arguments: &[u8]) -> Call {
    guest.call(
        ON_REQUEST,
        FOREIGN,
        &[Bytes(name.as_bytes()), Bytes(arguments), Out, Out],
    )
}

fn result(run: &Running, call: &Call) -> Result<Vec<u8>, u32> {
    match run.status(call) {
        0 => Ok(run.bytes(call)),
        status => {
            assert_eq!((run.out(call, 0), run.out(call, 1)), (0, 0));
            Err(status)
        }
    }
}

/// One foreign function with one argument.
fn ask(name: &str, arguments: &[u8]) -> Result<Vec<u8>, u32> {
    let mut guest = Guest::new();
    let asked = call(&mut guest, name, arguments);
    let mut config = vm_config();
    config.limits.call_timeout = Duration::from_secs(60);
    let mut run = guest.start_with(config, plugin());
    run.request_headers();
    result(&run, &asked)
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn compress_and_uncompress() {
    let text = b"tide gate ".repeat(2_000);
    for content in [&b""[..], b"x", &text] {
        let compressed = ask("compress", content).unwrap();
        let mut back = Vec::new();
        flate2::read::ZlibDecoder::new(&compressed[..])
            .read_to_end(&mut back)
            .unwrap();
        assert_eq!(back, content);
        assert_eq!(ask("uncompress", &zlib(content)).unwrap(), content);
    }
    let mut trailing = zlib(b"abc");
    trailing.extend_from_slice(b"more");
    assert_eq!(ask("uncompress", &trailing).unwrap(), b"abc");
    let whole = zlib(b"abcdefghijklmnop");
    for bad in [&b""[..], b"no zlib", &whole[..whole.len() - 1], &whole[..5]] {
        assert_eq!(ask("uncompress", bad), Err(3), "{bad:?}");
    }
}

#[test]
fn results_are_capped_and_charged() {
    // A megabyte and a byte of zeros, out of a thousand bytes.
    let bomb = zlib(&vec![0; (1 << 20) + 1]);
    assert!(bomb.len() < 2_000);
    assert_eq!(ask("uncompress", &bomb), Err(10));
    assert_eq!(
        ask("uncompress", &zlib(&vec![0; 60_000])).unwrap(),
        vec![0; 60_000]
    );

    let mut guest = Guest::new();
    guest.extra = "(data (i32.const 400000) \"\")".to_owned();
    // Again and again within one call: the time is the caller's.
    guest.raw(
        ON_REQUEST,
        "(loop $again (drop (call $proxy_call_foreign_function (i32.const 32768) (i32.const 8)
            (i32.const 131072) (i32.const 300000) (i32.const 0) (i32.const 0))) (br $again))",
    );
    // Its name, where strings begin.
    guest.call("proxy_on_tick", "proxy_log", &[Int(0), Bytes(b"compress")]);
    let mut config = vm_config();
    config.limits.call_timeout = Duration::from_millis(5);
    let mut run = guest.start_with(config, plugin());
    let failure = run
        .callback(Callback::RequestHeaders {
            end_of_stream: true,
        })
        .unwrap_err();
    assert_eq!(failure.cause(), Cause::Deadline, "{failure}");
}

fn pem(label: &str, der: &[u8]) -> Vec<u8> {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        lines.join("\n")
    )
    .into_bytes()
}

fn verify_arguments(hash: &str, der: &[u8], pem: &[u8], signature: &[u8], text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for (number, bytes) in [
        (1, hash.as_bytes()),
        (2, der),
        (3, signature),
        (4, text),
        (5, pem),
    ] {
        if !bytes.is_empty() {
            put_bytes(number, bytes, &mut out);
        }
    }
    out
}

fn sign_arguments(hash: &str, der: &[u8], pem: &[u8], text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for (number, bytes) in [(1, hash.as_bytes()), (2, der), (3, text), (4, pem)] {
        if !bytes.is_empty() {
            put_bytes(number, bytes, &mut out);
        }
    }
    out
}

/// The signature in a `SignResult`, or its error.
fn signature_of(result: &[u8]) -> Result<Vec<u8>, String> {
    let (ok, rest) = match result {
        [0x08, 1, rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let (tag, rest) = rest.split_first().unwrap();
    let (len, rest) = match rest {
        [low, high, ..] if *low >= 0x80 => (
            usize::from(low & 0x7f) | usize::from(*high) << 7,
            &rest[2..],
        ),
        [len, rest @ ..] => (usize::from(*len), rest),
        [] => panic!("no length"),
    };
    assert_eq!((*tag, len), (if ok { 0x12 } else { 0x1a }, rest.len()));
    if ok {
        Ok(rest.to_vec())
    } else {
        Err(String::from_utf8(rest.to_vec()).unwrap())
    }
}

const VERIFIED: &[u8] = &[0x08, 1];

fn verdict(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    put_bytes(2, text.as_bytes(), &mut out);
    out
}

#[test]
fn signatures_with_rsa() {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let public: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
    let public = public.as_ref();
    let private: aws_lc_rs::encoding::Pkcs8V1Der<'_> = pair.as_der().unwrap();
    let private = private.as_ref();
    for hash in ["sha256", "SHA384", "sha512"] {
        for (der, text) in [(private, &b""[..]), (b"", &pem("PRIVATE KEY", private))] {
            let signed = ask("sign", &sign_arguments(hash, der, text, b"hello")).unwrap();
            let signature = signature_of(&signed).unwrap();
            assert_eq!(signature.len(), 256);
            let check = |der: &[u8], pem: &[u8], signature: &[u8], text: &[u8]| {
                ask(
                    "verify_signature",
                    &verify_arguments(hash, der, pem, signature, text),
                )
                .unwrap()
            };
            assert_eq!(check(public, b"", &signature, b"hello"), VERIFIED);
            assert_eq!(
                check(b"", &pem("PUBLIC KEY", public), &signature, b"hello"),
                VERIFIED
            );
            let wrong = verdict("Failed to verify digest. Error code: 0");
            assert_eq!(check(public, b"", &signature, b"hullo"), wrong);
            assert_eq!(check(public, b"", &signature[1..], b"hello"), wrong);
        }
    }
}

#[test]
fn signatures_with_ecdsa() {
    let random = aws_lc_rs::rand::SystemRandom::new();
    for (algorithm, hash) in [
        (&signature::ECDSA_P256_SHA256_ASN1_SIGNING, "sha256"),
        (&signature::ECDSA_P384_SHA384_ASN1_SIGNING, "sha384"),
        (&signature::ECDSA_P521_SHA512_ASN1_SIGNING, "sha512"),
        (&signature::ECDSA_P521_SHA224_ASN1_SIGNING, "sha224"),
    ] {
        let private = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, private.as_ref()).unwrap();
        let public: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        let signed = ask(
            "sign",
            &sign_arguments(hash, private.as_ref(), b"", b"hello"),
        )
        .unwrap();
        let signature = signature_of(&signed).unwrap();
        let arguments = verify_arguments(hash, public.as_ref(), b"", &signature, b"hello");
        assert_eq!(
            ask("verify_signature", &arguments).unwrap(),
            VERIFIED,
            "{hash}"
        );
        let other = ask(
            "sign",
            &sign_arguments("sha1", private.as_ref(), b"", b"hello"),
        );
        assert_eq!(
            signature_of(&other.unwrap()).unwrap_err(),
            "sha1 is not supported."
        );
    }
}

#[test]
fn what_is_wrong_with_a_signature_call() {
    for (arguments, status) in [
        (verify_arguments("sha256", b"", b"", b"s", b"t"), 2),
        (verify_arguments("sha256", b"der", b"pem", b"s", b"t"), 2),
        (b"\x0a\x40".to_vec(), 2),
    ] {
        assert_eq!(ask("verify_signature", &arguments), Err(status));
        assert_eq!(ask("sign", b"\x0a\x40"), Err(2));
    }
    assert_eq!(
        ask("sign", &sign_arguments("sha256", b"", b"", b"t")),
        Err(2)
    );
    let ask_verify = |hash: &str, der: &[u8]| {
        ask(
            "verify_signature",
            &verify_arguments(hash, der, b"", b"s", b"t"),
        )
        .unwrap()
    };
    assert_eq!(
        ask_verify("unknown", b"x"),
        verdict("unknown is not supported.")
    );
    assert_eq!(
        ask_verify("sha256", b"no key"),
        verdict("Failed to initialize digest verify.")
    );
    let signed = ask("sign", &sign_arguments("sha256", b"no key", b"", b"t")).unwrap();
    assert!(signature_of(&signed).unwrap_err().contains("private key"));
}

#[test]
fn expressions_over_the_exchange() {
    let mut guest = Guest::new();
    let sources = [
        "request.method + ' ' + request.url_path",
        "request.headers['user-agent'] == 'curl'",
        "source.port",
        "request.time < timestamp('2030-01-01T00:00:00Z')",
        "plugin_name",
        "cluster_name",
        "filter_state['wasm.team']",
    ];
    guest.call(
        ON_REQUEST,
        "proxy_set_property",
        &[Bytes(b"team"), Bytes(b"shop")],
    );
    let mut calls = Vec::new();
    for (token, source) in (0_u32..).zip(sources) {
        let created = call(&mut guest, "expr_create", source.as_bytes());
        let value = call(&mut guest, "expr_evaluate", &token.to_le_bytes());
        calls.push((created, value));
    }
    let mut run = guest.start();
    let attributes = &mut run.io().attributes;
    attributes.start = Some(std::time::SystemTime::UNIX_EPOCH);
    attributes.rule = Some(std::sync::Arc::new(super::properties::rule()));
    attributes.connection = Some(std::sync::Arc::new(crate::ConnectionAttributes {
        source: Some("192.0.2.1:4711".parse().unwrap()),
        ..Default::default()
    }));
    run.request_headers();
    let expected: [&[u8]; 7] = [
        b"POST /p",
        &[1],
        &4711_i64.to_le_bytes(),
        &[1],
        b"hello",
        b"shop/backend",
        b"shop",
    ];
    for (n, ((created, value), expected)) in (0_u32..).zip(calls.iter().zip(expected)) {
        assert_eq!(result(&run, created).unwrap(), n.to_le_bytes());
        assert_eq!(result(&run, value).unwrap(), expected, "{n}");
    }
}

#[test]
fn statuses_of_expressions() {
    let mut guest = Guest::new();
    let token = 0_u32.to_le_bytes();
    let steps: [(&str, &[u8], u32); 9] = [
        ("expr_evaluate", &token, 1),
        ("expr_create", b"1 +", 2),
        ("expr_create", b"\xff", 2),
        ("expr_create", b"request.nosuch", 0),
        ("expr_evaluate", &token, 10),
        ("expr_evaluate", b"abc", 2),
        ("expr_delete", b"abc", 2),
        ("expr_delete", &token, 0),
        ("expr_evaluate", &token, 1),
    ];
    let calls: Vec<Call> = steps
        .iter()
        .map(|(name, arguments, _)| call(&mut guest, name, arguments))
        .collect();
    let again = call(&mut guest, "expr_delete", &token);
    let mut run = guest.start();
    run.request_headers();
    for (made, (name, arguments, expected)) in calls.iter().zip(steps) {
        assert_eq!(run.status(made), expected, "{name} {arguments:?}");
    }
    assert_eq!(run.status(&again), 0, "what is not there is deleted");
}

#[test]
fn results_that_nobody_wants() {
    let mut guest = Guest::new();
    let none = guest.call(
        ON_REQUEST,
        FOREIGN,
        &[Bytes(b"compress"), Bytes(b"abc"), Int(0), Int(0)],
    );
    let size = guest.call(
        ON_REQUEST,
        FOREIGN,
        &[Bytes(b"compress"), Bytes(b"abc"), Int(0), Out],
    );
    let mut run = guest.start();
    run.request_headers();
    assert_eq!(run.status(&none), 0);
    assert_eq!((run.status(&size), run.out(&size, 0)), (0, 11));
}
