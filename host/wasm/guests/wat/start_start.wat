;; _start without _initialize: main, which is there too, is _start's own business.
(module
  (import "env" "proxy_set_property" (func $set_property (param i32 i32 i32 i32) (result i32)))
  (import "wasi_unstable" "proc_exit" (func $proc_exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 64) "started")
  (func (export "_start") (i32.store8 (i32.const 80) (i32.const 0x73)))
  (func (export "main") (param i32 i32) (result i32) unreachable)
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "malloc") (param i32) (result i32) (i32.const 4096))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    ;; It returns.
    (call $proc_exit (i32.const 3))
    (drop (call $set_property (i32.const 64) (i32.const 7) (i32.const 80) (i32.const 1))) (i32.const 0)))
