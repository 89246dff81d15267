package httpapi_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

type ledgerEntry struct {
	ID, Type, Cause, Reason string
	Period                  int32
	Credits                 int64
	UnitPrice, Amount       *string
	ExpiresAt               *time.Time
}

type ledgerPage struct {
	Data       []ledgerEntry
	NextCursor *string
	HasMore    bool
}

type statement struct {
	Period      int32
	Closed      bool
	CarriedOver int64
	Lines       []ledgerEntry
	Used        map[string]int64
	Balance     int64
}

// ledger walks all pages of an account's ledger, a few entries a page.
func (w *world) ledger(c customer, query ...string) (all []ledgerEntry) {
	w.t.Helper()
	cursor := []string{}
	for {
		var p ledgerPage
		path := "/v1/accounts/" + c.ID + "/ledger" + queryOf(append(append(query, "limit", "2"), cursor...)...)
		w.call("GET", path, nil, bearer(theOperatorToken)).want(http.StatusOK, &p)
		all = append(all, p.Data...)
		if !p.HasMore {
			return all
		}
		cursor = []string{"cursor", *p.NextCursor}
	}
}

func (w *world) statement(c customer, query ...string) (s statement) {
	w.t.Helper()
	w.call("GET", "/v1/usage/statement"+queryOf(query...), nil, c.auth()).want(http.StatusOK, &s)
	sum := s.CarriedOver - s.Used["tts"] - s.Used["stt"] - s.Used["llm"] - s.Used["rag"]
	for _, line := range s.Lines {
		sum += line.Credits
	}
	require.Equal(w.t, s.Balance, sum, "the statement adds up")
	return s
}

func (w *world) grant(c customer, body event, headers ...header) response {
	w.t.Helper()
	return w.call("POST", "/v1/accounts/"+c.ID+"/grants", body, append(headers, bearer(theOperatorToken))...)
}

func (w *world) spend(c customer, id string, n int64) response {
	w.t.Helper()
	return w.record(event{"id": id, "accountId": c.ID, "category": "rag", "credits": n})
}

func TestGrants(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.newCustomer()
	w.spend(c, "a", 100).want(http.StatusOK)
	var g struct {
		Credits int64
		Balance map[string]int64
	}
	expires := w.clock.Now().Add(48 * time.Hour)
	w.grant(c, event{"kind": "promotional", "credits": 500, "reason": "Welcome", "expiresAt": expires.Format(time.RFC3339)}).
		want(http.StatusCreated, &g)
	require.Equal(t, map[string]int64{"used": 100, "limit": 3000, "remaining": 2900}, g.Balance)
	again := header{"Idempotency-Key", "grant-1"}
	for range 2 {
		w.grant(c, event{"kind": "adjustment", "credits": 50, "reason": "Sorry"}, again).want(http.StatusCreated, &g)
	}
	require.EqualValues(t, 3050, g.Balance["limit"])
	w.grant(c, event{"kind": "adjustment", "credits": -2000, "reason": "Too many"}).want(http.StatusCreated, &g)
	require.EqualValues(t, -2000, g.Credits)
	require.EqualValues(t, 1050, g.Balance["limit"])
	w.grant(c, event{"kind": "adjustment", "credits": -5000, "reason": "All"}).want(http.StatusCreated, &g)
	require.EqualValues(t, -950, g.Credits, "what is used stays used")
	require.Equal(t, credits{100, 100, 0}, w.subscription(c).Credits)
	w.spend(c, "b", 1).wantProblem(http.StatusPaymentRequired, "credits_exhausted")

	t.Run("refused", func(t *testing.T) {
		for _, body := range []event{
			{"kind": "promotional", "credits": -1, "reason": "x"},
			{"kind": "adjustment", "credits": 0, "reason": "x"},
			{"kind": "adjustment", "credits": -1, "reason": "x", "expiresAt": "2030-01-01T00:00:00Z"},
			{"kind": "promotional", "credits": 1, "reason": "x", "expiresAt": "2020-01-01T00:00:00Z"},
			{"kind": "monthly", "credits": 1, "reason": "x"},
			{"kind": "promotional", "credits": 1},
		} {
			w.grant(c, body).wantProblem(http.StatusBadRequest, "invalid_request")
		}
		w.call("POST", "/v1/accounts/acct_none/grants", event{"kind": "promotional", "credits": 1, "reason": "x"},
			bearer(theOperatorToken)).wantProblem(http.StatusNotFound, "account_not_found")
	})
}

// A promotion is spent before the monthly credits, and is gone when it expires, to the second.
func TestPromotionExpires(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.newCustomer()
	expires := w.clock.Now().Add(time.Hour).Truncate(time.Second)
	w.grant(c, event{"kind": "promotional", "credits": 500, "reason": "Welcome", "expiresAt": expires.Format(time.RFC3339)}).
		want(http.StatusCreated)
	w.spend(c, "a", 200).want(http.StatusOK)
	w.clock.Set(expires.Add(-time.Millisecond))
	require.Equal(t, credits{200, 3000, 2800}, w.subscription(c).Credits)
	w.clock.Set(expires)
	w.spend(c, "b", 2501).wantProblem(http.StatusPaymentRequired, "credits_exhausted")
	require.Equal(t, credits{200, 2700, 2500}, w.subscription(c).Credits)
	w.spend(c, "c", 2500).want(http.StatusOK)
}

func TestLedgerAndStatement(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.newCustomer()
	w.setTier(c, "pro")
	for i := range 5 {
		w.spend(c, fmt.Sprint("e", i), 50_000).want(http.StatusOK)
		w.clock.Advance(time.Second)
	}
	w.grant(c, event{"kind": "promotional", "credits": 10_000, "reason": "Welcome"}).want(http.StatusCreated)
	s := w.statement(c)
	require.Zero(t, s.Balance)
	require.Equal(t, "32.00", *s.Lines[len(s.Lines)-1].Amount, "40,000 credits of overage so far at $0.0008")

	w.clock.Advance(32 * 24 * time.Hour)
	w.spend(c, "next", 1).want(http.StatusOK)
	require.Equal(t, credits{1, 200_000, 199_999}, w.subscription(c).Credits)
	before := w.statement(c, "period", fmt.Sprint(w.statement(c).Period-1))
	require.True(t, before.Closed)
	require.Zero(t, before.Balance)
	last := before.Lines[len(before.Lines)-1]
	require.Equal(t, []any{"overage", int64(40_000), "0.0008", "32.00"}, []any{last.Type, last.Credits, *last.UnitPrice, *last.Amount})

	var sum int64
	seen := map[string]bool{}
	for _, e := range w.ledger(c) {
		require.False(t, seen[e.Type+e.ID], "no entry twice")
		seen[e.Type+e.ID] = true
		sum += e.Credits
	}
	require.EqualValues(t, 199_999, sum, "the ledger adds up to what is left")
	require.Len(t, w.ledger(c, "type", "usage"), 6)
	require.Len(t, w.ledger(c, "type", "overage"), 1)

	w.call("GET", "/v1/usage/statement?period=99", nil, c.auth()).wantProblem(http.StatusNotFound, "not_found")
	w.call("GET", "/v1/accounts/"+c.ID+"/ledger?cursor=x", nil, bearer(theOperatorToken)).
		wantProblem(http.StatusBadRequest, "invalid_request")
	w.call("GET", "/v1/accounts/acct_none/ledger", nil, bearer(theOperatorToken)).
		wantProblem(http.StatusNotFound, "account_not_found")
}

// What is carried over is usable through the next month, and then gone.
func TestCarryover(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.newCustomer()
	w.setTier(c, "starter")
	w.spend(c, "a", 20_000).want(http.StatusOK)
	month := func() { w.clock.Set(time.Date(2026, w.clock.Now().Month()+1, 21, 0, 0, 0, 0, time.UTC)) }
	month()
	require.Equal(t, credits{0, 80_000, 80_000}, w.subscription(c).Credits)
	w.spend(c, "b", 10_000).want(http.StatusOK)
	month()
	require.Equal(t, credits{0, 100_000, 100_000}, w.subscription(c).Credits, "20,000 of the first month are gone")
	require.EqualValues(t, 50_000, w.statement(c).CarriedOver)
}

func TestSpendLimit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.newCustomer()
	w.setTier(c, "starter")
	limit := func(n any) response {
		return w.call("PUT", "/v1/billing/spend-limit", event{"overageCredits": n}, c.auth())
	}
	limit(1000).want(http.StatusOK)
	w.spend(c, "a", 50_000).want(http.StatusOK)
	w.spend(c, "b", 1001).wantProblem(http.StatusPaymentRequired, "credits_exhausted")
	w.spend(c, "c", 1000).want(http.StatusOK)
	w.spend(c, "d", 1).wantProblem(http.StatusPaymentRequired, "credits_exhausted")
	limit(500).want(http.StatusOK)
	w.spend(c, "d", 1).wantProblem(http.StatusPaymentRequired, "credits_exhausted")
	limit(nil).want(http.StatusOK)
	w.spend(c, "d", 9000).want(http.StatusOK)
	var got map[string]any
	limit(0).want(http.StatusOK)
	w.call("GET", "/v1/billing/spend-limit", nil, c.auth()).want(http.StatusOK, &got)
	require.Equal(t, map[string]any{"overageCredits": 0.0}, got)
	w.clock.Advance(40 * 24 * time.Hour)
	w.spend(c, "e", 50_001).wantProblem(http.StatusPaymentRequired, "credits_exhausted")
	limit(-1).wantProblem(http.StatusBadRequest, "invalid_request")
}
