// A guest in AssemblyScript without an SDK: headers, bodies, a local reply, an HTTP call, shared data.

@external("env", "proxy_log") declare function proxy_log(level: u32, at: usize, size: usize): u32;
@external("env", "proxy_get_header_map_value")
declare function proxy_get(map: u32, key: usize, keySize: usize, at: usize, size: usize): u32;
@external("env", "proxy_add_header_map_value")
declare function proxy_add(map: u32, key: usize, keySize: usize, value: usize, valueSize: usize): u32;
@external("env", "proxy_remove_header_map_value") declare function proxy_remove(map: u32, key: usize, keySize: usize): u32;
@external("env", "proxy_get_buffer_bytes")
declare function proxy_bytes(buffer: u32, start: u32, max: u32, at: usize, size: usize): u32;
@external("env", "proxy_set_buffer_bytes")
declare function proxy_set_bytes(buffer: u32, start: u32, length: u32, at: usize, size: usize): u32;
@external("env", "proxy_send_local_response")
declare function proxy_reply(code: u32, details: usize, detailsSize: usize, body: usize, bodySize: usize, headers: usize, headersSize: usize, grpc: i32): u32;
@external("env", "proxy_http_call")
declare function proxy_call(cluster: usize, clusterSize: usize, headers: usize, headersSize: usize, body: usize, bodySize: usize, trailers: usize, trailersSize: usize, timeout: u32, token: usize): u32;
@external("env", "proxy_continue_stream") declare function proxy_continue(stream: u32): u32;
@external("env", "proxy_set_effective_context") declare function proxy_effective(context: u32): u32;
@external("env", "proxy_get_shared_data")
declare function proxy_shared(key: usize, keySize: usize, at: usize, size: usize, cas: usize): u32;
@external("env", "proxy_set_shared_data")
declare function proxy_share(key: usize, keySize: usize, value: usize, valueSize: usize, cas: u32): u32;

// Two words that hostcalls write their results to.
const out: usize = memory.data(16);

let config: string = "";
let waiting: u32 = 0;

export function proxy_abi_version_0_2_1(): void {}

export function proxy_on_memory_allocate(size: usize): usize {
  return heap.alloc(size);
}

export function abort(message: string | null, file: string | null, line: u32, column: u32): void {
  log(4, "abort: " + (message === null ? "" : message));
  unreachable();
}

function bytes(text: string): ArrayBuffer {
  return String.UTF8.encode(text);
}

function log(level: u32, text: string): void {
  const data = bytes(text);
  proxy_log(level, changetype<usize>(data), data.byteLength);
}

// What a hostcall has put into memory that we allocated.
function taken(): string {
  const at = load<usize>(out), size = load<usize>(out + 4);
  if (at == 0) return "";
  const text = String.UTF8.decodeUnsafe(at, size);
  heap.free(at);
  return text;
}

function get(map: u32, name: string): string {
  const key = bytes(name);
  const status = proxy_get(map, changetype<usize>(key), key.byteLength, out, out + 4);
  return status == 0 ? taken() : "(status " + status.toString() + ")";
}

function add(map: u32, name: string, value: string): void {
  const key = bytes(name), data = bytes(value);
  proxy_add(map, changetype<usize>(key), key.byteLength, changetype<usize>(data), data.byteLength);
}

function remove(map: u32, name: string): void {
  const key = bytes(name);
  proxy_remove(map, changetype<usize>(key), key.byteLength);
}

function body(buffer: u32): string {
  const status = proxy_bytes(buffer, 0, u32.MAX_VALUE >> 1, out, out + 4);
  return status == 0 ? taken() : "(status " + status.toString() + ")";
}

// The serialised form of a map: names and values in turn.
function pairs(entries: string[]): ArrayBuffer {
  const parts = entries.map<ArrayBuffer>((text: string): ArrayBuffer => bytes(text));
  let size = 4 + parts.length * 4;
  for (let i = 0; i < parts.length; i++) size += parts[i].byteLength + 1;
  const wire = new ArrayBuffer(size), start = changetype<usize>(wire);
  store<u32>(start, parts.length / 2);
  let at = start + 4 + parts.length * 4;
  for (let i = 0; i < parts.length; i++) {
    store<u32>(start + 4 + i * 4, parts[i].byteLength);
    memory.copy(at, changetype<usize>(parts[i]), parts[i].byteLength);
    at += parts[i].byteLength + 1;
  }
  return wire;
}

function count(): string {
  const key = bytes("count");
  const status = proxy_shared(changetype<usize>(key), key.byteLength, out, out + 4, out + 8);
  const before = status == 0 ? taken() : "0";
  const now = (I32.parseInt(before) + 1).toString(), data = bytes(now);
  proxy_share(changetype<usize>(key), key.byteLength, changetype<usize>(data), data.byteLength, 0);
  return now;
}

export function proxy_on_configure(root: u32, size: u32): u32 {
  config = body(7);
  log(2, "configured with " + size.toString() + " bytes: " + config);
  return 1;
}

export function proxy_on_request_headers(context: u32, headers: u32, end: u32): u32 {
  log(2, "request " + get(0, ":path") + ", " + headers.toString() + " headers, end " + end.toString() + ", number " + count());
  log(2, "x-none: " + get(0, "x-none"));
  add(0, "x-guest", "assemblyscript");
  const what = get(0, "x-do");
  if (what == "reply") {
    const text = bytes("from assemblyscript"), map = pairs(["x-from", "assemblyscript"]);
    proxy_reply(418, 0, 0, changetype<usize>(text), text.byteLength, changetype<usize>(map), map.byteLength, -1);
    return 1;
  }
  if (what == "call") {
    const cluster = bytes(config), map = pairs([":method", "GET", ":path", "/check", ":authority", "auth.test"]);
    waiting = context;
    const status = proxy_call(changetype<usize>(cluster), cluster.byteLength, changetype<usize>(map), map.byteLength, 0, 0, 0, 0, 1000, out);
    if (status == 0) return 1;
    log(4, "the call failed: " + status.toString());
  }
  if (what == "panic") unreachable();
  if (what == "body") remove(0, "content-length");
  return 0;
}

export function proxy_on_http_call_response(root: u32, token: u32, headers: u32, size: u32, trailers: u32): void {
  const answer = body(4);
  log(2, "called: " + get(6, ":status") + ", " + answer + ", " + trailers.toString() + " trailers");
  proxy_effective(waiting);
  add(0, "x-answer", answer);
  proxy_continue(0);
}

export function proxy_on_request_body(context: u32, size: u32, end: u32): u32 {
  if (end == 0) return 1;
  const whole = body(0);
  log(2, "request body " + whole + " of " + size.toString());
  const changed = bytes("[" + whole + "]");
  proxy_set_bytes(0, 0, size, changetype<usize>(changed), changed.byteLength);
  return 0;
}

export function proxy_on_response_headers(context: u32, headers: u32, end: u32): u32 {
  log(2, "response " + get(2, ":status") + ", " + headers.toString() + " headers, end " + end.toString());
  remove(2, "content-length");
  add(2, "x-guest", "assemblyscript");
  return 0;
}

export function proxy_on_response_body(context: u32, size: u32, end: u32): u32 {
  if (end == 0) return 1;
  const more = bytes(" and assemblyscript");
  proxy_set_bytes(1, size, 0, changetype<usize>(more), more.byteLength);
  return 0;
}

export function proxy_on_log(context: u32): void {
  log(2, "log, status " + get(2, ":status") + ", path " + get(0, ":path"));
}

export function proxy_on_done(context: u32): u32 {
  log(2, "done");
  return 1;
}
