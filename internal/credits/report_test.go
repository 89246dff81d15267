package credits

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"maps"
	mathrand "math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/keymeter/keymeter/internal/fault"
	"github.com/keymeter/keymeter/internal/ids"
	"github.com/keymeter/keymeter/internal/plans"
	"github.com/keymeter/keymeter/internal/testkit"
)

// reportTime is now: 10:30 of a Saturday.
func reportTime() time.Time { return time.Date(2026, 3, 21, 10, 30, 0, 123456000, time.UTC) }

// reports is a database of usage that is written by hand.
type reports struct {
	*Credits
	tb   testing.TB
	pool *pgxpool.Pool
}

func newReports(tb testing.TB) *reports {
	tb.Helper()
	catalogue, err := plans.Load("")
	require.NoError(tb, err)
	pool := testkit.DB(tb)
	clock := testkit.NewClock(reportTime())
	r := &reports{
		Credits: New(pool, pool, ids.NewSource(clock.Now, rand.Reader), clock.Now, catalogue), tb: tb, pool: pool,
	}
	r.exec("INSERT INTO accounts (id, name, tier, created_at) VALUES ('acct_a', 'A', 'free', '2026-02-10T12:00Z')")
	return r
}

func (r *reports) exec(sql string, args ...any) {
	r.tb.Helper()
	_, err := r.pool.Exec(context.Background(), sql, args...)
	require.NoError(r.tb, err)
}

func (r *reports) total(accountID string, hour time.Time, keyID, category string, credits, requests int64) {
	r.tb.Helper()
	r.exec("INSERT INTO usage_totals VALUES ($1, $2, $3, $4, $5, $6)", accountID, hour, keyID, category, credits, requests)
	r.hour(accountID, hour, category, credits, requests)
}

func (r *reports) hour(accountID string, hour time.Time, category string, credits, requests int64) {
	r.tb.Helper()
	r.exec(`INSERT INTO usage_hours AS h VALUES ($1, $2, $3, $4, $5) ON CONFLICT (account_id, hour, category)
		DO UPDATE SET credits = h.credits + excluded.credits, requests = h.requests + excluded.requests`,
		accountID, hour, category, credits, requests)
}

// sumHours is for totals that were written by the thousand.
func (r *reports) sumHours() {
	r.tb.Helper()
	r.exec(`TRUNCATE usage_hours`)
	r.exec(`INSERT INTO usage_hours SELECT account_id, hour, category, sum(credits), sum(requests) FROM usage_totals GROUP BY 1, 2, 3`)
}

// event writes an event that was recorded a moment after it happened.
func (r *reports) event(accountID, id, keyID, category string, recordedAt time.Time) {
	r.tb.Helper()
	r.eventOf(accountID, id, keyID, category, recordedAt.Add(-time.Second), recordedAt)
}

func (r *reports) eventOf(accountID, id, keyID, category string, occurredAt, recordedAt time.Time) {
	r.tb.Helper()
	r.exec(`INSERT INTO usage_events (account_id, id, period, key_id, category, byok, credits, occurred_at, recorded_at,
		fingerprint) VALUES ($1, $2, 0, nullif($3, ''), $4, false, 1, $5, $6, '')`,
		accountID, id, keyID, category, occurredAt, recordedAt)
	r.exec(`INSERT INTO usage_totals AS t VALUES ($1, $2, $3, $4, 1, 1) ON CONFLICT (account_id, hour, key_id, category)
		DO UPDATE SET credits = t.credits + 1, requests = t.requests + 1`,
		accountID, occurredAt.UTC().Truncate(time.Hour), keyID, category)
	r.hour(accountID, occurredAt.UTC().Truncate(time.Hour), category, 1, 1)
}

func wantField(tb testing.TB, err error, field string) {
	tb.Helper()
	var refusal *fault.Error
	require.ErrorAs(tb, err, &refusal)
	require.Equal(tb, fault.Invalid, refusal.Kind)
	require.Equal(tb, field, refusal.Fields[0].Name)
}

func at(text string) time.Time {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		panic(err)
	}
	return t
}

func pointer[T any](v T) *T { return &v }

func TestTimeseries(t *testing.T) {
	t.Parallel()
	r := newReports(t)
	ctx := context.Background()
	r.total("acct_a", at("2026-03-09T23:00:00Z"), "", "tts", 1, 1) // in the period before
	r.total("acct_a", at("2026-03-10T00:00:00Z"), "", "tts", 2, 1)
	r.total("acct_a", at("2026-03-20T23:00:00Z"), "key_x", "tts", 10, 2)
	r.total("acct_a", at("2026-03-21T00:00:00Z"), "key_x", "tts", 100, 3)
	r.total("acct_a", at("2026-03-21T10:00:00Z"), "key_x", "rag", 1000, 4)
	r.total("acct_a", at("2026-03-21T10:00:00Z"), "key_y", "rag", -7, 1)
	r.total("acct_a", at("2026-03-21T10:00:00Z"), "", "rag", 50, 1)
	r.total("acct_a", at("2026-03-21T11:00:00Z"), "key_x", "rag", 9, 9) // later than now
	r.total("acct_b", at("2026-03-21T10:00:00Z"), "key_z", "tts", 1<<40, 1)
	march := func(day, hour int) time.Time { return time.Date(2026, 3, day, hour, 0, 0, 0, time.UTC) }

	for name, c := range map[string]struct {
		q    TimeseriesQuery
		want []Point
	}{
		"the current period until now, by the day": {
			TimeseriesQuery{Bucket: Day},
			[]Point{
				{Start: march(10, 0), Credits: 2, Requests: 1},
				{Start: march(20, 0), Credits: 10, Requests: 2},
				{Start: march(21, 0), Credits: 1143, Requests: 9},
			},
		},
		"by the hour and category": {
			TimeseriesQuery{Bucket: Hour, ByCategory: true, From: pointer(at("2026-03-20T23:59:59Z"))},
			[]Point{
				{Start: march(20, 23), Category: "tts", Credits: 10, Requests: 2},
				{Start: march(21, 0), Category: "tts", Credits: 100, Requests: 3},
				{Start: march(21, 10), Category: "rag", Credits: 1043, Requests: 6},
			},
		},
		"by key, usage without one first": {
			TimeseriesQuery{Bucket: Day, ByKey: true, From: pointer(march(21, 0))},
			[]Point{
				{Start: march(21, 0), Credits: 50, Requests: 1},
				{Start: march(21, 0), KeyID: "key_x", Credits: 1100, Requests: 7},
				{Start: march(21, 0), KeyID: "key_y", Credits: -7, Requests: 1},
			},
		},
		"by both": {
			TimeseriesQuery{Bucket: Day, ByKey: true, ByCategory: true, From: pointer(march(21, 0)), KeyID: "key_x"},
			[]Point{
				{Start: march(21, 0), KeyID: "key_x", Category: "rag", Credits: 1000, Requests: 4},
				{Start: march(21, 0), KeyID: "key_x", Category: "tts", Credits: 100, Requests: 3},
			},
		},
		"of a key and a category, from another zone": {
			TimeseriesQuery{
				Bucket: Hour, KeyID: "key_x", Category: "tts", From: pointer(at("2026-03-21T12:15:00+12:00")),
				To: pointer(at("2026-03-21T00:15:01Z")),
			},
			[]Point{{Start: march(21, 0), Credits: 100, Requests: 3}},
		},
		"days are of UTC, the first begins at the hour": {
			TimeseriesQuery{Bucket: Day, From: pointer(at("2026-03-20T23:30:00Z")), To: pointer(march(21, 10))},
			[]Point{{Start: march(20, 0), Credits: 10, Requests: 2}, {Start: march(21, 0), Credits: 100, Requests: 3}},
		},
		"of another account's key": {TimeseriesQuery{Bucket: Day, KeyID: "key_z"}, []Point{}},
		"far away":                 {TimeseriesQuery{Bucket: Day, From: pointer(at("0000-01-01T00:00:00Z")), To: pointer(at("0000-01-02T00:00:00Z"))}, []Point{}},
		"far ahead":                {TimeseriesQuery{Bucket: Day, From: pointer(at("9999-01-01T00:00:00Z")), To: pointer(at("9999-12-31T23:59:59Z"))}, []Point{}},
	} {
		t.Run(name, func(t *testing.T) {
			points, err := r.Timeseries(ctx, "acct_a", c.q)
			require.NoError(t, err)
			require.Equal(t, c.want, points)
		})
	}
	t.Run("refused", func(t *testing.T) {
		for _, q := range []TimeseriesQuery{
			{Bucket: Day, From: pointer(reportTime())},
			{Bucket: Day, From: pointer(march(22, 0)), To: pointer(march(21, 0))},
			{Bucket: Day, To: pointer(march(10, 0))}, // where the period begins
			{Bucket: Hour, From: pointer(march(1, 0)), To: pointer(march(32, 0).Add(time.Second))},
			{Bucket: Day, From: pointer(march(1, 0)), To: pointer(march(1+366, 0).Add(time.Second))},
			{Bucket: Day, From: pointer(at("0000-01-01T00:00:00Z"))},
		} {
			_, err := r.Timeseries(ctx, "acct_a", q)
			wantField(t, err, "from")
		}
	})
	t.Run("as long as may be", func(t *testing.T) {
		for _, q := range []TimeseriesQuery{
			{Bucket: Hour, From: pointer(march(1, 0)), To: pointer(march(32, 0))},
			{Bucket: Day, From: pointer(march(1, 0)), To: pointer(march(1+366, 0))},
		} {
			_, err := r.Timeseries(ctx, "acct_a", q)
			require.NoError(t, err)
		}
	})
	t.Run("nobody's", func(t *testing.T) {
		_, err := r.Timeseries(ctx, "acct_nobody", TimeseriesQuery{Bucket: Day})
		require.ErrorIs(t, err, fault.New(fault.NotFound, "account_not_found", ""))
	})
}

func TestTimeseriesIsNeverCutOff(t *testing.T) {
	t.Parallel()
	r := newReports(t)
	r.exec(`INSERT INTO usage_totals SELECT 'acct_a', '2026-03-15T00:00Z', 'key_' || i, 'tts', 1, 1
		FROM generate_series(1, 10000) i`)
	r.sumHours()
	q := TimeseriesQuery{Bucket: Day, ByKey: true}
	points, err := r.Timeseries(context.Background(), "acct_a", q)
	require.NoError(t, err)
	require.Len(t, points, 10_000)
	r.total("acct_a", at("2026-03-16T00:00:00Z"), "", "tts", 1, 1)
	_, err = r.Timeseries(context.Background(), "acct_a", q)
	wantField(t, err, "from")
	q.ByKey = false
	points, err = r.Timeseries(context.Background(), "acct_a", q)
	require.NoError(t, err)
	require.Len(t, points, 2)
}

// Any query adds up what a plain sum over the rows does.
func TestTimeseriesAddsUp(t *testing.T) {
	t.Parallel()
	r := newReports(t)
	random := mathrand.New(mathrand.NewPCG(1, 2))
	keyIDs, categories := []string{"", "key_x", "key_y"}, []plans.Category{"tts", "stt", "llm", "rag"}
	var rows []Point
	for hour := range 24 * 20 {
		for _, keyID := range keyIDs {
			for _, category := range categories {
				if random.IntN(8) > 0 {
					continue
				}
				row := Point{
					Start: time.Date(2026, 3, 1, hour, 0, 0, 0, time.UTC), KeyID: keyID, Category: category,
					Credits: random.Int64N(1000) - 100, Requests: random.Int64N(10),
				}
				rows = append(rows, row)
				r.total("acct_a", row.Start, keyID, string(category), row.Credits, row.Requests)
			}
		}
	}
	for range 300 {
		from := time.Date(2026, 3, 1, 0, 0, random.IntN(20*24*3600), 0, time.UTC)
		to := from.Add(time.Duration(1+random.IntN(20*24*3600)) * time.Second)
		q := TimeseriesQuery{
			From: &from, To: &to, Bucket: []Bucket{Hour, Day}[random.IntN(2)], ByKey: random.IntN(2) == 0,
			ByCategory: random.IntN(2) == 0, KeyID: keyIDs[random.IntN(3)],
			Category: append(categories, "")[random.IntN(5)],
		}
		points, err := r.Timeseries(context.Background(), "acct_a", q)
		require.NoError(t, err)
		require.Equal(t, addUp(rows, q), points, q)
	}
}

func addUp(rows []Point, q TimeseriesQuery) []Point {
	sums := map[Point]Point{}
	for _, row := range rows {
		if !row.Start.Add(time.Hour).After(*q.From) || !row.Start.Before(*q.To) ||
			q.KeyID != "" && q.KeyID != row.KeyID || q.Category != "" && q.Category != row.Category {
			continue
		}
		group := Point{Start: row.Start}
		if q.Bucket == Day {
			group.Start = row.Start.Truncate(24 * time.Hour)
		}
		if q.ByKey {
			group.KeyID = row.KeyID
		}
		if q.ByCategory {
			group.Category = row.Category
		}
		sum := sums[group]
		sums[group] = Point{
			Start: group.Start, KeyID: group.KeyID, Category: group.Category, Credits: sum.Credits + row.Credits,
			Requests: sum.Requests + row.Requests,
		}
	}
	points := slices.AppendSeq([]Point{}, maps.Values(sums))
	slices.SortFunc(points, func(a, b Point) int {
		return cmp.Or(a.Start.Compare(b.Start), cmp.Compare(a.KeyID, b.KeyID), cmp.Compare(a.Category, b.Category))
	})
	return points
}

// walk returns the ids of all events that the query finds, page by page.
func (r *reports) walk(tb testing.TB, accountID string, q EventsQuery) (ids []string) {
	tb.Helper()
	for {
		page, next, more, err := r.Events(context.Background(), accountID, q)
		require.NoError(tb, err)
		require.LessOrEqual(tb, len(page), q.Limit)
		for _, e := range page {
			ids = append(ids, e.ID)
		}
		require.Equal(tb, more, next != "")
		if !more {
			return ids
		}
		q.Cursor = next
	}
}

func TestEvents(t *testing.T) {
	t.Parallel()
	r := newReports(t)
	minute := func(m int) time.Time { return reportTime().Add(time.Duration(m-60) * time.Minute) }
	r.event("acct_a", "1", "key_x", "tts", minute(1))
	r.event("acct_a", "2", "key_y", "tts", minute(2))
	r.event("acct_a", "b", "", "rag", minute(3)) // four of a batch, recorded together
	r.event("acct_a", "B", "key_x", "rag", minute(3))
	r.event("acct_a", "a~", "key_x", "tts", minute(3))
	r.event("acct_a", "a", "key_x", "tts", minute(3))
	r.event("acct_a", "0", "key_x", "llm", minute(4))
	r.event("acct_b", "1", "key_z", "tts", minute(3))
	all := []string{"0", "b", "a~", "a", "B", "2", "1"}

	t.Run("newest first, in pages of any size", func(t *testing.T) {
		for limit := 1; limit <= 8; limit++ {
			require.Equal(t, all, r.walk(t, "acct_a", EventsQuery{Limit: limit}))
		}
	})
	t.Run("filtered", func(t *testing.T) {
		for _, c := range []struct {
			q    EventsQuery
			want []string
		}{
			{EventsQuery{KeyID: "key_x"}, []string{"0", "a~", "a", "B", "1"}},
			{EventsQuery{Category: "tts"}, []string{"a~", "a", "2", "1"}},
			{EventsQuery{KeyID: "key_x", Category: "tts"}, []string{"a~", "a", "1"}},
			{EventsQuery{KeyID: "key_z"}, nil},
			{EventsQuery{From: pointer(minute(3).Add(-time.Second))}, []string{"0", "b", "a~", "a", "B"}},
			{EventsQuery{From: pointer(minute(3))}, []string{"0"}},
			{EventsQuery{To: pointer(minute(3).Add(-time.Second))}, []string{"2", "1"}},
			{EventsQuery{From: pointer(minute(2).Add(-time.Second)), To: pointer(minute(3))}, []string{"b", "a~", "a", "B", "2"}},
			{EventsQuery{From: pointer(at("0000-01-01T00:00:00Z")), To: pointer(at("9999-12-31T23:59:59Z"))}, all},
		} {
			c.q.Limit = 2
			require.Equal(t, c.want, r.walk(t, "acct_a", c.q), c.q)
		}
	})
	t.Run("of nobody", func(t *testing.T) {
		require.Empty(t, r.walk(t, "acct_nobody", EventsQuery{Limit: 2}))
	})
	t.Run("one that was ahead of our clock is found by when it happened", func(t *testing.T) {
		r.exec(`INSERT INTO usage_events (account_id, id, period, category, byok, credits, occurred_at, recorded_at, fingerprint)
			VALUES ('acct_c', 'ahead', 0, 'tts', false, 1, $1, $2, '')`, minute(10), minute(10).Add(-leeway))
		require.Equal(t, []string{"ahead"}, r.walk(t, "acct_c", EventsQuery{From: pointer(minute(10)), Limit: 2}))
	})
	t.Run("whole", func(t *testing.T) {
		r.exec(`INSERT INTO usage_events (account_id, id, period, key_id, category, provider, quantity, output_quantity, byok,
			credits, occurred_at, recorded_at, fingerprint, late, reverses) VALUES
			('acct_d', 'spend', 0, 'key_d', 'llm', 'gpt-4.1', 900, 250, false, 8, $1, $2, '', true, NULL),
			('acct_d', 'reversal:spend', 0, $4, 'llm', $4, $5, $5, false, -8, $2, $3, '', false, 'spend')`,
			minute(1), minute(2), minute(3), nil, nil)
		page, _, _, err := r.Events(t.Context(), "acct_d", EventsQuery{Limit: 10})
		require.NoError(t, err)
		require.Equal(t, []RecordedEvent{
			{
				ID: "reversal:spend", Category: "llm", Credits: -8, Reverses: "spend", OccurredAt: minute(2),
				RecordedAt: minute(3),
			},
			{
				ID: "spend", KeyID: "key_d", Category: "llm", Provider: "gpt-4.1", Quantity: pointer(int64(900)),
				Output: pointer(int64(250)), Credits: 8, Late: true, OccurredAt: minute(1), RecordedAt: minute(2),
			},
		}, page)
	})
	t.Run("an empty range", func(t *testing.T) {
		_, _, _, err := r.Events(t.Context(), "acct_a", EventsQuery{From: pointer(minute(3)), To: pointer(minute(3)), Limit: 1})
		wantField(t, err, "from")
	})
}

// Whatever is filtered, a walk finds what a look at each event does: also where few events match among many, where they were
// recorded days after they happened, and where hours of other keys lie between.
func TestEventsAreFound(t *testing.T) {
	t.Parallel()
	r := newReports(t)
	random := mathrand.New(mathrand.NewPCG(5, 6))
	keyIDs, categories := []string{"", "key_x", "key_y"}, []plans.Category{"tts", "rag"}
	var all []RecordedEvent
	for i := range 400 {
		e := RecordedEvent{
			ID: fmt.Sprint(i), KeyID: keyIDs[random.IntN(3)], Category: categories[random.IntN(2)],
			RecordedAt: reportTime().Add(-time.Duration(random.IntN(20*24*60)) * time.Minute),
		}
		e.OccurredAt = e.RecordedAt.Add(time.Duration(random.IntN(900)-600) * time.Second) // 10 minutes before to 5 after
		if random.IntN(5) == 0 {
			e.OccurredAt = e.RecordedAt.Add(-time.Duration(random.IntN(35*24*60)) * time.Minute)
		}
		all = append(all, e)
		r.eventOf("acct_a", e.ID, e.KeyID, string(e.Category), e.OccurredAt, e.RecordedAt)
	}
	slices.SortFunc(all, func(a, b RecordedEvent) int {
		return cmp.Or(b.RecordedAt.Compare(a.RecordedAt), cmp.Compare(b.ID, a.ID))
	})
	// Others' events, many more than a request looks at.
	r.exec(`INSERT INTO usage_events (account_id, id, period, key_id, category, byok, credits, occurred_at, recorded_at, fingerprint)
		SELECT 'acct_a', 'other' || i, 0, 'key_other', 'llm', false, 1, happened, recorded, ''
		FROM generate_series(1, 100000) i, LATERAL (SELECT $1::timestamptz - i * interval '17 s' AS happened) t, LATERAL (SELECT happened AS recorded) u`, reportTime())
	r.exec(`INSERT INTO usage_totals SELECT 'acct_a', date_trunc('hour', occurred_at, 'UTC'), 'key_other', 'llm', 1, count(*)
		FROM usage_events WHERE key_id = 'key_other' GROUP BY 2`)
	r.sumHours()
	for range 100 {
		q := EventsQuery{Limit: 1 + random.IntN(100), KeyID: keyIDs[random.IntN(3)], Category: categories[random.IntN(2)]}
		if q.KeyID != "" && random.IntN(3) == 0 {
			q.Category = ""
		}
		if random.IntN(2) == 0 {
			q.From = pointer(reportTime().Add(-time.Duration(20*24*60+random.IntN(30*24*60)) * time.Minute))
		}
		if random.IntN(2) == 0 {
			q.To = pointer(reportTime().Add(-time.Duration(random.IntN(20*24*60)) * time.Minute))
		}
		var want []string
		for _, e := range all {
			if (q.KeyID == "" || q.KeyID == e.KeyID) && (q.Category == "" || q.Category == e.Category) &&
				(q.From == nil || !e.OccurredAt.Before(*q.From)) && (q.To == nil || e.OccurredAt.Before(*q.To)) {
				want = append(want, e.ID)
			}
		}
		require.Equal(t, want, r.walk(t, "acct_a", q), q)
	}
	t.Run("a key without events", func(t *testing.T) {
		page, _, more, err := r.Events(t.Context(), "acct_a", EventsQuery{Limit: 10, KeyID: "key_none"})
		require.NoError(t, err)
		require.Empty(t, page)
		require.False(t, more, "that there are none is known at once")
	})
}

func TestEventsCursor(t *testing.T) {
	t.Parallel()
	r := newReports(t)
	r.event("acct_a", "1", "", "tts", reportTime())
	good := place{recordedAt: reportTime(), id: "reversal:" + strings.Repeat("~", 128)}
	parsed, ok := parsePlace(good.cursor())
	require.True(t, ok)
	require.Equal(t, good, parsed)
	require.LessOrEqual(t, len(good.cursor()), 200, "the contract's bound")

	short := place{recordedAt: reportTime(), id: "id"}.cursor()
	encode := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	for _, cursor := range []string{
		"x", "!", "key_abc123", short[:4], short + "=", short + "\n", encode("12345678"), encode("\x7f2345678id"),
		encode("\x80\x00\x00\x00\x00\x00\x00\x00id"), encode("\x00\x05\x00\x00\x00\x00\x00\x00i\x00d"),
		encode("\x00\x05\x00\x00\x00\x00\x00\x00\xff"), short[:len(short)-1] + "B",
		place{recordedAt: afterAll, id: "id"}.cursor(), place{recordedAt: time.Time{}.Add(-1), id: "id"}.cursor(),
	} {
		_, _, _, err := r.Events(t.Context(), "acct_a", EventsQuery{Limit: 1, Cursor: cursor})
		wantField(t, err, "cursor")
	}
	random := mathrand.New(mathrand.NewPCG(3, 4))
	for range 500 { // what is not refused is a place, wherever it is
		made := make([]byte, 9+random.IntN(3))
		for i := range made {
			made[i] = byte(random.IntN(256))
		}
		made[0], made[len(made)-1] = byte(random.IntN(4)), 'x'
		_, _, _, err := r.Events(t.Context(), "acct_a", EventsQuery{Limit: 1, Cursor: encode(string(made))})
		if err != nil {
			wantField(t, err, "cursor")
		}
	}
}

// A walk meets no event twice and misses none that was there when it began, while others are recorded.
func TestEventsAreStable(t *testing.T) {
	t.Parallel()
	r := newReports(t)
	var before []string
	for i := range 100 {
		id := fmt.Sprintf("before%03d", i)
		before = append(before, id)
		r.event("acct_a", id, "", "tts", reportTime().Add(time.Duration(i/10)*time.Second))
	}
	slices.Reverse(before)
	var writing sync.WaitGroup
	for w := range 4 {
		writing.Go(func() {
			for i := range 500 { // some with times that have passed already, as of a slow transaction
				_, err := r.pool.Exec(context.Background(), `INSERT INTO usage_events (account_id, id, period, category, byok,
					credits, occurred_at, recorded_at, fingerprint) VALUES ('acct_a', $1, 0, 'tts', false, 1, $2, $2, '')`,
					fmt.Sprintf("during%d-%d", w, i), reportTime().Add(time.Duration(i%20)*time.Second))
				assert.NoError(t, err)
			}
		})
	}
	for range 20 {
		seen := map[string]bool{}
		var old []string
		for _, id := range r.walk(t, "acct_a", EventsQuery{Limit: 23}) {
			require.False(t, seen[id], id)
			seen[id] = true
			if strings.HasPrefix(id, "before") {
				old = append(old, id)
			}
		}
		require.Equal(t, before, old)
	}
	writing.Wait()
}

// fill writes so many events of acct_a, one every 2.5 seconds until now, of 10 keys, and their totals, beside those of
// another account.
func (r *reports) fill(events int) {
	r.tb.Helper()
	r.exec(`INSERT INTO usage_events (account_id, id, period, key_id, category, byok, credits, occurred_at, recorded_at,
			fingerprint)
		SELECT account, 'evt_' || i, 0, 'key_' || i % 10, (ARRAY['tts', 'stt', 'llm', 'rag'])[1 + i % 4], false, i % 100,
			$2::timestamptz - i * interval '2.5 s', $2::timestamptz - i * interval '2.5 s', ''
		FROM (SELECT 'acct_a', generate_series(1, $1::int) UNION ALL SELECT 'acct_b', generate_series(1, $1::int / 10))
			AS e (account, i)`, events, reportTime())
	r.exec(`INSERT INTO usage_totals SELECT account_id, date_trunc('hour', recorded_at, 'UTC'), key_id, category,
		sum(credits), count(*) FROM usage_events GROUP BY 1, 2, 3, 4`)
	r.sumHours()
	r.exec(`ANALYZE usage_events`)
	r.exec(`ANALYZE usage_totals`)
}

// lastQuery remembers the last query that went through a connection.
type lastQuery struct{ pgx.TraceQueryStartData }

func (l *lastQuery) TraceQueryStart(ctx context.Context, _ *pgx.Conn, q pgx.TraceQueryStartData) context.Context {
	l.TraceQueryStartData = q
	return ctx
}

func (l *lastQuery) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// explain returns the plan of the query that f makes through the pool, once for its parameters and once for any.
func (r *reports) explain(tb testing.TB, f func(c *Credits)) (plans []string) {
	tb.Helper()
	ctx := context.Background()
	cfg := r.pool.Config()
	last := &lastQuery{}
	cfg.ConnConfig.Tracer, cfg.MaxConns = last, 1
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	require.NoError(tb, err)
	defer pool.Close()
	f(New(pool, pool, r.ids, r.now, r.catalogue))
	query := last.TraceQueryStartData
	literals := make([]string, len(query.Args))
	for i, arg := range query.Args {
		literals[i] = literal(arg)
	}
	for _, mode := range []string{"force_custom_plan", "force_generic_plan"} {
		conn, err := pgx.ConnectConfig(ctx, r.pool.Config().ConnConfig)
		require.NoError(tb, err)
		_, err = conn.Exec(ctx, "SET plan_cache_mode = "+mode+"; PREPARE q AS "+query.SQL)
		require.NoError(tb, err)
		rows, err := conn.Query(ctx, "EXPLAIN (ANALYZE, BUFFERS) EXECUTE q ("+strings.Join(literals, ", ")+")",
			pgx.QueryExecModeSimpleProtocol)
		require.NoError(tb, err)
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(tb, err)
		plans = append(plans, strings.Join(lines, "\n"))
		require.NoError(tb, conn.Close(ctx))
	}
	return plans
}

func literal(arg any) string {
	switch v := arg.(type) {
	case *string:
		if v == nil {
			return "NULL"
		}
		return "'" + *v + "'"
	case *time.Time:
		if v == nil {
			return "NULL"
		}
		return literal(*v)
	case time.Time:
		if v.IsZero() {
			return "'-infinity'"
		}
		return "'" + v.Format(time.RFC3339Nano) + "'"
	default:
		return fmt.Sprintf("'%v'", v)
	}
}

// Reports look at what they show and no more of an account's usage, with whichever kind of plan Postgres chooses.
func TestReportsUseTheirIndexes(t *testing.T) {
	t.Parallel()
	r := newReports(t)
	r.fill(50_000)
	deep := place{recordedAt: reportTime().Add(-24 * time.Hour), id: "evt_"}.cursor()
	for name, q := range map[string]EventsQuery{
		"the first page": {Limit: 100}, "a page in the depth": {Limit: 100, Cursor: deep},
		"of a key and category": {Limit: 100, Cursor: deep, KeyID: "key_4", Category: "tts"},
		"of today":              {Limit: 100, Cursor: deep, From: pointer(reportTime().Add(-25 * time.Hour))},
	} {
		t.Run(name, func(t *testing.T) {
			for _, plan := range r.explain(t, func(c *Credits) {
				page, _, _, err := c.Events(context.Background(), "acct_a", q)
				require.NoError(t, err)
				require.Len(t, page, 100)
			}) {
				require.Contains(t, plan, " using usage_events_by_time", plan)
				require.Regexp(t, `Index Cond: .*ROW\(recorded_at, id\) <`, plan)
				require.NotContains(t, plan, "Sort", plan)
			}
		})
	}
	t.Run("time series", func(t *testing.T) {
		for _, plan := range r.explain(t, func(c *Credits) {
			_, err := c.Timeseries(context.Background(), "acct_a", TimeseriesQuery{
				Bucket: Hour, ByKey: true, ByCategory: true, From: pointer(reportTime().Add(-4 * time.Hour)),
			})
			require.NoError(t, err)
		}) {
			require.Contains(t, plan, "usage_totals_pkey", plan)
			require.Regexp(t, `Index Cond: .*account_id = .*hour >= .*hour <`, plan)
		}
	})
}

func BenchmarkReports(b *testing.B) {
	r := newReports(b)
	r.fill(1_000_000)
	ctx := context.Background()
	deep := place{recordedAt: reportTime().Add(-25 * 24 * time.Hour), id: "evt_"}.cursor()
	for _, c := range []struct {
		name string
		q    EventsQuery
	}{
		{"first page", EventsQuery{Limit: 100}},
		{"page after 864,000 events", EventsQuery{Limit: 100, Cursor: deep}},
		{"page of a key", EventsQuery{Limit: 100, KeyID: "key_4"}},
		{"page of the first day", EventsQuery{Limit: 100, To: pointer(reportTime().Add(-28 * 24 * time.Hour))}},
		{"page of a key without events", EventsQuery{Limit: 100, KeyID: "key_none"}},
	} {
		b.Run("events/"+c.name, func(b *testing.B) {
			for b.Loop() {
				_, _, _, err := r.Events(ctx, "acct_a", c.q)
				require.NoError(b, err)
			}
		})
	}
	from := reportTime().Add(-29 * 24 * time.Hour)
	for name, q := range map[string]TimeseriesQuery{
		"days":                      {Bucket: Day, From: &from},
		"days by category and key":  {Bucket: Day, From: &from, ByKey: true, ByCategory: true},
		"hours by category":         {Bucket: Hour, From: &from, ByCategory: true},
		"hours by key, of the week": {Bucket: Hour, From: pointer(reportTime().Add(-7 * 24 * time.Hour)), ByKey: true},
	} {
		b.Run("timeseries/"+name, func(b *testing.B) {
			for b.Loop() {
				_, err := r.Timeseries(ctx, "acct_a", q)
				require.NoError(b, err)
			}
		})
	}
}
