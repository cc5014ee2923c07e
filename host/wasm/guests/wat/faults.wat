;; Fails as the second letter of the request's path says: loop, trap, memory, table, recursion, division, address, allocator; else
;; it counts the request in a header.
(module
  (import "env" "proxy_get_header_map_value" (func $get_header (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_replace_header_map_value" (func $set_header (param i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1 65536)
  (table $t 1 10000000 funcref)
  (global $lying (mut i32) (i32.const 0))
  (global $served (mut i32) (i32.const 0x30))
  (data (i32.const 64) ":path")
  (data (i32.const 80) "x-served")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "malloc") (param i32) (result i32)
    (if (global.get $lying) (then unreachable)) (i32.const 4096))
  (func $deep (param i32) (result i32) (i32.add (call $deep (local.get 0)) (i32.const 1)))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (local $fault i32)
    (drop (call $get_header (i32.const 0) (i32.const 64) (i32.const 5) (i32.const 0) (i32.const 4)))
    (local.set $fault (i32.load8_u (i32.const 4097)))
    (if (i32.eq (local.get $fault) (i32.const 0x6c)) (then (loop $forever (br $forever))))                       ;; l
    (if (i32.eq (local.get $fault) (i32.const 0x74)) (then unreachable))                                         ;; t
    (if (i32.eq (local.get $fault) (i32.const 0x6d)) (then                                                       ;; m
      (loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable))
    (if (i32.eq (local.get $fault) (i32.const 0x62)) (then                                                       ;; b
      (loop $more (br_if $more (i32.ne (table.grow $t (ref.null func) (i32.const 10000)) (i32.const -1)))) unreachable))
    (if (i32.eq (local.get $fault) (i32.const 0x72)) (then (drop (call $deep (i32.const 0)))))                    ;; r
    (if (i32.eq (local.get $fault) (i32.const 0x64)) (then (drop (i32.div_u (i32.const 1) (global.get $lying)))))  ;; d
    (if (i32.eq (local.get $fault) (i32.const 0x61)) (then (drop (i32.load (i32.const -8)))))                      ;; a
    (if (i32.eq (local.get $fault) (i32.const 0x6f)) (then (global.set $lying (i32.const 1))                       ;; o
      (drop (call $get_header (i32.const 0) (i32.const 64) (i32.const 5) (i32.const 0) (i32.const 4)))))
    (global.set $served (i32.add (global.get $served) (i32.const 1)))
    (i32.store8 (i32.const 96) (global.get $served))
    (drop (call $set_header (i32.const 0) (i32.const 80) (i32.const 8) (i32.const 96) (i32.const 1)))
    (i32.const 0)))
