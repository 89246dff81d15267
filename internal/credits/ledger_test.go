package credits

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/keymeter/keymeter/internal/keys"
	"github.com/keymeter/keymeter/internal/plans"
	"github.com/keymeter/keymeter/internal/postgres"
	"github.com/keymeter/keymeter/internal/testkit"
)

// Whatever is recorded, sold, changed and waited for, in whatever order, the ledger says what the model says, and its
// sums are those of its entries.
func TestLedgerFollowsTheModel(t *testing.T) {
	t.Parallel()
	pool, catalogues := testkit.DB(t), []*plans.Catalogue{defaultCatalogue(t), cappedCatalogue(t)}
	rapid.Check(t, func(t *rapid.T) {
		catalogue := catalogues[rapid.IntRange(0, 1).Draw(t, "catalogue")]
		// Some begin at the end of a month, where periods are of different lengths.
		day := rapid.SampledFrom([]int{1, 15, 29, 30, 31}).Draw(t, "day")
		m := &machine{
			bench: newBench(t, pool, catalogue, time.Date(2027, 12, day, 9, 30, 0, 123456000, time.UTC)),
			model: model{
				accounts: map[string]*modelAccount{}, keys: map[string]string{}, plans: map[plans.Tier]plans.Plan{},
			},
			subscriptions: map[string][]subscription{},
		}
		for _, tier := range []plans.Tier{plans.Free, plans.Starter, plans.Pro, plans.Scale} {
			m.model.plans[tier] = catalogue.Plan(tier)
		}
		for range 3 {
			m.addAccount(t)
		}
		t.Repeat(rapid.StateMachineActions(m))
		m.checkEvents(t)
	})
}

// machine drives the ledger and the model side by side.
type machine struct {
	bench         *bench
	model         model
	ids, keyIDs   []string                  // of the accounts, and a key of each
	subscriptions map[string][]subscription // by account, those that ended too: they may come back
	sent          []Event
	sold          int
}

type subscription struct {
	id            string
	began, anchor time.Time
	tier          plans.Tier
}

// cycle is what the provider says of the subscription at a time. It may begin before its anchor, as with a trial or
// where all are billed on one day; its first period is then another length.
func (s subscription) cycle(at time.Time) *Cycle {
	if at.Before(s.anchor) {
		return &Cycle{Source: s.id, Anchor: s.anchor, Start: s.began}
	}
	return &Cycle{Source: s.id, Anchor: s.anchor, Start: monthLater(s.anchor, monthOf(s.anchor, at))}
}

func (m *machine) addAccount(t *rapid.T) {
	now := m.bench.clock.Now()
	id := m.bench.newAccount(t)
	m.model.accounts[id] = &modelAccount{tier: plans.Free, created: now, events: map[string]modelEvent{}}
	m.ids = append(m.ids, id)
	format, err := keys.NewFormat("plabs", "test")
	require.NoError(t, err)
	peppers, err := keys.NewPeppers(map[int32][]byte{1: bytes.Repeat([]byte{1}, 32)})
	require.NoError(t, err)
	issuer, err := keys.New(keys.Config{
		Pool: m.bench.pool, Hot: m.bench.pool, IDs: m.bench.credits.ids, Now: m.bench.clock.Now, Rand: rand.Reader, Format: format, Peppers: peppers,
		CacheSize: 10,
	})
	require.NoError(t, err)
	require.NoError(t, postgres.InTx(t.Context(), m.bench.pool, func(tx postgres.Tx) error {
		created, err := issuer.CreateTx(t.Context(), tx, id, keys.CreateParams{Name: "A"})
		m.keyIDs = append(m.keyIDs, created.ID)
		m.model.keys[created.ID] = id
		return err
	}))
}

func (m *machine) account(t *rapid.T) string { return m.ids[rapid.IntRange(0, 2).Draw(t, "account")] }

// RecordNew records a batch, most of it new.
func (m *machine) RecordNew(t *rapid.T) { m.record(t, rapid.IntRange(1, 6).Draw(t, "events")) }

// RecordOne records one event.
func (m *machine) RecordOne(t *rapid.T) { m.record(t, 1) }

// Resend sends events again that were sent before, recorded or not, in one batch.
func (m *machine) Resend(t *rapid.T) {
	if len(m.sent) == 0 {
		t.Skip("nothing was sent yet")
	}
	events := rapid.SliceOfN(rapid.SampledFrom(m.sent), 1, 4).Draw(t, "again")
	for i, e := range events {
		if e.OccurredAt != nil { // the same instant, written differently
			events[i].OccurredAt = ptr(e.OccurredAt.In(time.FixedZone("", 3600)))
		}
	}
	m.send(t, events)
}

func (m *machine) record(t *rapid.T, n int) {
	events := make([]Event, n)
	for i := range events {
		events[i] = m.event(t)
	}
	m.send(t, events)
	m.sent = append(m.sent, events...)
}

func (m *machine) send(t *rapid.T, events []Event) {
	want := m.model.record(m.bench.clock.Now(), events)
	got, err := m.bench.record(t.Context(), events...)
	require.NoError(t, err)
	require.Len(t, got, len(want))
	for i, o := range got {
		outcome := modelOutcome{credits: o.Credits, duplicate: o.Duplicate}
		if o.Refusal != nil {
			outcome = modelOutcome{code: o.Refusal.Code}
			if len(o.Refusal.Fields) > 0 {
				outcome.field = o.Refusal.Fields[0].Name
			}
		}
		require.Equal(t, want[i], outcome, "event %d of %v", i, describe(events))
	}
}

// event draws an event. One of a few ids makes it clash with others.
func (m *machine) event(t *rapid.T) Event {
	e := Event{
		ID:       rapid.SampledFrom([]string{"a", "b", fmt.Sprint("new", len(m.sent), rapid.Uint16().Draw(t, "id"))}).Draw(t, "of"),
		Category: rapid.SampledFrom([]plans.Category{plans.TTS, plans.STT, plans.LLM, plans.RAG}).Draw(t, "category"),
	}
	which := rapid.IntRange(0, 2).Draw(t, "account")
	switch rapid.IntRange(0, 19).Draw(t, "owner") {
	case 0:
		e.AccountID = "acct_nobody"
	case 1:
		e.KeyID = "key_nobody"
	case 2: // neither
	case 3:
		e.AccountID, e.KeyID = m.ids[which], m.keyIDs[which]
	case 4, 5, 6, 7, 8, 9:
		e.KeyID = m.keyIDs[which]
	default:
		e.AccountID = m.ids[which]
	}
	switch rapid.IntRange(0, 9).Draw(t, "when") {
	case 0: // the bounds of what is taken
		e.OccurredAt = ptr(m.bench.clock.Now().Add(rapid.SampledFrom([]time.Duration{
			5 * time.Minute, 5*time.Minute + time.Microsecond, -35 * 24 * time.Hour, -35*24*time.Hour - time.Microsecond,
		}).Draw(t, "ago")))
	case 1:
		e.OccurredAt = ptr(m.bench.clock.Now().Add(-time.Hour))
	}
	m.cost(t, &e)
	return e
}

func (m *machine) cost(t *rapid.T, e *Event) {
	credits := rapid.SampledFrom([]int64{0, 1, 400, 1000, 2499, 2500, 2501, 60_000, 300_000})
	quantity := rapid.Int64Range(0, 3_000_000)
	switch rapid.IntRange(0, 11).Draw(t, "priced") {
	case 0:
		e.BYOK = true
	case 1:
		e.BYOK, e.Credits = true, ptr(credits.Draw(t, "credits"))
	case 2: // says too much
		e.Credits, e.Provider = ptr(int64(1)), "kokoro"
	case 3: // says nothing
	case 4:
		e.Provider, e.Quantity = "nobody", ptr(int64(1))
	case 5: // right for llm only, whose provider may be missing
		e.Quantity, e.Output = ptr(int64(10)), ptr(int64(10))
	case 6, 7, 8:
		e.Provider = map[plans.Category]string{plans.TTS: "kokoro", plans.STT: "groq", plans.LLM: "gpt-4.1"}[e.Category]
		e.Quantity = ptr(quantity.Draw(t, "quantity"))
		if e.Category == plans.LLM {
			e.Output = ptr(rapid.Int64Range(0, 100_000).Draw(t, "output"))
		}
	default:
		e.Credits = ptr(credits.Draw(t, "credits"))
	}
}

// Wait lets time pass: hours, days or several months.
func (m *machine) Wait(t *rapid.T) {
	hours := rapid.OneOf(rapid.IntRange(1, 72), rapid.IntRange(24*20, 24*40), rapid.IntRange(24*60, 24*200)).Draw(t, "hours")
	m.bench.clock.Advance(time.Duration(hours) * time.Hour)
}

// WaitForEnd goes to where a period ends, to the microsecond, or just before or after.
func (m *machine) WaitForEnd(t *rapid.T) {
	a := m.model.accounts[m.account(t)]
	if len(a.periods) == 0 || !a.latest().end.After(m.bench.clock.Now().Add(time.Microsecond)) {
		t.Skip("no period is to end")
	}
	off := rapid.SampledFrom([]time.Duration{-time.Microsecond, 0, time.Microsecond}).Draw(t, "off")
	m.bench.clock.Set(a.latest().end.Add(off))
}

// ChangeByHand sets a tier, of whatever the account is on. Free ends a subscription.
func (m *machine) ChangeByHand(t *rapid.T) {
	id := m.account(t)
	tier := rapid.SampledFrom([]plans.Tier{plans.Free, plans.Starter, plans.Pro, plans.Scale}).Draw(t, "tier")
	m.change(t, id, tier, nil)
}

func paidTier(t *rapid.T) plans.Tier {
	return rapid.SampledFrom([]plans.Tier{plans.Starter, plans.Pro, plans.Scale}).Draw(t, "tier")
}

// theirs is the provider's clock: whole seconds, and a little off ours.
func (m *machine) theirs(t *rapid.T) time.Time {
	return m.bench.clock.Now().Truncate(time.Second).Add(time.Duration(rapid.IntRange(-5, 5).Draw(t, "skew")) * time.Second)
}

// Subscribe sells a new subscription.
func (m *machine) Subscribe(t *rapid.T) {
	id, at := m.account(t), m.theirs(t)
	m.sold++
	s := subscription{id: fmt.Sprintf("sub_%d", m.sold), began: at, anchor: at, tier: paidTier(t)}
	if rapid.IntRange(0, 3).Draw(t, "grid") == 0 {
		s.anchor = at.AddDate(0, 0, rapid.IntRange(1, 45).Draw(t, "days to the anchor"))
	}
	m.subscriptions[id] = append(m.subscriptions[id], s)
	m.change(t, id, s.tier, s.cycle(at))
}

// Read applies what the provider says of one of an account's subscriptions now: the one in force, perhaps renewed since,
// perhaps under another plan, perhaps begun anew; or one that governed before and does so again.
func (m *machine) Read(t *rapid.T) {
	id := m.account(t)
	if len(m.subscriptions[id]) == 0 {
		t.Skip("no subscription")
	}
	s := &m.subscriptions[id][rapid.IntRange(0, len(m.subscriptions[id])-1).Draw(t, "subscription")]
	at := m.theirs(t)
	switch rapid.IntRange(0, 5).Draw(t, "change") {
	case 0, 1:
		s.tier = paidTier(t)
	case 2: // paid for from now on, and counted from now on
		s.began, s.anchor = at, at
	}
	m.change(t, id, s.tier, s.cycle(at))
}

// ReadStale applies a reading from before the renewal, when the period it names is over already.
func (m *machine) ReadStale(t *rapid.T) {
	id := m.account(t)
	a := m.model.accounts[id]
	for _, s := range m.subscriptions[id] {
		if len(a.periods) == 0 || a.latest().source != s.id {
			continue
		}
		earlier := a.latest().start.Add(-time.Hour)
		if earlier.Before(s.anchor) {
			break
		}
		m.change(t, id, s.tier, s.cycle(earlier))
		return
	}
	t.Skip("no subscription that was renewed")
}

func (m *machine) change(t *rapid.T, id string, tier plans.Tier, cycle *Cycle) {
	ok := m.model.change(m.model.accounts[id], m.bench.clock.Now(), tier, cycle)
	err := m.bench.changePlan(t.Context(), id, tier, cycle)
	if !ok {
		require.ErrorContains(t, err, "before it starts")
		return
	}
	require.NoError(t, err)
}

// Look reads an account's balance, which opens its period if nobody has.
func (m *machine) Look(t *rapid.T) {
	id := m.account(t)
	a := m.model.accounts[id]
	want := m.model.open(a, m.bench.clock.Now())
	got := m.bench.current(t, id)
	require.Equal(t, seen(id, len(a.periods)-1, want), seenBalance(got))
	require.Equal(t, want.total(), got.Used())
	require.Equal(t, max(0, want.granted-want.total()), got.Remaining())
	require.True(t, got.Cycle.Start.Equal(monthLater(want.anchor, want.months)), "start of the cycle's month")
	require.Equal(t, want.source, got.Cycle.Source)
}

// Check compares every period there ever was.
func (m *machine) Check(t *rapid.T) {
	m.bench.checkIdentities(t, m.ids...)
	want := []seenPeriod{}
	for _, id := range m.ids {
		for i, p := range m.model.accounts[id].periods {
			want = append(want, seen(id, i, p))
		}
	}
	rows, err := m.bench.pool.Query(t.Context(), `
		SELECT account_id, period, starts_at, ends_at, tier, overage_limit IS NOT NULL, granted, included, tts, stt, llm, rag, requests
		FROM balances WHERE account_id = ANY ($1) ORDER BY account_id, period`, m.ids)
	require.NoError(t, err)
	got := []seenPeriod{}
	var p seenPeriod
	_, err = pgx.ForEachRow(rows, []any{
		&p.AccountID, &p.Period, &p.StartsAt, &p.EndsAt, &p.Tier, &p.Capped, &p.Granted, &p.Included,
		&p.TTS, &p.STT, &p.LLM, &p.RAG, &p.Requests,
	}, func() error {
		p.StartsAt, p.EndsAt = p.StartsAt.UTC(), p.EndsAt.UTC()
		got = append(got, p)
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, want, got)
}

// checkEvents compares every event there ever was.
func (m *machine) checkEvents(t *rapid.T) {
	want := map[string]string{}
	for id, a := range m.model.accounts {
		for eventID, e := range a.events {
			want[id+" "+eventID] = fmt.Sprintf("%d credits in period %d", e.credits, e.period)
		}
	}
	rows, err := m.bench.pool.Query(t.Context(), `
		SELECT account_id || ' ' || id, credits || ' credits in period ' || period FROM usage_events
		WHERE account_id = ANY ($1)`, m.ids)
	require.NoError(t, err)
	got := map[string]string{}
	var key, value string
	_, err = pgx.ForEachRow(rows, []any{&key, &value}, func() error { got[key] = value; return nil })
	require.NoError(t, err)
	require.Equal(t, want, got)
}

// seenPeriod is what model and ledger are compared by.
type seenPeriod struct {
	AccountID                    string
	Period                       int32
	StartsAt, EndsAt             time.Time
	Tier                         plans.Tier
	Capped                       bool
	Granted, Included            int64
	TTS, STT, LLM, RAG, Requests int64
}

func seen(id string, period int, p *modelPeriod) seenPeriod {
	return seenPeriod{
		id, int32(period), p.start, p.end, p.tier, p.capped, p.granted, p.included,
		p.used[plans.TTS], p.used[plans.STT], p.used[plans.LLM], p.used[plans.RAG], p.requests,
	}
}

func seenBalance(b Balance) seenPeriod {
	return seenPeriod{
		b.AccountID, b.Period, b.StartsAt.UTC(), b.EndsAt.UTC(), b.Tier, capped(b), b.Granted, b.Included,
		b.TTS, b.STT, b.LLM, b.RAG, b.Requests,
	}
}

func describe(events []Event) []string {
	all := make([]string, len(events))
	for i, e := range events {
		all[i] = fmt.Sprintf("%+v", e)
	}
	return all
}
