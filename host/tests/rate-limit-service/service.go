// Package service pins the rate limit service that the tests with real parts run.
package service

import _ "github.com/envoyproxy/ratelimit/src/service_cmd/runner"
