//! Guests: proxy-wasm modules of a few lines of WAT.
//!
//! The prelude imports the hostcalls under short names and brings the memory, the allocator and the ABI's mark. In the text
//! `@"…"` stands for a string, as pointer and length, and `@pairs"k=v;k=v"` for a serialised map.

/// Where strings begin; results of hostcalls are written below, and the allocator gives out what is above.
const STRINGS: usize = 4096;
const HEAP: usize = 64 << 10;

const PRELUDE: &str = r#"
(import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
(import "env" "proxy_set_tick_period_milliseconds" (func $tick (param i32) (result i32)))
(import "env" "proxy_set_effective_context" (func $as (param i32) (result i32)))
(import "env" "proxy_get_header_map_value" (func $get (param i32 i32 i32 i32 i32) (result i32)))
(import "env" "proxy_add_header_map_value" (func $add (param i32 i32 i32 i32 i32) (result i32)))
(import "env" "proxy_replace_header_map_value" (func $replace (param i32 i32 i32 i32 i32) (result i32)))
(import "env" "proxy_remove_header_map_value" (func $remove (param i32 i32 i32) (result i32)))
(import "env" "proxy_get_buffer_bytes" (func $read (param i32 i32 i32 i32 i32) (result i32)))
(import "env" "proxy_set_buffer_bytes" (func $write (param i32 i32 i32 i32 i32) (result i32)))
(import "env" "proxy_send_local_response" (func $respond (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
(import "env" "proxy_continue_stream" (func $continue (param i32) (result i32)))
(import "env" "proxy_close_stream" (func $close (param i32) (result i32)))
(import "env" "proxy_http_call" (func $call (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
(import "env" "proxy_get_status" (func $status (param i32 i32 i32) (result i32)))
(import "env" "proxy_grpc_call" (func $grpc_call (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
(import "env" "proxy_grpc_stream" (func $grpc_stream (param i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
(import "env" "proxy_grpc_send" (func $grpc_send (param i32 i32 i32 i32) (result i32)))
(import "env" "proxy_grpc_cancel" (func $grpc_cancel (param i32) (result i32)))
(import "env" "proxy_grpc_close" (func $grpc_close (param i32) (result i32)))
(import "env" "proxy_register_shared_queue" (func $register (param i32 i32 i32) (result i32)))
(import "env" "proxy_resolve_shared_queue" (func $resolve (param i32 i32 i32 i32 i32) (result i32)))
(import "env" "proxy_enqueue_shared_queue" (func $enqueue (param i32 i32 i32) (result i32)))
(import "env" "proxy_dequeue_shared_queue" (func $dequeue (param i32 i32 i32) (result i32)))
(import "env" "proxy_get_shared_data" (func $shared (param i32 i32 i32 i32 i32) (result i32)))
(import "env" "proxy_set_shared_data" (func $share (param i32 i32 i32 i32 i32) (result i32)))
(import "env" "proxy_define_metric" (func $define (param i32 i32 i32 i32) (result i32)))
(import "env" "proxy_increment_metric" (func $increment (param i32 i64) (result i32)))
(memory (export "memory") 16)
(global $heap (mut i32) (i32.const 65536))
(func (export "proxy_abi_version_0_2_1"))
(func (export "proxy_on_memory_allocate") (param $size i32) (result i32) (local $at i32)
  (local.set $at (global.get $heap))
  (global.set $heap (i32.add (local.get $at) (i32.and (i32.add (local.get $size) (i32.const 7)) (i32.const -8))))
  (if (i32.gt_u (global.get $heap) (i32.const 1000000)) (then (global.set $heap (i32.const 65536))))
  (local.get $at))
;; Whether a map has a field.
(func $has (param $map i32) (param $key i32) (param $size i32) (result i32)
  (i32.eqz (call $get (local.get $map) (local.get $key) (local.get $size) (i32.const 16) (i32.const 20))))
;; Sets a field.
(func $set (param $map i32) (param $key i32) (param $ks i32) (param $value i32) (param $vs i32)
  (drop (call $replace (local.get $map) (local.get $key) (local.get $ks) (local.get $value) (local.get $vs))))
;; Appends to a field that tells who was there, in which order.
(func $mark (param $map i32) (param $key i32) (param $ks i32) (param $value i32) (param $vs i32)
  (drop (call $add (local.get $map) (local.get $key) (local.get $ks) (local.get $value) (local.get $vs))))
;; Answers.
(func $reply (param $status i32) (param $body i32) (param $size i32)
  (drop (call $respond (local.get $status) (i32.const 0) (i32.const 0) (local.get $body) (local.get $size)
    (i32.const 0) (i32.const 0) (i32.const -1))))
;; A counter of that name.
(func $counter (param $name i32) (param $size i32) (result i32)
  (drop (call $define (i32.const 0) (local.get $name) (local.get $size) (i32.const 28)))
  (i32.load (i32.const 28)))
;; Calls a declared cluster: GET / with a time limit of a second.
(func $ask (param $cluster i32) (param $size i32) (result i32)
  (call $call (local.get $cluster) (local.get $size)
    @pairs":method=GET;:path=/;:authority=asked.test" (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
    (i32.const 1000) (i32.const 24)))
"#;

const NOTES: &str = r#"
    (global $waits (mut i32) (i32.const 0))
    (global $end (mut i32) (i32.const 500000))
    (func $note (param $at i32) (param $size i32)
      (memory.copy (global.get $end) (local.get $at) (local.get $size))
      (global.set $end (i32.add (global.get $end) (local.get $size))))
    (func $digit (param $n i32)
      (i32.store8 (global.get $end) (i32.add (i32.const 48) (local.get $n)))
      (global.set $end (i32.add (global.get $end) (i32.const 1))))
    (func $number (param $n i32)
      (if (i32.ge_u (local.get $n) (i32.const 10)) (then (call $digit (i32.div_u (local.get $n) (i32.const 10)))))
      (call $digit (i32.rem_u (local.get $n) (i32.const 10))))
    (func $note_field (param $map i32) (param $key i32) (param $size i32)
      (if (call $has (local.get $map) (local.get $key) (local.get $size))
        (then (call $note (i32.load (i32.const 16)) (i32.load (i32.const 20))))))
    (func $note_status (local $code i32)
      (drop (call $status (i32.const 40) (i32.const 44) (i32.const 48)))
      (call $number (i32.load (i32.const 40))) (call $note @":")
      (call $note (i32.load (i32.const 44)) (i32.load (i32.const 48))))
    (func $tell (param $status i32)
      (if (i32.eqz (call $as (global.get $waits)))
        (then (call $reply (local.get $status) (i32.const 500000) (i32.sub (global.get $end) (i32.const 500000)))))
      (global.set $end (i32.const 500000)))
    (func $note_buffer (param $buffer i32)
      (if (i32.eqz (call $read (local.get $buffer) (i32.const 0) (i32.const 100000) (i32.const 16) (i32.const 20)))
        (then (call $note (i32.load (i32.const 16)) (i32.load (i32.const 20))))))
"#;

/// A module of these WAT functions that answers requests with what it has noted: `$note` writes down a string, `$number` a
/// number up to 99, `$note_field` a field, `$note_buffer` a buffer, `$note_status` what `proxy_get_status` says, and `$tell`
/// answers the stream in `$waits` with all of it.
///
/// # Panics
/// When the text is not WAT; the message shows where.
pub fn noting(functions: &str) -> Vec<u8> {
    guest(&format!("{NOTES}{functions}"))
}

/// A module of these WAT functions.
///
/// # Panics
/// When the text is not WAT; the message shows where.
pub fn guest(functions: &str) -> Vec<u8> {
    let mut strings = Vec::new();
    let body = place(&format!("{PRELUDE}{functions}"), &mut strings);
    assert!(STRINGS + strings.len() < HEAP, "too many strings");
    let data: String = strings.iter().map(|byte| format!("\\{byte:02x}")).collect();
    let text = format!("(module {body}\n(data (i32.const {STRINGS}) \"{data}\"))");
    wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}"))
}

/// Replaces `@"…"` and `@pairs"…"` by pointers and lengths.
fn place(text: &str, strings: &mut Vec<u8>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('@') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let (is_map, quoted) = match after.strip_prefix("pairs") {
            Some(quoted) => (true, quoted),
            None => (false, after),
        };
        let mut parts = quoted.splitn(3, '"');
        let (Some(""), Some(literal), Some(behind)) = (parts.next(), parts.next(), parts.next())
        else {
            panic!("no string after @ in {quoted:.40}")
        };
        let bytes = if is_map {
            pairs(literal)
        } else {
            literal.as_bytes().to_vec()
        };
        out.push_str(&format!(
            "(i32.const {}) (i32.const {})",
            STRINGS + strings.len(),
            bytes.len()
        ));
        strings.extend(bytes);
        rest = behind;
    }
    out.push_str(rest);
    out
}

/// The ABI's form of a map: the number of entries, the lengths of each, then names and values, each ended by a zero.
fn pairs(text: &str) -> Vec<u8> {
    let entries: Vec<(&str, &str)> = text
        .split(';')
        .filter_map(|entry| entry.split_once('='))
        .collect();
    let length = |text: &str| {
        u32::try_from(text.len())
            .expect("a short text")
            .to_le_bytes()
    };
    let mut out = u32::try_from(entries.len())
        .expect("few entries")
        .to_le_bytes()
        .to_vec();
    for (name, value) in &entries {
        out.extend(length(name));
        out.extend(length(value));
    }
    for part in entries.iter().flat_map(|(name, value)| [name, value]) {
        out.extend(part.as_bytes());
        out.push(0);
    }
    out
}
