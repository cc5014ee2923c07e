;; Neither _initialize nor _start: the start section alone, as AssemblyScript does it. It may log before the instance exists.
(module
  (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
  (import "env" "proxy_set_property" (func $set_property (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 64) "started")
  (func $first (i32.store8 (i32.const 80) (i32.add (i32.load8_u (i32.const 80)) (i32.const 0x31)))
    (drop (call $log (i32.const 2) (i32.const 64) (i32.const 7))))
  (start $first)
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "malloc") (param i32) (result i32) (i32.const 4096))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (drop (call $set_property (i32.const 64) (i32.const 7) (i32.const 80) (i32.const 1))) (i32.const 0)))
