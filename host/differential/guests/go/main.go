// A guest with the Go SDK: reads, adds and removes headers, waits for bodies and calls, answers itself, counts in shared data.
package main

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm"
	"github.com/proxy-wasm/proxy-wasm-go-sdk/proxywasm/types"
)

func main() {}

func init() {
	proxywasm.SetVMContext(&vm{})
}

type vm struct{ types.DefaultVMContext }

func (*vm) NewPluginContext(uint32) types.PluginContext { return &plugin{} }

type plugin struct {
	types.DefaultPluginContext
	cluster string
}

func (p *plugin) OnPluginStart(size int) types.OnPluginStartStatus {
	config, err := proxywasm.GetPluginConfiguration()
	if err != nil && !errors.Is(err, types.ErrorStatusNotFound) {
		proxywasm.LogErrorf("no configuration: %v", err)
		return types.OnPluginStartStatusFailed
	}
	p.cluster = string(config)
	proxywasm.LogInfof("configured with %d bytes: %s", size, config)
	return types.OnPluginStartStatusOK
}

func (p *plugin) NewHttpContext(id uint32) types.HttpContext { return &stream{id: id, plugin: p} }

type stream struct {
	types.DefaultHttpContext
	id     uint32
	plugin *plugin
}

func (s *stream) OnHttpRequestHeaders(count int, end bool) types.Action {
	path, err := proxywasm.GetHttpRequestHeader(":path")
	proxywasm.LogInfof("request %s, error %v, %d headers, end %t, number %d", path, err, count, end, count1())
	if _, err := proxywasm.GetHttpRequestHeader("x-none"); err != nil {
		proxywasm.LogInfof("x-none: %v", err)
	}
	_ = proxywasm.AddHttpRequestHeader("x-guest", "go")
	do, _ := proxywasm.GetHttpRequestHeader("x-do")
	switch do {
	case "reply":
		_ = proxywasm.SendHttpResponse(418, [][2]string{{"x-from", "go"}}, []byte("from go"), -1)
		return types.ActionPause
	case "call":
		head := [][2]string{{":method", "GET"}, {":path", "/check"}, {":authority", "auth.test"}}
		if _, err := proxywasm.DispatchHttpCall(s.plugin.cluster, head, nil, nil, 1000, s.answered); err != nil {
			proxywasm.LogErrorf("the call failed: %v", err)
			return types.ActionContinue
		}
		return types.ActionPause
	case "panic":
		panic("as it was asked to")
	case "body":
		_ = proxywasm.RemoveHttpRequestHeader("content-length")
	}
	return types.ActionContinue
}

func (s *stream) answered(headers, size, trailers int) {
	status := ""
	pairs, err := proxywasm.GetHttpCallResponseHeaders()
	for _, pair := range pairs {
		if pair[0] == ":status" {
			status = pair[1]
		}
	}
	body, _ := proxywasm.GetHttpCallResponseBody(0, size)
	proxywasm.LogInfof("called: %s, all headers %t, error %v, %q, %d trailers", status, len(pairs) == headers, err, body, trailers)
	_ = proxywasm.ReplaceHttpRequestHeader("x-answer", string(body))
	_ = proxywasm.ResumeHttpRequest()
}

func (s *stream) OnHttpRequestBody(size int, end bool) types.Action {
	if !end {
		return types.ActionPause
	}
	body, err := proxywasm.GetHttpRequestBody(0, size)
	proxywasm.LogInfof("request body %q, error %v", body, err)
	if do, _ := proxywasm.GetProperty([]string{"request", "headers", "x-do"}); string(do) == "body" {
		_ = proxywasm.ReplaceHttpRequestBody([]byte(fmt.Sprintf("[%s]", body)))
	}
	return types.ActionContinue
}

func (s *stream) OnHttpResponseHeaders(count int, end bool) types.Action {
	status, err := proxywasm.GetHttpResponseHeader(":status")
	proxywasm.LogInfof("response %s, error %v, %d headers, end %t", status, err, count, end)
	_ = proxywasm.RemoveHttpResponseHeader("content-length")
	_ = proxywasm.AddHttpResponseHeader("x-guest", "go")
	return types.ActionContinue
}

func (s *stream) OnHttpResponseBody(size int, end bool) types.Action {
	if !end {
		return types.ActionPause
	}
	_ = proxywasm.AppendHttpResponseBody([]byte(" and go"))
	return types.ActionContinue
}

func (s *stream) OnHttpStreamDone() {
	code, err := proxywasm.GetProperty([]string{"response", "code"})
	proxywasm.LogInfof("done, code %v, error %v", code, err)
}

// count1 counts requests in shared data, as a rate limiter would.
func count1() uint64 {
	for {
		value, cas, err := proxywasm.GetSharedData("count")
		if err != nil && !errors.Is(err, types.ErrorStatusNotFound) {
			proxywasm.LogErrorf("shared data: %v", err)
			return 0
		}
		count := uint64(1)
		if len(value) == 8 {
			count += binary.LittleEndian.Uint64(value)
		}
		err = proxywasm.SetSharedData("count", binary.LittleEndian.AppendUint64(nil, count), cas)
		if !errors.Is(err, types.ErrorStatusCasMismatch) {
			return count
		}
	}
}
