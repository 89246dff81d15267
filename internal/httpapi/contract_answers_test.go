package httpapi_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// caller calls operations of the contract with their own examples, for a customer and things that there are.
type caller struct {
	*world
	customer    customer
	token       map[string]string // by kind of credential
	reservation string
}

func newCaller(t *testing.T, options ...option) *caller {
	t.Helper()
	w := newWorld(t, options...)
	w.clock.Set(time.Date(2026, 3, 21, 13, 0, 0, 0, time.UTC)) // when the examples have happened
	c := &caller{world: w, customer: w.newCustomer(), reservation: "rsv_x"}
	c.token = map[string]string{
		"customerKey": c.customer.key.Key, "serviceToken": theServiceToken, "operatorToken": theOperatorToken,
	}
	return c
}

// do calls an operation as it is meant to be called.
func (c *caller) do(op operation, headers ...header) response {
	c.t.Helper()
	path := strings.NewReplacer("key_x", c.customer.key.ID, "acct_x", c.customer.ID, "{eventId}", "req_8c1f2a",
		"{reservationId}", c.reservation, "{overageId}", "ovg_x").Replace(op.path)
	body := strings.NewReplacer("key_abc123", c.customer.key.ID, "acct_abc123", c.customer.ID,
		"plabs_sk_live_abc123...", c.customer.key.Key).Replace(op.body)
	switch {
	case op.credential != "":
		headers = append([]header{bearer(c.token[op.credential])}, headers...)
	case body != "":
		headers = append(headers, header{"Stripe-Signature", sign(webhookSecret, body, c.clock.Now())})
	}
	if body == "" {
		return c.call(op.method, path, nil, headers...)
	}
	return c.call(op.method, path, body, headers...)
}

// each runs a test of each operation that is wanted.
func each(t *testing.T, wanted func(op operation) bool, test func(t *testing.T, op operation)) {
	t.Helper()
	tried := 0
	for _, op := range operations(t) {
		if wanted(op) {
			tried++
			t.Run(op.id, func(t *testing.T) { test(t, op) })
		}
	}
	require.NotZero(t, tried)
}

func takesCredential(op operation) bool { return op.credential != "" }
func takesBody(op operation) bool       { return op.body != "" }
func takesKey(op operation) bool        { return op.keyed }
func isOfCustomers(op operation) bool   { return op.credential == "customerKey" }
func isNoProbe(op operation) bool       { return op.credential != "" || op.body != "" }

func TestEveryOperationRefuses(t *testing.T) {
	t.Parallel()
	c := newCaller(t, withStripe)

	t.Run("a parameter that it does not have", func(t *testing.T) {
		each(t, takesCredential, func(t *testing.T, op operation) {
			op.path += "?such=none"
			c.do(op).wantField("such")
		})
	})
	t.Run("a body of more than a mebibyte", func(t *testing.T) {
		each(t, takesBody, func(t *testing.T, op operation) {
			op.body = strings.Repeat("x", 1<<20+1)
			c.do(op).wantProblem(http.StatusRequestEntityTooLarge, "payload_too_large")
		})
	})
	t.Run("a body that is not JSON", func(t *testing.T) {
		each(t, takesBody, func(t *testing.T, op operation) {
			c.do(op, header{"Content-Type", "text/plain"}).
				wantProblem(http.StatusUnsupportedMediaType, "unsupported_media_type")
		})
	})
	t.Run("a key of no such scope", func(t *testing.T) {
		k := c.newKey(c.customer, map[string]any{"scopes": []string{"tts"}})
		each(t, isOfCustomers, func(t *testing.T, op operation) {
			c.do(op, bearer(k.Key)).wantProblem(http.StatusForbidden, "insufficient_scope")
		})
	})
	t.Run("a key of a suspended account", func(t *testing.T) {
		suspended := c.newCustomer()
		c.call("POST", "/v1/accounts/"+suspended.ID+"/suspend", nil, bearer(theOperatorToken)).want(http.StatusOK)
		each(t, takesCredential, func(t *testing.T, op operation) {
			c.do(op, suspended.auth()).wantProblem(http.StatusForbidden, "account_suspended")
		})
	})
	t.Run("an Idempotency-Key of another request", func(t *testing.T) {
		first := map[string][2]string{
			"customerKey":   {"/v1/keys", `{"name":"First"}`},
			"serviceToken":  {"/v1/usage/events", `{"id":"first","accountId":"` + c.customer.ID + `","category":"rag","credits":1}`},
			"operatorToken": {"/v1/accounts", `{"name":"First"}`},
		}
		for credential, r := range first {
			status := c.call("POST", r[0], r[1], bearer(c.token[credential]), idempotencyKey("first")).status
			require.Less(t, status, http.StatusMultipleChoices)
		}
		each(t, takesKey, func(t *testing.T, op operation) {
			c.do(op, idempotencyKey("first")).wantProblem(http.StatusUnprocessableEntity, "idempotency_key_reused")
		})
	})
}

// A request that another server is still at has a claim on its Idempotency-Key, and no answer yet.
func TestEveryOperationKnowsOfARequestThatIsRunning(t *testing.T) {
	t.Parallel()
	c := newCaller(t, withStripe)
	used := c.customer
	c.record(`{"id":"req_8c1f2a","category":"rag","credits":1,"accountId":"` + used.ID + `"}`).want(http.StatusOK)
	c.checkout(used, "pro").want(http.StatusOK) // so that there is a billing account
	spare := c.newKey(used, nil)
	suspended := c.newAccount()
	each(t, takesKey, func(t *testing.T, op operation) {
		c.reservation = c.reserved(op.id)
		op.path = strings.ReplaceAll(op.path, "key_x", spare.ID)
		// What is done is done once: to things of its own.
		op.body = strings.NewReplacer("req_8c1f2a", op.id, "call_77", op.id).Replace(op.body)
		if op.id == "suspendAccount" {
			op.path = strings.ReplaceAll(op.path, "acct_x", suspended.ID)
		}
		first := c.do(op, idempotencyKey("running-"+op.id))
		require.Less(t, first.status, http.StatusMultipleChoices, string(first.body))
		_, err := c.pool.Exec(context.Background(),
			`UPDATE idempotency_keys SET answer = NULL, busy_until = $1`, c.clock.Now().Add(time.Minute))
		require.NoError(t, err)
		c.do(op, idempotencyKey("running-"+op.id)).wantProblem(http.StatusConflict, "idempotency_in_progress")
	})
}

// reserved returns a reservation of an event of that name.
func (c *caller) reserved(event string) string {
	c.t.Helper()
	var r struct{ ID string }
	c.call("POST", "/v1/usage/reservations",
		map[string]any{"eventId": "reserved-" + event, "accountId": c.customer.ID, "category": "llm", "credits": 1},
		bearer(theServiceToken)).want(http.StatusOK, &r)
	return r.ID
}

// Nothing is known without Postgres, so nothing is said.
func TestEveryOperationWithoutPostgres(t *testing.T) {
	t.Parallel()
	c := newCaller(t, withStripe)
	c.cutDatabase()
	each(t, isNoProbe, func(t *testing.T, op operation) {
		c.do(op).wantProblem(http.StatusServiceUnavailable, "unavailable")
	})
}

// What nobody thought of is our fault, and says no more than that.
func TestEveryOperationOnADatabaseThatIsNotOurs(t *testing.T) {
	t.Parallel()
	c := newCaller(t, withStripe)
	_, err := c.pool.Exec(context.Background(), `ALTER SCHEMA public RENAME TO elsewhere`)
	require.NoError(t, err)
	each(t, isNoProbe, func(t *testing.T, op operation) {
		p := c.do(op).wantProblem(http.StatusInternalServerError, "internal_error")
		require.Equal(t, "Something went wrong on our side. Quote the request id.", p.Detail)
	})
}

// Refusals that concern one operation, and no other test.
func TestSomeOperationsRefuse(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withStripe)
	c := w.newCustomer()
	limited := w.newKey(c, `{"creditLimit":1}`)
	w.record(`{"id":"taken","accountId":"` + c.ID + `","category":"rag","credits":2}`).want(http.StatusOK)
	w.record(`{"id":"reversal:taken","accountId":"` + c.ID + `","category":"rag","credits":2}`).want(http.StatusOK)
	w.checkout(c, "pro").want(http.StatusOK)
	_, err := w.pool.Exec(context.Background(), `UPDATE billing_accounts SET busy_until = $1`, w.clock.Now().Add(time.Minute))
	require.NoError(t, err)

	const events, reservations = "/v1/usage/events", "/v1/usage/reservations"
	for _, r := range []struct {
		path, body string
		status     int
		code       string
	}{
		{events, `{"id":"e","keyId":"` + limited.ID + `","category":"rag","credits":2}`, 402, "key_limit_exceeded"},
		{reservations, `{"eventId":"e","keyId":"` + limited.ID + `","category":"rag","credits":2}`, 402, "key_limit_exceeded"},
		{reservations, `{"eventId":"e","accountId":"acct_nobody","category":"rag","credits":2}`, 404, "account_not_found"},
		{reservations, `{"eventId":"taken","accountId":"` + c.ID + `","category":"rag","credits":2}`, 409, "event_conflict"},
		{events + "/taken/reversal", `{"accountId":"` + c.ID + `"}`, 409, "event_conflict"},
	} {
		w.call("POST", r.path, r.body, bearer(theServiceToken)).wantProblem(r.status, r.code)
	}
	w.checkout(c, "pro").wantProblem(http.StatusConflict, "checkout_in_progress")
	w.call("POST", "/v1/billing/topup", topUp(10000), c.auth()).wantProblem(http.StatusConflict, "checkout_in_progress")

	without := newWorld(t)
	without.call("POST", "/v1/billing/topup", topUp(10000), without.newCustomer().auth()).
		wantProblem(http.StatusServiceUnavailable, "billing_not_configured")
}
