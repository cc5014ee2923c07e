//go:build suites

// Package suites names the programs, so that go.mod keeps them.
package suites

import (
	_ "github.com/summerwind/h2spec/cmd/h2spec"
	_ "google.golang.org/grpc/interop/client"
	_ "google.golang.org/grpc/interop/server"
)
