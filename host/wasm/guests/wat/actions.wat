;; Each callback returns what its byte of the plugin's configuration says: request headers, body, trailers, then the response's.
(module
  (import "env" "proxy_get_buffer_bytes" (func $get_buffer (param i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "malloc") (param i32) (result i32) (i32.const 64))
  (func (export "proxy_on_configure") (param i32 i32) (result i32)
    (i32.eqz (call $get_buffer (i32.const 7) (i32.const 0) (i32.const 6) (i32.const 0) (i32.const 4))))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (i32.load8_u (i32.const 64)))
  (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32) (i32.load8_u (i32.const 65)))
  (func (export "proxy_on_request_trailers") (param i32 i32) (result i32) (i32.load8_u (i32.const 66)))
  (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32) (i32.load8_u (i32.const 67)))
  (func (export "proxy_on_response_body") (param i32 i32 i32) (result i32) (i32.load8_u (i32.const 68)))
  (func (export "proxy_on_response_trailers") (param i32 i32) (result i32) (i32.load8_u (i32.const 69))))
