package httpapi_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// serve serves another handler for the time of the test.
func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func TestAccounts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	operator := bearer(theOperatorToken)

	t.Run("created, read and listed", func(t *testing.T) {
		var a, got map[string]any
		w.call("POST", "/v1/accounts", `{"name":"Acme","externalId":"customer-42","email":"billing@acme.test"}`, operator).
			want(http.StatusCreated, &a)
		require.Equal(t, map[string]any{
			"id": a["id"], "externalId": "customer-42", "name": "Acme", "email": "billing@acme.test", "tier": "free",
			"status": "active", "stripeCustomerId": nil, "createdAt": "2026-03-21T10:30:00Z",
		}, a)
		w.call("GET", "/v1/accounts/"+a["id"].(string), nil, operator).want(http.StatusOK, &got)
		require.Equal(t, a, got)
		var l struct{ Data []account }
		w.call("GET", "/v1/accounts?externalId=customer-42", nil, operator).want(http.StatusOK, &l)
		require.Len(t, l.Data, 1)
		require.Equal(t, a["id"], l.Data[0].ID)
		w.call("GET", "/v1/accounts?externalId=nobody", nil, operator).want(http.StatusOK, &l)
		require.Empty(t, l.Data)
	})
	t.Run("pages", func(t *testing.T) {
		for range 5 {
			w.newAccount()
		}
		var first, second struct {
			Data       []account
			NextCursor *string
			HasMore    bool
		}
		w.call("GET", "/v1/accounts?limit=4", nil, operator).want(http.StatusOK, &first)
		require.True(t, first.HasMore)
		w.call("GET", "/v1/accounts?limit=4&cursor="+*first.NextCursor, nil, operator).want(http.StatusOK, &second)
		require.Len(t, second.Data, 2)
		require.False(t, second.HasMore)
		require.Less(t, second.Data[0].ID, first.Data[3].ID)
		w.call("GET", "/v1/accounts?cursor=acct_nobody", nil, operator).wantField("cursor")
	})
	t.Run("409 for an externalId that is taken", func(t *testing.T) {
		w.call("POST", "/v1/accounts", `{"name":"B","externalId":"taken"}`, operator).want(http.StatusCreated)
		w.call("POST", "/v1/accounts", `{"name":"C","externalId":"taken"}`, operator).
			wantProblem(http.StatusConflict, "account_exists")
	})
	t.Run("400", func(t *testing.T) {
		for body, field := range map[string]string{
			`{}`: "name", `{"name":"A","email":"nobody"}`: "email", `{"name":"A","externalId":""}`: "externalId",
			`{"name":"A","externalId":"` + strings.Repeat("x", 201) + `"}`: "externalId", `{"name":"A","tier":"pro"}`: "tier",
		} {
			w.call("POST", "/v1/accounts", body, operator).wantField(field)
		}
	})
	t.Run("404", func(t *testing.T) {
		for _, call := range [][2]string{
			{"GET", ""}, {"POST", "/suspend"}, {"POST", "/resume"}, {"POST", "/keys"}, {"PUT", "/tier"},
		} {
			var body any
			if call[0] == "PUT" {
				body = `{"tier":"pro"}`
			}
			w.call(call[0], "/v1/accounts/acct_nobody"+call[1], body, operator).
				wantProblem(http.StatusNotFound, "account_not_found")
		}
	})
}

func TestSuspension(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.newCustomer()
	operator := bearer(theOperatorToken)
	var a account
	for range 2 {
		w.call("POST", "/v1/accounts/"+c.ID+"/suspend", nil, operator).want(http.StatusOK, &a)
		require.Equal(t, "suspended", a.Status)
	}
	w.call("GET", "/v1/keys", nil, c.auth()).wantProblem(http.StatusForbidden, "account_suspended")
	w.call("POST", "/v1/keys", nil, c.auth()).wantProblem(http.StatusForbidden, "account_suspended")
	w.record(event{"id": "late", "accountId": c.ID, "category": "rag", "credits": 1}).want(http.StatusOK)
	for range 2 {
		w.call("POST", "/v1/accounts/"+c.ID+"/resume", nil, operator).want(http.StatusOK, &a)
		require.Equal(t, "active", a.Status)
	}
	require.Equal(t, int64(1), w.usage(c).Credits.Used)
}

func TestTierByHand(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.newCustomer()
	spend := func(id string, n int64) {
		w.record(event{"id": id, "accountId": c.ID, "category": "rag", "credits": n}).want(http.StatusOK)
	}
	spend("a", 1000)
	for _, step := range []struct {
		tier, display       string
		used, limit, remain int64
	}{
		{"pro", "Pro ($99/mo)", 1000, 200000, 199000},
		{"scale", "Scale ($499/mo)", 1000, 1000000, 999000},
		{"starter", "Starter ($29/mo)", 1000, 50000, 49000},
		{"free", "Free ($0/mo)", 1000, 2500, 1500},
	} {
		w.setTier(c, step.tier)
		w.setTier(c, step.tier) // again changes nothing
		s := w.subscription(c)
		require.Equal(t, step.tier, s.Tier)
		require.Equal(t, step.display, s.TierDisplay)
		require.Equal(t, credits{step.used, step.limit, step.remain}, s.Credits)
		require.Nil(t, s.TierExpiresAt)
		require.Nil(t, s.StripeCustomerID)
	}
	t.Run("from overage back to a hard cap", func(t *testing.T) {
		w.setTier(c, "starter")
		spend("b", 60000)
		w.setTier(c, "free")
		require.Equal(t, credits{61000, 50000, 0}, w.subscription(c).Credits, "what was used stays used")
	})
	t.Run("back and forth in one moment", func(t *testing.T) {
		for range 3 {
			w.setTier(c, "pro")
			w.setTier(c, "free")
		}
		require.Equal(t, "free", w.subscription(c).Tier)
	})
}

func TestSubscription(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.newCustomer()
	var s map[string]any
	w.call("GET", "/v1/billing/subscription", nil, c.auth()).want(http.StatusOK, &s)
	require.Equal(t, map[string]any{
		"tier": "free", "tierDisplay": "Free ($0/mo)",
		"credits":          map[string]any{"used": 0.0, "limit": 2500.0, "remaining": 2500.0},
		"plan":             map[string]any{"monthlyCredits": 2500.0, "overageRate": 0.0, "carryoverMonths": 0.0},
		"stripeCustomerId": nil, "tierExpiresAt": nil,
	}, s)
	w.setTier(c, "pro")
	w.call("GET", "/v1/billing/subscription", nil, c.auth()).want(http.StatusOK, &s)
	require.Equal(t, map[string]any{"monthlyCredits": 200000.0, "overageRate": 0.0008, "carryoverMonths": 1.0}, s["plan"])
}
