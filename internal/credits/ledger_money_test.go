package credits

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/keymeter/keymeter/internal/plans"
	"github.com/keymeter/keymeter/internal/postgres"
)

func (m *machine) give(t *rapid.T, id string, kind Kind, amount int64, source string, expires time.Time) {
	now := m.bench.clock.Now()
	a := m.model.accounts[id]
	m.model.open(a, now)
	want := a.give(modelGrant{kind: kind, amount: amount, source: source, expires: expires})
	if want {
		a.refresh(now)
	}
	grant := Grant{AccountID: id, Kind: kind, Amount: amount, Source: source}
	if !expires.IsZero() {
		grant.ExpiresAt = &expires
	}
	var given bool
	require.NoError(t, postgres.InTx(t.Context(), m.bench.pool, func(tx postgres.Tx) (err error) {
		given, err = m.bench.credits.GrantTx(t.Context(), tx, grant)
		return err
	}))
	require.Equal(t, want, given)
}

// GiveTopUp sells credits that never expire; at times the same sale comes twice.
func (m *machine) GiveTopUp(t *rapid.T) {
	m.gifts++
	amount := rapid.SampledFrom([]int64{1, 700, 5000, 100_000}).Draw(t, "amount")
	source := fmt.Sprint("topup:", max(0, m.gifts-rapid.IntRange(0, 3).Draw(t, "ago")))
	m.give(t, m.account(t), TopUp, amount, source, time.Time{})
}

// GivePromotion gives credits for hours to months.
func (m *machine) GivePromotion(t *rapid.T) {
	m.gifts++
	id := m.account(t)
	hours := rapid.OneOf(rapid.IntRange(1, 72), rapid.IntRange(24*5, 24*40), rapid.IntRange(24*40, 24*100)).Draw(t, "hours")
	expires := m.bench.clock.Now().Add(time.Duration(hours) * time.Hour)
	if a := m.model.accounts[id]; len(a.periods) > 0 && a.latest().end.After(m.bench.clock.Now()) && rapid.Bool().Draw(t, "with the period") {
		expires = a.latest().end
	}
	kind := rapid.SampledFrom([]Kind{Promotional, Promotional, Adjustment}).Draw(t, "kind")
	amount := rapid.SampledFrom([]int64{1, 700, 5000, 100_000}).Draw(t, "amount")
	m.give(t, id, kind, amount, fmt.Sprint("promotion:", m.gifts), expires)
}

// TakeBack takes back a part of a grant, or all of it, perhaps for a cause that has done so before.
func (m *machine) TakeBack(t *rapid.T) {
	id := m.account(t)
	a := m.model.accounts[id]
	sources := []string{"nothing"}
	for _, g := range a.grants {
		if g.source != "change" && g.source != "returned" { // the code has ids there
			sources = append(sources, g.source)
		}
	}
	source := rapid.SampledFrom(sources).Draw(t, "source")
	by := rapid.SampledFrom([]string{"refund:1", "refund:2", "refund:3"}).Draw(t, "by")
	amount := rapid.SampledFrom([]int64{1, 500, 20_000, 1_000_000}).Draw(t, "amount")
	want := m.model.takeBack(a, m.bench.clock.Now(), source, by, amount)
	var taken int64
	require.NoError(t, postgres.InTx(t.Context(), m.bench.pool, func(tx postgres.Tx) (err error) {
		taken, err = m.bench.credits.TakeBackTx(t.Context(), tx, id, source, by, amount)
		return err
	}))
	require.Equal(t, want, taken)
}

// SetLimit is what a customer does. It holds at once, where there may be overage at all.
func (m *machine) SetLimit(t *rapid.T) {
	id := m.account(t)
	limit := rapid.SampledFrom([]*int64{nil, ptr(int64(0)), ptr(int64(1000)), ptr(int64(50_000))}).Draw(t, "limit")
	a := m.model.accounts[id]
	p := m.model.open(a, m.bench.clock.Now())
	a.limit = limit
	if !p.off && !m.model.plans[p.tier].Capped {
		p.limit = limit
		a.refresh(m.bench.clock.Now())
	}
	require.NoError(t, postgres.InTx(t.Context(), m.bench.pool, func(tx postgres.Tx) error {
		return m.bench.credits.SetOverageLimitTx(t.Context(), tx, id, limit)
	}))
}

// Reverse reverses an event of any period, perhaps one that has been.
func (m *machine) Reverse(t *rapid.T) {
	id := m.account(t)
	a := m.model.accounts[id]
	var events []string
	for eventID, e := range a.events {
		if !e.reversal {
			events = append(events, eventID)
		}
	}
	if len(events) == 0 {
		t.Skip("no event")
	}
	slices.Sort(events)
	eventID := rapid.SampledFrom(events).Draw(t, "event")
	credits, duplicate := m.model.reverse(a, m.bench.clock.Now(), eventID)
	got, err := m.bench.credits.Reverse(t.Context(), id, eventID)
	require.NoError(t, err)
	require.Equal(t, Reversal{ID: "reversal:" + eventID, Reverses: eventID, Credits: credits, Duplicate: duplicate}, got)
}

// Hold holds credits for minutes to weeks.
func (m *machine) Hold(t *rapid.T) {
	id, now := m.account(t), m.bench.clock.Now()
	a := m.model.accounts[id]
	m.gifts++
	h := &modelHold{
		eventID: fmt.Sprint("hold:", m.gifts), credits: rapid.SampledFrom([]int64{1, 700, 2000, 60_000}).Draw(t, "credits"),
	}
	hours := rapid.SampledFrom([]int{1, 48, 24 * 20}).Draw(t, "hours")
	h.expires = now.Add(time.Duration(hours) * time.Hour)
	before := a.copy()
	m.model.open(a, now)
	fits := h.credits <= a.room()
	h.period = a.number()
	got, err := m.bench.credits.Reserve(t.Context(), Hold{
		EventID: h.eventID, AccountID: id, Category: plans.LLM, Credits: h.credits, TTL: time.Duration(hours) * time.Hour,
	})
	if !fits {
		require.ErrorIs(t, err, errExhausted)
		*a = before // a refusal leaves no trace, nor a period that it opened
		return
	}
	require.NoError(t, err)
	h.id = got.ID
	a.holds = append(a.holds, h)
}

// EndHold settles or releases what was held, also if it has run out.
func (m *machine) EndHold(t *rapid.T) {
	a := m.model.accounts[m.account(t)]
	var holds []*modelHold
	for _, h := range a.holds {
		if !h.final {
			holds = append(holds, h)
		}
	}
	if len(holds) == 0 {
		t.Skip("nothing is held")
	}
	h := holds[rapid.IntRange(0, len(holds)-1).Draw(t, "hold")]
	now := m.bench.clock.Now()
	if rapid.Bool().Draw(t, "release") {
		m.model.open(a, now)
		h.final = !h.ended // one that has run out can still be settled
		h.ended = true
		_, err := m.bench.credits.Release(t.Context(), h.id)
		require.NoError(t, err)
		return
	}
	cost := rapid.SampledFrom([]int64{0, 1, 600, 2500, 90_000}).Draw(t, "cost")
	charged := m.model.settle(a, now, h, cost)
	got, err := m.bench.credits.Settle(t.Context(), h.id, Cost{Credits: &cost})
	require.NoError(t, err)
	require.Equal(t, charged, got.Credits)
}

// Check compares every period, grant, burn, loss and overage there ever was.
func (m *machine) Check(t *rapid.T) {
	m.bench.checkIdentities(t, m.ids...)
	require.Equal(t, strings.Join(m.model.lines(m.ids), "\n"), strings.Join(m.stored(t), "\n"))
}

func micros(at time.Time) string {
	if at.IsZero() {
		return "never"
	}
	return at.UTC().Format("2006-01-02T15:04:05.000000")
}

func number(n *int64) string {
	if n == nil {
		return "none"
	}
	return fmt.Sprint(*n)
}

// lines describe the accounts, as stored does.
func (m *model) lines(ids []string) []string {
	lines := []string{}
	for account, id := range ids {
		a := m.accounts[id]
		add := func(format string, args ...any) {
			lines = append(lines, fmt.Sprintf("%d ", account)+fmt.Sprintf(format, args...))
		}
		for i, p := range a.periods {
			add("period %d %s-%s of %s: %s included %d used %d %d %d %d held %d in %d, overage %d of %s at %d", i, micros(p.start),
				micros(p.end), p.source, p.tier, p.included, p.used[plans.TTS], p.used[plans.STT], p.used[plans.LLM],
				p.used[plans.RAG], a.heldIn(i), p.requests, p.overage, number(p.limit), p.micros)
		}
		if len(a.periods) > 0 {
			add("open: %d until %s", a.granted(), micros(a.latest().valid))
		}
		for i, g := range a.grants {
			add("grant %d: %d %s in %d until %s by %s", i, g.amount, g.kind, g.period, micros(g.expires), g.source)
		}
		for _, b := range a.burns {
			add("period %d burned %d of grant %d", b.period, b.credits, b.grant)
		}
		for _, l := range a.losses {
			add("grant %d lost %d: %s %s", l.grant, l.amount, l.cause, l.by)
		}
		for _, o := range a.overages {
			add("overage in %d of %s, %s-%s: %d at %d", o.period, o.source, micros(o.start), micros(o.end), o.credits, o.micros)
		}
	}
	slices.Sort(lines)
	return lines
}

// storedLines describe what is stored of accounts, one a row. Grants are numbered as they were given.
const storedLines = `
WITH wanted AS (SELECT account_id, ord - 1 AS a FROM unnest($1::text[]) WITH ORDINALITY AS w (account_id, ord)),
grants AS (
	SELECT g.*, w.a, row_number() OVER (PARTITION BY account_id ORDER BY g.id) - 1 AS n
	FROM credit_grants g JOIN wanted w USING (account_id))
SELECT format('%s period %s %s-%s of %s: %s included %s used %s %s %s %s held %s in %s, overage %s of %s at %s', a, period,
	pg_temp.micros(starts_at), pg_temp.micros(ends_at), source, tier, included, tts, stt, llm, rag, held, requests, overage,
	coalesce(overage_limit::text, 'none'), overage_micros)
FROM balances JOIN wanted USING (account_id)
UNION ALL
SELECT format('%s open: %s until %s', a, granted, pg_temp.micros(valid_until))
FROM balances JOIN wanted USING (account_id) WHERE NOT closed
UNION ALL
SELECT format('%s grant %s: %s %s in %s until %s by %s', a, n, amount, kind, period, pg_temp.micros(expires_at),
	CASE WHEN source LIKE 'change_%' THEN 'change' WHEN source LIKE 'returned:%' THEN 'returned' ELSE source END)
FROM grants
UNION ALL
SELECT format('%s period %s burned %s of grant %s', a, b.period, b.credits, n)
FROM credit_burns b JOIN grants g ON g.id = b.grant_id
UNION ALL
SELECT format('%s grant %s lost %s: %s %s', a, n, l.amount, l.cause, CASE cause WHEN 'taken_back' THEN l.source END)
FROM credit_losses l JOIN grants g ON g.id = l.grant_id
UNION ALL
SELECT format('%s overage in %s of %s, %s-%s: %s at %s', a, period, subscription, pg_temp.micros(starts_at),
	pg_temp.micros(ends_at), credits, unit_micros)
FROM overages JOIN wanted USING (account_id)`

// stored returns what is stored of the accounts, as lines.
func (m *machine) stored(t *rapid.T) []string {
	micros := func(at string) string {
		return "coalesce(to_char(" + at + " AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US'), 'never')"
	}
	query := storedLines
	for _, column := range []string{"starts_at", "ends_at", "valid_until", "expires_at"} {
		query = strings.ReplaceAll(query, "pg_temp.micros("+column+")", micros(column))
	}
	rows, err := m.bench.pool.Query(t.Context(), query, m.ids)
	require.NoError(t, err)
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	slices.Sort(lines)
	return lines
}
