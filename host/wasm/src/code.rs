//! Compiled code outside the process: sealed so that only what this host wrote comes back.
//!
//! wasmtime runs whatever machine code a serialized module holds. A seal therefore authenticates it: HMAC-SHA256 with a
//! secret of this host over the engine's [compatibility](crate::Engine::compatibility), the digest of the WebAssembly it was
//! compiled from, and the code. Code of another host, another engine, another module, or with one bit changed is refused
//! before anything of it is looked at.
//!
//! ```text
//!   "TGCODE1\0" │ HMAC-SHA256(secret, compatibility │ SHA-256(wasm) │ code) │ code
//! ```

use std::hash::{Hash, Hasher};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{self, SHA256};
use aws_lc_rs::hmac;

use crate::component::is_component;
use crate::engine::Engine;
use crate::failure::{CodeError, LoadError};
use crate::module::{Code, Module};

const MAGIC: &[u8; 8] = b"TGCODE1\0";
const TAG: usize = 32;

/// SHA-256 of a module.
pub(crate) type Digest = [u8; 32];

/// The secret that seals compiled code. Who knows it can make this host run any machine code: keep it in memory, or in a file
/// that nobody else can read or write.
#[derive(Clone)]
pub struct CodeKey(hmac::Key);

/// Where the sealed code of one snapshot is kept. Whatever it gives back is checked.
pub trait CodeSlot {
    /// What seals it.
    fn key(&self) -> &CodeKey;
    /// What was kept last.
    fn read(&self) -> Option<Vec<u8>>;
    /// Keeps this instead. May fail silently: the code is compiled anew then.
    fn write(&self, sealed: &[u8]);
}

// === impl CodeKey ===

impl CodeKey {
    /// From 32 bytes of good randomness.
    pub fn new(secret: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// A new one for this process.
    pub fn random() -> Result<(Self, [u8; 32]), CodeError> {
        let mut secret = [0; 32];
        aws_lc_rs::rand::fill(&mut secret).map_err(|_| CodeError::Random)?;
        Ok((Self::new(&secret), secret))
    }

    fn tag(&self, compatibility: &str, wasm: &Digest, code: &[u8]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(compatibility.as_bytes());
        context.update(wasm);
        context.update(code);
        context.sign()
    }
}

impl std::fmt::Debug for CodeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CodeKey").finish_non_exhaustive()
    }
}

// === impl Module ===

impl Module {
    /// Its compiled code under that seal, for [`deserialize`](Self::deserialize). Key files by the module's digest and
    /// [`Engine::compatibility`].
    pub fn serialize(&self, key: &CodeKey) -> Result<Vec<u8>, CodeError> {
        let code = match self.code() {
            Code::Module(pre) => pre.module().serialize(),
            Code::Component(code) => code.component().serialize(),
        };
        seal(self.engine(), self.digest(), code, key)
    }

    /// A module from its WebAssembly and the code that [`serialize`](Self::serialize) sealed, some hundred times faster than
    /// compiling. The same checks are made as by [`Engine::compile`], but for validation, which the seal vouches for.
    ///
    /// # Errors
    ///
    /// [`CodeError::Foreign`] for everything that this key did not seal for these bytes and this engine: delete the file and
    /// compile anew.
    pub fn deserialize(
        engine: &Engine,
        wasm: &[u8],
        sealed: &[u8],
        key: &CodeKey,
    ) -> Result<Self, CodeError> {
        let digest = digest_of(wasm);
        let code = unseal(engine, &digest, sealed, key)?;
        if is_component(wasm) {
            #[allow(
                unsafe_code,
                reason = "wasmtime cannot know who wrote the code; the seal does"
            )]
            // SAFETY: as for modules, see `module_of`.
            let component =
                unsafe { wasmtime::component::Component::deserialize(engine.wasmtime(), code) };
            let component = component.map_err(incompatible)?;
            return Ok(Self::assemble_component(engine, wasm, digest, &component)?);
        }
        let module = module_of(engine, code)?;
        Ok(Self::assemble(engine, wasm, digest, &module)?)
    }
}

/// Compiles, or takes what was compiled before.
pub(crate) fn compile(
    engine: &Engine,
    wasm: &[u8],
    slot: Option<&dyn CodeSlot>,
) -> Result<wasmtime::Module, LoadError> {
    let digest = digest_of(wasm);
    if let Some(slot) = slot
        && let Some(sealed) = slot.read()
        && let Ok(code) = unseal(engine, &digest, &sealed, slot.key())
        && let Ok(module) = module_of(engine, code)
    {
        return Ok(module);
    }
    let module = wasmtime::Module::new(engine.wasmtime(), wasm)
        .map_err(|error| LoadError::Invalid(format!("{:#}", error.root_cause())))?;
    if let Some(slot) = slot {
        match seal(engine, &digest, module.serialize(), slot.key()) {
            Ok(sealed) => slot.write(&sealed),
            Err(error) => tracing::debug!(%error, "compiled code is not kept"),
        }
    }
    Ok(module)
}

fn seal(
    engine: &Engine,
    wasm: &Digest,
    code: wasmtime::Result<Vec<u8>>,
    key: &CodeKey,
) -> Result<Vec<u8>, CodeError> {
    let code = code.map_err(|error| CodeError::Serialize(format!("{error:#}")))?;
    let tag = key.tag(engine.compatibility(), wasm, &code);
    let mut sealed = Vec::with_capacity(MAGIC.len() + TAG + code.len());
    sealed.extend_from_slice(MAGIC);
    sealed.extend_from_slice(tag.as_ref());
    sealed.extend_from_slice(&code);
    Ok(sealed)
}

/// The code under a seal of ours.
fn unseal<'a>(
    engine: &Engine,
    wasm: &Digest,
    sealed: &'a [u8],
    key: &CodeKey,
) -> Result<&'a [u8], CodeError> {
    open(engine.compatibility(), wasm, sealed, key).ok_or(CodeError::Foreign)
}

/// The module that code from [`unseal`] is.
fn module_of(engine: &Engine, code: &[u8]) -> Result<wasmtime::Module, CodeError> {
    #[allow(
        unsafe_code,
        reason = "wasmtime cannot know who wrote the code; the seal does"
    )]
    // SAFETY: the tag was made with a secret that only this host has, over code that wasmtime serialized in an engine of the
    // same compatibility hash.
    let module = unsafe { wasmtime::Module::deserialize(engine.wasmtime(), code) };
    module.map_err(incompatible)
}

#[allow(
    clippy::needless_pass_by_value,
    reason = "the shape that map_err wants"
)]
fn incompatible(error: wasmtime::Error) -> CodeError {
    CodeError::Incompatible(format!("{error:#}"))
}

fn open<'a>(
    compatibility: &str,
    wasm: &Digest,
    sealed: &'a [u8],
    key: &CodeKey,
) -> Option<&'a [u8]> {
    let sealed = sealed.strip_prefix(MAGIC)?;
    let (tag, code) = sealed.split_at_checked(TAG)?;
    let expected = key.tag(compatibility, wasm, code);
    verify_slices_are_equal(expected.as_ref(), tag).ok()?;
    Some(code)
}

pub(crate) fn digest_of(wasm: &[u8]) -> Digest {
    let mut out = Digest::default();
    out.copy_from_slice(digest::digest(&SHA256, wasm).as_ref());
    out
}

/// Hexadecimal SHA-256 of everything that decides whether code of one engine runs in another.
pub(crate) fn compatibility(engine: &wasmtime::Engine) -> String {
    use std::fmt::Write as _;
    let mut hasher = Sha256Hasher(digest::Context::new(&SHA256));
    engine.precompile_compatibility_hash().hash(&mut hasher);
    hasher.write(env!("CARGO_PKG_VERSION").as_bytes());
    // The instruction set that the compiler found on this processor is in the hash above; its name is not.
    hasher.write(std::env::consts::ARCH.as_bytes());
    let mut text = String::with_capacity(64);
    for byte in hasher.0.finish().as_ref() {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// A hasher whose result is the same in each process, unlike that of std.
struct Sha256Hasher(digest::Context);

impl Hasher for Sha256Hasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let digest = self.0.clone().finish();
        digest
            .as_ref()
            .first_chunk()
            .map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }
}

impl From<LoadError> for CodeError {
    fn from(error: LoadError) -> Self {
        Self::Load(error)
    }
}
