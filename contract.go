// Package keymeter holds the contract, for the server to serve.
package keymeter

import _ "embed"

// Contract is openapi.yaml as it is written.
//
//go:embed openapi.yaml
var Contract []byte
