// A guest in C without a library: headers, bodies, a local reply, an HTTP call, shared data. Built freestanding with clang.

typedef unsigned int u32;
typedef unsigned char u8;

#define IMPORT(name) __attribute__((import_module("env"), import_name(name)))
#define EXPORT(name) __attribute__((export_name(name)))

IMPORT("proxy_log") u32 proxy_log(u32 level, const char *text, u32 size);
IMPORT("proxy_get_header_map_value") u32 proxy_get(u32 map, const char *key, u32 key_size, char **value, u32 *size);
IMPORT("proxy_add_header_map_value") u32 proxy_add(u32 map, const char *key, u32 key_size, const char *value, u32 size);
IMPORT("proxy_remove_header_map_value") u32 proxy_remove(u32 map, const char *key, u32 key_size);
IMPORT("proxy_get_buffer_bytes") u32 proxy_bytes(u32 buffer, u32 start, u32 max, char **value, u32 *size);
IMPORT("proxy_set_buffer_bytes") u32 proxy_set_bytes(u32 buffer, u32 start, u32 length, const char *value, u32 size);
IMPORT("proxy_send_local_response")
u32 proxy_reply(u32 code, const char *details, u32 details_size, const char *body, u32 body_size, const char *headers,
                u32 headers_size, int grpc);
IMPORT("proxy_http_call")
u32 proxy_call(const char *cluster, u32 cluster_size, const char *headers, u32 headers_size, const char *body, u32 body_size,
               const char *trailers, u32 trailers_size, u32 timeout, u32 *token);
IMPORT("proxy_continue_stream") u32 proxy_continue(u32 stream);
IMPORT("proxy_set_effective_context") u32 proxy_effective(u32 context);
IMPORT("proxy_get_shared_data") u32 proxy_shared(const char *key, u32 key_size, char **value, u32 *size, u32 *cas);
IMPORT("proxy_set_shared_data") u32 proxy_share(const char *key, u32 key_size, const char *value, u32 size, u32 cas);

enum { REQUEST = 0, RESPONSE = 2, CALLOUT_HEADERS = 6 };
enum { REQUEST_BODY = 0, RESPONSE_BODY = 1, CALLOUT = 4, CONFIG = 7 };

// The heap goes round: what a test asks for is gone long before its place is needed again.
static char heap[1 << 18];
static u32 used;

EXPORT("malloc") void *guest_malloc(u32 size) {
  size = (size + 7) & ~7u;
  if (used + size > sizeof heap) used = 0;
  void *at = heap + used;
  used += size;
  return at;
}

static u32 length(const char *text) {
  u32 size = 0;
  while (text[size]) size++;
  return size;
}

// A line that is put together.
static char line[512];
static u32 filled;

static void put_bytes(const char *text, u32 size) {
  for (u32 i = 0; i < size && filled < sizeof line; i++) line[filled++] = text[i];
}

static void put(const char *text) { put_bytes(text, length(text)); }

static void put_number(u32 number) {
  char digits[10];
  u32 at = sizeof digits;
  do {
    digits[--at] = (char)('0' + number % 10);
    number /= 10;
  } while (number);
  put_bytes(digits + at, (u32)sizeof digits - at);
}

static void say(void) {
  proxy_log(2, line, filled);
  filled = 0;
}

static void put_header(u32 map, const char *name) {
  char *value = 0;
  u32 size = 0, status = proxy_get(map, name, length(name), &value, &size);
  if (status == 0) {
    put_bytes(value, size);
  } else {
    put("(status ");
    put_number(status);
    put(")");
  }
}

static int header_is(const char *name, const char *wanted) {
  char *value = 0;
  u32 size = 0;
  if (proxy_get(REQUEST, name, length(name), &value, &size) || size != length(wanted)) return 0;
  for (u32 i = 0; i < size; i++)
    if (value[i] != wanted[i]) return 0;
  return 1;
}

static void add(u32 map, const char *name, const char *value) { proxy_add(map, name, length(name), value, length(value)); }

// The serialised form of a map: names and values in turn.
static u32 pairs(char *wire, const char *const *entries, u32 count) {
  u32 *words = (u32 *)wire;
  *words++ = count / 2;
  for (u32 i = 0; i < count; i++) *words++ = length(entries[i]);
  char *at = (char *)words;
  for (u32 i = 0; i < count; i++) {
    for (const char *from = entries[i]; *from; from++) *at++ = *from;
    *at++ = 0;
  }
  return (u32)(at - wire);
}

static u32 count_requests(void) {
  char *value = 0;
  u32 size = 0, cas = 0, count = 1;
  if (proxy_shared("count", 5, &value, &size, &cas) == 0 && size == 4) count += *(u32 *)value;
  proxy_share("count", 5, (const char *)&count, 4, 0);
  return count;
}

static char config[64];
static u32 config_size, waiting;

EXPORT("proxy_abi_version_0_2_1") void abi(void) {}

EXPORT("proxy_on_configure") u32 on_configure(u32 root, u32 size) {
  (void)root;
  char *value = 0;
  config_size = 0;
  proxy_bytes(CONFIG, 0, sizeof config, &value, &config_size);
  for (u32 i = 0; i < config_size; i++) config[i] = value[i];
  put("configured with "), put_number(size), put(" bytes: "), put_bytes(config, config_size), say();
  return 1;
}

EXPORT("proxy_on_request_headers") u32 on_request_headers(u32 context, u32 headers, u32 end) {
  put("request "), put_header(REQUEST, ":path"), put(", "), put_number(headers), put(" headers, end "), put_number(end);
  put(", number "), put_number(count_requests()), say();
  put("x-none: "), put_header(REQUEST, "x-none"), say();
  add(REQUEST, "x-guest", "c");
  static char wire[256] __attribute__((aligned(4)));
  if (header_is("x-do", "reply")) {
    static const char *const own[] = {"x-from", "c"};
    proxy_reply(418, 0, 0, "from c", 6, wire, pairs(wire, own, 2), -1);
    return 1;
  }
  if (header_is("x-do", "call")) {
    static const char *const head[] = {":method", "GET", ":path", "/check", ":authority", "auth.test"};
    u32 token = 0;
    waiting = context;
    u32 status = proxy_call(config, config_size, wire, pairs(wire, head, 6), 0, 0, 0, 0, 1000, &token);
    if (status == 0) return 1;
    put("the call failed: "), put_number(status), say();
  }
  if (header_is("x-do", "panic")) __builtin_trap();
  if (header_is("x-do", "body")) proxy_remove(REQUEST, "content-length", 14);
  return 0;
}

EXPORT("proxy_on_http_call_response") void on_answer(u32 root, u32 token, u32 headers, u32 size, u32 trailers) {
  (void)root, (void)token, (void)headers;
  char *value = 0;
  u32 read = 0;
  proxy_bytes(CALLOUT, 0, size, &value, &read);
  put("called: "), put_header(CALLOUT_HEADERS, ":status"), put(", "), put_bytes(value, read), put(", "), put_number(trailers);
  put(" trailers"), say();
  proxy_effective(waiting);
  proxy_add(REQUEST, "x-answer", 8, value, read);
  proxy_continue(0);
}

EXPORT("proxy_on_request_body") u32 on_request_body(u32 context, u32 size, u32 end) {
  (void)context;
  if (!end) return 1;
  char *value = 0;
  u32 read = 0;
  proxy_bytes(REQUEST_BODY, 0, size, &value, &read);
  put("request body "), put_bytes(value, read), put(" of "), put_number(size), say();
  proxy_set_bytes(REQUEST_BODY, size, 0, "]", 1);
  proxy_set_bytes(REQUEST_BODY, 0, 0, "[", 1);
  return 0;
}

EXPORT("proxy_on_response_headers") u32 on_response_headers(u32 context, u32 headers, u32 end) {
  (void)context;
  put("response "), put_header(RESPONSE, ":status"), put(", "), put_number(headers), put(" headers, end "), put_number(end), say();
  proxy_remove(RESPONSE, "content-length", 14);
  add(RESPONSE, "x-guest", "c");
  return 0;
}

EXPORT("proxy_on_response_body") u32 on_response_body(u32 context, u32 size, u32 end) {
  (void)context;
  if (!end) return 1;
  proxy_set_bytes(RESPONSE_BODY, size, 0, " and c", 6);
  return 0;
}

EXPORT("proxy_on_log") void on_log(u32 context) {
  (void)context;
  put("log, status "), put_header(RESPONSE, ":status"), put(", path "), put_header(REQUEST, ":path"), say();
}

EXPORT("proxy_on_done") u32 on_done(u32 context) {
  (void)context;
  put("done"), say();
  return 1;
}
