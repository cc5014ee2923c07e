//! The ABI itself (proxy-wasm 0.2.1): memory, the functions of the host, the callbacks of the module. The only unsafe code here.

pub mod callbacks;
mod exports;
pub(crate) mod imports;

/// Room for what the host returns, which becomes the property of the function that asked, see `imports::Out`.
#[unsafe(no_mangle)]
#[expect(unsafe_code, reason = "the host finds the callback by its name")]
extern "C" fn proxy_on_memory_allocate(size: usize) -> *mut u8 {
    // A boxed slice has exactly this size, a vector may have more capacity.
    Box::into_raw(Box::<[u8]>::new_uninit_slice(size)).cast()
}
