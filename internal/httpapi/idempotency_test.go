package httpapi_test

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c, other := w.newCustomer(), w.newCustomer()

	t.Run("a retry gets the first answer, raw key and all", func(t *testing.T) {
		before := w.count("api_keys")
		first := w.call("POST", "/v1/keys", `{"name":"A"}`, c.auth(), idempotencyKey("create-1")).want(http.StatusCreated)
		for range 3 {
			again := w.call("POST", "/v1/keys", `{ "name": "A" }`, c.auth(), idempotencyKey("create-1")).want(http.StatusCreated)
			require.JSONEq(t, string(first.body), string(again.body))
		}
		require.Equal(t, before+1, w.count("api_keys"))
	})
	t.Run("what is kept of it holds neither the raw key nor the idempotency key", func(t *testing.T) {
		var k createdKey
		w.call("POST", "/v1/keys", nil, c.auth(), idempotencyKey("a-very-secret-idempotency-key")).want(http.StatusCreated, &k)
		dump := w.dump()
		require.Contains(t, dump, "idempotency_keys ("+c.ID, "the dump sees the table")
		require.NotContains(t, dump, strings.TrimPrefix(k.Key, "plabs_sk_live_"))
		require.NotContains(t, dump, "a-very-secret-idempotency-key")
	})
	t.Run("422 with another request", func(t *testing.T) {
		w.call("POST", "/v1/keys", `{"name":"A"}`, c.auth(), idempotencyKey("reused")).want(http.StatusCreated)
		w.call("POST", "/v1/keys", `{"name":"B"}`, c.auth(), idempotencyKey("reused")).
			wantProblem(http.StatusUnprocessableEntity, "idempotency_key_reused")
		w.call("POST", "/v1/keys/"+c.key.ID+"/rotate", nil, c.auth(), idempotencyKey("reused")).
			wantProblem(http.StatusUnprocessableEntity, "idempotency_key_reused")
	})
	t.Run("accounts do not share them", func(t *testing.T) {
		var a, b createdKey
		w.call("POST", "/v1/keys", nil, c.auth(), idempotencyKey("shared")).want(http.StatusCreated, &a)
		w.call("POST", "/v1/keys", nil, other.auth(), idempotencyKey("shared")).want(http.StatusCreated, &b)
		require.NotEqual(t, a.ID, b.ID)
	})
	t.Run("a rotation whose answer was lost is found again", func(t *testing.T) {
		k := w.newKey(c, nil)
		var first, again createdKey
		w.call("POST", "/v1/keys/"+k.ID+"/rotate", nil, c.auth(), idempotencyKey("rotate-1")).want(http.StatusOK, &first)
		w.call("POST", "/v1/keys/"+k.ID+"/rotate", nil, c.auth(), idempotencyKey("rotate-1")).want(http.StatusOK, &again)
		require.Equal(t, first, again)
		w.call("GET", "/v1/keys", nil, bearer(again.Key)).want(http.StatusOK)
	})
	t.Run("a refusal is not kept", func(t *testing.T) {
		w.call("POST", "/v1/keys/key_nobody/rotate", nil, c.auth(), idempotencyKey("refused")).
			wantProblem(http.StatusNotFound, "key_not_found")
		w.call("POST", "/v1/keys", nil, c.auth(), idempotencyKey("refused")).want(http.StatusCreated)
	})
	t.Run("many at once have one effect and one answer", func(t *testing.T) {
		before := w.count("api_keys")
		var mu sync.Mutex
		bodies := map[string]bool{}
		statuses := w.race(16, func() (response, error) {
			r, err := w.tryURL(w.http.URL, "POST", "/v1/keys", nil, c.auth(), idempotencyKey("parallel"))
			mu.Lock()
			defer mu.Unlock()
			bodies[string(r.body)] = true
			return r, err
		})
		require.Equal(t, map[int]int{201: 16}, statuses)
		require.Len(t, bodies, 1)
		require.Equal(t, before+1, w.count("api_keys"))
	})
	t.Run("400 for what is none", func(t *testing.T) {
		for _, key := range []string{"", strings.Repeat("x", 256), "a b", "é"} {
			w.call("POST", "/v1/keys", nil, c.auth(), idempotencyKey(key)).wantField("Idempotency-Key")
		}
		w.call("POST", "/v1/keys", nil, c.auth(), idempotencyKey(strings.Repeat("~", 255))).want(http.StatusCreated)
	})
	t.Run("on each POST", func(t *testing.T) {
		var first, again account
		for _, into := range []*account{&first, &again} {
			w.call("POST", "/v1/accounts", `{"name":"Once","externalId":"once"}`, bearer(theOperatorToken),
				idempotencyKey("account-1")).want(http.StatusCreated, into)
		}
		require.Equal(t, first, again)
		for range 2 {
			w.call("POST", "/v1/accounts/"+first.ID+"/suspend", nil, bearer(theOperatorToken), idempotencyKey("s")).want(http.StatusOK)
		}
		for range 2 {
			w.call("POST", "/v1/accounts/"+first.ID+"/resume", nil, bearer(theOperatorToken), idempotencyKey("r")).want(http.StatusOK)
		}
		var k1, k2 createdKey
		for _, into := range []*createdKey{&k1, &k2} {
			w.call("POST", "/v1/accounts/"+first.ID+"/keys", nil, bearer(theOperatorToken), idempotencyKey("k")).
				want(http.StatusCreated, into)
		}
		require.Equal(t, k1, k2)
		for range 2 {
			w.call("POST", "/v1/usage/events", `{"id":"e","category":"rag","credits":3,"accountId":"`+first.ID+`"}`,
				bearer(theServiceToken), idempotencyKey("u")).want(http.StatusOK)
		}
		require.Equal(t, int64(3), w.usage(customer{first, k1}).Credits.Used)
	})
	t.Run("it is forgotten after a day", func(t *testing.T) {
		var first, again createdKey
		w.call("POST", "/v1/keys", nil, c.auth(), idempotencyKey("daily")).want(http.StatusCreated, &first)
		w.clock.Advance(24*time.Hour - time.Second)
		w.call("POST", "/v1/keys", nil, c.auth(), idempotencyKey("daily")).want(http.StatusCreated, &again)
		require.Equal(t, first, again)
		w.clock.Advance(2 * time.Second)
		w.call("POST", "/v1/keys", `{"name":"Another"}`, c.auth(), idempotencyKey("daily")).want(http.StatusCreated, &again)
		require.NotEqual(t, first.ID, again.ID)
	})
}
