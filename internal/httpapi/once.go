package httpapi

import (
	"context"
	"crypto/sha256"
	"encoding/hex"

	"github.com/keymeter/keymeter/internal/idempotency"
)

// request describes a request to the keeper of idempotency keys. content is what makes two requests the same, beside
// the operation.
func request(ctx context.Context, operation string, key *string, content ...any) idempotency.Request {
	r := idempotency.Request{Scope: principalOf(ctx).scope(), Content: append([]any{operation}, content...)}
	if key != nil {
		r.Key = *key
	}
	return r
}

// providerKey is the key under which the provider recognises a request: that of the caller, hashed since it is theirs,
// or a new one.
func (s *server) providerKey(r idempotency.Request) string {
	if r.Key == "" {
		return s.IDs.New("request")
	}
	sum := sha256.Sum256([]byte(r.Scope + " " + r.Key))
	return hex.EncodeToString(sum[:])
}
