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
	pool, catalogues := testkit.DB(t), []*plans.Catalogue{defaultCatalogue(t), cappedCatalogue(t), oddCatalogue(t)}
	rapid.Check(t, func(t *rapid.T) {
		catalogue := catalogues[rapid.IntRange(0, 2).Draw(t, "catalogue")]
		// Some begin at the end of a month, where periods are of different lengths.
		day := rapid.SampledFrom([]int{1, 15, 29, 30, 31}).Draw(t, "day")
		m := &machine{
			bench: newBench(t, pool, catalogue, time.Date(2027, 12, day, 9, 30, 0, 123456000, time.UTC)),
			model: model{
				accounts: map[string]*modelAccount{}, keys: map[string]string{}, plans: map[plans.Tier]plans.Plan{},
				bridge: catalogue.Bridge,
			},
			subscriptions: map[string][]subscription{}, last: map[string]standingRead{},
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
	sold, gifts   int
	last          map[string]standingRead // by account, what was applied to it last
}

// standingRead is what was known of an account's purchases at a time.
type standingRead struct {
	standing modelStanding
	cycle    *Cycle
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

// account draws one of the accounts. Most things happen to the first.
func (m *machine) account(t *rapid.T) string {
	return m.ids[rapid.SampledFrom([]int{0, 0, 0, 0, 1, 2}).Draw(t, "account")]
}

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
	which := rapid.SampledFrom([]int{0, 0, 0, 0, 1, 2}).Draw(t, "account")
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

// Wait lets time pass: hours, days or several months. What was held for so long is freed, as it is every few seconds.
func (m *machine) Wait(t *rapid.T) {
	hours := rapid.OneOf(rapid.IntRange(1, 72), rapid.IntRange(24*20, 24*40), rapid.IntRange(24*60, 24*200)).Draw(t, "hours")
	m.goTo(t, m.bench.clock.Now().Add(time.Duration(hours)*time.Hour))
}

func (m *machine) goTo(t *rapid.T, at time.Time) {
	m.bench.clock.Set(at)
	require.NoError(t, m.bench.credits.ExpireHolds(t.Context()))
	for _, a := range m.model.accounts {
		a.freeHolds(at)
	}
}

// WaitForEnd goes to where a period ends, to the microsecond, or just before or after.
func (m *machine) WaitForEnd(t *rapid.T) {
	a := m.model.accounts[m.account(t)]
	if len(a.periods) == 0 {
		t.Skip("no period")
	}
	m.goNear(t, a.latest().end)
}

// WaitForExpiry goes to where a grant expires, or just before or after.
func (m *machine) WaitForExpiry(t *rapid.T) {
	a := m.model.accounts[m.account(t)]
	var ends []time.Time
	for _, g := range a.grants {
		if g.expires.After(m.bench.clock.Now().Add(time.Microsecond)) {
			ends = append(ends, g.expires)
		}
	}
	if len(ends) == 0 {
		t.Skip("nothing is to expire")
	}
	m.goNear(t, rapid.SampledFrom(ends).Draw(t, "expiry"))
}

func (m *machine) goNear(t *rapid.T, at time.Time) {
	if !at.After(m.bench.clock.Now().Add(time.Microsecond)) {
		t.Skip("that is over")
	}
	m.goTo(t, at.Add(rapid.SampledFrom([]time.Duration{-time.Microsecond, 0, time.Microsecond}).Draw(t, "off")))
}

// standing draws what is known of an account's purchases; most have paid.
func (m *machine) standing(t *rapid.T, tier plans.Tier) modelStanding {
	return modelStanding{
		plan:    m.model.plans[tier],
		monthly: rapid.SampledFrom([]Monthly{Full, Full, Full, Full, Trial, Bridge, Frozen}).Draw(t, "monthly"),
		overage: rapid.IntRange(0, 4).Draw(t, "overage") > 0,
		since:   m.since(t),
	}
}

// since draws when a plan took effect; most are seen at once.
func (m *machine) since(t *rapid.T) time.Time {
	ago := rapid.SampledFrom([]time.Duration{0, 0, 0, -time.Second, time.Minute, 100 * time.Hour, 1000 * time.Hour}).Draw(t, "ago")
	if ago == 0 {
		return time.Time{}
	}
	return m.bench.clock.Now().Add(-ago).Truncate(time.Second)
}

// ChangeByHand sets a tier, of whatever the account is on. Free ends a subscription.
func (m *machine) ChangeByHand(t *rapid.T) {
	id := m.account(t)
	tier := rapid.SampledFrom([]plans.Tier{plans.Free, plans.Starter, plans.Pro, plans.Scale}).Draw(t, "tier")
	m.change(t, id, m.standing(t, tier), nil)
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
	m.change(t, id, m.standing(t, s.tier), s.cycle(at))
}

// Read applies what the provider says of one of an account's subscriptions now: the one in force, perhaps renewed since,
// perhaps under another plan, perhaps begun anew; or one that governed before and does so again. Twice is as once.
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
	standing := m.standing(t, s.tier)
	m.change(t, id, standing, s.cycle(at))
	if rapid.Bool().Draw(t, "twice") {
		m.again(t, id, standing, s.cycle(at))
	}
}

// again applies a reading that has been applied, which changes nothing.
func (m *machine) again(t *rapid.T, id string, s modelStanding, cycle *Cycle) {
	before := m.stored(t)
	require.NoError(t, m.bench.apply(t.Context(), id, s.standing(cycle)))
	require.Equal(t, before, m.stored(t))
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
		m.change(t, id, m.standing(t, s.tier), s.cycle(earlier))
		return
	}
	t.Skip("no subscription that was renewed")
}

func (s modelStanding) standing(cycle *Cycle) Standing {
	return Standing{Plan: s.plan, Cycle: cycle, Monthly: s.monthly, Overage: s.overage, Since: s.since}
}

func (m *machine) change(t *rapid.T, id string, s modelStanding, cycle *Cycle) {
	m.model.change(m.model.accounts[id], m.bench.clock.Now(), s, cycle)
	require.NoError(t, m.bench.apply(t.Context(), id, s.standing(cycle)))
	m.last[id] = standingRead{s, cycle}
}

// ReadAgain applies the last reading again after whatever has happened since, but no other reading. How often a
// subscription is read is chance, and must not matter.
func (m *machine) ReadAgain(t *rapid.T) {
	id := m.account(t)
	last := m.last[id]
	// A first period may be longer than a month, and is then paid for in each by the next reading.
	if last.cycle == nil || last.cycle.Start.Before(last.cycle.Anchor) {
		t.Skip("no subscription was read last")
	}
	m.model.open(m.model.accounts[id], m.bench.clock.Now())
	m.bench.current(t, id)
	m.again(t, id, last.standing, last.cycle)
}

// Look reads an account's balance, which opens its period if nobody has.
func (m *machine) Look(t *rapid.T) {
	id := m.account(t)
	a := m.model.accounts[id]
	want := m.model.open(a, m.bench.clock.Now())
	got := m.bench.current(t, id)
	require.EqualValues(t, a.number(), got.Period)
	require.Equal(t, want.total(), got.Used())
	require.Equal(t, a.granted(), got.Granted)
	require.Equal(t, a.remaining(), got.Remaining())
	require.Equal(t, want.valid, got.ValidUntil.UTC())
	require.True(t, got.Cycle.Start.Equal(want.cycleStart()), "start of the cycle's month")
	require.Equal(t, want.source, got.Cycle.Source)
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

func describe(events []Event) []string {
	all := make([]string, len(events))
	for i, e := range events {
		all[i] = fmt.Sprintf("%+v", e)
	}
	return all
}
