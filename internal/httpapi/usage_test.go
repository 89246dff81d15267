package httpapi_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

type event map[string]any

func TestUsage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)

	t.Run("200 as in the seed", func(t *testing.T) {
		c := w.newCustomer()
		var u map[string]any
		w.call("GET", "/v1/usage", nil, c.auth()).want(http.StatusOK, &u)
		require.Equal(t, map[string]any{
			"credits":      map[string]any{"used": 0.0, "limit": 2500.0, "remaining": 2500.0},
			"breakdown":    map[string]any{"tts": 0.0, "stt": 0.0, "llm": 0.0, "rag": 0.0},
			"requestCount": 0.0,
		}, u)
	})
	t.Run("it adds up what was recorded", func(t *testing.T) {
		c := w.newCustomer()
		for i, e := range []event{
			{"keyId": c.key.ID, "category": "tts", "provider": "cartesia", "quantity": 1200},                               // 93.6
			{"keyId": c.key.ID, "category": "stt", "provider": "whisper", "quantity": 90},                                  // 18
			{"accountId": c.ID, "category": "llm", "provider": "gpt-4.1", "quantity": 900, "outputQuantity": 250},          // 7.6
			{"accountId": c.ID, "category": "rag", "quantity": 3},                                                          // 6
			{"accountId": c.ID, "category": "rag", "credits": 5},                                                           // 5
			{"accountId": c.ID, "category": "llm", "provider": "gpt-4.1", "quantity": 5000, "byok": true},                  // 0
			{"accountId": c.ID, "category": "llm", "byok": true},                                                           // 0
			{"accountId": c.ID, "category": "tts", "provider": "kokoro", "quantity": 0},                                    // 0
			{"accountId": c.ID, "category": "llm", "provider": "claude-sonnet-4", "quantity": 1, "outputQuantity": 100000}, // 3000.006
		} {
			e["id"] = fmt.Sprint(i)
			if i < 8 {
				w.record(e).want(http.StatusOK)
			} else {
				w.record(e).wantProblem(http.StatusPaymentRequired, "credits_exhausted")
			}
		}
		u := w.usage(c)
		require.Equal(t, credits{Used: 94 + 18 + 8 + 6 + 5, Limit: 2500, Remaining: 2500 - 131}, u.Credits)
		require.Equal(t, int64(94), u.Breakdown.TTS)
		require.Equal(t, int64(18), u.Breakdown.STT)
		require.Equal(t, int64(8), u.Breakdown.LLM)
		require.Equal(t, int64(11), u.Breakdown.RAG)
		require.Equal(t, int64(8), u.RequestCount)
	})
}

func TestRecordUsage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c, other := w.newCustomer(), w.newCustomer()

	t.Run("an event counts once", func(t *testing.T) {
		var first, again results
		e := event{"id": "once", "accountId": c.ID, "category": "rag", "credits": 7}
		w.record(e).want(http.StatusOK, &first)
		require.False(t, first.Results[0].Duplicate)
		for range 2 {
			w.record(e).want(http.StatusOK, &again)
			require.True(t, again.Results[0].Duplicate)
			require.Equal(t, int64(7), again.Results[0].Credits)
		}
		w.clock.Advance(40 * 24 * time.Hour)
		w.record(e).want(http.StatusOK, &again)
		require.True(t, again.Results[0].Duplicate)
		require.Equal(t, 1, w.count("usage_events WHERE account_id = $1", c.ID))
	})
	t.Run("a retry is answered from the record, whatever has changed", func(t *testing.T) {
		e := event{"id": "old", "accountId": c.ID, "category": "rag", "credits": 1, "occurredAt": w.clock.Now()}
		w.record(e).want(http.StatusOK)
		w.clock.Advance(36 * 24 * time.Hour)
		var again results
		w.record(e).want(http.StatusOK, &again)
		require.True(t, again.Results[0].Duplicate)
		e["id"] = "old-but-new"
		w.record(e).wantField("occurredAt")
	})
	t.Run("in parallel too", func(t *testing.T) {
		e := event{"id": "parallel", "accountId": c.ID, "category": "rag", "credits": 7}
		before := w.usage(c).Credits.Used
		require.Equal(t, map[int]int{200: 16}, w.race(16, func() (response, error) {
			return w.tryURL(w.http.URL, "POST", "/v1/usage/events", e, bearer(theServiceToken))
		}))
		require.Equal(t, before+7, w.usage(c).Credits.Used)
	})
	t.Run("the same id in another account is another event", func(t *testing.T) {
		var r results
		w.record(event{"id": "once", "accountId": other.ID, "category": "rag", "credits": 7}).want(http.StatusOK, &r)
		require.False(t, r.Results[0].Duplicate)
	})
	t.Run("409 with another payload", func(t *testing.T) {
		p := w.record(event{"id": "once", "accountId": c.ID, "category": "rag", "credits": 8}).
			wantProblem(http.StatusConflict, "event_conflict")
		require.Contains(t, p.Detail, "once")
		w.record(event{"id": "once", "accountId": c.ID, "category": "tts", "credits": 7}).
			wantProblem(http.StatusConflict, "event_conflict")
	})
	t.Run("404", func(t *testing.T) {
		w.record(event{"id": "x", "accountId": "acct_nobody", "category": "rag", "credits": 1}).
			wantProblem(http.StatusNotFound, "account_not_found")
		w.record(event{"id": "x", "keyId": "key_nobody", "category": "rag", "credits": 1}).
			wantProblem(http.StatusNotFound, "key_not_found")
	})
	t.Run("what a revoked key used still counts", func(t *testing.T) {
		k := w.newKey(c, nil)
		w.call("DELETE", "/v1/keys/"+k.ID, nil, c.auth()).want(http.StatusNoContent)
		w.record(event{"id": "revoked", "keyId": k.ID, "category": "rag", "credits": 1}).want(http.StatusOK)
	})
	t.Run("400 names the field and writes nothing", func(t *testing.T) {
		before := w.count("usage_events")
		for field, e := range map[string]event{
			"id":             {"accountId": c.ID, "category": "rag", "credits": 1},
			"category":       {"id": "x", "accountId": c.ID, "category": "video", "credits": 1},
			"accountId":      {"id": "x", "category": "rag", "credits": 1},
			"credits":        {"id": "x", "accountId": c.ID, "category": "rag", "credits": -1},
			"quantity":       {"id": "x", "accountId": c.ID, "category": "rag"},
			"outputQuantity": {"id": "x", "accountId": c.ID, "category": "stt", "provider": "groq", "quantity": 1, "outputQuantity": 1},
			"provider":       {"id": "x", "accountId": c.ID, "category": "tts", "provider": "nobody", "quantity": 1},
			"occurredAt":     {"id": "x", "accountId": c.ID, "category": "rag", "credits": 1, "occurredAt": "2026-02-30T00:00:00Z"},
			"cost":           {"id": "x", "accountId": c.ID, "category": "rag", "credits": 1, "cost": 1},
		} {
			w.record(e).wantField(field)
		}
		for field, e := range map[string]event{
			"accountId":  {"id": "x", "accountId": c.ID, "keyId": c.key.ID, "category": "rag", "credits": 1},
			"credits":    {"id": "x", "accountId": c.ID, "category": "rag", "credits": 1, "quantity": 1},
			"provider":   {"id": "x", "accountId": c.ID, "category": "tts", "quantity": 1},
			"occurredAt": {"id": "x", "accountId": c.ID, "category": "rag", "credits": 1, "occurredAt": w.clock.Now().Add(6 * time.Minute)},
			"id":         {"id": strings.Repeat("x", 129), "accountId": c.ID, "category": "rag", "credits": 1},
		} {
			w.record(e).wantField(field)
		}
		w.record(`{}`).wantField("id")
		w.record(nil).wantField("body")
		w.record(`{"events":[]}`).wantField("events")
		w.record(`{"events":[{"id":"x","category":"rag","accountId":"acct_x","credits":"1"}]}`).wantField("events[0].credits")
		require.Equal(t, before, w.count("usage_events"))
	})
}

func TestRecordUsageBatch(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c, other := w.newCustomer(), w.newCustomer()

	t.Run("each event has its own outcome", func(t *testing.T) {
		w.record(event{"id": "before", "accountId": c.ID, "category": "rag", "credits": 1}).want(http.StatusOK)
		var r results
		w.record(map[string]any{"events": []event{
			{"id": "a", "accountId": c.ID, "category": "rag", "credits": 2000},
			{"id": "b", "accountId": c.ID, "category": "rag", "credits": 600}, // 499 remain
			{"id": "c", "accountId": c.ID, "category": "rag", "credits": 499},
			{"id": "d", "accountId": c.ID, "category": "llm", "byok": true},
			{"id": "a", "accountId": c.ID, "category": "rag", "credits": 2000},
			{"id": "before", "accountId": c.ID, "category": "rag", "credits": 1},
			{"id": "before", "accountId": c.ID, "category": "rag", "credits": 2},
			{"id": "e", "accountId": "acct_nobody", "category": "rag", "credits": 1},
			{"id": "f", "accountId": other.ID, "category": "tts", "provider": "nobody", "quantity": 1},
			{"id": "g", "keyId": other.key.ID, "category": "tts", "provider": "kokoro", "quantity": 250},
		}}).want(http.StatusOK, &r)
		var got []string
		for _, o := range r.Results {
			got = append(got, fmt.Sprintf("%s %s %t %d %s", o.ID, o.Status, o.Duplicate, o.Credits, o.Code))
		}
		require.Equal(t, []string{
			"a recorded false 2000 ", "b refused false 0 credits_exhausted", "c recorded false 499 ", "d recorded false 0 ",
			"a recorded true 2000 ", "before recorded true 1 ", "before refused false 0 event_conflict",
			"e refused false 0 account_not_found", "f refused false 0 invalid_request", "g recorded false 1 ",
		}, got)
		require.Equal(t, credits{Used: 2500, Limit: 2500}, w.usage(c).Credits)
		require.Equal(t, int64(4), w.usage(c).RequestCount)
		require.Equal(t, credits{Used: 1, Limit: 2500, Remaining: 2499}, w.usage(other).Credits)
	})
	t.Run("up to 1,000", func(t *testing.T) {
		c := w.newCustomer()
		events := make([]event, 1000)
		for i := range events {
			events[i] = event{"id": fmt.Sprint(i), "accountId": c.ID, "category": "stt", "credits": 1}
		}
		w.record(map[string]any{"events": events}).want(http.StatusOK)
		require.Equal(t, int64(1000), w.usage(c).Credits.Used)
		w.record(map[string]any{"events": append(events, event{"id": "1001", "accountId": c.ID, "category": "stt", "credits": 1})}).
			wantField("events")
	})
}

// A hard cap is never passed, however many spend at once, and what is refused leaves no trace.
func TestHardCap(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.newCustomer()
	second := w.build(w.cfg) // another replica
	servers := []string{w.http.URL, serve(t, second.Handler())}
	statuses := map[int]int{}
	next := make(chan int, 64)
	go func() {
		defer close(next)
		for i := range 64 {
			next <- i
		}
	}()
	for status, n := range w.race(64, func() (response, error) {
		i := <-next
		return w.tryURL(servers[i%2], "POST", "/v1/usage/events",
			event{"id": fmt.Sprint(i), "accountId": c.ID, "category": "rag", "credits": 100}, bearer(theServiceToken))
	}) {
		statuses[status] += n
	}
	require.Equal(t, map[int]int{200: 25, 402: 39}, statuses)
	require.Equal(t, credits{Used: 2500, Limit: 2500}, w.usage(c).Credits)
	require.Equal(t, 25, w.count("usage_events WHERE account_id = $1", c.ID))

	t.Run("what is free still counts", func(t *testing.T) {
		w.record(event{"id": "free", "accountId": c.ID, "category": "llm", "byok": true}).want(http.StatusOK)
		require.Equal(t, int64(26), w.usage(c).RequestCount)
	})
	t.Run("the schema holds it, whatever the code does", func(t *testing.T) {
		_, err := w.pool.Exec(context.Background(), `UPDATE balances SET rag = rag + 1 WHERE account_id = $1`, c.ID)
		require.ErrorContains(t, err, "hard_cap")
	})
	t.Run("a paid tier goes on into overage", func(t *testing.T) {
		w.setTier(c, "starter")
		w.record(event{"id": "overage", "accountId": c.ID, "category": "rag", "credits": 60000}).want(http.StatusOK)
		require.Equal(t, credits{Used: 62500, Limit: 50000, Remaining: 0}, w.usage(c).Credits)
	})
}

func TestPeriods(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.clock.Set(time.Date(2026, 1, 31, 15, 0, 0, 0, time.UTC))
	c := w.newCustomer()
	spend := func(id string) {
		w.record(event{"id": id, "accountId": c.ID, "category": "rag", "credits": 1000}).want(http.StatusOK)
	}
	at := func(month time.Month, day, hour int) {
		w.clock.Set(time.Date(2026, month, day, hour, 0, 0, 0, time.UTC))
	}
	spend("january")
	require.Equal(t, int64(1000), w.usage(c).Credits.Used)

	at(time.February, 27, 23)
	spend("february-27")
	require.Equal(t, credits{Used: 2000, Limit: 2500, Remaining: 500}, w.usage(c).Credits, "the period runs to the 28th")
	at(time.February, 28, 0)
	require.Equal(t, credits{Limit: 2500, Remaining: 2500}, w.usage(c).Credits, "free carries nothing over")
	spend("february-28")
	at(time.March, 30, 23)
	require.Equal(t, int64(1000), w.usage(c).Credits.Used, "the 31st comes back")
	at(time.March, 31, 0)
	require.Zero(t, w.usage(c).Credits.Used)
	require.Zero(t, w.usage(c).RequestCount)

	t.Run("several periods later", func(t *testing.T) {
		at(time.September, 15, 0)
		spend("september")
		require.Equal(t, credits{Used: 1000, Limit: 2500, Remaining: 1500}, w.usage(c).Credits)
		at(time.September, 30, 0)
		require.Zero(t, w.usage(c).Credits.Used)
	})
	t.Run("whoever comes first opens it, once", func(t *testing.T) {
		at(time.December, 31, 0)
		require.Equal(t, map[int]int{200: 16}, w.race(16, func() (response, error) {
			return w.tryURL(w.http.URL, "GET", "/v1/usage", nil, c.auth())
		}))
		require.Equal(t, 1, w.count("balances WHERE account_id = $1 AND ends_at > $2", c.ID, w.clock.Now()))
	})
}
