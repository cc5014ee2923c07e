;; Every callback, each of which adds its letter to shared data; a local reply, once, so that the host has something to do.
(module
  (import "env" "proxy_get_shared_data" (func $get (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_set_shared_data" (func $set (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_http_call" (func $http_call (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_grpc_stream" (func $grpc_stream (param i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 1024) "steps")
  (data (i32.const 1040) "idp")
  (data (i32.const 2160) "\03\00\00\00\07\00\00\00\03\00\00\00\05\00\00\00\01\00\00\00\0a\00\00\00\03\00\00\00:method\00GET\00:path\00/\00:authority\00idp\00")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 8192))
  (func $note (param $letter i32)
    (i32.store (i32.const 4) (i32.const 0))
    ;; The value so far comes to 8192.
    (drop (call $get (i32.const 1024) (i32.const 5) (i32.const 0) (i32.const 4) (i32.const 8)))
    (i32.store8 (i32.add (i32.const 8192) (i32.load (i32.const 4))) (local.get $letter))
    (drop (call $set (i32.const 1024) (i32.const 5) (i32.const 8192) (i32.add (i32.load (i32.const 4)) (i32.const 1)) (i32.const 0))))
  (func (export "proxy_on_context_create") (param i32 i32) (call $note (i32.const 0x63)))                               ;; c
  (func (export "proxy_on_vm_start") (param i32 i32) (result i32) (call $note (i32.const 0x76)) (i32.const 1))            ;; v
  (func (export "proxy_on_configure") (param i32 i32) (result i32) (call $note (i32.const 0x66))                          ;; f
    (drop (call $http_call (i32.const 1040) (i32.const 3) (i32.const 2160) (i32.const 63) (i32.const 0) (i32.const 0)
      (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))
    (drop (call $grpc_stream (i32.const 1040) (i32.const 3) (i32.const 1040) (i32.const 3) (i32.const 1040) (i32.const 3)
      (i32.const 0) (i32.const 0) (i32.const 0)))
    (i32.const 1))
  (func (export "proxy_on_tick") (param i32) (call $note (i32.const 0x74)))                                               ;; t
  (func (export "proxy_on_queue_ready") (param i32 i32) (call $note (i32.const 0x71)))                                    ;; q
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (call $note (i32.const 0x48)) (i32.const 0))  ;; H
  (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32) (call $note (i32.const 0x42)) (i32.const 0))     ;; B
  (func (export "proxy_on_request_trailers") (param i32 i32) (result i32) (call $note (i32.const 0x54)) (i32.const 0))     ;; T
  (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32) (call $note (i32.const 0x68)) (i32.const 0)) ;; h
  (func (export "proxy_on_response_body") (param i32 i32 i32) (result i32) (call $note (i32.const 0x62)) (i32.const 0))    ;; b
  (func (export "proxy_on_response_trailers") (param i32 i32) (result i32) (call $note (i32.const 0x72)) (i32.const 0))    ;; r
  (func (export "proxy_on_http_call_response") (param i32 i32 i32 i32 i32) (call $note (i32.const 0x61)))                 ;; a
  (func (export "proxy_on_grpc_receive_initial_metadata") (param i32 i32 i32) (call $note (i32.const 0x69)))              ;; i
  (func (export "proxy_on_grpc_receive") (param i32 i32 i32) (call $note (i32.const 0x6d)))                               ;; m
  (func (export "proxy_on_grpc_receive_trailing_metadata") (param i32 i32 i32) (call $note (i32.const 0x65)))             ;; e
  (func (export "proxy_on_grpc_close") (param i32 i32 i32) (call $note (i32.const 0x78)))                                 ;; x
  (func (export "proxy_on_log") (param i32) (call $note (i32.const 0x6c)))                                                ;; l
  (func (export "proxy_on_done") (param i32) (result i32) (call $note (i32.const 0x64)) (i32.const 1))                    ;; d
  (func (export "proxy_on_delete") (param i32) (call $note (i32.const 0x7a)))                                             ;; z
  ;; Names that hosts do not know are the module's own.
  (func (export "proxy_on_grpc_trailing_metadata") (param i32) unreachable))
