package httpapi_test

import (
	"cmp"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/stretchr/testify/require"
)

// operation is what the contract says of how to call it.
type operation struct {
	id, method, path, credential string
	// body is its example, "" if it takes none.
	body string
	// keyed is whether it takes an Idempotency-Key.
	keyed bool
}

// operations returns each operation of the contract, from the contract itself.
func operations(t *testing.T) (found []operation) {
	t.Helper()
	doc, err := oracle.doc()
	require.NoError(t, err)
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			security := doc.Security
			if op.Security != nil {
				security = *op.Security
			}
			o := operation{id: op.OperationID, method: method}
			for _, requirement := range security {
				for scheme := range requirement {
					o.credential = scheme
				}
			}
			if op.RequestBody != nil {
				body, err := json.Marshal(op.RequestBody.Value.Content["application/json"].Examples["OK"].Value.Value)
				require.NoError(t, err)
				o.body = string(body)
			}
			o.keyed = op.Parameters.GetByInAndName(openapi3.ParameterInHeader, "Idempotency-Key") != nil
			o.path = strings.NewReplacer("{keyId}", "key_x", "{accountId}", "acct_x").Replace(path)
			found = append(found, o)
		}
	}
	slices.SortFunc(found, func(a, b operation) int { return cmp.Compare(a.id, b.id) })
	return found
}

func TestCredentials(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.newCustomer()
	tokens := map[string]string{"customerKey": c.key.Key, "serviceToken": theServiceToken, "operatorToken": theOperatorToken}
	// One wrong digit in the middle: the checksum no longer fits.
	mistyped := []byte(c.key.Key)
	mistyped[20]++

	tried := 0
	for _, op := range operations(t) {
		if op.credential == "" {
			continue
		}
		t.Run(op.id, func(t *testing.T) {
			for kind, token := range tokens {
				if kind == op.credential {
					continue
				}
				// The body is off contract as well: the credential is judged first.
				w.call(op.method, op.path, `{"bad":1}`, bearer(token)).wantProblem(http.StatusForbidden, "wrong_credential_kind")
			}
			for _, h := range []header{
				{"X-Nothing", ""},
				{"Authorization", ""},
				{"Authorization", "Bearer"},
				{"Authorization", "Bearer "},
				{"Authorization", c.key.Key},
				{"Authorization", "Basic " + c.key.Key},
			} {
				r := w.call(op.method, op.path, nil, h)
				r.wantProblem(http.StatusUnauthorized, "missing_credential")
				require.Equal(t, `Bearer realm="keymeter"`, r.header.Get("WWW-Authenticate"))
			}
			for _, token := range []string{
				"plabs_sk_live_abc123", string(mistyped), "nonsense", theServiceToken + "x", c.key.Key + "0",
				strings.Replace(c.key.Key, "_live_", "_test_", 1), "é", "a b",
			} {
				r := w.call(op.method, op.path, nil, bearer(token))
				r.wantProblem(http.StatusUnauthorized, "invalid_credential")
				require.Equal(t, `Bearer realm="keymeter", error="invalid_token"`, r.header.Get("WWW-Authenticate"))
			}
		})
		tried++
	}
	require.Equal(t, 36, tried, "the contract's operations that take a credential")

	t.Run("the scheme's case does not matter", func(t *testing.T) {
		w.call("GET", "/v1/usage", nil, header{"Authorization", "bearer " + c.key.Key}).want(http.StatusOK)
	})
	t.Run("an expired key is refused from its expiry on", func(t *testing.T) {
		k := w.newKey(c, map[string]any{"expiresInDays": 1})
		w.clock.Set(k.ExpiresAt.Add(-time.Microsecond))
		w.call("GET", "/v1/usage", nil, bearer(k.Key)).want(http.StatusOK)
		w.clock.Set(*k.ExpiresAt)
		w.call("GET", "/v1/usage", nil, bearer(k.Key)).wantProblem(http.StatusUnauthorized, "invalid_credential")
	})
}

// A checksum that fails costs no query: with the database gone such a key still gets its 401, a real one a 503.
func TestMistypedKeysCostNoQuery(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.newCustomer()
	w.cutDatabase()
	w.call("GET", "/v1/usage", nil, bearer(c.key.Key[:len(c.key.Key)-1])).wantProblem(http.StatusUnauthorized, "invalid_credential")
	r := w.call("GET", "/v1/usage", nil, c.auth())
	r.wantProblem(http.StatusServiceUnavailable, "unavailable")
	require.Equal(t, "1", r.header.Get("Retry-After"))
}

func TestUnknownRoutes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.call("GET", "/v1/nothing", nil).wantProblem(http.StatusNotFound, "not_found")
	w.call("PATCH", "/v1/keys", nil).wantProblem(http.StatusMethodNotAllowed, "method_not_allowed")
}

func TestRequestID(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	require.Regexp(t, `^req_[0-9A-Z]{26}$`, w.call("GET", "/healthz", nil).want(http.StatusOK).header.Get("X-Request-Id"))
	r := w.call("GET", "/v1/keys", nil, header{"X-Request-Id", "my-request.1"})
	require.Equal(t, "my-request.1", r.wantProblem(http.StatusUnauthorized, "missing_credential").RequestID)
	r = w.call("GET", "/v1/keys", nil, header{"X-Request-Id", `<script>"`})
	require.Regexp(t, `^req_`, r.wantProblem(http.StatusUnauthorized, "missing_credential").RequestID)
}

func TestHealth(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.call("GET", "/healthz", nil).want(http.StatusOK)
	w.call("GET", "/readyz", nil).want(http.StatusOK)
	w.cutDatabase()
	w.call("GET", "/healthz", nil).want(http.StatusOK)
	w.call("GET", "/readyz", nil).wantProblem(http.StatusServiceUnavailable, "unavailable")
}
