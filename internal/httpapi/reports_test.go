package httpapi_test

import (
	"fmt"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

type eventList struct {
	Data       []map[string]any
	NextCursor *string
	HasMore    bool
}

type timeseries struct {
	Data []struct {
		Start, Category   string
		KeyID             string
		Credits, Requests int64
	}
}

// events returns a page of the customer's events. The query is of names and values in turn.
func (w *world) events(c customer, query ...string) (l eventList) {
	w.t.Helper()
	w.call("GET", "/v1/usage/events"+queryOf(query...), nil, c.auth()).want(http.StatusOK, &l)
	require.Equal(w.t, l.HasMore, l.NextCursor != nil)
	return l
}

func (w *world) timeseries(c customer, query ...string) (points []string) {
	w.t.Helper()
	var s timeseries
	w.call("GET", "/v1/usage/timeseries"+queryOf(query...), nil, c.auth()).want(http.StatusOK, &s)
	for _, p := range s.Data {
		points = append(points, fmt.Sprintf("%s %s %s %d %d", p.Start, p.Category, p.KeyID, p.Credits, p.Requests))
	}
	return points
}

func queryOf(pairs ...string) string {
	q := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		q.Set(pairs[i], pairs[i+1])
	}
	return "?" + q.Encode()
}

func (l eventList) ids() (ids []any) {
	for _, e := range l.Data {
		ids = append(ids, e["id"])
	}
	return ids
}

// reported is a customer with events of two days, recorded at 10:30 of the second, and another one.
func reported(w *world) (c, other customer, second createdKey) {
	c, other = w.newCustomer(), w.newCustomer()
	second = w.newKey(c, nil)
	for i, e := range []event{
		{"keyId": c.key.ID, "category": "tts", "provider": "cartesia", "quantity": 1200, "occurredAt": "2026-03-20T23:59:59.9Z"},
		{"keyId": c.key.ID, "category": "llm", "provider": "gpt-4.1", "quantity": 900, "outputQuantity": 250},
		{"keyId": second.ID, "category": "tts", "credits": 6, "occurredAt": "2026-03-21T22:15:00+12:00"},
		{"accountId": c.ID, "category": "rag", "credits": 5},
		{"accountId": c.ID, "category": "llm", "byok": true},
		{"keyId": other.key.ID, "category": "tts", "credits": 7},
	} {
		e["id"] = fmt.Sprint(i)
		w.record(e).want(http.StatusOK)
		w.clock.Advance(time.Second)
	}
	return c, other, second
}

func TestListUsageEvents(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c, other, second := reported(w)

	t.Run("200 newest first, as they were recorded", func(t *testing.T) {
		l := w.events(c)
		require.Equal(t, []any{"4", "3", "2", "1", "0"}, l.ids())
		require.Equal(t, map[string]any{
			"id": "0", "keyId": c.key.ID, "category": "tts", "provider": "cartesia", "quantity": 1200.0, "byok": false,
			"credits": 94.0, "late": true, "occurredAt": "2026-03-20T23:59:59Z", "recordedAt": "2026-03-21T10:30:00Z",
		}, l.Data[4])
		require.Equal(t, map[string]any{
			"id": "4", "category": "llm", "byok": true, "credits": 0.0, "late": false, "occurredAt": "2026-03-21T10:30:04Z",
			"recordedAt": "2026-03-21T10:30:04Z",
		}, l.Data[0])
		require.Equal(t, []any{"5"}, w.events(other).ids())
	})
	t.Run("200 page by page", func(t *testing.T) {
		first := w.events(c, "limit", "2")
		require.Equal(t, []any{"4", "3"}, first.ids())
		w.record(event{"id": "6", "accountId": c.ID, "category": "rag", "credits": 1}).want(http.StatusOK)
		next := w.events(c, "limit", "2", "cursor", *first.NextCursor)
		require.Equal(t, []any{"2", "1"}, next.ids())
		last := w.events(c, "limit", "2", "cursor", *next.NextCursor)
		require.Equal(t, []any{"0"}, last.ids())
		require.False(t, last.HasMore)
		require.Empty(t, w.events(other, "cursor", *next.NextCursor).ids(), "a cursor is a place, not a right")
	})
	t.Run("200 filtered", func(t *testing.T) {
		require.Equal(t, []any{"1", "0"}, w.events(c, "keyId", c.key.ID).ids())
		require.Equal(t, []any{"2", "0"}, w.events(c, "category", "tts").ids())
		require.Equal(t, []any{"2"}, w.events(c, "category", "tts", "keyId", second.ID).ids())
		require.Empty(t, w.events(c, "keyId", other.key.ID).ids())
		require.Equal(t, []any{"0"}, w.events(c, "to", "2026-03-21T00:00:00Z").ids())
		require.Equal(t, []any{"2"}, w.events(c, "from", "2026-03-21T00:00:00Z", "to", "2026-03-21T10:30:00Z").ids())
		require.Equal(t, []any{"2"}, w.events(c, "from", "2026-03-21T13:00:00+13:00", "to", "2026-03-21T23:30:00+13:00").ids())
	})
	t.Run("200 with a correction", func(t *testing.T) {
		w.call("POST", "/v1/usage/events/5/reversal", map[string]any{"accountId": other.ID}, bearer(theServiceToken)).
			want(http.StatusOK)
		l := w.events(other)
		require.Len(t, l.Data, 2)
		require.Equal(t, "5", l.Data[0]["reverses"])
		require.Equal(t, -7.0, l.Data[0]["credits"])
	})
	t.Run("400", func(t *testing.T) {
		for _, q := range [][]string{
			{"limit", "0"},
			{"limit", "101"},
			{"cursor", ""},
			{"cursor", "nonsense"},
			{"cursor", c.key.ID},
			{"keyId", "x"},
			{"category", "fax"},
			{"from", "yesterday"},
			{"to", "2026-03-21"},
			{"from", "2026-03-21T00:00:00Z", "to", "2026-03-21T00:00:00Z"},
		} {
			w.call("GET", "/v1/usage/events"+queryOf(q...), nil, c.auth()).wantField(q[0])
		}
	})
	t.Run("401", func(t *testing.T) {
		w.call("GET", "/v1/usage/events", nil).wantProblem(http.StatusUnauthorized, "missing_credential")
	})
	t.Run("403", func(t *testing.T) {
		w.call("GET", "/v1/usage/events", nil, bearer(theServiceToken)).
			wantProblem(http.StatusForbidden, "wrong_credential_kind")
	})
}

func TestGetUsageTimeseries(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c, other, second := reported(w)

	t.Run("200 days, until now", func(t *testing.T) {
		w.call("PUT", "/v1/accounts/"+other.ID+"/tier", map[string]any{"tier": "pro"}, bearer(theOperatorToken)).want(http.StatusOK)
		require.Equal(t, []string{"2026-03-21T00:00:00Z   7 1"}, w.timeseries(other), "from the beginning of the period")
		require.Equal(t, []string{"2026-03-21T00:00:00Z   19 4"}, w.timeseries(c))
		require.Equal(t, []string{"2026-03-20T00:00:00Z   94 1", "2026-03-21T00:00:00Z   19 4"},
			w.timeseries(c, "from", "2026-03-20T23:30:00Z"))
		require.Empty(t, w.timeseries(c, "from", "2026-03-19T00:00:00Z", "to", "2026-03-20T00:00:00Z"))
	})
	t.Run("200 hours, grouped", func(t *testing.T) {
		from := []string{"from", "2026-03-20T00:00:00Z", "bucket", "hour"}
		require.Equal(t, []string{
			"2026-03-20T23:00:00Z tts  94 1", "2026-03-21T10:00:00Z llm  8 2", "2026-03-21T10:00:00Z rag  5 1",
			"2026-03-21T10:00:00Z tts  6 1",
		}, w.timeseries(c, append(from, "groupBy", "category")...))
		require.Equal(t, []string{
			"2026-03-20T23:00:00Z  " + c.key.ID + " 94 1", "2026-03-21T10:00:00Z   5 2",
			"2026-03-21T10:00:00Z  " + c.key.ID + " 8 1", "2026-03-21T10:00:00Z  " + second.ID + " 6 1",
		}, w.timeseries(c, append(from, "groupBy", "key")...))
		require.Equal(t, []string{
			"2026-03-20T23:00:00Z tts " + c.key.ID + " 94 1", "2026-03-21T10:00:00Z llm " + c.key.ID + " 8 1",
		}, w.timeseries(c, append(from, "groupBy", "category_and_key", "keyId", c.key.ID)...))
		require.Equal(t, []string{"2026-03-21T10:00:00Z   8 2"}, w.timeseries(c, append(from, "category", "llm")...))
		require.Empty(t, w.timeseries(c, append(from, "keyId", other.key.ID)...))
	})
	t.Run("200 all of a period is what usage says", func(t *testing.T) {
		var s timeseries
		w.call("GET", "/v1/usage/timeseries?from=2026-03-20T00:00:00Z", nil, c.auth()).want(http.StatusOK, &s)
		var credits, requests int64
		for _, p := range s.Data {
			credits, requests = credits+p.Credits, requests+p.Requests
		}
		u := w.usage(c)
		require.Equal(t, u.Credits.Used, credits)
		require.Equal(t, u.RequestCount, requests)
	})
	t.Run("400", func(t *testing.T) {
		for _, q := range [][]string{
			{"bucket", "week"},
			{"groupBy", "account"},
			{"keyId", "x"},
			{"category", "fax"},
			{"from", "yesterday"},
			{"to", "2026-03-21"},
			{"from", "2026-03-21T00:00:00Z", "to", "2026-03-21T00:00:00Z"},
			{"from", "2026-03-22T00:00:00Z"},
			{"from", "2025-03-20T00:00:00Z", "to", "2026-03-21T10:00:01Z"},
			{"from", "2026-02-18T00:00:00Z", "bucket", "hour", "to", "2026-03-21T00:00:01Z"},
		} {
			w.call("GET", "/v1/usage/timeseries"+queryOf(q...), nil, c.auth()).wantField(q[0])
		}
		w.call("GET", "/v1/usage/timeseries?to=2020-01-01T00:00:00Z", nil, c.auth()).wantField("from")
	})
	t.Run("401", func(t *testing.T) {
		w.call("GET", "/v1/usage/timeseries", nil).wantProblem(http.StatusUnauthorized, "missing_credential")
	})
	t.Run("403", func(t *testing.T) {
		w.call("GET", "/v1/usage/timeseries", nil, bearer(theOperatorToken)).
			wantProblem(http.StatusForbidden, "wrong_credential_kind")
	})
}
