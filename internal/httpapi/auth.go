package httpapi

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/keymeter/keymeter/internal/fault"
	"github.com/keymeter/keymeter/internal/keys"
)

// credential is a kind of credential, named as the contract's security schemes.
type credential string

const (
	customerKey   credential = "customerKey"
	serviceToken  credential = "serviceToken"
	operatorToken credential = "operatorToken"
)

var credentialNames = map[credential]string{
	customerKey: "a customer key", serviceToken: "a service token", operatorToken: "an operator token",
}

var errNoCredential = fault.New(fault.Unauthenticated, "missing_credential",
	"Send the credential as Authorization: Bearer <credential>.")

// principal is who makes a request. Only a customer has an account and a key.
type principal struct {
	credential credential
	keys.Identity
	controls keys.Controls // of the customer's key
}

// scope says whose idempotency keys the principal uses. Those of an account are shared by its keys.
func (p principal) scope() string {
	if p.AccountID != "" {
		return p.AccountID
	}
	return string(p.credential)
}

// minToken is the least length of a token: 32 characters of base 64 or more are beyond guessing.
const minToken = 32

// Tokens are the tokens of services and operators. They are kept as hashes.
type Tokens struct {
	hashes [][sha256.Size]byte
	kinds  []credential
}

// NewTokens returns the tokens of a server. Several of a kind are valid at once, so that they can be rotated.
func NewTokens(service, operator []string) (Tokens, error) {
	var t Tokens
	for kind, tokens := range map[credential][]string{serviceToken: service, operatorToken: operator} {
		for _, token := range tokens {
			if len(token) < minToken {
				return Tokens{}, fmt.Errorf("%s has %d characters, fewer than %d", credentialNames[kind], len(token), minToken)
			}
			t.hashes = append(t.hashes, sha256.Sum256([]byte(token)))
			t.kinds = append(t.kinds, kind)
		}
	}
	return t, nil
}

func (t Tokens) kindOf(token string) (kind credential, ok bool) {
	sum := sha256.Sum256([]byte(token))
	for i := range t.hashes {
		if subtle.ConstantTimeCompare(sum[:], t.hashes[i][:]) == 1 {
			kind, ok = t.kinds[i], true
		}
	}
	return kind, ok
}

type principalKey struct{}

func principalOf(ctx context.Context) principal {
	p, _ := ctx.Value(principalKey{}).(principal)
	return p
}

// authenticate finds out who makes the request and whether the operation takes their kind of credential. It runs before
// anything of the request is looked at.
func authenticate(k *keys.Keys, tokens Tokens) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			op := operationOf(c)
			if op == nil || op.credential == "" {
				return next(c)
			}
			ctx := c.Request().Context()
			p, err := identify(ctx, k, tokens, c.Request().Header.Get(echo.HeaderAuthorization))
			if err != nil {
				return err
			}
			if p.credential != op.credential {
				return fault.New(fault.Denied, "wrong_credential_kind", fmt.Sprintf("This endpoint takes %s, not %s.",
					credentialNames[op.credential], credentialNames[p.credential]))
			}
			if op.scope != "" && !p.controls.Allows(op.scope) && !aboutItself(c, p, op) {
				return keys.ErrScope
			}
			c.SetRequest(c.Request().WithContext(context.WithValue(ctx, principalKey{}, p)))
			return next(c)
		}
	}
}

// aboutItself reports whether a key is about to revoke or rotate itself, which it may whatever its scopes.
func aboutItself(c echo.Context, p principal, op *operation) bool {
	return (op.id == "revokeKey" || op.id == "rotateKey") && c.Param("keyId") == p.KeyID
}

func identify(ctx context.Context, k *keys.Keys, tokens Tokens, header string) (principal, error) {
	scheme, token, ok := strings.Cut(header, " ")
	token = strings.TrimSpace(token)
	if !ok || !strings.EqualFold(scheme, "Bearer") || token == "" {
		return principal{}, errNoCredential
	}
	if kind, ok := tokens.kindOf(token); ok {
		return principal{credential: kind}, nil
	}
	identity, controls, err := k.Authenticate(ctx, token)
	return principal{credential: customerKey, Identity: identity, controls: controls}, err
}
